"""Pretraining on plain text: going on from a model, or beginning from nothing.

Documents are laid one after the other into blocks, and none sees another (see `engine.training.packing`). Held-out texts
are packed alike; their loss per token and its perplexity are measured at every checkpoint.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from engine.chat import Chat, Encoded
from engine.errors import UserError
from engine.settings import ArchitectureSettings, LoraSettings, RetentionSettings, TrainingSettings
from engine.stage import Estimate, Input, Kind, Model, Preview, PreviewRow, Prompts, Texts
from engine.stages.train._training import Training

if TYPE_CHECKING:
    from engine.training.lesson import Lesson
    from engine.work import Work

PREVIEWED = 3


class Pretrain(Training):
    """Let a model read plain text: go on with one, or make a small one from nothing."""

    outputs = {"model": Kind.MODEL}

    data: Texts = Field(title="Text to read", description="Its held-out texts are evaluated at each checkpoint.")
    model: Model | None = Field(None, title="Model to go on with", description="Empty: a new one is made, as the architecture says.")
    tokenizer: Model | None = Field(
        None, title="Tokenizer of", description="For a new model: the model it borrows its tokenizer from. Empty: learned from the text."
    )
    method: Literal["full", "lora"] = Field("full", title="Method", description="full trains every weight; lora a small adapter.")
    architecture: ArchitectureSettings = ArchitectureSettings()
    training: TrainingSettings = TrainingSettings(learning_rate=5e-4, batch_size=8, max_length=256, warmup=0.1)
    lora: LoraSettings = LoraSettings()
    retention: RetentionSettings = RetentionSettings()
    panel: Prompts | None = Field(None, title="Prompt panel", description="Prompts to answer at each checkpoint. Empty: none.")
    panel_size: int = Field(6, ge=0, le=64, title="Panel size", description="How many of them are answered.")

    @model_validator(mode="after")
    def _what_is_new_is_trained_whole(self) -> "Pretrain":
        if self.model is None and self.method == "lora":
            raise ValueError("method is lora and model is empty: an adapter on random weights learns nothing, set method to full")
        if self.model is not None and self.tokenizer is not None:
            raise ValueError("tokenizer and model are both given: a model keeps its own tokenizer, leave tokenizer empty")
        return self

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The model's name and the text's."""
        return f"{inputs[self.model].name if self.model else 'New model'} + {inputs[self.data].name}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse a dataset without texts, and a tracker that is not installed."""
        from engine.training import trackers

        trackers.check(self.training.tracker)
        data = inputs[self.data]
        if data.ready and not data.summary.get("rows"):
            raise UserError("{name} has no texts to read: choose another dataset", field="data", name=data.name)

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Blocks and steps from the size of the text; time from the last run with this model, or a rough guess."""
        from engine.training.cost import training_speed
        from engine.training.rows import total_steps

        data, training, length = inputs[self.data], self.training, self._length(inputs.get(self.model or 0))
        size = (data.folder / "train.jsonl").stat().st_size
        tokens = size / 4  # about four bytes a token
        steps = total_steps(training, max(1, round(tokens / length)))
        parameters = inputs[self.model].summary.get("parameters", 0) if self.model else self._size()
        seconds = steps * training.batch_size * training.accumulation * length / (tokens_per_second or training_speed(parameters))
        return Estimate(seconds, notes=(f"Tokens: about {tokens:,.0f}, steps: {steps:,}", f"Parameters: {parameters:,.0f}"))

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The first blocks, as a model with a tokenizer will read them."""
        from engine.training.packing import pack
        from engine.training.rows import read_rows

        reader = self.model or self.tokenizer
        if reader is None:
            return Preview("The tokenizer is learned from the text when the run starts")
        length = self._length(inputs.get(self.model or 0))
        texts = (row["text"] for row in read_rows(inputs[self.data].folder, "train")[: PREVIEWED * 20])
        blocks = pack(Chat.open(inputs[reader].folder), texts, length)[:PREVIEWED]
        return Preview("The first blocks; each document's first token carries no loss",
                       tuple(PreviewRow(block.pieces(), len(block.ids)) for block in blocks))  # fmt: skip

    def run(self, work: "Work") -> None:
        """Pack, train, look, save."""
        from engine.training.packing import pack
        from engine.training.rows import read_rows

        data = work.input("data")
        texts = {split: [row["text"] for row in read_rows(data.folder, split)] for split in ("train", "heldout")}
        source = self._source(work, texts["train"])
        chat, length = Chat.open(source.folder), self._length(source)
        rows, heldout = (pack(chat, texts[split], length) for split in ("train", "heldout"))
        if not rows:
            raise UserError("{name} holds no text that can be learned from: choose another dataset", field="data", name=data.name)
        work.say(f"Texts: {len(texts['train']):,}, blocks: {len(rows):,}, tokens: {sum(len(row.ids) for row in rows):,}")
        lesson = self.lesson(work, chat, source, rows, heldout)
        lesson.learn(work, lesson.trainer(work, chat))

    def lesson(self, work: "Work", chat: Chat, source: Input, rows: list[Encoded], heldout: list[Encoded]) -> "Lesson":
        """What is learned from these blocks."""
        from engine.training.lesson import Imitation
        from engine.training.packing import Packed
        from engine.training.rows import prompts_of, read_rows

        data = work.input("data")
        panel = prompts_of(read_rows(work.input("panel").folder, "train", "heldout"))[: self.panel_size] if self.panel else []
        return Imitation(
            source, data, rows, heldout, panel, self.method, self.training, self.lora, self.retention, self.model_dump(mode="json"),
            f"{source.name} pretrained on {data.name}", Packed(chat.pad_id),
        )  # fmt: skip

    def _source(self, work: "Work", texts: list[str]) -> Input:
        """The model to go on with, or a new one; a resumed run finds the one it made."""
        if self.model:
            return work.input("model")
        from engine.training.newborn import create

        borrowed = work.input("tokenizer").folder if self.tokenizer else None
        folder = work.folder / "newborn"
        summary = create(folder, self.architecture, self.training.max_length, texts, borrowed, self.training.seed)
        return Input(work.output_id("model"), Kind.MODEL, "New model", folder, summary)

    def _length(self, model: Input | None) -> int:
        return min(self.training.max_length, (model and model.summary.get("context_length")) or self.training.max_length)

    def _size(self) -> float:
        """Parameters of a new model, about."""
        wanted = self.architecture
        return wanted.vocabulary * wanted.hidden_size + 12 * wanted.layers * wanted.hidden_size**2
