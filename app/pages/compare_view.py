"""Stored answers side by side, prompt by prompt: what was searched for, the way from one to the next, and the answers."""

from collections.abc import Sequence
from typing import Any

from app.pages import compare_figures
from app.pages.compare_address import address
from app.pages.compare_sides import Shown, Side
from app.pages.run_view import marked, reasoning
from app.view import Node, empty, h, link
from app.wording import number, say
from engine import comparison
from engine.catalogue import scorers
from engine.chat import Chat
from engine.comparison import MOST, Measure
from engine.differences import alike
from engine.errors import UserError
from storage import answers
from storage.answers import Line
from storage.tables import Response

REPEATS = 0.05  # share of repetition from which on it is worth a word
TAGS, SAMPLES = 12, 8  # shown at most
Given = tuple[Response, Line] | None


def tree(shown: Shown) -> list[Node]:
    """The whole page."""
    known = shown.known
    head = [compare_figures.head(shown), compare_figures.figures(shown)]
    if not shown.shared:
        hint = say("These answers share no prompt: choose answers to the same prompts.")
        return [*head, empty(hint, link(say("What can be compared"), "/compare"))]
    parts = [*head, *_controls(shown)]
    if any(known["pin"] in line for line in shown.lines):
        parts.append(h("div", h("small", say("Pinned")), *_items(shown, [known["pin"]]), class_="card pinned"))
    keys = chosen(shown)
    if not keys:
        everything = address(known, words="", tag="", only="all", at="")
        return [*parts, empty(say("No prompt fits."), link(say("All prompts"), everything))]
    at = keys.index(known["at"]) if known["at"] in keys else 0
    rows = max(1, min(known["rows"], 50))
    return [*parts, _navigator(shown, keys, at, rows), *_items(shown, keys[at : at + rows]), _leave(shown), h("here", href=address(known))]


def chosen(shown: Shown) -> list[str]:
    """The keys that fit what was searched for, in the order asked."""
    known, columns, sample = shown.known, [side.column for side in shown.sides], shown.known["sample"]
    wanted = set(shown.shared)
    if known["tag"]:
        wanted &= {key for line in shown.lines[:1] for key, one in line.items() if known["tag"] in one.tags}
    if known["words"]:
        wanted &= answers.matching(shown.session, columns, known["words"])
    if known["only"] == "changed":
        wanted &= answers.changed(shown.session, columns[0], columns[1:], sample)
    elif known["only"] == "cut":
        wanted &= {key for line in shown.lines for key, one in line.items() if one.finish_reason == "length"}
    elif known["only"] in ("lost", "gained") and shown.judge:
        before, *after = [shown.values(side, shown.judge) for side in shown.sides]
        was = 1.0 if known["only"] == "lost" else 0.0
        wanted &= {key for other in after for key, value in other.items() if before.get(key) == was and value == 1 - was}
    return [key for key in shown.shared if key in wanted]


def _controls(shown: Shown) -> list[Node]:
    known, baseline = shown.known, shown.lines[0]

    slices = ["all", "changed", "cut", *(["lost", "gained"] if shown.judge else [])]
    tags = list(comparison.tags(baseline[key] for key in shown.shared if key in baseline))[:TAGS]
    tags += [known["tag"]] if known["tag"] and known["tag"] not in tags else []
    choices = [
        *[_choice(known, "only", one, say(one), "all") for one in slices],
        *[_choice(known, "tag", tag, f"#{tag}", "") for tag in tags],
    ]
    words = say("search prompts and answers")
    search = h("input", type="search", value=known["words"], placeholder=words, on="words", aria_label=words)
    row = h("div", h("div", *choices, class_="filters row"), search, class_="row between")
    return [row] if len(shown.measures) >= MOST else [row, _measuring(shown)]


def _measuring(shown: Shown) -> Node:
    """Choose a scorer; one that compares with something asks for it."""
    draft = scorers().get(shown.known["draft"])
    options = [h("option", one.title, value=name, selected=one is draft) for name, one in scorers().items()]
    pick = h("select", h("option", say("Measure …"), value=""), *options, on="scorer", aria_label=say("Measure"))
    if draft is None:
        return h("div", pick, class_="row")
    typed = h("input", type="text", placeholder=say(draft.reference), on="measure", aria_label=say(draft.reference), key=draft.name)
    if draft.name == "regex":
        return h("div", pick, typed, class_="row")
    own = h("button", say("Use each prompt's own"), on="measure", data={"value": ""})
    return h("div", pick, typed, own, h("small", say("Several are separated by |")), class_="row")


def _navigator(shown: Shown, keys: list[str], at: int, rows: int) -> Node:
    known = shown.known

    def step(to: int, text: str, press: str) -> Node:
        place = max(0, min(to, len(keys) - 1))
        return h("button", text, on="at", data={"to": keys[place], "press": press}, disabled=place == at or to >= len(keys))

    several = max(comparison.samples(shown.place.database, side.column) for side in shown.sides)
    samples = [_choice(known, "sample", n, say("answer {n}", n=n + 1)) for n in range(min(several, SAMPLES) if several > 1 else 0)]
    sizes = [_choice(known, "rows", n, say("one by one") if n == 1 else say("{n} at once", n=n)) for n in (1, 10)]
    total, last = f"{len(keys):,}", min(at + rows, len(keys))
    span = say("{low} of {n}", low=f"{at + 1:,}", n=total) if rows == 1 else say("{low} to {high} of {n}", low=at + 1, high=last, n=total)
    marks = _choice(known, "plain", 0, say("mark changes"), 1)
    moves = [step(at - rows, say("← Previous"), "ArrowLeft"), h("span", span, class_="soft"), step(at + rows, say("Next →"), "ArrowRight")]
    return h(
        "div",
        h("div", *moves, class_="row"),
        h("div", *samples, *sizes, marks, class_="filters row"),
        class_="row between navigator",
    )


def _choice(known: dict[str, Any], name: str, value: Any, text: str, otherwise: Any = None) -> Node:
    """A link that chooses a value; chosen already, it takes it back where there is something else to choose."""
    on = known[name] == value
    wanted = otherwise if on and otherwise is not None else value
    there = address(known, **{name: wanted, **({"at": ""} if name in ("only", "tag") else {})})
    return h("a", text, href=there, on=name, data={"to": wanted}, class_="on" if on else "")


def _items(shown: Shown, keys: Sequence[str]) -> list[Node]:
    found = answers.read(shown.session, [line[key].id for line in shown.lines for key in keys if key in line])
    return [_item(shown, key, [(found[line[key].id], line[key]) if key in line else None for line in shown.lines]) for key in keys]


def _item(shown: Shown, key: str, given: Sequence[Given]) -> Node:
    row, line = next(one for one in given if one)
    names = len(row.prompt) > 1
    turns = [
        h("div", *([h("span", str(turn["role"]), class_="role")] if names else []), str(turn["content"]), class_="turn raw")
        for turn in row.prompt
    ]
    about: list[Node] = [h("span", tag, class_="tag") for tag in line.tags]
    if line.references:
        about.append(h("small", say("expected: {answer}", answer=" | ".join(line.references))))
    about.append(h("button", say("Unpin") if shown.known["pin"] == key else say("Pin"), on="pin", data={"to": key}, class_="small"))
    base = given[0][0] if given[0] else None
    columns = [
        _answer(shown, side, *one, base) if one else h("div", h("small", say("not asked")), class_=f"side {side.look}")
        for side, one in zip(shown.sides, given, strict=True)
    ]
    top = h("div", h("div", *turns, class_="prompt"), h("div", *about, class_="row"), class_="asked")
    return h("div", top, h("div", *columns, class_=f"columns n{len(columns)}"), class_="item", key=key)


def _answer(shown: Shown, side: Side, row: Response, line: Line, base: Response | None) -> Node:
    text: Sequence[Node] = (row.answer or say("(nothing)"),)
    if base and base is not row and not shown.known["plain"] and alike(base.answer, row.answer):
        text = marked(base.answer, row.answer)
    thought = reasoning(str(row.extra.get("thought", "")))
    key = f"{side.key}/{row.id}"
    readable = side.model and not side.model.deleted_at and side.model.summary.get("format") != "endpoint"
    reads = [h("button", say("What it read"), on="read", data={"to": key}, class_="small")] if readable else []
    if shown.known["read"] == key:
        reads.append(h("pre", _rendered(shown, side, row), class_="code raw"))
    marks = [_mark(one, value) for one in shown.measures if (value := comparison.score(one, row, line.references)) is not None]
    figures = h("small", " · ".join(_figures(row, line)))
    named = h("small", side.name, class_="show-narrow")
    return h("div", named, *thought, h("pre", *text, class_="raw"), figures, *marks, *reads, class_=f"side {side.look}")


def _figures(row: Response, line: Line) -> list[str]:
    ends = {"stop": say("stopped"), "length": say("cut at the limit"), "stopped": say("stopped by hand")}
    tokens = [] if line.tokens is None else [say("{n} tokens", n=line.tokens)]
    again = scorers()["repetition"].score(row.prompt, row.answer, ())
    repeats = [say("repeats {share}", share=f"{again:.0%}")] if again >= REPEATS else []
    return [*tokens, _words(row.answer), ends.get(row.finish_reason, row.finish_reason), *repeats]


def _words(text: str) -> str:
    n = len(text.split())
    return say("1 word") if n == 1 else say("{n} words", n=n)


def _mark(measure: Measure, value: float) -> Node:
    shown = ("✓" if value == 1 else "✕") if measure.is_rate else number(value)
    return h("div", h("small", f"{shown} {measure.title()}", class_="raw"))


def _rendered(shown: Shown, side: Side, row: Response) -> str:
    assert side.model
    try:
        return Chat.open(shown.place.home.root / side.model.folder).render(row.prompt, ask=True)
    except UserError as refused:
        return str(refused)


def _leave(shown: Shown) -> Node:
    """The comparison as a file: the prompts that fit, with what is measured."""
    query = address(shown.known, at="", pin="").partition("?")[2]
    files = [("html", say("one HTML file")), ("csv", say("CSV")), *([("json", say("LLM Comparator"))] if len(shown.sides) == 2 else [])]
    links = [link(title, f"/download/compare.{kind}?{query}", class_="button", download=f"compare.{kind}") for kind, title in files]
    return h("div", h("span", say("Take it along as"), class_="soft"), *links, class_="row leave")
