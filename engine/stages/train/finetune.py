"""Supervised fine-tuning on conversations.

Tokens and loss masks are made by `engine.chat`, the same code that draws the preview; TRL optimises. Before the first
step and at every checkpoint the held-out loss is measured and a few fixed prompts are answered.
"""

import importlib.util
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from engine.chat import Chat, Encoded
from engine.devices import devices, fast_bfloat16, gpu_memory, in_words
from engine.errors import UserError
from engine.settings import LoraSettings, RetentionSettings, TrainingSettings
from engine.stage import Conversations, Estimate, Input, Kind, Model, Preview, PreviewRow, Prompts, Stage

if TYPE_CHECKING:
    from engine.training.cost import Shape
    from engine.training.lesson import Lesson
    from engine.training.rows import Count, Prompt
    from engine.work import Work

PREVIEWED = 5


class Finetune(Stage):
    """Teach a model by example: supervised fine-tuning on conversations, with an adapter or in full."""

    outputs = {"model": Kind.MODEL}

    model: Model = Field(title="Model to teach", description="Where learning starts. An adapter is merged into its base first.")
    data: Conversations = Field(title="Conversations to learn from", description="Its held-out rows are evaluated at each checkpoint.")
    method: Literal["lora", "full"] = Field("lora", title="Method", description="lora trains a small adapter; full trains every weight.")
    loss_on: Literal["response", "everything"] = Field(
        "response", title="Learn from", description="response: only what the assistant says, up to its stop token."
    )
    training: TrainingSettings = TrainingSettings()
    lora: LoraSettings = LoraSettings()
    panel: Prompts | None = Field(
        None, title="Prompt panel", description="Prompts to answer at each checkpoint. Empty: the first held-out ones."
    )
    panel_size: int = Field(6, ge=0, le=64, title="Panel size", description="How many of them are answered; 0 answers none.")
    enough: float | None = Field(
        None, gt=0, le=1, title="Enough", description="Nothing is taught where held-out answers are right this often already."
    )
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _only_frozen_weights_are_quantized(self) -> "Finetune":
        if self.method == "full" and self.lora.quantize != "none":
            raise ValueError("lora.quantize is 4bit but method is full, which trains every weight: set method to lora, or quantize to none")
        return self

    @model_validator(mode="after")
    def _enough_needs_a_scorer(self) -> "Finetune":
        if self.enough is not None and (self.retention.suite == "off" or not self.retention.scorer):
            raise ValueError("enough is given, and nothing says what is right: set retention.suite to watch, and retention.scorer")
        if self.enough is not None and self.training.processes > 1:
            raise ValueError(f"enough is given, and training.processes is {self.training.processes}: only one process looks; set it to 1")
        return self

    @classmethod
    def title(cls) -> str:
        """As people write it."""
        return "Fine-tune"

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The model's name and the data's."""
        return f"{inputs[self.model].name} + {inputs[self.data].name}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse data that leaves nothing to learn, and a tracker that is not installed."""
        from engine.training import trackers

        trackers.check(self.training.tracker)
        model, data = inputs[self.model], inputs[self.data]
        if self.lora.quantize == "4bit":
            _refuse_quantizing(model)
        if not data.ready:
            return
        if not data.summary.get("rows"):
            raise UserError("{name} has no rows to learn from: choose another dataset", field="data", name=data.name)
        if self.enough is not None and not data.summary.get("heldout"):
            message = "enough asks how many held-out answers are right, and {name} holds none out: import it with a held-out share"
            raise UserError(message, field="enough", name=data.name)
        if model.ready:
            _refuse_nothing(self._count(model, data), self._length(model))

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Rows and tokens as they will be read; time from the last run with this model, or a rough guess."""
        from engine.training.cost import PANEL_TOKENS, Shape, training_disk, training_speed
        from engine.training.rows import total_steps

        model, data, training = inputs[self.model], inputs[self.data], self.training
        whole = _whole(model, inputs)
        parameters, shape, full = whole.summary.get("parameters", 0), Shape.read(whole.folder), self.method == "full"
        counted, steps = self._count(model, data), total_steps(training, self._count(model, data).rows)
        mean = counted.tokens / max(counted.rows, 1)
        heldout = data.summary.get("heldout", 0) * mean / 3  # forward only
        looks = (training.checkpoints + 1) * (heldout + self.panel_size * PANEL_TOKENS)
        looks += self._watching()
        seconds = (steps * training.batch_size * training.accumulation * mean + looks) / (tokens_per_second or training_speed(parameters))
        notes = [_in_words(counted, self._length(model)), f"Steps: {steps:,}", self._precision_in_words()]
        if not tokens_per_second:
            notes.append("The time is rough: this model was not trained here yet")
        return Estimate(
            seconds,
            memory := self._memory(shape, parameters, counted.longest),
            training_disk(shape, parameters, full, self.lora.rank, training.keep_checkpoints),
            tuple(notes),
            tuple(_too_large_for_gpus(memory)),
        )

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The first conversations, with what carries loss."""
        from engine.training.rows import read_rows

        model, data = inputs[self.model], inputs[self.data]
        chat, length = Chat.open(model.folder), self._length(model)
        shown = []
        for row in read_rows(data.folder, "train")[:PREVIEWED]:
            encoded = chat.encode(row["messages"], loss=self.loss_on, max_length=length)
            shown.append(PreviewRow(encoded.pieces(), len(encoded.ids), "cut at the max length" if encoded.cut else ""))
        return Preview("As the model will read it", tuple(shown))

    def processes(self) -> int:
        """As many as the settings ask for."""
        return self.training.processes

    def run(self, work: "Work") -> None:
        """Train, look, save."""
        from engine.training.rows import encode_rows, read_rows

        model, data = work.input("model"), work.input("data")
        chat, length = Chat.open(model.folder), self._length(model)
        rows, counted = encode_rows(chat, read_rows(data.folder, "train"), self.loss_on, length)
        heldout, _ = encode_rows(chat, read_rows(data.folder, "heldout"), self.loss_on, length)
        _refuse_nothing(counted, length)
        (work.warn if counted.cut or counted.dropped else work.say)(_in_words(counted, length))
        lesson = self.lesson(work, chat, rows, heldout)
        lesson.learn(work, lesson.trainer(work, chat), self.enough)

    def lesson(self, work: "Work", chat: Chat, rows: list[Encoded], heldout: list[Encoded]) -> "Lesson":
        """What is learned from these rows."""
        from engine.training.lesson import Imitation

        model, data = work.input("model"), work.input("data")
        return Imitation(
            model, data, rows, heldout, self._panel(work, chat), self.method, self.training, self.lora, self.retention,
            self.model_dump(mode="json"), f"{model.name} fine-tuned on {data.name}",
        )  # fmt: skip

    def _memory(self, shape: "Shape", parameters: float, longest: int) -> int:
        """Bytes that each of its devices needs; all of them together on the CPU, where they share one memory."""
        from engine.training.cost import QUARTER, ROUNDED, TRAINED_WHOLE, WHOLE, training_memory

        training, on_gpu = self.training, devices()[0].startswith("cuda")
        rounded = on_gpu and training.precision != "float32"
        weight = TRAINED_WHOLE if self.method == "full" else QUARTER if self.lora.quantize == "4bit" else ROUNDED if rounded else WHOLE
        each = training_memory(shape, parameters, weight, training.batch_size // training.processes * longest)
        return each if on_gpu else each * training.processes

    def _watching(self) -> float:
        """What watching takes at least, at the start, the middle and the end, in tokens of training speed."""
        from engine.suites import QUICK, cost, suite

        return 3 * cost(suite("watch", self.retention.probes or QUICK, 0)) if self.retention.suite == "watch" else 0.0

    def _precision_in_words(self) -> str:
        device, chosen = devices()[0], self.training.precision
        fast = fast_bfloat16(device)
        return f"Computes in {in_words(('bfloat16' if fast else 'float32') if chosen == 'auto' else chosen, device, fast)}"

    def _panel(self, work: "Work", chat: Chat) -> "list[Prompt]":
        from engine.training.rows import prompts_of, read_rows

        source = work.input("panel" if self.panel else "data")
        rows = read_rows(source.folder, *(("train", "heldout") if self.panel else ("heldout", "train")))
        room = self._length(work.input("model"))
        fitting = (prompt for prompt in prompts_of(rows) if len(chat.prompt_ids(prompt.messages)) < room)
        return list(islice(fitting, self.panel_size))

    def _length(self, model: Input) -> int:
        return min(self.training.max_length, model.summary.get("context_length") or self.training.max_length)

    def _count(self, model: Input, data: Input) -> "Count":
        from engine.training.rows import count_rows

        return count_rows(model.folder, data.folder, self.loss_on, self._length(model))


def _whole(model: Input, inputs: Mapping[int, Input]) -> Input:
    while model.summary.get("format") == "adapter":
        model = inputs[model.summary["base"]]
    return model


def _too_large_for_gpus(memory: int) -> list[str]:
    largest = max((total for _, total in gpu_memory().values()), default=memory)
    if memory <= largest:
        return []
    return [f"This may not fit: the largest GPU has {largest / 1e9:.0f} GB. Lower batch size or max length, or use LoRA, perhaps in 4 bits"]


def _refuse_quantizing(model: Input) -> None:
    if not devices()[0].startswith("cuda"):
        raise UserError("4-bit training needs an NVIDIA GPU and this machine has none: set it to none", field="lora.quantize")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("4-bit training needs bitsandbytes: run pip install 'bitsandbytes>=0.50'", field="lora.quantize")
    if model.summary.get("format") == "adapter":
        message = "{name} is an adapter, and 4-bit weights cannot be merged with it: export it as a whole model first"
        raise UserError(message, field="model", name=model.name)


def _refuse_nothing(counted: "Count", length: int) -> None:
    if not counted.rows:
        message = "none of the {dropped} rows keeps a token to learn from within {length} tokens: raise max length"
        raise UserError(message, field="training.max_length", dropped=counted.dropped, length=length)


def _in_words(counted: "Count", length: int) -> str:
    text = f"Rows: {counted.rows:,}, tokens: {counted.tokens:,}"
    if counted.cut:
        text += f"; {counted.cut:,} rows are longer than {length:,} tokens and will be cut (a cut answer carries no stop token)"
    if counted.dropped:
        text += f"; {counted.dropped:,} rows keep nothing to learn from and are left out"
    if counted.sampled:
        text += f"; estimated from {counted.sampled:,} rows"
    return text
