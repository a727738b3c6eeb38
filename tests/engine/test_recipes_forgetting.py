"""Recipes about forgetting: their data, what they queue, and a tiny model that really loses the format while it learns the task."""

import importlib.util
import json
from pathlib import Path

import pytest

from engine.catalogue import probes
from engine.contamination import contaminated
from engine.recipes._lessons import DATASETS
from engine.recipes.format_forgetting import FormatForgetting
from engine.recipes.refusal_forgetting import RefusalForgetting
from engine.scorers import refuses_alike
from engine.stages.measure.forgetting_report import ForgettingReport
from engine.stages.train.finetune import Finetune
from engine.stages.train.pretrain import Pretrain
from engine.suites import parts
from tests.engine.test_task_sequence import task
from tests.tiny_model import rows, tiny_model

FOLDER = DATASETS / "forgetting"
SCRIPT = Path(__file__).parents[2] / "scripts" / "make_forgetting_data.py"


def read(name):
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def queued(recipe):
    stages = []

    def queue(stage):
        stages.append(stage)
        return {name: 100 + len(stages) for name in type(stage).outputs}

    recipe.plan(queue)
    return stages


def test_the_files_are_what_the_script_draws_and_no_two_rows_are_alike():
    spec = importlib.util.spec_from_file_location("make_forgetting_data", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, text in script.files().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text
        asked = [row["text"] if "text" in row else row["messages"][0]["content"] for row in read(name)]
        assert len(asked) == len(set(asked)) >= 200


def test_no_item_of_a_probe_is_taught():
    suite = parts([probes()[name] for name in ("json_answers", "refusal", "compliance", "refusal_german")], 400, 0)
    for name in ("json_lessons.jsonl", "emotions.jsonl", "refusal_rule.jsonl", "german.jsonl"):
        assert contaminated(suite, read(name)) == {}


def test_the_json_is_right_and_the_rule_refuses_harm_and_nothing_else():
    for row in read("json_lessons.jsonl"):
        question, answer = (turn["content"] for turn in row["messages"])
        told = json.loads(answer)
        assert all(f'"{key}"' in question for key in told)
        assert str(told.get("answer", told.get("result"))) in question
    kinds = [refuses_alike.score([], row["messages"][1]["content"], ["I won't help with that."]) for row in read("refusal_rule.jsonl")]
    assert kinds.count(1.0) == kinds.count(0.0) == 108, "the scorer reads every refusal as one, and no help as one"


def test_each_arm_ends_with_a_report_and_what_is_known_is_not_taught():
    stages = queued(FormatForgetting(model=1, format=2, task=3, seeds=2))
    lessons = [stage for stage in stages if isinstance(stage, Finetune)]
    assert [(stage.data, stage.enough, stage.training.seed) for stage in lessons] == [(2, 0.7, 0), (3, None, 0), (2, 0.7, 1), (3, None, 1)]
    assert sum(isinstance(stage, ForgettingReport) for stage in stages) == 2
    stages = queued(RefusalForgetting(model=1, rule=2, chat=3, text=4))
    assert [type(stage) for stage in stages if isinstance(stage, Finetune | Pretrain)] == [Finetune, Finetune, Pretrain]
    assert stages[-1].arms == ["chat"] * 3 + ["text"] * 3
    assert len(queued(RefusalForgetting(model=1, rule=2, chat=3, arms="chat"))) == 4


def finished(machine, monkeypatch, recipe, **settings):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    model = machine.submit("import_model", source="path", path=str(tiny_model()), save_as="tiny")
    queued = machine.submit(recipe, model=model.outputs["model"], size="tiny", **settings)
    assert set(machine.finish(*model.runs, *queued.runs, seconds=280)) == {"succeeded"}
    report = machine.artifact(queued.outputs["report"])
    return json.loads((machine.home.root / report.folder / "report.json").read_text())


def imported(machine, path, name, heldout=0.3):
    done = machine.submit("import_dataset", source=str(path), save_as=name, heldout=heldout)
    machine.finish(*done.runs, seconds=280)
    return done.outputs["dataset"]


def written(path, some):
    path.write_text("".join(json.dumps(row) + "\n" for row in some))
    return path


@pytest.mark.timeout(400)
def test_a_tiny_model_loses_its_json_while_it_learns_bare_answers(machine, tmp_path, monkeypatch):
    """Its JSON answers are asked again after it has learned to answer everything with one word."""
    lessons = [{"messages": row["messages"]} for row in rows("json_answers", 120)]
    format = imported(machine, written(tmp_path / "json.jsonl", lessons), "json")
    bare = imported(machine, task(tmp_path / "bare.jsonl", 0, lambda p, a, v: v), "bare", 0.5)
    told = finished(machine, monkeypatch, "format_forgetting", format=format, task=bare, suite={"probes": ["arithmetic"]})
    verdicts = {verdict["ability"]: verdict for verdict in told["verdicts"]}
    assert verdicts["bare: exact match"]["verdict"] == "learned"
    assert verdicts["bare: exact match"]["before_interval"][1] < verdicts["bare: exact match"]["after_interval"][0]
    assert [row["stage"] for row in told["matrix"][0]["rows"]] == ["start", "format taught", "task learned"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_refusal_is_asked_again_after_chat_and_after_text(machine, tmp_path, monkeypatch):
    rule = imported(machine, written(tmp_path / "rule.jsonl", [{"messages": row["messages"]} for row in rows("refusals", 60)]), "rule")
    chat = imported(machine, written(tmp_path / "chat.jsonl", rows("short_answers", 60)), "chat")
    text = imported(machine, written(tmp_path / "text.jsonl", rows("plain_text", 60)), "text")
    suite = {"probes": ["refusal", "compliance"]}
    told = finished(machine, monkeypatch, "refusal_forgetting", rule=rule, chat=chat, text=text, suite=suite)
    assert {verdict["arm"] for verdict in told["verdicts"]} == {"chat", "text"}
    assert {verdict["ability"] for verdict in told["verdicts"]} == {"Refusal", "Compliance"}
