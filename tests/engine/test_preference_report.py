"""The report of a blind comparison: who is preferred, with an interval over prompts, and what it does not say."""

import json

import pytest
from sqlmodel import Session, select

from engine import labelling
from engine.rankings import Said, read, write
from engine.stages.generate.rank_answers import RankAnswers
from engine.stages.measure.preference_report import PreferenceReport
from storage import queries
from storage.tables import Artifact

HOSTILE = "<script>alert(1)</script> ${1+1}"


@pytest.fixture
def told(run_stage, add_artifact, home, database):
    """The report where `prefer(prompt number, rater)` says 1 for the new answer, -1 for the old one, 0 for a tie."""

    def make(prefer, prompts=30, raters=("ann",), alike=0, receipt=None, names=("old", "new")):
        sets = []
        for side, name in enumerate(names):
            id = add_artifact("responses", f"answers of {name}", models=[], sources=[name])
            rows = [
                {"prompt_key": f"k{n}", "prompt": [{"role": "user", "content": f"q{n} {HOSTILE}"}], "artifact": id, "source": name,
                 "model": name, "answer": "same" if n >= prompts else f"{'new' if side else 'old'} {n} {HOSTILE}",
                 "token_ids": [1] * (3 + side), "finish_reason": "stop", "step": 0, "sample": 0, "extra": {}}
                for n in range(prompts + alike)
            ]  # fmt: skip
            (home.artifact_folder(id) / "responses.jsonl").write_text("\n".join(map(json.dumps, rows)))
            sets.append(id)
        care = {"everyone": 0, "repeats": 0}
        project = run_stage(RankAnswers(responses=sets, answers=2, raters=len(raters), care=care))["rankings"]
        for rater in raters:
            shown = labelling.next_item(database, project, rater, queries.utc_now())
            while shown["state"] == "item":
                n = int(shown["prompt"][0]["content"].split()[0][1:])
                new = next(place for place, text in enumerate(shown["answers"]) if text.startswith("new"))
                tiers = {1: [[new], [1 - new]], -1: [[1 - new], [new]], 0: [[0, 1]]}[prefer(n, rater)]
                said = {"client_event_id": f"{project}{rater}{n}", "item": shown["item"], "guideline": 1, "seen": [0, 1]}
                said["tiers"] = {"overall": tiers}
                shown = labelling.submit(database, project, rater, said, queries.utc_now())
        report = run_stage(PreferenceReport(rankings=project, before=sets[0], after=sets[1], receipt=receipt))["report"]
        with Session(database) as session:
            folder = home.root / session.get_one(Artifact, report).folder
            assert len(read(session, project).said) == prompts * len(raters)
        return json.loads((folder / "report.json").read_text()), (folder / "report.html").read_text()

    return make


def facts(report):
    return {row[0]: row[1:] for row in report["facts"]}


def test_a_clear_preference_is_said_with_its_interval(told):
    report, page = told(lambda n, _: 1 if n % 10 else -1, alike=3)
    assert report["sentence"].startswith("One person preferred new to old on 90% of 30 unseen prompts (")
    assert report["sentence"].endswith("it answers better.")
    assert facts(report)["Better, worse, tied"] == ["", "27, 3, 0"]
    assert facts(report)["Prompts with the same answer from both, not asked"] == ["", "3"]
    assert facts(report)["Raters agree on pairs"][1].startswith("not enough raters"), "one rater never agrees with herself"
    assert facts(report)["Median length"] == ["3 tokens", "4 tokens"]
    assert HOSTILE not in page


def test_what_could_be_chance_is_not_called_better(told):
    report, _ = told(lambda n, _: 1 if n % 5 < 3 else -1)
    assert "60% of 30" in report["sentence"]
    assert report["sentence"].endswith("not enough evidence that either is better.")


def test_worse_is_said_too_and_ties_count_half(told):
    report, _ = told(lambda n, _: 0 if n % 3 == 0 else -1)
    assert report["sentence"].endswith("it answers worse.")
    assert "17% of 30" in report["sentence"]
    assert facts(report)["Preferred, ties left out"][1].startswith("0%")


def test_two_raters_of_one_prompt_are_one_draw(told):
    same = told(lambda n, _: 1 if n % 3 else -1, raters=("ann", "bob"))[0]
    assert same["sentence"].startswith("2 people preferred new to old on 67% of 30 unseen prompts")
    alone = told(lambda n, _: 1 if n % 3 else -1)[0]
    assert same["sentence"].split("(")[1] == alone["sentence"].split("(")[1], "no narrower: the second rater brings no new prompt"
    assert same["answers"][1]["answers"][1]["votes"] in ("preferred by 2 of 2", "")


@pytest.mark.parametrize("validated", [True, False])
def test_of_a_judge_the_sentence_itself_says_whether_it_is_validated(told, run_stage, add_artifact, home, database, validated):
    told(lambda n, _: 1)
    with Session(database) as session:
        sets = [row.id for row in session.exec(select(Artifact).where(Artifact.kind == "responses").order_by(Artifact.id))]
        project = session.exec(select(Artifact.id).where(Artifact.kind == "rankings")).one()
        low, high = (0.8, 0.95) if validated else (0.4, 0.6)
        people = {"value": (low + high) / 2, "n": 90, "n_items": 30, "interval": [low, high], "items": 30, "decided": 90, "ties": 0.0}
        agreement = {"of": "", "people": people, "known": people, "among_people": {"value": None}}
        judge = add_artifact("rankings", "j", format="judge", project=project, judge="words", agreement=agreement, validated=validated)
        items = read(session, project).items.values()
        new = {one.id: sorted(one.choices, key=lambda choice: choice.by == "old") for one in items}
        write(session, judge, [Said(id, "words", tiers={"overall": ((a.key,), (b.key,))}) for id, (a, b) in new.items()], queries.utc_now())
        session.commit()
    report = run_stage(PreferenceReport(rankings=judge, before=sets[0], after=sets[1]))["report"]
    found = json.loads((home.artifact_folder(report) / "report.json").read_text())
    who = "The judge words" if validated else "The judge words (not validated)"
    assert found["sentence"].startswith(f"{who} preferred new to old on 100% of 30 unseen prompts")


def test_few_labels_say_nothing(told):
    report, _ = told(lambda n, _: 1, prompts=4)
    assert report["sentence"].startswith("Not enough labels to say whether new or old answers better")


def test_a_receipt_is_told_with_it(told, add_artifact, home):
    receipt = add_artifact("report", "receipt")
    row = {"ability": "Facts", "verdict": "kept", "before": 0.5, "after": 0.5, "before_interval": [0, 1], "after_interval": [0, 1], "n": 9,
           "lost": 0, "gained": 0, "p": 1.0, "text": "kept"}  # fmt: skip
    (home.artifact_folder(receipt) / "report.json").write_text(json.dumps({"sentence": "Kept Facts.", "verdicts": [row], "notes": ["N."]}))
    report, page = told(lambda n, _: 1, receipt=receipt)
    assert report["sentence"].endswith("it answers better. Kept Facts.")
    assert report["verdicts"] == [row]
    assert "N." in report["notes"]
    assert "Facts" in page


def test_one_model_is_not_compared_with_itself(told, database, home, monkeypatch):
    with pytest.raises(AssertionError, match="compare two models"):
        told(lambda n, _: 1, names=("x", "x"))
