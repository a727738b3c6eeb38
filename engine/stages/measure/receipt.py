"""The receipt: what a model learned, lost and kept against the one it came from, from their scores item by item.

Any two models that were measured with the same items can be compared, whoever trained them. An ability is judged by
`engine.statistics.verdicts` and by nothing else; losses in nats are described with their interval. Where the two were
measured with different items nothing is said but that, and how to measure again.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from engine.errors import UserError
from engine.stage import AnsweringModel, Input, Kind, Scores, Stage
from engine.stages.measure import _report

if TYPE_CHECKING:
    from engine.statistics import Verdict
    from engine.work import Answer, Work

Parts = dict[str, dict[str, Any]]  # what a scores artifact says of each probe: its title, the hash of its items ...
Judged = dict[str, tuple[float | None, "Answer | None"]]


class Receipt(Stage):
    """Say what a model learned, lost and kept against its base, with every item and both answers."""

    outputs = {"report": Kind.REPORT}
    heavy = False

    base: AnsweringModel = Field(title="Base", description="The model before.")
    tuned: AnsweringModel = Field(title="Tuned", description="The model after.")
    scores: list[Scores] = Field(title="Scores", description="Where both were measured, together or apart.", min_length=1)
    margin: float = Field(
        0.05, gt=0, le=0.5, title="Margin", description="Kept means: the net loss is smaller than this share, with 95 % confidence."
    )

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Of what it is a receipt."""
        return f"Receipt of {inputs[self.tuned].name}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Both models must have been measured."""
        given = [one for id in self.scores if "divergence" not in (one := inputs[id]).summary]
        for model in (self.base, self.tuned) if all(one.ready for one in given) else ():
            if not any(str(model) in one.summary.get("measured", {}) for one in given):
                message = "{scores} do not hold scores of {model}: evaluate it with the same suite first"
                raise UserError(message, field="scores", scores=", ".join(one.name for one in given), model=inputs[model].name)

    def run(self, work: "Work") -> None:
        """Pair the items, judge, write report.json and report.html."""
        from engine.statistics import verdicts
        from engine.tradeoff import paired

        models = [work.input("base"), work.input("tuned")]
        ids = [model.id for model in models]
        parts = parts_of(work.inputs("scores"), ids)
        shared = shared_parts(*parts)
        if not shared:
            message = "{base} and {tuned} share no probe with the same items: evaluate both with one suite"
            raise UserError(message, field="scores", base=models[0].name, tuned=models[1].name)
        sides = {name: [judged(work, model, some[name]) for model, some in zip(models, parts, strict=True)] for name in shared}
        rates = {row["title"]: sides[name] for name, row in shared.items() if row["rate"]}
        losses = {row["title"]: (row.get("metric"), *sides[name]) for name, row in shared.items() if not row["rate"]}
        pairs = {title: paired(values_of(before), values_of(after)) for title, (before, after) in rates.items()}
        floors = {row["title"]: row["floor"] for row in shared.values()}
        told = verdicts({title: items for title, items in pairs.items() if items}, self.margin, floors)
        report = {
            "sentence": _report.sentence(told, self.margin),
            "verdicts": [_report.verdict_row(verdict) for verdict in told],
            "models": [{"id": model.id, "name": model.name} for model in models],
            "facts": [*losses_of(losses), *self._divergence(work), *unreadable_of(rates)],
            "answers": [row for title, (before, after) in rates.items() for row in _report.item_rows(title, ids, before, after)],
            "notes": [*self._notes(shared, told), *_apart(parts), *notes_of([*models, *work.inputs("scores")])],
        }
        folder = work.output("report")
        (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1))
        (folder / "report.html").write_text(_report.page(report))
        work.describe("report", sentence=report["sentence"], models=[model.id for model in models], verdicts=_words(report["verdicts"]))
        work.say(report["sentence"])

    def _divergence(self, work: "Work") -> list[list[str]]:
        told = [one.summary["divergence"] for one in work.inputs("scores") if "divergence" in one.summary]
        rows = []
        for one in told:
            if (one["base"], one["tuned"]) == (self.base, self.tuned):
                span = f"{one['low']:.3f} to {one['high']:.3f}, n = {one['n']}"
                rows.append([f"KL(base || tuned) on {one['data']}", "", f"{one['kl']:.3f} nats a token ({span})"])
        return rows

    def _notes(self, shared: Parts, told: "list[Verdict]") -> list[str]:
        from engine.statistics import floor_notes

        notes = [
            f"Kept means a net loss below {self.margin:.0%} with 95 % confidence; forgot and learned: exact McNemar, Holm, p < 0.05.",
            "A verdict about these two models, not about the method that made one from the other.",
        ]
        suites = ", ".join(f"{name} {row['suite_hash']}" for name, row in shared.items())
        return [*notes, *floor_notes(told), f"Items and judges: {suites}."]


def parts_of(scores: Sequence[Input], models: Sequence[int]) -> list[Parts]:
    """What each model was measured with, probe by probe: the last scores win, those with items that all models share first."""
    measured = [[one.summary.get("measured", {}).get(str(model), {}) for one in scores] for model in models]
    told = [[(name, row) for rows in some for name, row in rows.items() if row["n"]] for some in measured]
    common = set.intersection(*({(name, row["suite_hash"]) for name, row in some} for some in told))
    return [dict(sorted(some, key=lambda pair: (pair[0], pair[1]["suite_hash"]) in common)) for some in told]


def shared_parts(before: Parts, after: Parts) -> Parts:
    """The probes that both were measured on with the same items; a rate is what is one on both sides."""
    alike = {name: row for name, row in before.items() if row["suite_hash"] == after.get(name, {}).get("suite_hash")}
    return {name: row | {"rate": row["rate"] and after[name]["rate"]} for name, row in alike.items()}


def judged(work: "Work", model: Input, part: Mapping[str, Any]) -> Judged:
    """A part's items on a model; of an endpoint those of the run that made the scores, since another run may have met another model."""
    from engine.stages.measure.evaluate import steps_of

    return work.judged(model.id, steps_of(model), part["suite_hash"], part.get("run"))


def notes_of(inputs: Sequence[Input]) -> list[str]:
    """What has to be said wherever these are used."""
    return sorted({one.summary["note"] for one in inputs if one.summary.get("note")})


def _apart(parts: list[Parts]) -> list[str]:
    """Which probes are left out because the two models were not measured alike."""
    told = []
    for name, row in {**parts[1], **parts[0]}.items():
        if parts[0].get(name, {}).get("suite_hash") != parts[1].get(name, {}).get("suite_hash"):
            how = "with different items" if name in parts[0] and name in parts[1] else "on one of the two models only"
            told.append(f"{row['title']} was measured {how}, and is left out: evaluate both models in one run to compare it.")
    return told


def values_of(items: Judged) -> dict[str, float | None]:
    """The items' values alone."""
    return {key: value for key, (value, _) in items.items()}


def losses_of(sides: Mapping[str, tuple[str | None, Judged, Judged]]) -> list[list[str]]:
    """Losses of both models in nats per token, or the metric of a benchmark, and their difference with its interval."""
    from engine.statistics import bootstrap_difference, bootstrap_mean

    rows = []
    for title, (metric, before, after) in sides.items():
        unit = metric or "nats"
        keys = [key for key in before if key in after and before[key][0] is not None and after[key][0] is not None]
        if keys:
            left, right = [[side[key][0] or 0.0 for key in keys] for side in (before, after)]
            change, low, high = bootstrap_difference(left, right)
            told = f"{bootstrap_mean(right)[0]:.3f} {unit} ({change:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, n = {len(keys)})"
            named = title if metric or title.endswith("loss") else f"{title}: loss per token"
            rows.append([named, f"{bootstrap_mean(left)[0]:.3f} {unit}", told])
    return rows


def unreadable_of(sides: Mapping[str, list[Judged]]) -> list[list[str]]:
    """How many answers could not be read on each side, where any could not."""
    counted = {title: [sum(value is None for value, _ in side.values()) for side in both] for title, both in sides.items()}
    return [[f"{title}: answers that cannot be read", *map(str, both)] for title, both in counted.items() if any(both)]


def _words(verdicts: list[dict[str, Any]]) -> dict[str, str]:
    return {verdict["ability"]: verdict["verdict"] for verdict in verdicts}
