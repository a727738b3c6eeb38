"""Learning tasks in turn: what the recipe queues, its data, and that a model really forgets the first when it learns the second."""

import importlib.util
import json
from pathlib import Path

import pytest

from engine.recipes.task_sequence import OURS, TASKS, TaskSequence
from engine.stages.measure.forgetting_report import ForgettingReport
from engine.stages.train.finetune import Finetune
from tests.tiny_model import ASK, FACTS, tiny_model

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_task_data.py"


def queued(**settings):
    stages = []

    def queue(stage):
        stages.append(stage)
        return {name: 100 + len(stages) for name in type(stage).outputs}

    TaskSequence.model_validate(settings).plan(queue)
    return stages


def test_the_files_are_what_the_script_draws_and_no_two_rows_are_alike():
    spec = importlib.util.spec_from_file_location("make_task_data", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert {task.__name__ for task in script.TASKS} == set(OURS)
    for task in script.TASKS:
        text = (TASKS / f"{task.__name__}.jsonl").read_text(encoding="utf-8")
        assert text == script.lines(task)
        asked = [json.loads(line)["messages"][0]["content"] for line in text.splitlines()]
        assert len(asked) == len(set(asked)) == 260


def test_every_arm_ends_with_a_report_and_each_task_is_learned_from_the_last():
    stages = queued(model=1, tasks=[2, 3, 4])
    assert [type(stage) for stage in stages].count(ForgettingReport) == 3
    plain = [stage for stage in stages if isinstance(stage, Finetune)][:3]
    assert [stage.data for stage in plain] == [2, 3, 4]
    assert plain[0].model == 1
    replayed = [stage for stage in stages if isinstance(stage, Finetune)][3:5]
    assert replayed[0].model == plain[1].model, "the first task is learned once"
    last = stages[-1]
    assert last.arms == ["plain"] * 4 + ["replay 5%"] * 4 + ["all at once"] * 2
    assert last.stages[:4] == ["start", "task 1", "task 2", "task 3"]


def test_seeds_reach_the_training_and_name_the_arms():
    stages = queued(model=1, tasks=[2, 3], arms="plain", seeds=3)
    assert sorted({stage.training.seed for stage in stages if isinstance(stage, Finetune)}) == [0, 1, 2]
    assert set(stages[-1].arms) == {"plain, seed 0", "plain, seed 1", "plain, seed 2"}


def test_without_data_our_tasks_are_imported():
    assert [stage.save_as for stage in queued(model=1)[:4]] == [f"Task: {name}" for name in OURS]


def task(path, form, answer):
    """Every fact asked in one wording; 32 of them held out by the import."""
    asked = [(ASK[form].format(p=p, a=a), answer(p, a, v)) for p, a, v in FACTS]
    rows = [{"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": say}]} for ask, say in asked]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.timeout(400)
def test_the_second_task_takes_the_first_away(machine, tmp_path, monkeypatch):
    """Bare values, then a word that is always the same: trained on the second, the model gives no values any more."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    model = machine.submit("import_model", source="path", path=str(tiny_model()), save_as="tiny")
    one = machine.submit("import_dataset", source=str(task(tmp_path / "one.jsonl", 0, lambda p, a, v: v)), save_as="values", heldout=0.5)
    two = machine.submit("import_dataset", source=str(task(tmp_path / "two.jsonl", 1, lambda p, a, v: "yes")), save_as="yes", heldout=0.5)
    recipe = machine.submit(
        "task_sequence", model=model.outputs["model"], tasks=[one.outputs["dataset"], two.outputs["dataset"]], size="tiny", arms="plain",
        suite={"probes": ["arithmetic"]},
    )  # fmt: skip
    assert set(machine.finish(*model.runs, *one.runs, *two.runs, *recipe.runs, seconds=280)) == {"succeeded"}
    report = machine.artifact(recipe.outputs["report"])
    told = json.loads((machine.home.root / report.folder / "report.json").read_text())
    verdicts = {verdict["ability"]: verdict for verdict in told["verdicts"]}
    lost, learned = verdicts["values: exact match"], verdicts["yes: exact match"]
    assert lost["verdict"] == "forgot", told["sentence"]
    assert lost["before_interval"][0] > lost["after_interval"][1]
    assert learned["verdict"] == "learned"
    ((arm, _, backward),) = told["transfer"]
    assert (arm, backward) == ("plain", f"{lost['after'] - lost['before']:+.0%}"), "of two tasks, the change of the first"
    assert [row["stage"] for row in told["matrix"][0]["rows"]] == ["start", "task 1", "task 2"]
