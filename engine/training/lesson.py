"""One training, from its rows to its result: what all trainings share around their trainers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from trl import SFTConfig

from engine.chat import Chat, Encoded
from engine.probe import Suite
from engine.settings import LoraSettings, RetentionSettings, SamplingSettings, TrainingSettings
from engine.stage import Input
from engine.suites import of_rows
from engine.training.answers import Panel
from engine.training.callback import Reporter
from engine.training.checkpoints import Checkpoints, arguments, compile_decoder, newest_checkpoint, worth_compiling
from engine.training.cost import PANEL_TOKENS, training_speed
from engine.training.models import compute_dtype, load_model, load_quantized, lora_config, precision_in_words
from engine.training.packing import Packed
from engine.training.predictors import Predictors
from engine.training.retention import watch
from engine.training.rows import Prompt, read_rows, total_steps
from engine.training.trackers import Tracker
from engine.training.trainer import FineTuner, own_arguments
from engine.work import Work

INHERITED = ("architecture", "context_length", "template", "licence", "quantized_from", "note")


@dataclass(frozen=True)
class Prepared:
    """What a trainer is made from. `arguments(kind, **own)` are its arguments, `shared` what every trainer is given."""

    work: Work
    chat: Chat
    dtype: torch.dtype
    arguments: Callable[..., Any]
    shared: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lesson:
    """What is learned, from what, and how. `settings` are those of the stage, for a tracker; `about` says what was done."""

    source: Input
    data: Input
    rows: list[Any]
    heldout: list[Any]
    panel: list[Prompt]
    method: Literal["lora", "full"]
    training: TrainingSettings
    lora: LoraSettings
    retention: RetentionSettings
    settings: dict[str, Any]
    about: str

    # what differs from one method to the next

    def make(self, prepared: Prepared) -> Checkpoints:
        """The trainer itself."""
        raise TypeError(f"{type(self).__name__} does not say which trainer it needs")

    def lengths(self) -> list[int]:
        """Each row's tokens, by which rows are put into batches."""
        raise TypeError(f"{type(self).__name__} does not say how long its rows are")

    def examples(self) -> tuple[list[Encoded], list[Encoded]]:
        """The training and held-out targets, for what is said to predict forgetting."""
        raise TypeError(f"{type(self).__name__} does not say what is learned")

    def task(self) -> Suite:
        """What says how well the task is learned; empty where the held-out loss says it."""
        raise TypeError(f"{type(self).__name__} does not say how its task is measured")

    def load(self, work: Work, dtype: torch.dtype) -> tuple[Any, Callable[[Any], Any]]:
        """The model to train, and how the language model in it is found, whose abilities are watched."""
        if self.lora.quantize == "4bit":
            return load_quantized(self.source, dtype, work.device), lambda model: model
        return load_model(self.source, work.artifact, dtype, work.device), lambda model: model

    def result(self) -> dict[str, Any]:
        """Which kind of model comes out."""
        return {"format": "adapter", "base": self.source.id} if self.method == "lora" else {"format": "full"}

    # what does not

    def trainer(self, work: Work, chat: Chat) -> Any:
        """A trainer of the source's model, with its panel, its watch and its tracker."""
        lora = self.method == "lora"
        dtype = compute_dtype(self.training.precision, work.device)
        # An adapter's frozen base may be rounded; weights that are trained may not: small updates would be lost.
        model, language = self.load(work, dtype if lora else torch.float32)
        precision = precision_in_words(dtype, work.device)
        work.say(f"computing in {precision}")
        parameters, steps = model.num_parameters(), total_steps(self.training, len(self.rows))
        panel = Panel(work, chat, work.output_id("model"), self.panel, SamplingSettings(max_new_tokens=PANEL_TOKENS), dtype)
        whole = self.source.folder if self.source.summary.get("format") == "full" else None
        predictors = Predictors(work.folder, *self.examples(), whole, dtype, self._packed)
        watched = watch(work, chat, self.data, self.task, self.retention, dtype, predictors, language)

        def given(kind: Any, **own: Any) -> Any:
            return arguments(kind, self.training, steps, work.folder, work.device, dtype, parameters, bool(self.heldout), **own)

        reporter = Reporter(work, self.training.checkpoints, panel.answer if work.leads else None, self._tracker(work), watched)
        shared = {
            "model": model, "source": self.source, "heldout": self.heldout, "lengths": self.lengths(), "reporter": reporter,
            "summary": self._summary(precision), "peft_config": lora_config(self.lora, model) if lora else None,
        }  # fmt: skip
        trainer = self.make(Prepared(work, chat, dtype, given, shared))
        tokens = steps * self.training.batch_size * self.training.accumulation * sum(self.lengths()) / len(self.rows)
        if worth_compiling(self.training.compile, tokens / training_speed(parameters), work.device):
            work.say("compiling the model first: some minutes now, a third of the time saved later")
            compile_decoder(trainer.model)
        return trainer

    def learn(self, work: Work, trainer: Checkpoints, enough: float | None = None) -> None:
        """Train to the end and write the result; nothing is taught where held-out answers are right `enough` already."""
        if trainer.watch and enough is not None and (known := trainer.watch.task_score(trainer.model)) >= enough:
            work.say(f"nothing is taught: held-out answers are right {known:.0%} of the time already")
        else:
            with work.finishing():
                trainer.train_from(newest_checkpoint(work.folder / "checkpoints", clean=work.leads))
        if self.method == "full" and self.training.precision == "bfloat16":
            trainer.halve()
        trainer.save_model(str(work.output("model")))
        work.describe("model", **trainer.summary, steps=trainer.state.global_step)
        if trainer.watch:
            work.describe("model", **trainer.watch.conclusion())

    @property
    def _packed(self) -> bool:
        return False

    def _tracker(self, work: Work) -> Tracker | None:
        name, tool = work.artifact(work.output_id("model")).name, self.training.tracker
        return None if tool == "none" or not work.leads else Tracker(tool, work, name, self.settings)

    def _summary(self, precision: str) -> dict[str, Any]:
        kept = {name: self.source.summary[name] for name in INHERITED if name in self.source.summary}
        told = kept | {"source": self.about, "method": self.method, "dtype": "float32", "computed_in": precision}
        if self.lora.quantize == "4bit":
            told["trained_on"] = "4-bit weights (nf4); it is used on the weights as they are, and differs slightly there"
        return told | self.result()


@dataclass(frozen=True)
class Imitation(Lesson):
    """Fine-tuning and pretraining: rows that carry loss are imitated."""

    collator: Callable[..., Any] | None = None  # how rows become a batch, where not as usual

    def make(self, prepared: Prepared) -> FineTuner:
        """TRL's trainer for it."""
        args = prepared.arguments(SFTConfig, **own_arguments(prepared.work.device))
        return FineTuner(args=args, rows=self.rows, pad_id=prepared.chat.pad_id, collator=self.collator, **prepared.shared)

    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.ids) for row in self.rows]

    def examples(self) -> tuple[list[Encoded], list[Encoded]]:
        """The rows themselves."""
        return self.rows, self.heldout

    def task(self) -> Suite:
        """The held-out rows."""
        rows = read_rows(self.data.folder, "heldout")
        return of_rows(self.data.name, rows, self.retention.scorer, "watch") if rows else []

    @property
    def _packed(self) -> bool:
        return isinstance(self.collator, Packed)
