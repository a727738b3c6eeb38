"""The report of a recipe: the last stage against the one before, arm by arm, the matrix, and no word about methods from one seed."""

import json

import pytest

from engine.stages.measure.forgetting_report import ForgettingReport
from tests.engine.teaching import Class
from tests.engine.test_audit import HOSTILE, scores
from tests.tiny_model import untrained_model


@pytest.fixture
def school(database, home, add_artifact, tmp_path):
    return Class(database, home, add_artifact, tmp_path / "school")


def chain(school, tmp_path, arm, stages):
    """Models of one arm, each with scores: {"json": right of 100, ...} by stage."""
    models, measured = [], {}
    for place, told in enumerate(stages):
        folder = untrained_model(tmp_path / f"{arm}{place}")
        model = school.add("model", f"{arm} {place}", folder, format="full", parameters=1, context_length=512)
        models.append(model)
        measured[str(model)] = {key: row for probe, right in told.items() for key, row in scores(school, model, probe, right).items()}
    return models, measured


def report(school, tmp_path, arms, **settings):
    models, names, stages, measured = [], [], [], {}
    for arm, told in arms.items():
        some, found = chain(school, tmp_path, arm.replace(", ", "-"), told)
        models, names, measured = [*models, *some], [*names, *[arm] * len(some)], measured | found
        stages += ["start", "taught", "after"][-len(some) :] if len(some) < 4 else [f"stage {n}" for n in range(len(some))]
    held = school.add("scores", "all", tmp_path, measured=measured)
    stage = ForgettingReport(models=models, arms=names, stages=stages, scores=[held], **settings)
    work = school.start(stage)
    assert school.finish(work, stage)
    return json.loads((work.output("report") / "report.json").read_text()), (work.output("report") / "report.html").read_text()


def test_the_last_stage_is_judged_against_the_one_before_it(school, tmp_path):
    told, html = report(school, tmp_path, {"plain": [{"json": 8, "task": 0}, {"json": 98, "task": 0}, {"json": 2, "task": 96}]})
    assert told["sentence"] == "Learned TASK (0% → 96%, n = 100). Forgot JSON (98% → 2%, n = 100)."
    rows = told["matrix"][0]["rows"]
    assert [row["stage"] for row in rows] == ["start", "taught", "after"]
    assert [cell["value"] for cell in rows[2]["cells"]] == [0.02, 0.96]
    assert rows[2]["cells"][0]["change"] == pytest.approx(-0.06), "against the start"
    assert rows[2]["cells"][0]["forgetting"] == pytest.approx(0.96), "from its best"
    assert any("One seed" in note for note in told["notes"])
    assert HOSTILE not in html


def test_other_arms_say_what_they_forgot_and_only_agreeing_seeds_speak_of_a_method(school, tmp_path):
    lost, kept = [{"json": 98}, {"json": 4}], [{"json": 98}, {"json": 97}]
    arms = {f"plain, seed {n}": lost for n in range(3)} | {"replay": kept}
    told, html = report(school, tmp_path, arms)
    assert told["sentence"] == "Forgot JSON (98% → 4%, n = 100). Replay: nothing is shown to be forgot."
    assert "plain: JSON falls in all 3 seeds (-94% to -94%)." in told["notes"]
    assert any(note.startswith("replay: One seed.") for note in told["notes"])
    assert {verdict["arm"] for verdict in told["verdicts"]} == set(arms)
    assert "<h3>plain, seed 0</h3>" in html


def test_two_seeds_that_disagree_or_are_few_say_nothing_of_the_method(school, tmp_path):
    arms = {f"plain, seed {n}": [{"json": 50}, {"json": 50 + change}] for n, change in enumerate((-30, -20, 5))}
    told, _ = report(school, tmp_path, arms)
    assert not any("in all 3 seeds" in note for note in told["notes"])
    told, _ = report(school, tmp_path / "two", {name: arms[name] for name in list(arms)[:2]})
    assert any("2 seeds" in note for note in told["notes"])


def test_backward_transfer_where_stages_are_tasks(school, tmp_path):
    """R = [[.1, .2], [.8, .2], [.5, .9]]: average (.5 + .9) / 2, backward transfer .5 - .8."""
    stages = [{"one": 10, "two": 20}, {"one": 80, "two": 20}, {"one": 50, "two": 90}]
    tasks = [school.add("dataset", name, tmp_path, format="messages", rows=1) for name in ("one", "two")]
    stages = [{f"{name}: exact_match": right for name, right in told.items()} for told in stages]
    told, _ = report(school, tmp_path, {"plain": stages}, tasks=tasks)
    assert told["transfer"] == [["plain", "70%", "-30%"]]


def test_lists_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="give an arm and a stage for each model"):
        ForgettingReport(models=[1, 2], arms=["a", "a"], stages=["x", "y", "z"], scores=[3])
    with pytest.raises(ValueError, match="'b' once"):
        ForgettingReport(models=[1, 2, 3], arms=["a", "a", "b"], stages=["x", "y", "z"], scores=[3])
