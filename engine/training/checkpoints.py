"""What every trainer here shares around TRL: what a checkpoint is, which one is the best, in which order rows are read.

A checkpoint folder is a whole model artifact plus the optimizer's state, and counts once its last file is whole.
"""

import json
import shutil
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoTokenizer, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from engine.settings import TrainingSettings
from engine.stage import Input
from engine.training.answers import undisturbed
from engine.training.batches import LengthSorted
from engine.training.callback import Reporter
from engine.training.cost import LARGE
from engine.training.models import copy_tokenizer, decoder_of

A = TypeVar("A", bound=TrainingArguments)

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def arguments(
    kind: type[A],
    training: TrainingSettings,
    steps: int,
    folder: Path,
    device: str,
    dtype: torch.dtype,
    parameters: int,
    heldout: bool,
    **own: Any,
) -> A:
    """What the settings mean to a trainer, with its `own` arguments. When to save is `Reporter`'s to say; how many are
    kept is said here."""
    return kind(
        output_dir=str(folder / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=training.batch_size // training.processes,
        per_device_eval_batch_size=training.batch_size // training.processes,
        gradient_accumulation_steps=training.accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type=SCHEDULES[training.schedule],
        warmup_steps=round(steps * training.warmup),
        weight_decay=training.weight_decay,
        max_length=training.max_length,
        seed=training.seed,
        bf16=dtype == torch.bfloat16,
        use_cpu=device == "cpu",
        optim="adamw_torch_fused" if device.startswith("cuda") else "adamw_torch",
        activation_checkpointing=parameters >= LARGE,
        save_strategy="steps",
        save_steps=steps + 1,
        save_total_limit=training.keep_checkpoints,
        metric_for_best_model="eval_loss" if heldout else None,
        greater_is_better=False if heldout else None,
        logging_steps=1,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        disable_tqdm=True,
        report_to="none",
        **own,
    )


class Checkpoints:
    """Stands before one of TRL's trainers among the bases. `source` is the artifact the model was loaded from; `lengths`
    are those of the rows by which they are put into batches; `summary` is what the result's row will say, which each
    checkpoint carries along, so that it can become an artifact itself."""

    def __init__(
        self, *, source: Input, heldout: list[Any], lengths: list[int], reporter: Reporter, summary: dict[str, Any], **trl: Any
    ) -> None:
        self.source, self.heldout, self.lengths, self.summary, self.watch = source, heldout, lengths, summary, reporter.watch
        tokenizer = AutoTokenizer.from_pretrained(source.folder, local_files_only=True)
        super().__init__(processing_class=tokenizer, callbacks=[reporter], **trl)
        self.remove_callback(PrinterCallback)
        self.summary["parameters"] = sum(part.numel() for part in self.model.parameters() if part.requires_grad)

    def train_from(self, checkpoint: Path | None) -> None:
        """Train to the end, from the start or from a whole checkpoint."""
        if checkpoint and _step(checkpoint) >= self.args.max_steps:  # it was cut while the result was being saved
            self._load_from_checkpoint(str(checkpoint))
            self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        else:
            self.args.eval_on_start = bool(self.heldout) and checkpoint is None
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def halve(self) -> None:
        """Round the trained weights to bfloat16, for saving."""
        self.model.to(torch.bfloat16)
        self.summary["dtype"] = "bfloat16"

    def held_out(self) -> dict[str, float]:
        """What is measured on the held-out rows, `eval_loss` among it. Called undisturbed."""
        raise TypeError(f"{type(self).__name__} does not say how held-out rows are measured")

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the held-out rows, where there are any."""
        if not self.heldout:
            return {}
        with undisturbed(self.model):
            found = self.held_out()
        self.summary["eval_loss"] = found["eval_loss"]
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """The checkpoint that is kept as the best: by the trade-off where retention is watched, else by the held-out loss."""
        is_new = super()._determine_best_metric(metrics, trial)
        if self.watch and (chosen := self.watch.best()):
            self.state.best_global_step = chosen.step
        return is_new

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: counting walks over all parameters at every step."""
        return 0

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthSorted:
        batch, world = self.args.per_device_train_batch_size * self.args.world_size, self.args.world_size
        return LengthSorted(self.lengths, batch * self.args.gradient_accumulation_steps, self.args.seed, batch if world > 1 else 1)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        (folder / "training_args.bin").unlink()  # a pickle, and nothing needs it
        copy_tokenizer(self.source.folder, folder)
        _name_base(folder / "adapter_config.json", self.source.name)
        (folder / "summary.json").write_text(json.dumps(self.summary | {"steps": self.state.global_step}))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The artifact's row says where a model came from."""


def newest_checkpoint(folder: Path, clean: bool = True) -> Path | None:
    """The last whole checkpoint in a folder. Those cut short by a kill are removed: they could be taken for whole.
    Of processes that share a run only one cleans."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        if _is_whole(checkpoint):
            whole.append(checkpoint)
        elif clean:
            shutil.rmtree(checkpoint)
    return max(whole, key=_step, default=None)


def worth_compiling(choice: str, seconds: float, device: str) -> bool:
    """Whether to compile the decoder: it takes minutes and then saves a third of the time the run would take.

    By itself it is chosen only on the CPU, where that was measured and where `seconds` can be told beforehand.
    """
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    return choice == "on" or (choice == "auto" and device == "cpu" and seconds / 3 > 600 and compiler is not None)


def compile_decoder(model: Any) -> None:
    """Compile the part of the model that training runs, for batches of any length. Answers stay uncompiled."""
    decoder_of(model).compile(dynamic=True)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())  # the last file to be written
    except (OSError, ValueError):
        return False
    return True


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[-1])


def _name_base(config: Path, name: str) -> None:
    """An adapter's config names its base by a path of this machine: put the base's name there instead."""
    if config.exists():
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": name}, indent=2))
