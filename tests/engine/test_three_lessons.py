"""A new skill against the old subjects: the data is right, and a tiny model really learns while it is examined."""

import importlib.util
import json
from pathlib import Path

import pytest

from engine.recipes.three_lessons import LESSONS, SUBJECTS, ThreeLessons
from engine.scorers.unit_tests import score
from engine.stages.measure.forgetting_report import ForgettingReport
from engine.stages.train.finetune import Finetune
from tests.engine.test_task_sequence import task
from tests.tiny_model import tiny_model

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_code_lessons.py"


def test_every_reference_answer_passes_and_a_broken_one_does_not():
    rows = [json.loads(line) for line in LESSONS.read_text().splitlines()]
    assert len({row["messages"][0]["content"] for row in rows}) == len(rows) >= 200
    for row in rows[::4]:
        answer = row["messages"][-1]["content"]
        assert score([], answer, row["accept"]) == 1.0
        assert score([], answer.replace("return ", "return not "), row["accept"]) == 0.0


def test_the_file_is_what_the_script_draws():
    spec = importlib.util.spec_from_file_location("make_code_lessons", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert LESSONS.read_text() == script.text()


def test_each_seed_ends_with_a_report():
    queued = []

    def queue(stage):
        queued.append(stage)
        return {name: 100 + len(queued) for name in type(stage).outputs}

    ThreeLessons(model=1, data=2, seeds=2).plan(queue)
    assert [stage.training.seed for stage in queued if isinstance(stage, Finetune)] == [0, 1]
    assert [stage.retention.probes for stage in queued if isinstance(stage, Finetune)] == [SUBJECTS, SUBJECTS]
    reports = [stage for stage in queued if isinstance(stage, ForgettingReport)]
    assert [len(report.models) for report in reports] == [2, 4]


@pytest.mark.timeout(300)
def test_a_skill_is_learned_while_subjects_are_examined(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    model = machine.submit("import_model", source="path", path=str(tiny_model()), save_as="tiny")
    path = task(tmp_path / "skill.jsonl", 0, lambda p, a, v: "yes")
    data = machine.submit("import_dataset", source=str(path), save_as="skill", heldout=0.5)
    recipe = machine.submit(
        "three_lessons", model=model.outputs["model"], data=data.outputs["dataset"], scorer="exact_match", size="tiny",
        suite={"probes": ["arithmetic"]},
    )  # fmt: skip
    assert set(machine.finish(*model.runs, *data.runs, *recipe.runs, seconds=280)) == {"succeeded"}
    report = machine.artifact(recipe.outputs["report"])
    told = json.loads((machine.home.root / report.folder / "report.json").read_text())
    verdict = next(one for one in told["verdicts"] if one["ability"] == "skill: exact match")
    assert verdict["verdict"] == "learned"
    assert verdict["before_interval"][1] < verdict["after_interval"][0]
    curves = {curve["ability"]: curve["points"] for curve in told["curves"]}
    assert {step for step, *_ in curves["Arithmetic"]} >= {0, 30, 60}
    assert any(fact[0].endswith("Size of the update") for fact in told["facts"])
