"""How unlikely a model finds each row of a dataset: the mean loss of its response, in nats a token.

The rows with the highest loss are where to look first: wrong answers, broken texts, other languages, and what is truly
new to the model. Of a preference pair both answers are measured, each after the same prompt. Rows longer than the max
length lose their end; the loss is of what is left.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pydantic import Field

from engine.errors import UserError
from engine.stage import Answered, Estimate, Input, Kind, Model, Stage

if TYPE_CHECKING:
    from engine.chat import Chat, Encoded
    from engine.work import Work

# What is measured of a row of each format: the name of the loss, and the column that holds the response.
MEASURED: dict[str, tuple[tuple[str, str], ...]] = {
    "messages": (("loss", "messages"),),
    "text": (("loss", "text"),),
    "unpaired": (("loss", "completion"),),
    "preference": (("loss of chosen", "chosen"), ("loss of rejected", "rejected")),
}


class RowLosses(Stage):
    """Measure how unlikely a model finds each row of a dataset, to see first the rows that are wrong or new to it."""

    outputs = {"scores": Kind.SCORES}

    model: Model = Field(title="Model", description="Under which the rows are read.")
    data: Answered = Field(title="Dataset", description="Conversations, preference pairs, answers or texts. It is not changed.")
    limit: int | None = Field(None, ge=1, title="Limit", description="How many rows are read at most, training rows first. Empty: all.")
    batch_size: int = Field(8, ge=1, le=256, title="Batch size", description="Rows read together. Higher is faster and takes more memory.")
    max_length: int = Field(1024, ge=16, le=131_072, title="Max length", description="Tokens of a row that are read; the rest is cut.")

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Of what, under whom."""
        return f"Losses of {inputs[self.data].name} under {inputs[self.model].name}"

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """From the size of the files: four letters are about a token, and reading is a third of training."""
        from engine.training.cost import training_speed

        data, model = inputs[self.data], inputs[self.model]
        files = [data.folder / f"{split}.jsonl" for split in ("train", "heldout")]
        size = sum(file.stat().st_size for file in files if file.exists())
        rows = data.summary.get("rows", 0) + data.summary.get("heldout", 0)
        read = min(self.limit or rows, rows)
        seconds = size / 4 * read / max(rows, 1) / (3 * training_speed(model.summary.get("parameters", 0)))
        return Estimate(seconds, notes=(f"Rows: {read:,}",))

    def run(self, work: "Work") -> None:
        """Read every row once; what cannot be measured is counted."""
        from engine.chat import Chat
        from engine.curation import row_keys
        from engine.training.measuring import context, losses
        from engine.training.models import compute_dtype, load_model
        from engine.training.rows import read_rows

        model, data = work.input("model"), work.input("data")
        chat, format = Chat.open(model.folder), str(data.summary["format"])
        loaded = load_model(model, work.artifact, compute_dtype("auto", work.device), work.device)
        read = {split: read_rows(data.folder, split) for split in ("train", "heldout")}
        rows = [pair for split, some in read.items() for pair in zip(row_keys(split, some), some, strict=True)][: self.limit]
        length = min(self.max_length, context(loaded))
        asked = [(key, name, encode(chat, row, column, length)) for name, column in MEASURED[format] for key, row in rows]
        found: list[tuple[str, str, float]] = []
        for batch in losses(loaded, chat.pad_id, [encoded for *_, encoded in asked], self.batch_size, lambda: work.stopping):
            found += [(asked[place][0], asked[place][1], value) for place, value in batch]
            work.progress(len(found), len(asked))
        if not found:
            raise UserError("no row of {data} has a response that can be read: choose another dataset", field="data", data=data.name)
        suite = sha256(f"{data.id} {length}".encode()).hexdigest()[:16]
        with (work.output("scores") / "scores.jsonl").open("w", encoding="utf-8") as file:
            for key, name, value in found:
                file.write(json.dumps({"model": model.id, "probe": name, "suite_hash": suite, "item_key": key, "value": value}) + "\n")
        cut, left = sum(encoded.cut for *_, encoded in asked), len(asked) - len(found)
        work.describe("scores", row_losses={"model": model.id, "data": data.id, "rows": len({key for key, *_ in found}), "cut": cut})
        for count, why in ((cut, f"were cut at {length:,} tokens"), (left, "have no response within that length and were left out")):
            if count:
                work.warn(f"{count:,} responses {why}")
        for name, _ in MEASURED[format]:
            values = [value for _, told, value in found if told == name]
            if values:
                work.say(f"{name} of {data.name} under {model.name}: {sum(values) / len(values):.3f} nats a token, {len(values):,} rows")


def encode(chat: "Chat", row: Mapping[str, Any], column: str, length: int) -> "Encoded":
    """A row's tokens, with loss on its response alone: not on what the assistant said in the prompt before."""
    if column == "text":
        return chat.encode_text(row["text"], max_length=length)
    if column == "messages":
        return chat.encode(row["messages"], max_length=length)
    encoded = chat.encode([*row["prompt"], *row[column]], max_length=length)
    return replace(encoded, labels=_after(encoded.labels, sum(turn["role"] == "assistant" for turn in row["prompt"])))


def _after(labels: Sequence[int], answers: int) -> list[int]:
    """The labels without those of the first answers; between two answers somebody else speaks, without loss."""
    kept, place = list(labels), 0
    for _ in range(answers):
        while place < len(kept) and kept[place] == -100:
            place += 1
        while place < len(kept) and kept[place] != -100:
            kept[place] = -100
            place += 1
    return kept
