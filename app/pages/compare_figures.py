"""The head of a comparison: who answers, and what can be said in figures over all shared prompts."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from app.pages.compare_address import address
from app.pages.compare_sides import Shown, Side
from app.view import Node, h, interval, link, table
from app.wording import number, say
from engine import comparison
from engine.chat import TEMPLATES
from engine.comparison import MOST, Figure
from storage import answers, listings
from storage.tables import Artifact

TAGS = 12


def head(shown: Shown) -> Node:
    """The title and where to go from here."""
    live = [str(side.column.model) for side in shown.sides if side.model and not side.model.deleted_at]
    talk = [link(say("Ask them live"), f"/compare?live={','.join(live)}", class_="button")] if live else []
    copy = h("button", say("Copy link"), on="copy", data={"text": address(shown.known)})
    others = link(say("Other answers"), "/compare", class_="button")
    sets = dict.fromkeys(side.column.answers for side in shown.sides)
    shared = ",".join(str(id) for id in sets if shown.session.get_one(Artifact, id).kind == "responses")
    rank = [link(say("Rank these blind"), f"/new?stage=rank_answers&responses={shared}", class_="button")] if shared else []
    return h("div", h("h1", say("Compare")), h("div", others, *rank, *talk, copy, class_="row"), class_="row between")


def figures(shown: Shown) -> Node:
    """One column a model, one row a figure."""
    rows: list[list[Node]] = [["", *[_side_head(side, place == 0, len(shown.sides)) for place, side in enumerate(shown.sides)]]]
    asked = [[line[key] for key in shown.shared if key in line] for line in shown.lines]
    rows.append([say("Prompts answered"), *[f"{len(one):,}" for one in asked]])
    stops = [_bar(comparison.stop_rate(lines), side) for lines, side in zip(asked, shown.sides, strict=True)]
    rows.append([say("Stopped by itself"), *stops])
    middles = [comparison.median_tokens(lines) for lines in asked]
    rows.append([say("Median length"), *[say("not counted") if one is None else say("{n} tokens", n=number(one)) for one in middles]])
    for at, measure in enumerate(shown.measures):
        drop = h("button", "×", on="unmeasure", data={"to": at}, aria_label=say("Remove {what}", what=measure.title()), class_="small")
        told = [_bar(shown.figure(side, measure, shown.shared), side) for side in shown.sides]
        rows.append([h("span", measure.title(), " ", drop, class_="raw"), *told])
    warnings = [h("p", note, class_="soft") for note in notes(shown)]
    return h("div", table([], rows, class_="figures"), *warnings, *_by_tag(shown), *_add(shown))


def facts(shown: Shown, keys: Sequence[str]) -> list[list[str]]:
    """The same figures as text, over the prompts that leave the page."""
    asked = [[line[key] for key in keys if key in line] for line in shown.lines]
    middles = [comparison.median_tokens(lines) for lines in asked]
    rows = [
        [say("Prompts answered"), *[f"{len(lines):,}" for lines in asked]],
        [say("Stopped by itself"), *[_told(comparison.stop_rate(lines)) for lines in asked]],
        [say("Median length"), *[say("not counted") if one is None else say("{n} tokens", n=number(one)) for one in middles]],
    ]
    return rows + [[one.title(), *[_told(shown.figure(side, one, keys)) for side in shown.sides]] for one in shown.measures]


def about(shown: Shown, side: Side) -> dict[str, str]:
    """What a reader elsewhere wants to know about a side."""
    answered = shown.session.get_one(Artifact, side.column.answers)
    told = {say("answers"): answered.name}
    if side.model:
        folder = shown.place.home.root / side.model.folder
        told[say("chat template")] = _template(folder) if (folder / "chat_template.jinja").exists() else say("unknown")
        told |= {say("note"): str(side.model.summary["note"])} if side.model.summary.get("note") else {}
    return told


def _told(figure: Figure) -> str:
    if not figure.n:
        return say("not applicable")
    shown = (f"{one:.0%}" if figure.rate else number(one) for one in (figure.value, figure.low, figure.high))
    value, low, high = shown
    return say("{value} ({low} to {high}, n = {n})", value=value, low=low, high=high, n=figure.n)


def _side_head(side: Side, baseline: bool, many: int) -> Node:
    name = link(side.name, f"/library?artifact={side.column.model}", class_="raw") if side.model else h("span", side.name, class_="raw")
    gone = [h("div", h("small", say("this model was deleted")))] if side.model and side.model.deleted_at else []
    make = h("button", say("make baseline"), on="base", data={"to": side.key}, class_="small")
    drop = h("button", "×", on="remove", data={"to": side.key}, aria_label=say("Remove {what}", what=side.name), class_="small")
    tools: list[Node] = [h("small", say("baseline")) if baseline else make, *([drop] if many > 1 else [])]
    return h("div", h("b", name), *gone, h("div", *tools, class_="row tools"), class_=f"side {side.look}")


def _bar(figure: Figure, side: Side) -> Node:
    if not figure.n:
        return h("small", say("not applicable"))
    if not figure.rate:
        told = say("{low} to {high}, n = {n}", low=number(figure.low), high=number(figure.high), n=figure.n)
        return h("span", h("b", number(figure.value)), " ", h("small", told))
    told = say("{low} to {high}, n = {n}", low=f"{figure.low:.0%}", high=f"{figure.high:.0%}", n=figure.n)
    bar = interval(figure.value, figure.low, figure.high, side.look)
    return h("div", h("b", f"{figure.value:.0%}"), bar, h("small", told), class_="rate")


def _by_tag(shown: Shown) -> list[Node]:
    """Right or wrong by the first such measure, or else stopping, for each tag."""
    baseline = shown.lines[0]
    tags = comparison.tags(baseline[key] for key in shown.shared if key in baseline)
    if len(tags) < 2:
        return []
    rows: list[list[Node]] = []
    for tag, count in list(tags.items())[:TAGS]:
        keys = [key for key in shown.shared if key in baseline and tag in baseline[key].tags]
        cells: list[Node] = []
        for side, line in zip(shown.sides, shown.lines, strict=True):
            stops = comparison.stop_rate(line[key] for key in keys if key in line)
            cells.append(_bar(shown.figure(side, shown.judge, keys) if shown.judge else stops, side))
        rows.append([h("span", tag, h("small", f" {count}")), *cells])
    title = say("{what} by tag", what=shown.judge.title() if shown.judge else say("Stopped by itself"))
    return [h("details", h("summary", title), table(["", *[side.name for side in shown.sides]], rows, class_="figures"))]


def notes(shown: Shown) -> list[str]:
    """What a reader must know before comparing."""
    models = [(side.name, shown.place.home.root / side.model.folder) for side in shown.sides if side.model and not side.model.deleted_at]
    told = []
    if len({_digest(folder / "tokenizer.json") for _, folder in models} - {""}) > 1:
        told.append(say("Their tokenizers differ: lengths in tokens cannot be compared, answers can."))
    templates = {name: _template(folder) for name, folder in models if (folder / "chat_template.jinja").exists()}
    if len(set(templates.values())) > 1:
        which = ", ".join(f"{name}: {template}" for name, template in templates.items())
        told.append(say("Each was asked in its own chat template ({which}).", which=which))
    return told


def _add(shown: Shown) -> list[Node]:
    """Other answers to the same prompts; imported ones may belong to any."""
    if len(shown.known["answers"]) >= MOST:
        return []
    session, there = shown.session, {side.key for side in shown.sides}
    asked = [answers.prompts_of(session, session.get_one(Artifact, side.column.answers)) for side in shown.sides]
    wanted = {one.id for one in asked if one}
    options: list[Node] = []
    for one in answers.sets(session):
        prompts = answers.prompts_of(session, one)
        for column in answers.columns(one):
            key = answers.key_of(column, one)
            if key not in there and (prompts is None or not wanted or prompts.id in wanted):
                options.append(h("option", f"{column.source or listings.name_of(session, column.model)} · {one.name}", value=key))
    if not options:
        return []
    return [h("select", h("option", say("Add answers …"), value=""), *options[:100], on="add", aria_label=say("Add answers"))]


@lru_cache(maxsize=64)  # a model's files never change
def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest() if path.exists() else ""


@lru_cache(maxsize=64)
def _template(folder: Path) -> str:
    text = (folder / "chat_template.jinja").read_text(encoding="utf-8").rstrip("\n")
    own = say("its own, {digest}", digest=sha256(text.encode()).hexdigest()[:6])
    return next((name for name, known in TEMPLATES.items() if known == text), own)
