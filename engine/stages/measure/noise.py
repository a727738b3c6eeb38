"""How much a score moves when nothing was learned: the band that a change has to leave before it means anything.

The unchanged model is measured again with what should not matter changed: other batches, another draw of the items, the
question worded two other ways. The band of a probe is the spread of its rates; a probe that never moves is called
deterministic, and gets no band.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from engine.errors import Cancelled, UserError
from engine.probe import Item, Part, Suite
from engine.settings import SuiteSettings
from engine.stage import Estimate, Input, Kind, Model, Stage

if TYPE_CHECKING:
    from engine.work import Work

WORDINGS = {"worded as a question to answer": "Please answer the following.\n\n{}", "worded with a label": "Question: {}"}
SMALL = 5  # items at once, where batches are changed


class Noise(Stage):
    """Measure how much scores move by themselves: other batches, another draw of items, other wordings."""

    outputs = {"scores": Kind.SCORES}

    model: Model = Field(title="Model", description="Any model: nothing is trained.")
    suite: SuiteSettings = SuiteSettings(size="watch")
    batch_size: int = Field(32, ge=6, le=1024, title="Batch size", description="Items at once, but for the pass with small batches.")

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Of what."""
        return f"Noise of {inputs[self.model].name}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse unknown probes."""
        self._variants()

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Five passes."""
        from engine.suites import cost
        from engine.training.cost import training_speed

        passes = self._variants()
        parameters = inputs[self.model].summary.get("parameters", 0)
        return Estimate(sum(map(cost, passes.values())) / training_speed(parameters), notes=(f"Passes: {len(passes)}",))

    def run(self, work: "Work") -> None:
        """Measure each way; say how far the rates lie apart."""
        from engine.chat import Chat
        from engine.training.measuring import measure
        from engine.training.models import compute_dtype, load_model
        model, variants = work.input("model"), self._variants()
        chat = Chat.open(model.folder)
        loaded = load_model(model, work.artifact, compute_dtype("auto", work.device), work.device)
        total, done = sum(len(part.items) for suite in variants.values() for part in suite), 0
        rates: dict[str, dict[str, float]] = {}
        for name, suite in variants.items():
            values: dict[str, list[float]] = {}
            size = SMALL if name == "other batches" else self.batch_size
            for found in measure(loaded, chat, suite, size, interrupted=lambda: work.stopping):
                for one in found:
                    right = float(one.value == 1) if one.part.probe.rate else one.value or 0.0
                    values.setdefault(one.part.probe.name, []).append(right)
                done += len(found)
                work.progress(done, total)
            if work.stopping:
                raise Cancelled
            for probe, some in values.items():
                rates.setdefault(probe, {})[name] = sum(some) / len(some)
        told = {part.probe.name: _band(part, rates[part.probe.name]) for part in variants["as it is"] if part.probe.name in rates}
        if not told:
            raise UserError("no item fits the context of {name}: choose other probes", field="suite.probes", name=model.name)
        (work.output("scores") / "noise.json").write_text(json.dumps(told, ensure_ascii=False, indent=1))
        work.describe("scores", noise=told, model=model.id, size=self.suite.size)
        moved = [f"{row['title']} {row['spread']:.1%}" for row in told.values() if row["spread"] and row["rate"]]
        work.say(f"Moves by itself: {', '.join(moved) or 'nothing'}")

    def _variants(self) -> dict[str, Suite]:
        from engine.suites import suite

        chosen = suite(self.suite.size, self.suite.probes, self.suite.seed)
        again = suite(self.suite.size, self.suite.probes, self.suite.seed + 1)
        drawn = [other for part, other in zip(chosen, again, strict=True) if _keys(part) != _keys(other)]
        worded = {name: [_worded(part, form) for part in chosen] for name, form in WORDINGS.items()}
        return {"as it is": chosen, "other batches": chosen, "another draw": drawn, **worded}


def _keys(part: Part) -> set[str]:
    """Which items these are; another draw of few written ones is the same."""
    return {item.key for item in part.items}


def _worded(part: Part, form: str) -> Part:
    return replace(part, items=tuple(_ask(item, form) for item in part.items))


def _ask(item: Item, form: str) -> Item:
    if not item.prompt:
        return item
    *before, last = item.prompt
    return replace(item, prompt=[*before, {**last, "content": form.format(last["content"])}])


def _band(part: Part, rates: Mapping[str, float]) -> dict[str, Any]:
    values: Sequence[float] = list(rates.values())
    told = {"title": part.probe.title, "rate": part.probe.rate, "suite_hash": part.hash, "n": len(part.items), "values": dict(rates)}
    return told | {"low": min(values), "high": max(values), "spread": max(values) - min(values)}
