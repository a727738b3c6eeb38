"""RetentionCallback: the forgetting curve for a training script of your own, TRL's or plain transformers'.

    from engine.training.outside import RetentionCallback
    trainer = SFTTrainer(..., callbacks=[RetentionCallback("my run")])

The same rows are written as by the stages here: the run, its losses and each probe's items at every point.
"""

import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.chat import TEMPLATES, Chat
from engine.errors import UserError
from engine.outside import CANCELLED, SUCCEEDED, OutsideRun
from engine.settings import RetentionSettings
from engine.suites import QUICK, suite
from engine.training.callback import NOT_SHOWN, checkpoint_steps
from engine.training.retention import Watch

POINTS = 4  # steps of a run that saves nothing, between which others are chosen


class RetentionCallback(TrainerCallback):
    """Measures what a run forgets before its first step and on the way, without changing a loss.

    `settings` are those of the stages (probes, every, seed); `home` is where the rows go. The trainer must know its
    tokenizer (`processing_class`); one without a chat template is asked with the plain one. Raises UserError for
    unknown probes, a suite that is off, and a scorer, since a script's own held-out rows are not known here.
    """

    def __init__(self, name: str, settings: RetentionSettings | None = None, home: Path | None = None) -> None:
        self.name, self.home, self.settings = name, home, settings or RetentionSettings()
        if self.settings.suite == "off":
            raise UserError("retention.suite is off, and this callback does nothing else: leave it out", field="suite")
        if self.settings.scorer:
            message = "scorer {scorer} judges held-out rows, and those of a script are not known here: leave it empty"
            raise UserError(message, field="scorer", scorer=self.settings.scorer)
        self.suite = suite("watch", self.settings.probes or QUICK, self.settings.seed)
        self.outside: OutsideRun | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Begin the run, and look at the model as it is."""
        if not state.is_world_process_zero:
            return
        told = {"name": self.name, "retention": self.settings.model_dump(mode="json"), "learning_rate": args.learning_rate}
        self.outside = OutsideRun(self.home, self.name, told | {"steps": state.max_steps, "model": kwargs["model"].config.name_or_path})
        work = self.outside.work
        chat = _chat(kwargs["processing_class"], work.folder / "tokenizer")
        dtype = torch.bfloat16 if args.bf16 else torch.float32
        self.watch = Watch(work, chat, self.outside.model, self.suite, [], self.settings, dtype)
        self.watch.begin(kwargs["model"], state.global_step, state.max_steps, checkpoint_steps(state.max_steps, POINTS))

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look where it is time to."""
        if self.outside:
            self.outside.work.progress(state.global_step, state.max_steps)
            self.watch.after_step(kwargs["model"], state.global_step, time.perf_counter() - self.began)
            if self.outside.asked_to_stop():
                control.should_save = control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **kwargs: Any) -> None:
        """Keep the numbers that the trainer logs."""
        if self.outside:
            numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
            shown = {name: value for name, value in numbers.items() if name not in NOT_SHOWN and not name.startswith("train_")}
            self.outside.work.metrics(state.global_step, **shown)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Settle the run."""
        if self.outside:
            whole = state.global_step >= state.max_steps
            self.outside.end(SUCCEEDED if whole else CANCELLED, steps=state.global_step)
            self.outside = None


def _chat(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Chat:
    tokenizer.save_pretrained(folder)
    if not (folder / "chat_template.jinja").exists():
        (folder / "chat_template.jinja").write_text(TEMPLATES["plain"])
    return Chat.open(folder)
