"""What the training stages say alike: lengths, prompts of the panel, and what a run will take."""

import importlib.util
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from engine.devices import devices, fast_bfloat16, gpu_memory, in_words
from engine.errors import UserError
from engine.settings import LoraSettings, RetentionSettings, TrainingSettings
from engine.stage import Estimate, Input, Kind, Stage

if TYPE_CHECKING:
    from engine.chat import Chat
    from engine.training.cost import Shape
    from engine.training.rows import Prompt
    from engine.work import Work


class Training(Stage):
    """Has no fields of its own: each stage says them in the order in which a person reads them."""

    if TYPE_CHECKING:
        model: int
        method: Literal["lora", "full"]
        training: TrainingSettings
        lora: LoraSettings
        retention: RetentionSettings
        panel: int | None
        panel_size: int

    @model_validator(mode="after")
    def _only_frozen_weights_are_quantized(self) -> "Training":
        if self.method == "full" and self.lora.quantize != "none":
            raise ValueError("lora.quantize is 4bit but method is full, which trains every weight: set method to lora, or quantize to none")
        return self

    def processes(self) -> int:
        """As many as the settings ask for."""
        return self.training.processes

    def check_training(self, model: Input) -> None:
        """Refuse a tracker that is not installed, and 4-bit weights where they cannot be."""
        from engine.training import trackers

        trackers.check(self.training.tracker)
        if self.lora.quantize == "4bit":
            _refuse_quantizing(model)

    def length(self, model: Input) -> int:
        """Tokens a conversation may have: as the settings say, and as the model can read."""
        return min(self.training.max_length, model.summary.get("context_length") or self.training.max_length)

    def told(
        self,
        inputs: Mapping[int, Input],
        tokens_per_second: float | None,
        *,
        rows: int,
        row_tokens: float,
        batch_tokens: int,
        looks: float,
        words: str,
        before: float = 0,
    ) -> Estimate:
        """What a run will take that reads `rows` of `row_tokens` each, `batch_tokens` at once, padded; `looks` is what every
        look at the held-out rows and the panel takes, in tokens of training speed, and `before` what comes before the first
        step. `words` say what will be read."""
        from engine.training.cost import Shape, training_disk, training_speed
        from engine.training.rows import total_steps

        training, whole = self.training, whole_of(inputs[self.model], inputs)
        parameters, shape, full = whole.summary.get("parameters", 0), Shape.read(whole.folder), self.method == "full"
        steps = total_steps(training, rows)
        looked = (training.checkpoints + 1) * looks + self._watching()
        tokens = before + steps * training.batch_size * training.accumulation * row_tokens + looked
        notes = [words, f"Steps: {steps:,}", self._precision_in_words()]
        if not tokens_per_second:
            notes.append("The time is rough: this model was not trained here yet")
        return Estimate(
            tokens / (tokens_per_second or training_speed(parameters)),
            memory := self._memory(shape, parameters, batch_tokens),
            training_disk(shape, parameters, full, self.lora.rank, training.keep_checkpoints),
            tuple(notes),
            (*_too_large_for_gpus(memory), *_judged(inputs)),
        )

    def panel_of(self, work: "Work", chat: "Chat", data: str) -> "list[Prompt]":
        """The prompts that are answered at checkpoints: the panel's, or else the first held-out ones of the field `data`;
        only those that leave room for an answer."""
        from engine.training.rows import prompts_of, read_rows

        source = work.input("panel" if self.panel else data)
        rows = read_rows(source.folder, *(("train", "heldout") if self.panel else ("heldout", "train")))
        room = self.length(work.input("model"))
        return list(islice((prompt for prompt in prompts_of(rows) if len(chat.prompt_ids(prompt.messages)) < room), self.panel_size))

    def _memory(self, shape: "Shape", parameters: float, batch_tokens: int) -> int:
        """Bytes that each of its devices needs; all of them together on the CPU, where they share one memory."""
        from engine.training.cost import QUARTER, ROUNDED, TRAINED_WHOLE, WHOLE, training_memory

        training, on_gpu = self.training, devices()[0].startswith("cuda")
        rounded = on_gpu and training.precision != "float32"
        weight = TRAINED_WHOLE if self.method == "full" else QUARTER if self.lora.quantize == "4bit" else ROUNDED if rounded else WHOLE
        each = training_memory(shape, parameters, weight, batch_tokens)
        return each if on_gpu else each * training.processes

    def _watching(self) -> float:
        """What watching takes at least, at the start, the middle and the end, in tokens of training speed."""
        from engine.suites import QUICK, cost, suite

        return 3 * cost(suite("watch", self.retention.probes or QUICK, 0)) if self.retention.suite == "watch" else 0.0

    def _precision_in_words(self) -> str:
        device, chosen = devices()[0], self.training.precision
        fast = fast_bfloat16(device)
        return f"Computes in {in_words(('bfloat16' if fast else 'float32') if chosen == 'auto' else chosen, device, fast)}"


def whole_of(model: Input, inputs: Mapping[int, Input]) -> Input:
    """The whole model that an adapter, or a chain of them, stands on."""
    while model.summary.get("format") == "adapter":
        model = inputs[model.summary["base"]]
    return model


def _too_large_for_gpus(memory: int) -> list[str]:
    largest = max((total for _, total in gpu_memory().values()), default=memory)
    if memory <= largest:
        return []
    return [f"This may not fit: the largest GPU has {largest / 1e9:.0f} GB. Lower batch size or max length, or use LoRA, perhaps in 4 bits"]


def _judged(inputs: Mapping[int, Input]) -> list[str]:
    """Which data a judge labelled, and how far it is to be trusted."""
    told = [(one.name, one.summary.get("judge")) for one in inputs.values() if one.kind == Kind.DATASET]
    return [f"The labels of {name} are a judge's, {judge}" for name, judge in told if judge]


def _refuse_quantizing(model: Input) -> None:
    if not devices()[0].startswith("cuda"):
        raise UserError("4-bit training needs an NVIDIA GPU and this machine has none: set it to none", field="lora.quantize")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("4-bit training needs bitsandbytes: run pip install 'bitsandbytes>=0.50'", field="lora.quantize")
    if model.summary.get("format") == "adapter":
        message = "{name} is an adapter, and 4-bit weights cannot be merged with it: export it as a whole model first"
        raise UserError(message, field="model", name=model.name)
