"""The finetune stage: what it refuses, what it leaves behind, and that nothing disturbs its losses."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Engine
from sqlmodel import Session

from engine import library, submit
from engine.errors import UserError
from engine.stage import Stage
from engine.training.models import load_model
from storage.files import Home
from storage.tables import Artifact
from tests.engine.teaching import Class, conversations, stops_at


@pytest.fixture
def school(database: Engine, home: Home, add_artifact: Callable[..., int], tmp_path: Path) -> Class:
    return Class(database, home, add_artifact, tmp_path)


def losses(school: Class, **settings: Any) -> dict[int, float]:
    stage = school.lesson(**settings)
    work = school.start(stage)
    assert school.finish(work, stage)
    return school.curve(work.run)


def test_it_learns_and_its_result_can_be_opened(school: Class, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    made = run_stage(school.lesson(training={"steps": 20}, panel_size=2))["model"]
    with Session(school.database) as session:
        row = session.get_one(Artifact, made)
    folder = school.home.root / row.folder
    wanted = {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert wanted <= {path.name for path in folder.iterdir()}
    assert not list(folder.glob("*.bin"))
    assert not Path(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]).is_absolute()
    assert row.summary["format"] == "adapter"
    assert row.summary["base"] == school.model
    curve = school.curve(row.made_by or 0)
    assert list(curve) == list(range(1, 21))
    assert curve[20] < curve[1] - 0.5
    heldout = school.curve(row.made_by or 0, "eval_loss")
    assert list(heldout) == [0, 10, 20]
    assert heldout[20] < heldout[0]
    assert row.summary["eval_loss"] == pytest.approx(heldout[20])
    work = school.start(school.lesson(model=made, method="full"))
    assert load_model(work.input("model"), work.artifact, torch.float32, "cpu").num_parameters() > row.summary["parameters"]


def test_an_adapter_on_an_adapter_is_merged_in_order(school: Class, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    first = run_stage(school.lesson())["model"]
    second = run_stage(school.lesson(model=first))["model"]
    third = run_stage(school.lesson(model=second, method="full"))["model"]
    with Session(school.database) as session:
        runs = [session.get_one(Artifact, id).made_by or 0 for id in (first, second, third)]
    for before, after in pairwise(runs):
        assert school.curve(after, "eval_loss")[0] == pytest.approx(school.curve(before, "eval_loss")[6], abs=1e-4)


@pytest.mark.parametrize("settings", [
    {"lora": {"dropout": 0.2}}, {"method": "full"}, {"training": {"accumulation": 2, "batch_size": 2}, "lora": {"dropout": 0.2}},
])  # fmt: skip
def test_a_stopped_run_goes_on_as_if_it_had_not_been(school: Class, settings: dict[str, Any]) -> None:
    # 18 rows in fours are 5 steps an epoch: 7 lies in the middle of the second.
    settings = settings | {"training": settings.get("training", {}) | {"steps": 12, "checkpoints": 3}}
    whole = losses(school, **settings)
    for at in (5, 7):
        stage = school.lesson(**settings, save_as=f"stopped at {at}")
        work = school.start(stage, stops_at(at))
        assert not school.finish(work, stage)
        assert list(school.curve(work.run)) == list(range(1, at + 1))
        assert school.finish(school.start(stage, run=work.run), stage)
        assert school.curve(work.run) == pytest.approx(whole, abs=1e-5)
        assert list(school.curve(work.run, "eval_loss")) == [0, 4, 8, 12]


def test_a_run_killed_while_saving_its_result_only_saves(school: Class) -> None:
    stage = school.lesson()
    work = school.start(stage)
    assert school.finish(work, stage)
    before = (work.output("model") / "adapter_model.safetensors").read_bytes()
    again = school.start(stage, run=work.run)
    assert school.finish(again, stage)
    assert (again.output("model") / "adapter_model.safetensors").read_bytes() == before
    assert list(school.curve(work.run)) == [1, 2, 3, 4, 5, 6]


def test_the_panel_answers_and_changes_nothing(school: Class) -> None:
    stage = school.lesson(panel_size=3, lora={"dropout": 0.2})
    work = school.start(stage)
    assert school.finish(work, stage)
    assert school.curve(work.run) == losses(school, lora={"dropout": 0.2})
    answers = school.responses(work.run)
    assert [answer.step for answer in answers] == [0] * 3 + [3] * 3 + [6] * 3
    assert {answer.artifact for answer in answers} == {work.output_id("model")}
    assert {answer.prompt[-1]["content"] for answer in answers} == {"say 50", "say 51", "say 52"}  # the first held-out ones


def test_eight_accumulated_batches_of_one_are_one_batch_of_eight(school: Class) -> None:
    eight = losses(school, training={"batch_size": 8, "accumulation": 1})
    assert losses(school, training={"batch_size": 1, "accumulation": 8}) == pytest.approx(eight, abs=1e-4)


def test_a_seed_repeats_and_another_does_not(school: Class) -> None:
    assert losses(school) == losses(school)
    assert losses(school) != losses(school, training={"seed": 1})


def test_a_checkpoint_can_be_promoted(school: Class, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    made = run_stage(school.lesson(training={"keep_checkpoints": 2}))["model"]
    with Session(school.database) as session:
        run = session.get_one(Artifact, made).made_by or 0
    assert library.checkpoints(school.home, run) == [3, 6]
    promoted = library.promote(school.database, school.home, run, 3)
    stage = school.lesson(model=promoted)
    work = school.start(stage)
    assert school.finish(work, stage)
    assert school.curve(work.run, "eval_loss")[0] == pytest.approx(school.curve(run, "eval_loss")[3], abs=1e-4)


def test_only_so_many_checkpoints_are_kept(school: Class) -> None:
    stage = school.lesson(training={"checkpoints": 6, "keep_checkpoints": 2, "steps": 6})
    work = school.start(stage)
    assert school.finish(work, stage)
    assert library.checkpoints(school.home, work.run) == [5, 6]


def test_the_estimate_counts_what_the_run_meets(school: Class) -> None:
    long = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "yes " * 400}]}]
    longer = [{"messages": [{"role": "user", "content": "yes " * 400}, {"role": "assistant", "content": "a"}]}]
    data = school.rows("long", conversations(5) + long + longer)
    stage = school.lesson(data=data)
    told = submit.estimate(school.database, school.home, stage)
    assert told is not None
    assert "Rows: 6, tokens:" in told.notes[0]
    assert "2 rows are longer than 128 tokens and will be cut" in told.notes[0]
    assert "1 rows keep nothing to learn from" in told.notes[0]
    assert told.seconds > 0
    assert told.disk > 0
    work = school.start(stage)
    assert school.finish(work, stage)


def test_nothing_to_learn_is_refused_before_it_is_queued(school: Class) -> None:
    longer = [{"messages": [{"role": "user", "content": "yes " * 400}, {"role": "assistant", "content": "a"}]}]
    with pytest.raises(UserError, match="raise max length") as refused:
        school.start(school.lesson(data=school.rows("too long", longer)))
    assert refused.value.field == "training.max_length"
    with pytest.raises(UserError, match="no rows") as refused:
        school.start(school.lesson(data=school.rows("empty", [])))
    assert refused.value.field == "data"


def test_the_preview_shows_what_carries_loss(school: Class) -> None:
    shown = submit.preview(school.database, school.home, school.lesson())
    assert shown is not None
    learnt = "".join(text for text, carries in shown.rows[0].pieces if carries)
    assert learnt.startswith("yes 0")
    assert "say 0" not in learnt
