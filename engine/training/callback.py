"""What a trainer tells the world while it runs: the one callback that every trainer here shares.

It maps logs to metrics, steps to progress, and decides when to save: at evenly spaced checkpoints, and when the person
asks to stop. It never raises to stop a trainer, since an exception would skip the checkpoint.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.training.retention import Watch
from engine.training.trackers import Tracker
from engine.work import Work

RECENT = 10  # steps the shown speed is averaged over
MEMORY_EVERY = 10  # steps between two looks at the memory
NOT_SHOWN = {"epoch", "total_flos", "num_tokens", "num_input_tokens_seen"}


class Reporter(TrainerCallback):
    """Reports to `work`, saves at `checkpoints` evenly spaced steps, and lets `panel(model, step)` answer there.
    A `tracker` gets the same numbers, and a `watch` measures what is forgotten."""

    def __init__(
        self,
        work: Work,
        checkpoints: int,
        panel: Callable[[Any, int], None] | None = None,
        tracker: Tracker | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.work, self.checkpoints, self.panel, self.tracker, self.watch = work, checkpoints, panel, tracker, watch
        self.save_at: set[int] = set()
        self.recent: deque[tuple[int, float]] = deque(maxlen=RECENT)
        self.tokens, self.began = 0, 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Say how long the run is and look at the model as it is now: before its first step, or where it left off."""
        self.save_at = checkpoint_steps(state.max_steps, self.checkpoints)
        self.tokens = state.num_input_tokens_seen
        self.work.progress(state.global_step, state.max_steps)
        self._ask_panel(kwargs["model"], state.global_step)
        if self.watch and not self.work.stopping:
            self.watch.begin(kwargs["model"], state.global_step, state.max_steps, self.save_at)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let the tracker have everything."""
        if self.tracker:
            self.tracker.end()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock: evaluations and the panel, which come after a step, are not counted as training."""
        self.began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note the speed, and say whether to save or to leave."""
        tokens, self.tokens = state.num_input_tokens_seen - self.tokens, state.num_input_tokens_seen
        seconds = time.perf_counter() - self.began
        self.recent.append((tokens, seconds))
        self.work.progress(state.global_step, state.max_steps)
        if state.global_step in self.save_at:
            control.should_evaluate = control.should_save = True
        self.work.stopping = anybody(self.work.stopping, args)
        if self.work.stopping:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False
        elif self.watch:
            self.watch.after_step(kwargs["model"], state.global_step, seconds)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **kwargs: Any) -> None:
        """Turn a log line into metrics, with the speed and now and then the memory beside the training loss."""
        values = {name: value for name, value in logs.items() if name not in NOT_SHOWN and not name.startswith("train_")}
        if "loss" in logs and self.recent:
            values["tokens_per_second"] = speed(self.recent)
            if state.global_step % MEMORY_EVERY == 1:
                values["memory_gb"] = memory(args.device) / 1e9
            if state.global_step == state.max_steps:
                values["trained_tokens"] = state.num_input_tokens_seen
        if values:
            self.work.metrics(state.global_step, **values)
            if self.tracker and state.is_world_process_zero:
                self.tracker.log(state.global_step, values)
        state.log_history.clear()  # it is in the database, and would make every checkpoint longer

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let the panel answer once the checkpoint is safe."""
        if state.global_step in self.save_at:
            self._ask_panel(kwargs["model"], state.global_step)

    def _ask_panel(self, model: Any, step: int) -> None:
        if self.panel and not self.work.stopping:
            self.panel(model, step)


def anybody(wants: bool, args: TrainingArguments) -> bool:
    """Whether any of the processes that share the training wants it: they must all save and leave at the same step."""
    if args.world_size == 1:
        return wants
    told = torch.tensor(float(wants), device=args.device)
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
    return bool(told)


def checkpoint_steps(total: int, count: int) -> set[int]:
    """`count` evenly spaced steps of `total`, the last one always among them."""
    return {max(1, round(total * part / count)) for part in range(1, count + 1)}


def speed(steps: deque[tuple[int, float]]) -> float:
    """Tokens a second over (tokens, seconds) of some steps."""
    return sum(tokens for tokens, _ in steps) / max(sum(seconds for _, seconds in steps), 1e-9)


def memory(device: torch.device) -> int:
    """Bytes in use: of the GPU on a GPU (the highest so far), of this process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)
