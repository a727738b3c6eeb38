"""The card of a dataset made of rankings: who ranked, how far they agree, what biases them, by which guideline, what is left out.

Plain data in, Markdown out. Every figure carries its n and interval, or says why there is none.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from engine.collecting import Row, skips
from engine.rankings import Rankings
from engine.statistics import Figure

SHARES = ("agreement", "consistency", "ties", "skips")  # the rest of the figures are correlations
SAID = {
    "agreement": "Two raters say the same of two answers",
    "alpha": "Krippendorff's alpha of these",
    "tau": "Mean Kendall tau-b of two rankings",
    "consistency": "A rater says the same again of a repeated item",
    "ties": "Two answers are tied",
    "skips": "An item is skipped",
}


def facts(given: Rankings, criterion: str, rows: Sequence[Row], left_out: Mapping[str, int], judge: str) -> dict[str, Any]:
    """What a card says, as plain data for the dataset's row. `judge`: how far a judge's labels can be trusted; "" for people's."""
    from engine.rankings_report import summary

    found = summary(given, criterion)
    said = [one for one in [*given.said, *given.settled.values()] if given.items[one.item].kind == "normal"]
    figures = {name: asdict(getattr(found, name)) for name in SAID}
    biases = {"position": found.position, "length": found.length}
    return {
        "criterion": criterion,
        "prompts": len({str(row.get("prompt") or row["messages"][:-1]) for row in rows}),
        "items": len({row["item"] for row in rows}),
        "raters": found.raters,
        "rows_by_rater": dict(sorted(Counter(row["rater"] for row in rows).items())),
        "labels": {one.name: one.ranked for one in found.people if one.ranked},
        "skipped": skips(given),
        "settled": len(given.settled),
        "left_out": dict(left_out),
        "figures": figures,
        "bias": {name: asdict(one.share) | {"expected": one.expected, "p": one.p} for name, one in biases.items()},
        "gold": asdict(found.gold.total),
        "judge": judge,
        "guideline": given.guideline,
        "guideline_versions": dict(sorted(Counter(str(one.guideline) for one in said if one.act == "rank").items())),
        "newest_label": max((one.id for one in [*given.said, *given.settled.values()]), default=0),
    }


def card(name: str, source: str, told: Mapping[str, Any]) -> str:
    """card.md of a dataset; `told` is its row: `facts`, and how many rows there are of which format."""
    lines = [
        f"# {_line(name)}", "",
        f"{told['rows']:,} rows ({told['format']}) and {told['heldout']:,} held out, split by prompt, from {_line(source)}. "
        f"{told['prompts']:,} prompts, {told['items']:,} items, raters: {told['raters']:,}. By {_line(told['criterion'])}; "
        f"labels: {told['labels_of']}. The newest label it knows is number {told['newest_label']}.",
    ]  # fmt: skip
    if told["judge"]:
        lines += ["", f"The labels are a judge's, {_line(told['judge'])}."]
    lines += ["", "## Rows", "", *(f"- {_line(rater)}: {count:,}" for rater, count in told["rows_by_rater"].items())]
    lines += ["", "## Rankings", "", *(f"- {_line(rater)}: {count:,}" for rater, count in told["labels"].items())]
    lines += [f"- skipped: {told['skipped']:,}", f"- settled by the owner: {told['settled']:,}"]
    lines += ["", "## Agreement", ""]
    lines += [f"- {words}: {_figure(told['figures'][figure], figure in SHARES)}" for figure, words in SAID.items()]
    lines += ["", "## Bias", ""]
    for side, words in (("position", "The answer shown first wins"), ("length", "The longer of two answers wins")):
        one = told["bias"][side]
        p = "" if one["p"] is None else f"; {one['expected']:.0%} by chance, p = {one['p']:.2g}"
        lines.append(f"- {words}: {_figure(one, True)}{p}")
    lines += ["", "## Known answers", "", f"- Right on the pairs of gold items: {_figure(told['gold'], True)}"]
    lines += ["", "## Left out", "", *(f"- {reason}: {count:,}" for reason, count in told["left_out"].items())]
    lines += [] if told["left_out"] else ["Nothing."]
    versions = ", ".join(f"{'not known' if v == '0' else v} ({count:,} labels)" for v, count in told["guideline_versions"].items())
    lines += ["", "## Guideline", "", f"Versions raters had read: {versions or 'none'}. The newest one says:", ""]
    lines.append(told["guideline"] or "(nothing)")
    return "\n".join(lines) + "\n"


def _figure(told: Mapping[str, Any], share: bool) -> str:
    one = Figure(**{name: told[name] for name in Figure.__dataclass_fields__})
    if one.value is None:
        return f"{one.why} (n = {one.n:,})"
    form = "{:.0%}" if share else "{:.2f}"
    between = f"{form.format(one.interval[0])} to {form.format(one.interval[1])}, " if one.interval else ""
    return f"{form.format(one.value)} ({between}n = {one.n:,} of {one.n_items:,} items)"


def _line(text: object) -> str:
    return " ".join(str(text).split())
