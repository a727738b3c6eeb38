"""How far a model moved from its base on a task: KL(base || tuned) in nats per token, on the answers of a dataset.

It is said to predict how much is forgotten (Shenfeld et al. 2025, "RL's Razor", 2509.04259). Both models must read the
same tokens, since the two distributions are compared token by token.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from engine.errors import UserError
from engine.stage import Conversations, Input, Kind, Model, Stage

if TYPE_CHECKING:
    from engine.work import Work


class Divergence(Stage):
    """Measure how far a model moved from its base: KL(base || tuned) on the answers of a task."""

    outputs = {"scores": Kind.SCORES}

    base: Model = Field(title="Base", description="The model before.")
    tuned: Model = Field(title="Tuned", description="The model after, with the same tokenizer.")
    data: Conversations = Field(title="Task", description="Its held-out answers, or all of them where none are held out.")
    limit: int = Field(64, ge=1, le=10_000, title="Limit", description="How many conversations are read at most.")

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Between whom."""
        return f"KL({inputs[self.base].name} || {inputs[self.tuned].name})"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse models that do not read the same tokens."""
        base, tuned = inputs[self.base], inputs[self.tuned]
        if base.ready and tuned.ready and _tokenizer(base.folder) != _tokenizer(tuned.folder):
            message = "{base} and {tuned} have different tokenizers, and KL compares them token by token: choose two of one family"
            raise UserError(message, field="tuned", base=base.name, tuned=tuned.name)

    def run(self, work: "Work") -> None:
        """Read the answers with both models, one after the other's log-probabilities are there."""
        from engine.chat import Chat, prompt_key
        from engine.stages.measure.evaluate import steps_of
        from engine.statistics import bootstrap_mean
        from engine.training.models import compute_dtype, load_model
        from engine.training.predictors import divergence
        from engine.training.rows import read_rows
        from engine.work import ItemScore

        base, tuned, data = work.input("base"), work.input("tuned"), work.input("data")
        chat = Chat.open(tuned.folder)
        rows = (read_rows(data.folder, "heldout") or read_rows(data.folder, "train"))[: self.limit]
        dtype = compute_dtype("auto", work.device)
        models = [load_model(one, work.artifact, dtype, work.device) for one in (base, tuned)]
        suite = sha256(f"{base.id} {data.id} {self.limit}".encode()).hexdigest()[:16]
        found: dict[str, float] = {}
        for place, row in enumerate(rows):
            value = divergence(*models, chat.encode(row["messages"], max_length=chat_length(tuned)), dtype)
            if value is not None:
                key = prompt_key(row["messages"])
                found[key] = value
                work.scores([ItemScore(tuned.id, suite, f"KL from {base.name}", key, value, steps_of(tuned))])
            work.progress(place + 1, len(rows))
        if not found:
            raise UserError("{data} has no answers that can be read: choose conversations", field="data", data=data.name)
        mean, low, high = bootstrap_mean(list(found.values()))
        told = {"base": base.id, "tuned": tuned.id, "data": data.name, "kl": mean, "low": low, "high": high, "n": len(found)}
        work.describe("scores", divergence=told)
        work.say(f"KL({base.name} || {tuned.name}) on {data.name}: {mean:.3f} nats a token ({low:.3f} to {high:.3f}, n = {len(found)})")


def chat_length(model: Input) -> int | None:
    """Tokens that a model reads, where that is known."""
    return model.summary.get("context_length")


def _tokenizer(folder: Path) -> str:
    """What decides which tokens a text becomes; files of one tokenizer differ in what they say of padding and cutting."""
    told = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = [(one["id"], one["content"]) for one in told.get("added_tokens", [])]
    decides = [added, *(told.get(name) for name in ("model", "normalizer", "pre_tokenizer"))]
    return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
