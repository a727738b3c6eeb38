"""Every settings field reaches the trainer: changed, it changes what the trainer is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Engine
from trl import SFTConfig

from engine.chat import Chat
from engine.settings import LoraSettings, TrainingSettings
from engine.training.callback import Reporter, checkpoint_steps
from engine.training.checkpoints import arguments, newest_checkpoint, worth_compiling
from engine.training.models import compute_dtype
from engine.training.rows import encode_rows, read_rows
from engine.training.trainer import FineTuner, own_arguments
from storage.files import Home
from tests.engine.teaching import Class

# field: (another value, what of the trainer shows it)
TRAINING: dict[str, tuple[Any, Callable[[FineTuner], Any]]] = {
    "epochs": (3.0, lambda t: t.args.max_steps),
    "steps": (9, lambda t: t.args.max_steps),
    "batch_size": (3, lambda t: (t.args.per_device_train_batch_size, t._get_train_sampler().chunk)),
    "processes": (2, lambda t: t.args.per_device_train_batch_size),
    "accumulation": (3, lambda t: (t.args.gradient_accumulation_steps, t._get_train_sampler().chunk)),
    "learning_rate": (0.5, lambda t: t.args.learning_rate),
    "schedule": ("linear", lambda t: t.args.lr_scheduler_type),
    "warmup": (0.5, lambda t: t.args.warmup_steps),
    "weight_decay": (0.3, lambda t: t.args.weight_decay),
    "max_length": (40, lambda t: max(t.lengths)),
    "precision": ("bfloat16", lambda t: (t.args.bf16, t.model.base_model.model.model.embed_tokens.weight.dtype)),
    "compile": ("on", lambda t: t.model.get_base_model().base_model._compiled_call_impl is not None),
    "checkpoints": (1, lambda t: reporter(t).checkpoints),
    "keep_checkpoints": (5, lambda t: t.args.save_total_limit),
    "tracker": ("tensorboard", lambda t: tracker.tool if (tracker := reporter(t).tracker) else None),
    "seed": (7, lambda t: (t.args.seed, t._get_train_sampler().seed)),
}
LORA: dict[str, tuple[Any, Callable[[FineTuner], Any]]] = {
    "rank": (3, lambda t: t.model.peft_config["default"].r),
    "alpha": (5, lambda t: t.model.peft_config["default"].lora_alpha),
    "dropout": (0.4, lambda t: t.model.peft_config["default"].lora_dropout),
    "targets": ("attention", lambda t: sorted(t.model.peft_config["default"].target_modules)),
}


@pytest.fixture
def school(database: Engine, home: Home, add_artifact: Callable[..., int], tmp_path: Path) -> Class:
    return Class(database, home, add_artifact, tmp_path)


def reporter(trainer: FineTuner) -> Reporter:
    return next(one for one in trainer.callback_handler.callbacks if isinstance(one, Reporter))


def trainer_of(school: Class, **settings: Any) -> FineTuner:
    stage = school.lesson(**settings)
    work = school.start(stage)
    chat, data = Chat.open(work.input("model").folder), work.input("data").folder
    rows, heldout = (
        encode_rows(chat, read_rows(data, split), stage.loss_on, stage.training.max_length)[0] for split in ("train", "heldout")
    )
    return stage.lesson(work, chat, rows, heldout).trainer(work, chat)


def test_no_field_is_forgotten() -> None:
    assert set(TRAINING) == set(TrainingSettings.model_fields)
    assert set(LORA) | {"quantize"} == set(LoraSettings.model_fields)  # quantize: see test_devices


@pytest.mark.parametrize("field", TRAINING)
def test_training_field_reaches_the_trainer(school: Class, field: str) -> None:
    value, shown = TRAINING[field]
    long = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "yes " * 200}]}] * 18
    data, plain = school.rows("long", long), {"steps": None, "compile": "off"}
    before = shown(trainer_of(school, data=data, training=plain))
    assert before != shown(trainer_of(school, data=data, training=plain | {field: value}))


@pytest.mark.parametrize("field", LORA)
def test_lora_field_reaches_the_trainer(school: Class, field: str) -> None:
    value, shown = LORA[field]
    assert shown(trainer_of(school)) != shown(trainer_of(school, lora={field: value}))


def test_full_fine_tuning_keeps_float32_weights_and_lora_float32_adapters(school: Class) -> None:
    full = trainer_of(school, method="full", training={"precision": "bfloat16"})
    assert {part.dtype for part in full.model.parameters()} == {torch.float32}
    assert full.args.bf16
    lora = trainer_of(school, training={"precision": "bfloat16"})
    assert {(part.requires_grad, part.dtype) for part in lora.model.parameters()} == {(True, torch.float32), (False, torch.bfloat16)}


def test_loss_on_selected_positions_is_the_plain_loss(school: Class) -> None:
    trainer = trainer_of(school, lora={"dropout": 0.0})
    assert trainer.selects_positions
    columns = [trainer.train_dataset[i] for i in range(4)]
    batch = trainer.data_collator([{name: row[name] for name in ("input_ids", "labels")} for row in columns])

    def loss_and_gradients() -> tuple[float, list[torch.Tensor]]:
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(37))
        loss.backward()
        return loss.item(), [part.grad.clone() for part in trainer.model.parameters() if part.grad is not None]

    ours, our_gradients = loss_and_gradients()
    trainer.selects_positions = False
    plain, gradients = loss_and_gradients()
    assert ours == pytest.approx(plain, rel=1e-5)
    for one, other in zip(our_gradients, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_held_out_loss_is_the_mean_over_tokens(school: Class) -> None:
    trainer = trainer_of(school)
    total, count = 0.0, 0
    with torch.no_grad():
        for row in trainer.heldout:
            ids, labels = torch.tensor([row.ids]), torch.tensor(row.labels)
            likely = trainer.model.eval()(input_ids=ids).logits[0, :-1].log_softmax(-1)
            for place, target in enumerate(labels[1:].tolist()):
                if target != -100:
                    total, count = total - likely[place, target].item(), count + 1
    assert trainer.evaluate()["eval_loss"] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.gpu
def test_on_cuda_the_same_settings_take_the_fast_paths(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        own = own_arguments("cuda:0")
        config = arguments(SFTConfig, TrainingSettings(), 10, tmp_path, "cuda:0", torch.bfloat16, 10**6, heldout=True, **own)
        assert (config.optim, config.bf16, config.use_cpu) == ("adamw_torch_fused", True, False)
    else:
        pytest.skip("needs CUDA")


def test_not_a_number_is_not_hidden(tmp_path: Path) -> None:
    config = arguments(SFTConfig, TrainingSettings(), 10, tmp_path, "cpu", torch.float32, 10**6, heldout=False)
    assert config.logging_nan_inf_filter is False
    assert config.logging_steps == 1
    assert config.report_to == []


def test_checkpoints_are_evenly_spaced_and_one_is_at_the_end() -> None:
    assert checkpoint_steps(600, 4) == {150, 300, 450, 600}
    assert checkpoint_steps(3, 10) == {1, 2, 3}
    assert max(checkpoint_steps(7, 3)) == 7


def test_a_half_written_checkpoint_is_not_taken(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None
    for step, state in ((5, "{}"), (10, "{}"), (15, '{"global_st'), (20, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]


def test_compiling_is_chosen_only_where_it_pays() -> None:
    assert worth_compiling("on", 1, "cpu")
    assert not worth_compiling("off", 10**6, "cpu")
    assert not worth_compiling("auto", 1700, "cpu")
    assert not worth_compiling("auto", 10**6, "cuda:0")


def test_precision_is_what_was_asked_for() -> None:
    assert compute_dtype("bfloat16", "cpu") == torch.bfloat16
    assert compute_dtype("float32", "cpu") == torch.float32
    assert compute_dtype("auto", "mps") == torch.float32
