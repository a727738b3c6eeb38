"""One training, from its rows to its result: what fine-tuning and pretraining share around the trainer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from engine.chat import Chat, Encoded
from engine.settings import LoraSettings, RetentionSettings, SamplingSettings, TrainingSettings
from engine.stage import Input
from engine.training.answers import Panel
from engine.training.callback import Reporter
from engine.training.cost import PANEL_TOKENS, training_speed
from engine.training.models import compute_dtype, load_model, load_quantized, lora_config, precision_in_words
from engine.training.packing import Packed
from engine.training.predictors import Predictors
from engine.training.retention import watch
from engine.training.rows import Prompt, total_steps
from engine.training.trackers import Tracker
from engine.training.trainer import FineTuner, compile_decoder, newest_checkpoint, sft_config, worth_compiling
from engine.work import Work

INHERITED = ("architecture", "context_length", "template", "licence", "quantized_from", "note")


@dataclass(frozen=True)
class Lesson:
    """What is learned, from what, and how. `settings` are those of the stage, for a tracker; `about` says what was done."""

    source: Input
    data: Input
    rows: list[Encoded]
    heldout: list[Encoded]
    panel: list[Prompt]
    method: Literal["lora", "full"]
    training: TrainingSettings
    lora: LoraSettings
    retention: RetentionSettings
    settings: dict[str, Any]
    about: str
    collator: Callable[..., Any] | None = None  # how rows become a batch, where not as usual

    def trainer(self, work: Work, chat: Chat) -> FineTuner:
        """A trainer of the source's model, with its panel, its watch and its tracker."""
        lora = self.method == "lora"
        dtype = compute_dtype(self.training.precision, work.device)
        # An adapter's frozen base may be rounded; weights that are trained may not: small updates would be lost.
        if self.lora.quantize == "4bit":
            model = load_quantized(self.source, dtype, work.device)
        else:
            model = load_model(self.source, work.artifact, dtype if lora else torch.float32, work.device)
        precision = precision_in_words(dtype, work.device)
        work.say(f"computing in {precision}")
        parameters, steps = model.num_parameters(), total_steps(self.training, len(self.rows))
        panel = Panel(work, chat, work.output_id("model"), self.panel, SamplingSettings(max_new_tokens=PANEL_TOKENS), dtype)
        whole = self.source.folder if self.source.summary.get("format") == "full" else None
        predictors = Predictors(work.folder, self.rows, self.heldout, whole, dtype, isinstance(self.collator, Packed))
        watched = watch(work, chat, self.data, self.retention, dtype, predictors)
        trainer = FineTuner(
            model,
            sft_config(self.training, steps, work.folder, work.device, dtype, parameters, bool(self.heldout)),
            self.rows,
            self.heldout,
            self.source,
            chat.pad_id,
            Reporter(work, self.training.checkpoints, panel.answer if work.leads else None, self._tracker(work), watched),
            self._summary(precision),
            lora_config(self.lora, model) if lora else None,
            self.collator,
        )
        tokens = steps * self.training.batch_size * self.training.accumulation * sum(len(row.ids) for row in self.rows) / len(self.rows)
        if worth_compiling(self.training.compile, tokens / training_speed(parameters), work.device):
            work.say("compiling the model first: some minutes now, a third of the time saved later")
            compile_decoder(trainer.model)
        return trainer

    def learn(self, work: Work, trainer: FineTuner, enough: float | None = None) -> None:
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

    def _tracker(self, work: Work) -> Tracker | None:
        name, tool = work.artifact(work.output_id("model")).name, self.training.tracker
        return None if tool == "none" or not work.leads else Tracker(tool, work, name, self.settings)

    def _summary(self, precision: str) -> dict[str, Any]:
        kept = {name: self.source.summary[name] for name in INHERITED if name in self.source.summary}
        told = kept | {"source": self.about, "method": self.method, "dtype": "float32", "computed_in": precision}
        if self.lora.quantize == "4bit":
            told["trained_on"] = "4-bit weights (nf4); it is used on the weights as they are, and differs slightly there"
        return told | ({"format": "adapter", "base": self.source.id} if self.method == "lora" else {"format": "full"})
