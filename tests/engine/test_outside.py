"""A script of somebody's own writes the same rows, and its losses are those it would have had."""

import pytest
import torch
from datasets import Dataset
from sqlmodel import Session, select
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from engine import dispatcher, submit
from engine.errors import UserError
from engine.settings import RetentionSettings
from engine.stages.measure.evaluate import Evaluate
from engine.training.outside import RetentionCallback
from storage.database import open_database
from storage.files import Home
from storage.tables import Artifact, Metric, Run, Score
from tests.engine.teaching import conversations
from tests.tiny_model import untrained_model

EVERY_TWO = RetentionSettings(probes=["arithmetic"], every=2)
QUIET = {"max_steps": 4, "per_device_train_batch_size": 2, "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False,
         "save_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-2, "seed": 1}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return untrained_model(tmp_path_factory.mktemp("model"))


def with_trl(folder, tmp_path, callbacks):
    arguments = SFTConfig(output_dir=str(tmp_path / "out"), activation_checkpointing=False, max_length=64, **QUIET)
    return SFTTrainer(model=str(folder), args=arguments, train_dataset=Dataset.from_list(conversations(12)), callbacks=callbacks)


def with_transformers(folder, tmp_path, callbacks):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    rows = [{"input_ids": ids, "labels": ids} for ids in [tokenizer("the city of mira is dorin")["input_ids"]] * 12]
    arguments = TrainingArguments(output_dir=str(tmp_path / "out"), **QUIET)
    return Trainer(model, arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=callbacks)


def losses(trainer):
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("trainer", [with_trl, with_transformers])
def test_the_same_rows_and_the_same_losses(trainer, folder, tmp_path):
    torch.manual_seed(0)
    alone = losses(trainer(folder, tmp_path, []))
    torch.manual_seed(0)
    watched = losses(trainer(folder, tmp_path, [RetentionCallback("my run", EVERY_TWO, tmp_path / "home")]))
    assert watched == alone
    home = Home((tmp_path / "home").resolve())
    with Session(open_database(home)) as session:
        run, model = session.exec(select(Run)).one(), session.exec(select(Artifact)).one()
        assert (run.status, run.stage, run.step) == ("succeeded", "outside", 4)
        rows = session.exec(select(Score)).all()
        assert {(row.artifact, row.step) for row in rows} == {(model.id, 0), (model.id, 2), (model.id, 4)}
        assert len(rows) == 3 * 32
        told = session.exec(select(Metric.value).where(Metric.name == "loss").order_by(Metric.step)).all()
        assert told == pytest.approx(alone)
    with pytest.raises(UserError, match="its weights are not here"):
        submit.submit(open_database(home), home, Evaluate(models=[model.id]))


class AsksToStop(TrainerCallback):
    def __init__(self, home):
        self.home = home

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            dispatcher.stop(open_database(Home(self.home)), 1)


def test_stop_is_asked_for_and_nobody_is_killed(folder, tmp_path):
    home = (tmp_path / "home").resolve()
    trainer = with_trl(folder, tmp_path, [RetentionCallback("my run", EVERY_TWO, home), AsksToStop(home)])
    assert len(losses(trainer)) == 2
    with Session(open_database(Home(home))) as session:
        assert session.get_one(Run, 1).status == "cancelled"


def test_an_unknown_probe_is_refused_before_anything_begins(tmp_path):
    with pytest.raises(UserError, match="arithmetic"):
        RetentionCallback("my run", RetentionSettings(probes=["arithmetics"]), tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("given", [{"suite": "off"}, {"scorer": "exact_match"}])
def test_settings_that_would_reach_nothing_are_refused(given, tmp_path):
    with pytest.raises(UserError, match=next(iter(given))):
        RetentionCallback("my run", RetentionSettings(**given), tmp_path)
