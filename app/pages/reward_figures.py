"""How well a model orders answers to prompts it has not seen: a sentence, a small table, and where the rewards lie."""

from typing import Any

from app.view import Node, h, table
from app.wording import say
from storage.tables import Artifact


def quality(row: Artifact) -> list[Node]:
    """What was measured on held-out pairs when this model was trained; nothing for other models."""
    found = row.summary.get("heldout_pairs")
    if found is None:
        return []
    head = h("h2", say("On pairs it has not seen"))
    if not found:
        return [head, h("p", say("No pairs were held out: nothing says how well it judges."))]
    if row.summary.get("format") != "reward":
        text = "Chosen answers gained on rejected ones in {rate:.0%} of pairs, by prompt ({low:.0%} to {high:.0%}, {prompts:,} prompts)."
        told = found["accuracy"]
        if not isinstance(told, dict):  # made before 29 November 2026
            text = "Chosen answers gained on rejected ones in {rate:.0%} of {pairs:,} pairs."
            return [head, h("p", say(text, rate=told, pairs=found["pairs"]))]
        return [head, h("p", say(text, **told))]
    title = h("h3", say("Rewards of chosen and rejected answers"))
    return [head, h("p", _sentence(found)), _table(found), title, _histogram(found["histogram"])]


def _sentence(found: dict[str, Any]) -> str:
    text = "The better answer gets the higher reward in {rate:.0%} of pairs, by prompt ({low:.0%} to {high:.0%}, {prompts:,} prompts)."
    told = say(text, **found["accuracy"])
    alike, length = found["length_matched"], found["length"]
    if "rate" in alike:
        told += " " + say("Where both answers are of like length: {rate:.0%} ({low:.0%} to {high:.0%}, {pairs:,} pairs).", **alike)
    else:
        few = "Too few prompts have pairs of like length to say whether it judges more than length (n = {pairs:,} pairs)."
        told += " " + say(few, **alike)
    if "spearman" in length:
        told += " " + say("Reward and length go together at {spearman:+.2f} (rank correlation, {answers:,} answers).", **length)
    return told


def _table(found: dict[str, Any]) -> Node:
    accuracy, alike, length = found["accuracy"], found["length_matched"], found["length"]
    rate = f"{alike['rate']:.1%}" if "rate" in alike else say("not enough pairs")
    rows: list[list[Node]] = [
        [say("Accuracy by prompt"), f"{accuracy['rate']:.1%}", _span(accuracy), _counted(accuracy)],
        [say("Accuracy, lengths within 10 %"), rate, _span(alike), _counted(alike)],
    ]
    for name, title in (("pearson", say("Correlation of reward and length")), ("spearman", say("The same of ranks"))):
        if name in length:
            rows.append([title, f"{length[name]:+.2f}", "", say("{n:,} answers", n=length["answers"])])
    return table([say("Measured"), say("Value"), say("95 % interval"), say("Counted on")], rows)


def _counted(one: dict[str, Any]) -> str:
    if "prompts" not in one:  # pairs of like length were counted without them before 29 November 2026
        return say("{n:,} pairs", n=one["pairs"])
    return say("{n:,} prompts, {m:,} pairs", n=one["prompts"], m=one["pairs"])


def _span(one: dict[str, Any]) -> str:
    return f"{one['low']:.1%} – {one['high']:.1%}" if "low" in one else ""


def _histogram(told: dict[str, Any]) -> Node:
    """Both sides on one scale, the lowest rewards on the left; what is drawn stands in a table below, folded."""
    edges, most = told["edges"], max(*told["chosen"], *told["rejected"], 1)
    bins = list(zip(edges, edges[1:], told["chosen"], told["rejected"], strict=False))
    bars = [h("span", _bar(one[2], most, "chosen"), _bar(one[3], most, "rejected"), title=_told(*one)) for one in bins]
    sides = (("chosen", say("chosen (n = {n:,})", n=told["pairs"])), ("rejected", say("rejected (n = {n:,})", n=told["pairs"])))
    key = [h("span", h("i", class_=side), words) for side, words in sides]
    rows: list[list[Node]] = [
        [f"{low:+.2f} … {high:+.2f}", str(chosen), str(rejected)] for low, high, chosen, rejected in bins[::-1] if chosen or rejected
    ]
    head = [say("Reward"), say("Chosen"), say("Rejected")]
    return h(
        "div",
        h("div", *bars, class_="histogram", role="img", aria_label=say("Rewards of chosen and rejected answers")),
        h("div", h("span", f"{edges[0]:+.2f}"), h("span", *key, class_="key"), h("span", f"{edges[-1]:+.2f}"), class_="row between"),
        h("details", h("summary", say("The same in numbers")), table(head, rows, class_="narrow")),
    )


def _bar(count: int, most: int, side: str) -> Node:
    ends: dict[str, Any] = {"to": count / most}
    return h("i", class_=side, **ends)


def _told(low: float, high: float, chosen: int, rejected: int) -> str:
    return say("{low:+.2f} to {high:+.2f}: {chosen} chosen, {rejected} rejected", low=low, high=high, chosen=chosen, rejected=rejected)
