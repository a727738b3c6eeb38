"""Scores measured elsewhere: real files of both harnesses, what they are joined by, and files that are not whole."""

import json
import shutil
from pathlib import Path

import pytest
from sqlmodel import Session, select

from app.pages import Place, library
from engine import submit, worker
from engine.errors import UserError
from engine.stages.measure._harness import hashed, likeliest
from engine.stages.measure._harness_files import read_results
from engine.stages.measure.import_scores import ImportScores
from engine.stages.measure.receipt import Receipt
from storage.tables import Artifact, Event, Response, Run, Score

DATA = Path(__file__).parents[1] / "data"
WHEN = "2026-11-24T02-47-13.061506"


@pytest.fixture
def lm_eval(tmp_path):
    """A folder that lm-evaluation-harness left, to be changed."""
    return shutil.copytree(DATA / "lm_eval", tmp_path / "lm_eval")


@pytest.fixture
def lighteval(tmp_path):
    """The same of lighteval, whose file names have a letter that some file systems refuse."""
    folder = shutil.copytree(DATA / "lighteval", tmp_path / "lighteval")
    for path in folder.glob("details/**/*.parquet"):
        path.rename(path.with_name(path.name.replace("_2026", "|0_2026")))
    return folder


@pytest.fixture
def imported(run_stage, add_artifact, database):
    """What an import stores: the artifact, the scores, the answers, the warnings."""
    model = add_artifact("model", "mine", format="full")

    def run(path, **settings):
        made = run_stage(ImportScores(model=model, path=str(path), **settings))["scores"]
        with Session(database) as session:
            row = session.get_one(Artifact, made)
            run = row.made_by
            said = session.exec(select(Event.message).where(Event.run == run, Event.level == "warning")).all()
            scores = session.exec(select(Score).where(Score.run == run).order_by(Score.id)).all()
            answers = {one.id: one for one in session.exec(select(Response).where(Response.run == run))}
            session.expunge_all()
            return row, scores, answers, said

    return run


def change(path, **values):
    held = json.loads(path.read_text())
    held.update(values)
    path.write_text(json.dumps(held))


def results(folder):
    return next(folder.glob("results*.json"))


def samples(folder, task="tiny_pets"):
    return folder / f"samples_{task}_{WHEN}.jsonl"


def hashes(folder, metric=""):
    return {task.name: task.suite_hash for task in read_results(str(folder), metric).tasks}


def test_items_of_lm_eval_become_scores_with_their_answers(imported, lm_eval, home):
    row, scores, answers, said = imported(lm_eval)
    pets = [one for one in scores if one.probe == "tiny_pets"]
    assert [one.value for one in pets] == [json.loads(line)["acc"] for line in samples(lm_eval).read_text().splitlines()]
    assert {one.artifact for one in scores} == {row.summary["models"][0]}
    assert len({one.suite_hash for one in scores}) == 2
    assert len({one.item_key for one in pets}) == 8
    first = answers[pets[0].response]
    assert (first.prompt, first.answer) == ([{"role": "user", "content": "what is the pet of mira?"}], "cat")
    assert first.artifact == pets[0].artifact
    assert not said
    measured = row.summary["measured"][str(pets[0].artifact)]
    told = {"title": "tiny_pets", "rate": True, "floor": 0.25, "suite_hash": pets[0].suite_hash, "metric": "acc,none"}
    assert measured["tiny_pets"] == told | {"n": 8, "value": 0.375, "unreadable": 0}
    assert measured["tiny_colours"]["floor"] is None, "nothing is chosen"
    told = row.summary["settings"]
    assert (told["version"], told["apply_chat_template"], told["limit"]) == ("0.4.13", False, None)
    assert told["task_versions"] == {"tiny_pets": 1.0, "tiny_colours": 2.0}
    lines = (home.root / row.folder / "scores.jsonl").read_text().splitlines()
    assert len(lines) == 13
    assert json.loads(lines[0])["item_key"] == pets[0].item_key


def test_items_of_lighteval_become_scores(imported, lighteval):
    row, scores, answers, said = imported(lighteval)
    assert {one.probe for one in scores} == {"tiny_pets|0", "tiny_colours|0"}
    assert len({(one.probe, one.item_key) for one in scores}) == 10
    pets = [one for one in scores if one.probe == "tiny_pets|0"]
    assert sum(one.value for one in pets) == 1
    assert answers[pets[0].response].answer in ("cat", "dog", "horse", "goat")
    assert row.summary["measured"][str(pets[0].artifact)]["tiny_pets|0"]["floor"] == 0.25
    assert row.summary["settings"]["limit"] == 5
    assert len(said) == 1
    assert "for testing only" in said[0]
    assert read_results(str(next(lighteval.glob("**/results_*.json")))).tasks[1].items, "details are found from the file as well"


def test_another_metric_where_the_task_has_it(imported, lm_eval):
    _, scores, _, _ = imported(lm_eval, metric="acc_norm")
    assert sum(one.value for one in scores if one.probe == "tiny_pets") == 2
    assert hashes(lm_eval) != hashes(lm_eval, "acc_norm")
    assert hashes(lm_eval)["tiny_colours"] == hashes(lm_eval, "acc_norm,none")["tiny_colours"], "it has no acc_norm: its own counts"
    with pytest.raises(UserError, match="has the metric 'acc_nrm'; did you mean acc_norm"):
        imported(lm_eval, metric="acc_nrm")


def test_without_samples_averages_stay_averages(imported, lm_eval, database, home):
    samples(lm_eval, "tiny_colours").unlink()
    row, scores, _, said = imported(lm_eval)
    assert {one.probe for one in scores} == {"tiny_pets"}
    assert "tiny_colours" in said[0]
    assert "only averages" in said[0]
    of = row.summary["averages"][str(row.summary["models"][0])]["tiny_colours"]
    assert of == {"metric": "exact_match,none", "value": 0.0, "error": 0.0, "n": 0}
    page = json.dumps(library.tree(Place(database, home), {"artifact": row.id, "kind": "", "words": "", "start": 0}), ensure_ascii=False)
    assert "suite_hash" not in page, "the table says it, not a dump"
    for word in ("tiny_pets", '"8"', "37.5%", "13.7% – 69.4%", "tiny_colours", "averages only"):
        assert word in page


def test_a_limit_is_warned_of(imported, lm_eval):
    before = hashes(lm_eval)
    change(results(lm_eval), config=json.loads(results(lm_eval).read_text())["config"] | {"limit": 8.0})
    *_, said = imported(lm_eval)
    assert any("limit of 8.0" in one and "for testing only" in one for one in said)
    assert not set(before.values()) & set(hashes(lm_eval).values())


@pytest.mark.parametrize("other", [
    {"lm_eval_version": "0.4.14"},
    {"n-shot": {"tiny_pets": 5, "tiny_colours": 5}},
    {"versions": {"tiny_pets": 1.1, "tiny_colours": 2.1}},
    {"chat_template": "{{ x }}"},
    {"system_instruction": "be brief"},
    {"configs": {"tiny_pets": {"doc_to_text": "another"}, "tiny_colours": {"doc_to_text": "another"}}},
])  # fmt: skip
def test_what_was_measured_otherwise_never_meets(lm_eval, other):
    before = hashes(lm_eval)
    change(results(lm_eval), **other)
    assert not set(before.values()) & set(hashes(lm_eval).values())


def test_what_does_not_matter_does_not_part(lm_eval):
    before = hashes(lm_eval)
    held = json.loads(results(lm_eval).read_text())
    config = held["config"] | {"model": "elsewhere", "batch_size": 64, "device": "cuda", "gen_kwargs": None}
    change(results(lm_eval), config=config, model_name="other", date=1, transformers_version="4.0")
    assert before == hashes(lm_eval)
    assert hashed({"f": "<function f at 0x7f00>"}) == hashed({"f": "<function f at 0x7fee>"})


def test_other_items_never_meet(lm_eval):
    before = hashes(lm_eval)
    text = samples(lm_eval).read_text()
    samples(lm_eval).write_text(text.replace(json.loads(text.splitlines()[0])["doc_hash"], "0" * 64))
    after = hashes(lm_eval)
    assert before["tiny_pets"] != after["tiny_pets"]
    assert before["tiny_colours"] == after["tiny_colours"]


def test_the_same_item_twice_is_two_items_and_other_filters_are_left_out(imported, lm_eval):
    rows = samples(lm_eval).read_text().splitlines()
    other = json.dumps(json.loads(rows[0]) | {"filter": "flexible", "acc": 0.5})
    samples(lm_eval).write_text("\n".join([other, *rows[:-1], rows[1]]) + "\n")
    _, scores, _, said = imported(lm_eval)
    pets = [one for one in scores if one.probe == "tiny_pets"]
    assert len({one.item_key for one in pets}) == 8
    assert pets[-1].item_key == f"{pets[1].item_key}#2"
    assert any("0.375 is reported" in one for one in said), "the mean of these items is another"


def test_numbers_and_letters_that_no_database_holds(imported, lm_eval):
    rows = [json.loads(line) for line in samples(lm_eval, "tiny_colours").read_text().splitlines()]
    rows[0]["exact_match"], rows[1]["resps"] = float("nan"), [["half \ud800 a pair"]]
    samples(lm_eval, "tiny_colours").write_text("".join(json.dumps(row) + "\n" for row in rows))
    row, scores, answers, _ = imported(lm_eval)
    colours = [one for one in scores if one.probe == "tiny_colours"]
    assert [one.value for one in colours] == [None, 0, 0, 0, 0]
    assert answers[colours[1].response].answer == "half ? a pair"
    assert row.summary["measured"][str(colours[0].artifact)]["tiny_colours"]["unreadable"] == 1


def test_a_metric_of_the_whole_has_averages_only(imported, lm_eval):
    rows = [json.loads(line) | {"exact_match": ["said", "wanted"]} for line in samples(lm_eval, "tiny_colours").read_text().splitlines()]
    samples(lm_eval, "tiny_colours").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, scores, _, said = imported(lm_eval)
    assert {one.probe for one in scores} == {"tiny_pets"}
    assert "of tiny_colours there are only averages" in said[0]


def test_only_what_is_right_or_wrong_gets_verdicts(imported, lm_eval, lighteval):
    higher = {"tiny_pets": {"acc": True}, "tiny_colours": {"exact_match": False}}
    change(results(lm_eval), higher_is_better=higher)
    rows = [json.loads(line) for line in samples(lm_eval).read_text().splitlines()]
    samples(lm_eval).write_text("".join(json.dumps(row | {"acc": 0.3}) + "\n" for row in rows))
    row, *_ = imported(lm_eval)
    told = next(iter(row.summary["measured"].values()))
    assert not told["tiny_pets"]["rate"], "shares of an item are no rights and wrongs"
    assert not told["tiny_colours"]["rate"], "more is worse: a gain would be called learned"
    path = next(lighteval.glob("**/results_*.json"))
    config = json.loads(path.read_text())["config_tasks"]
    config["tiny_pets|0"]["metrics"][0]["higher_is_better"] = False
    change(path, config_tasks=config)
    assert [task.rate for task in read_results(str(lighteval)).tasks] == [True, False]


def test_two_models_measured_alike_get_a_receipt(run_stage, add_artifact, lm_eval, database, home):
    before, after = (add_artifact("model", name, format="full") for name in ("before", "after"))
    first = run_stage(ImportScores(model=before, path=str(lm_eval)))["scores"]
    rows = [json.loads(line) for line in samples(lm_eval).read_text().splitlines()]
    samples(lm_eval).write_text("".join(json.dumps(row | {"acc": 1 - row["acc"]}) + "\n" for row in rows))
    second = run_stage(ImportScores(model=after, path=str(lm_eval)))["scores"]
    report = run_stage(Receipt(base=before, tuned=after, scores=[first, second]))["report"]
    with Session(database) as session:
        folder = home.root / session.get_one(Artifact, report).folder
    told = {one["ability"]: one for one in json.loads((folder / "report.json").read_text())["verdicts"]}
    assert (told["tiny_pets"]["lost"], told["tiny_pets"]["gained"], told["tiny_pets"]["verdict"]) == (3, 5, "not enough evidence")


def test_a_measure_of_more_or_less_is_named_in_the_receipt(run_stage, add_artifact, lm_eval, database, home):
    scores, models = [], [add_artifact("model", name, format="full") for name in ("before", "after")]
    rows = [json.loads(line) for line in samples(lm_eval).read_text().splitlines()]
    for model, share in zip(models, (0.25, 0.75), strict=True):
        samples(lm_eval).write_text("".join(json.dumps(row | {"acc": share}) + "\n" for row in rows))
        scores.append(run_stage(ImportScores(model=model, path=str(lm_eval)))["scores"])
    report = run_stage(Receipt(base=models[0], tuned=models[1], scores=scores))["report"]
    with Session(database) as session:
        folder = home.root / session.get_one(Artifact, report).folder
    (fact,) = json.loads((folder / "report.json").read_text())["facts"]
    assert fact[:2] == ["tiny_pets", "0.250 acc,none"]
    assert "0.750 acc,none (+0.500" in fact[2]


@pytest.mark.parametrize("spoilt, says", [
    (lambda rows: [*rows[:2], "{broken", *rows[3:]], "line 3: not JSON"),
    (lambda rows: [*rows[:2], "[1]", *rows[3:]], "line 3: a JSON list, not an object"),
    (lambda rows: [*rows[:2], json.dumps({"doc_id": 2}), *rows[3:]], "line 3: it is no item of a task: KeyError"),
    (lambda rows: [*rows[:7], json.dumps(json.loads(rows[7]) | {"arguments": 3})], "line 8: it is no item of a task"),
    (lambda rows: rows[:5], "has 5 items where results_.* says 8: it is cut"),
    (lambda rows: [], "has 0 items"),
])  # fmt: skip
def test_a_spoilt_file_is_named_with_its_line_and_nothing_is_stored(database, home, add_artifact, lm_eval, spoilt, says):
    path = samples(lm_eval)
    path.write_text("".join(f"{row}\n" for row in spoilt(path.read_text().splitlines())))
    stage = ImportScores(model=add_artifact("model", "mine", format="full"), path=str(lm_eval))
    run = submit.submit(database, home, stage).runs[0]
    worker.work(database, home, run)
    with Session(database) as session:
        row = session.get_one(Run, run)
        assert row.status == "failed"
        assert path.name in (row.error or "")
        assert not session.exec(select(Score)).all()
        assert not session.exec(select(Response)).all()
    with pytest.raises(UserError, match=says):
        read_results(str(lm_eval))


def test_a_spoilt_parquet_is_named(lighteval):
    path = next(lighteval.glob("**/details_tiny_pets*"))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UserError, match=r"details_tiny_pets.* cannot be read as Parquet after its row 0"):
        read_results(str(lighteval))


@pytest.mark.parametrize("text, says", [
    ("{", "is not JSON"),
    ("[]", "written by neither"),
    ('{"results": 3}', "written by neither"),
    ('{"results": {}}', "reports no average"),
    ('{"results": {"a": 3, "b": {"alias": "b"}}}', "reports no average"),
])  # fmt: skip
def test_what_is_no_results_file_is_refused_before_it_is_queued(tmp_path, text, says):
    (tmp_path / "results_1.json").write_text(text)
    with pytest.raises(UserError, match=says) as refused:
        ImportScores(model=1, path=str(tmp_path)).check({})
    assert refused.value.field == "path"
    assert ImportScores(model=1, path=str(tmp_path)).preview({}) is None


def test_files_of_any_shape_are_read_or_refused_in_words(tmp_path):
    strange = {"results": {"../a": {"acc,none": 10**400, "acc_stderr,none": "N/A"}}, "config": [], "configs": 1, "n-samples": "x"}
    (tmp_path / "results_1.json").write_text(json.dumps(strange))
    (task,) = read_results(str(tmp_path)).tasks
    assert (task.name, task.average, task.error, task.items) == ("../a", None, None, ())
    strange = {"results": {"a|5": {"em": 1}}, "config_general": {"model_config": 3}, "config_tasks": {"a": []}}
    (tmp_path / "results_1.json").write_text(json.dumps(strange))
    found = read_results(str(tmp_path))
    assert (found.harness, found.settings["few_shot"], found.tasks[0].average) == ("lighteval", {"a|5": 5}, 1)


def test_which_file_is_meant(tmp_path, lm_eval):
    check = lambda path: ImportScores(model=1, path=path).check({})  # noqa: E731
    with pytest.raises(UserError, match="there is no file yet"):
        check("  ")
    with pytest.raises(UserError, match=r"there is no file .*nowhere"):
        check(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="there is no results"):
        check(str(shutil.copytree(DATA / "tasks", tmp_path / "tasks")))
    with pytest.raises(UserError, match="is no results file"):
        check(str(samples(lm_eval)))
    shutil.copy(results(lm_eval), lm_eval / "results_2.json")
    with pytest.raises(UserError, match=r"holds 2 results: results_2.*Choose one"):
        check(str(lm_eval))
    check(str(results(lm_eval)))


def test_the_form_shows_the_tasks(lm_eval):
    preview = ImportScores(model=1, path=str(lm_eval)).preview({})
    assert [row.pieces[0][0] for row in preview.rows] == ["tiny_pets: acc,none 0.375", "tiny_colours: exact_match,none 0.0"]


def test_the_likeliest_choice_is_what_the_metric_holds_for_it():
    assert likeliest(["a", "long choice"], [-2.0, -3.0], by_length=False) == "a"
    assert likeliest(["a", "long choice"], [-2.0, -3.0], by_length=True) == "long choice"
    assert likeliest(["one"], [-1.0], by_length=False) is None
