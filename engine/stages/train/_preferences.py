"""What the stages that learn from preferences share: what they refuse, what they count, and what they show of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import model_validator

from engine.chat import Chat
from engine.errors import UserError
from engine.stage import Input, Preview, PreviewRow
from engine.stages.train._training import Training

if TYPE_CHECKING:
    from engine.training.cost import Shape
    from engine.training.preferences import Count, Pair
    from engine.work import Work

PREVIEWED = 4


class PreferenceTraining(Training):
    """Has no fields of its own: see `Training`."""

    if TYPE_CHECKING:
        preferences: int

    @model_validator(mode="after")
    def _one_process(self) -> "PreferenceTraining":
        if self.training.processes > 1:
            raise ValueError(f"training.processes is {self.training.processes}: learning from preferences runs on one device; set it to 1")
        return self

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The model's name and the data's."""
        return f"{inputs[self.model].name} + {inputs[self.preferences].name}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse data that leaves nothing to learn, and a tracker that is not installed."""
        model, data = inputs[self.model], inputs[self.preferences]
        self.check_training(model)
        if data.ready and not data.summary.get("rows"):
            raise UserError("{name} has no pairs to learn from: choose another dataset", field="preferences", name=data.name)
        if data.ready and model.ready:
            _refuse_nothing(self.count(model, data), self.length(model))

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The first pairs as the model will read them, the better answer of each first."""
        from engine.training.preferences import encode_answer
        from engine.training.rows import read_rows

        model, shown = inputs[self.model], []
        chat, length = Chat.open(model.folder), self.length(model)
        for row in read_rows(inputs[self.preferences].folder, "train")[:PREVIEWED]:
            for name in ("chosen", "rejected"):
                said = encode_answer(chat, row["prompt"], row[name], length)
                read = said.row if said else chat.encode([*row["prompt"], *row[name]], max_length=length)
                problem = "" if said else "too long, or empty: the pair is left out"
                shown.append(PreviewRow(read.pieces(), len(read.ids), problem))
        return Preview("Pairs as the model will read them: the chosen answer, then the rejected one", tuple(shown))

    def count(self, model: Input, data: Input) -> "Count":
        """What the training rows come to."""
        from engine.training.preferences import count_pairs

        return count_pairs(model.folder, data.folder, self.length(model))

    def read(self, work: "Work", chat: Chat) -> "tuple[list[Pair], list[Pair]]":
        """The training and held-out pairs, counted in the log. Raises UserError when nothing is left."""
        from engine.training.preferences import encode_pairs
        from engine.training.rows import read_rows

        model, data = work.input("model"), work.input("preferences")
        length = self.length(model)
        pairs, counted = encode_pairs(chat, read_rows(data.folder, "train"), length)
        heldout, held = encode_pairs(chat, read_rows(data.folder, "heldout"), length)
        _refuse_nothing(counted, length)
        (work.warn if counted.too_long or counted.equal else work.say)(counted.in_words(length))
        if held.pairs:
            work.say(f"Held out: {held.pairs:,} pairs of {held.prompts:,} prompts")
        else:
            work.warn("no pairs are held out: nothing will say how well this is learned")
        return pairs, heldout

    def _memory(self, shape: "Shape", parameters: float, batch_tokens: int) -> int:
        """Without logits: a reward model has none, and TRL's DPO never holds those of a whole batch."""
        return super()._memory(replace(shape, vocabulary=0), parameters, batch_tokens)


def _refuse_nothing(counted: "Count", length: int) -> None:
    if not counted.pairs:
        message = (
            "no pair is left to learn from: {long} hold a conversation of more than {length} tokens, and {equal} have equal "
            "or empty answers; raise max length, or choose other data"
        )
        raise UserError(message, field="preferences", long=counted.too_long, length=length, equal=counted.equal)
