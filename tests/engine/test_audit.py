"""The receipt of any two models: verdicts from paired items, both answers, what was measured differently left out and said."""

import json
import shutil
from pathlib import Path

import pytest
from sqlmodel import Session, select
from typer.testing import CliRunner

from engine.__main__ import app
from engine.errors import UserError
from engine.stages.measure.receipt import Receipt
from engine.work import Answer, ItemScore
from storage import queries
from storage.tables import Artifact
from tests.engine.teaching import Class
from tests.tiny_model import untrained_model

HOSTILE = '<img src=x onerror="alert(1)"> ${1+1}'


@pytest.fixture
def school(database, home, add_artifact, tmp_path):
    return Class(database, home, add_artifact, tmp_path / "school")


def scores(school, model, probe, right, n=100, *, hash="a", rate=True, floor=None, values=None):
    """Scores of a model on n items, the first `right` of them right, as `evaluate` leaves them; what its artifact says of them."""
    given = values or [float(place < right) for place in range(n)]
    work = school.start(school.lesson())
    rows = []
    for place, value in enumerate(given):
        score = ItemScore(model, hash + probe, probe, str(place), value)
        said = Answer(model, f"{place:016x}", [{"role": "user", "content": HOSTILE}], f"answer {value}", [1, 2], "stop") if rate else None
        rows.append((said, [score]))
    work.measured(rows)
    return {probe: {"title": probe.upper(), "rate": rate, "floor": floor, "suite_hash": hash + probe, "n": len(given), "value": 0.5}}


def receipt(school, tmp_path, measured, tuned):
    told = {str(model): rows for model, rows in measured.items()}
    both = school.add("scores", "both", tmp_path, measured=told)
    stage = Receipt(base=school.model, tuned=tuned, scores=[both])
    work = school.start(stage)
    assert school.finish(work, stage)
    return json.loads((work.output("report") / "report.json").read_text()), (work.output("report") / "report.html").read_text()


@pytest.fixture
def other(school, tmp_path):
    return school.add("model", "other", untrained_model(tmp_path / "other"), format="full", parameters=1, context_length=512)


def test_what_was_lost_learned_and_kept_stands_first_and_every_item_with_both_answers(school, other, tmp_path):
    base, tuned = ({**scores(school, model, "json", json_), **scores(school, model, "task", task),
                    **scores(school, model, "facts", 90)}
                   for model, json_, task in ((school.model, 98, 2), (other, 3, 97)))  # fmt: skip
    report, html = receipt(school, tmp_path, {school.model: base, other: tuned}, other)
    assert report["sentence"] == (
        "Learned TASK (2% → 97%, n = 100). Forgot JSON (98% → 3%, n = 100). Kept within 5% FACTS (90% → 90%, n = 100)."
    )
    about_json = [row["answers"] for row in report["answers"] if row["ability"] == "JSON"]
    lost = [sides for sides in about_json if sides[0]["correct"] and not sides[1]["correct"]]
    assert len(lost) == 95
    assert [side["answer"] for side in lost[0]] == ["answer 1.0", "answer 0.0"]
    assert HOSTILE not in html
    assert "&lt;img" in html


def test_what_was_measured_with_other_items_is_left_out_and_said(school, other, tmp_path):
    base = {**scores(school, school.model, "json", 50), **scores(school, school.model, "facts", 50)}
    tuned = {**scores(school, other, "json", 50, hash="b"), **scores(school, other, "facts", 50)}
    report, _ = receipt(school, tmp_path, {school.model: base, other: tuned}, other)
    assert [verdict["ability"] for verdict in report["verdicts"]] == ["FACTS"]
    assert any("JSON was measured with different items" in note and "in one run" in note for note in report["notes"])


def test_an_ability_at_its_floor_cannot_show_forgetting(school, other, tmp_path):
    base, tuned = (scores(school, model, "facts", 27, floor=0.25) for model in (school.model, other))
    report, _ = receipt(school, tmp_path, {school.model: base, other: tuned}, other)
    assert any("FACTS cannot show forgetting here" in note for note in report["notes"])


def test_losses_are_described_with_their_interval_and_unreadable_answers_counted(school, other, tmp_path):
    base = {**scores(school, school.model, "fluency", 0, rate=False, values=[2.0, 3.0] * 20),
            **scores(school, school.model, "facts", 0, values=[1.0] * 40)}  # fmt: skip
    tuned = {**scores(school, other, "fluency", 0, rate=False, values=[2.5, 3.5] * 20),
             **scores(school, other, "facts", 0, values=[1.0] * 30 + [None] * 10)}  # fmt: skip
    report, _ = receipt(school, tmp_path, {school.model: base, other: tuned}, other)
    assert report["facts"][0][:2] == ["FLUENCY: loss per token", "2.500 nats"]
    assert "+0.500, 95 % interval +0.500 to +0.500, n = 40" in report["facts"][0][2]
    assert report["facts"][1] == ["FACTS: answers that cannot be read", "0", "10"]
    assert report["verdicts"][0]["lost"] == 10, "an answer that cannot be read is not right"


def test_no_common_items_and_a_model_that_was_not_measured_are_refused(school, other, tmp_path):
    rows = scores(school, school.model, "json", 5)
    one = school.add("scores", "one", tmp_path, measured={str(school.model): rows})
    with pytest.raises(UserError, match="do not hold scores of other"):
        school.start(Receipt(base=school.model, tuned=other, scores=[one]))


def run(machine, *words):
    return CliRunner().invoke(app, ["audit", *map(str, words), "--home", str(machine.home.root)])


@pytest.mark.timeout(300)
def test_two_folders_are_audited_from_the_command_line(machine, tmp_path):
    base, tuned = untrained_model(tmp_path / "before"), tmp_path / "after"
    shutil.copytree(base, tuned / "checkpoint-5")
    shutil.copytree(base, tuned / "checkpoint-10")
    told = run(machine, base, tuned, "--suite", "watch", "--probe", "arithmetic", "--html", tmp_path / "receipt.html", "--json")
    assert told.exit_code == 0, told.output
    result = json.loads(told.output.splitlines()[-1])
    assert len(result["reports"]) == 2
    assert all(report["verdicts"][0]["lost"] == 0 for report in result["reports"]), "the same weights"
    assert result["reports"][0]["verdicts"][0]["verdict"] == "not enough evidence", "32 items never say kept"
    assert Path(tmp_path / "receipt.html").read_text().startswith("<!doctype html>")
    again = run(machine, "before", "checkpoint-10", "--suite", "watch", "--probe", "arithmetic", "--fail-on", "not enough evidence")
    assert again.exit_code == 1, "the verdict that was to fail was spoken"
    with Session(machine.database) as session:
        assert len(session.exec(select(Artifact).where(Artifact.kind == "model")).all()) == 3
        assert queries.artifacts_named(session, "checkpoint-5")


def test_what_is_no_model_is_said(machine):
    result = CliRunner().invoke(app, ["audit", "nothing", "nowhere", "--home", str(machine.home.root)])
    assert isinstance(result.exception, UserError)
    assert "no folder and no hub id" in str(result.exception)
    result = CliRunner().invoke(app, ["audit", "a", "b", "--fail-on", "lost", "--home", str(machine.home.root)])
    assert "learned, forgot, kept" in str(result.exception)


def test_where_scores_hold_other_items_too_those_that_both_share_are_compared(school, other, tmp_path):
    base = {"shared": scores(school, school.model, "facts", 90, hash="a"), "newer": scores(school, school.model, "facts", 90, hash="b")}
    tuned = scores(school, other, "facts", 20, hash="a")
    made = [school.add("scores", name, tmp_path, measured={str(school.model): row}) for name, row in base.items()]
    made.append(school.add("scores", "after", tmp_path, measured={str(other): tuned}))
    stage = Receipt(base=school.model, tuned=other, scores=made)
    work = school.start(stage)
    assert school.finish(work, stage)
    report = json.loads((work.output("report") / "report.json").read_text())
    assert [(row["ability"], row["verdict"]) for row in report["verdicts"]] == [("FACTS", "forgot")]


def test_what_is_a_rate_on_one_side_only_is_not_judged(school, other, tmp_path):
    base, tuned = (scores(school, model, "task", 50, rate=rate) for model, rate in ((school.model, True), (other, False)))
    report, _ = receipt(school, tmp_path, {school.model: base, other: tuned}, other)
    assert report["verdicts"] == []
