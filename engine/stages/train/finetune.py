"""Supervised fine-tuning on conversations.

Tokens and loss masks are made by `engine.chat`, the same code that draws the preview; TRL optimises. Before the first
step and at every checkpoint the held-out loss is measured and a few fixed prompts are answered.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from engine.chat import Chat, Encoded
from engine.errors import UserError
from engine.settings import LoraSettings, RetentionSettings, TrainingSettings
from engine.stage import Conversations, Estimate, Input, Kind, Model, Preview, PreviewRow, Prompts
from engine.stages.train._training import Training

if TYPE_CHECKING:
    from engine.training.lesson import Lesson
    from engine.training.rows import Count
    from engine.work import Work

PREVIEWED = 5


class Finetune(Training):
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
        model, data = inputs[self.model], inputs[self.data]
        self.check_training(model)
        if not data.ready:
            return
        if not data.summary.get("rows"):
            raise UserError("{name} has no rows to learn from: choose another dataset", field="data", name=data.name)
        if self.enough is not None and not data.summary.get("heldout"):
            message = "enough asks how many held-out answers are right, and {name} holds none out: import it with a held-out share"
            raise UserError(message, field="enough", name=data.name)
        if model.ready:
            _refuse_nothing(self._count(model, data), self.length(model))

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Rows and tokens as they will be read; time from the last run with this model, or a rough guess."""
        from engine.training.cost import PANEL_TOKENS

        model, data = inputs[self.model], inputs[self.data]
        counted = self._count(model, data)
        mean = counted.tokens / max(counted.rows, 1)
        heldout = data.summary.get("heldout", 0) * mean / 3  # forward only
        return self.told(
            inputs,
            tokens_per_second,
            rows=counted.rows,
            row_tokens=mean,
            batch_tokens=self.training.batch_size // self.training.processes * counted.longest,
            looks=heldout + self.panel_size * PANEL_TOKENS,
            words=_in_words(counted, self.length(model)),
        )

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The first conversations, with what carries loss."""
        from engine.training.rows import read_rows

        model, data = inputs[self.model], inputs[self.data]
        chat, length = Chat.open(model.folder), self.length(model)
        shown = []
        for row in read_rows(data.folder, "train")[:PREVIEWED]:
            encoded = chat.encode(row["messages"], loss=self.loss_on, max_length=length)
            shown.append(PreviewRow(encoded.pieces(), len(encoded.ids), "cut at the max length" if encoded.cut else ""))
        return Preview("As the model will read it", tuple(shown))

    def run(self, work: "Work") -> None:
        """Train, look, save."""
        from engine.training.rows import encode_rows, read_rows

        model, data = work.input("model"), work.input("data")
        chat, length = Chat.open(model.folder), self.length(model)
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
            model, data, rows, heldout, self.panel_of(work, chat, "data"), self.method, self.training, self.lora, self.retention,
            self.model_dump(mode="json"), f"{model.name} fine-tuned on {data.name}",
        )  # fmt: skip

    def _count(self, model: Input, data: Input) -> "Count":
        from engine.training.rows import count_rows

        return count_rows(model.folder, data.folder, self.loss_on, self.length(model))


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
