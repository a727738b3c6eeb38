"""What an owner reads and settles: the items on which raters disagree, and what people wrote beside their rankings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from string import ascii_uppercase
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from app.pages import as_id
from app.view import Node, empty, h
from app.wording import ago, say
from engine import labelling
from engine.agreement import Majority, majority
from engine.counting import Ranking
from engine.errors import UserError
from engine.rankings import as_tiers, criteria
from engine.rankings_report import Summary
from storage import opinions, queries
from storage.labels import RANK, SETTLE, SKIP
from storage.tables import Artifact, Item, Label, Project

PAGE, WRITTEN = 3, 10


def tree(session: Session, row: Artifact, told: Summary, known: dict[str, Any]) -> list[Node]:
    """The worst disagreement first; or what was settled, the newest first."""
    if row.summary.get("format") == "judge":
        return []
    settled = opinions.settled(session, row.id or 0)
    decided = set(settled)
    open_ = [item for item, _ in told.disagreements if item not in decided]
    if not (open_ or settled):
        return []
    filters = [
        h("a", f"{word} {count:,}", href=f"/rankings?project={row.id}" + ("&show=settled" if which else ""), on="show",
          data={"settled": which}, class_="on" if known["settled"] == which else "")
        for which, word, count in ((False, say("to settle"), len(open_)), (True, say("settled"), len(settled)))
    ]  # fmt: skip
    head = [h("h2", say("Where people disagree")), h("div", *filters, class_="filters row")]
    queue, start = (settled if known["settled"] else open_), known["start"]
    start = start if start < len(queue) else 0
    ids = queue[start : start + PAGE]
    if not ids:
        return [*head, empty(say("Nothing is settled yet.") if known["settled"] else say("Everything they disagree on is settled."))]
    rows, said = opinions.items(session, ids), opinions.of_items(session, row.id or 0, ids)
    names, shares = criteria(session.get_one(Project, row.id).settings), dict(told.disagreements)
    shown = [_item(rows[id], said[id], names, shares.get(id)) for id in ids]
    return [*head, h("div", *shown, class_="panel"), _moves("start", start, PAGE, start + PAGE < len(queue))]


def _item(item: Item, said: Sequence[Label], names: Sequence[str], share: float | None) -> Node:
    letters = {choice["key"]: ascii_uppercase[place] for place, choice in enumerate(item.answers)}
    last = next((one for one in said if one.act == SETTLE), None)
    most = {name: _majority(item, said, name) for name in names}
    by = {choice["key"]: str(choice["by"]) for choice in item.answers}
    answers = [
        h("div", h("small", h("b", letters[choice["key"]]), " ", h("span", by[choice["key"]], class_="raw")),
          h("pre", str(choice["text"]), class_="raw"), class_="side")
        for choice in item.answers
    ]  # fmt: skip
    prompt = [
        h("div", *([h("span", str(turn["role"]), class_="role")] if len(item.prompt) > 1 else []), str(turn["content"]), class_="turn raw")
        for turn in item.prompt
    ]
    disputed = say("They disagree on {share:.0%} of its pairs.", share=share) if share else ""
    now = queries.utc_now()
    settled = say("{person} settled it {when}:", person=last.rater, when=ago(last.at, now)) if last else ""
    done = [h("p", settled, " ", _orders(last, names, letters))] if last else []
    raters = [_rater(one, names, letters, item, last) for one in said if one.act in (RANK, SKIP)]
    return h(
        "div",
        h("div", *prompt, class_="prompt"),
        h("small", disputed),
        h("div", *answers, class_=f"columns n{min(4, max(2, len(answers)))}"),
        *done,
        h("div", *raters, class_="raters"),
        _decide(item, most, names, letters, last),
        class_="item",
        key=str(item.id),
    )


def _rater(one: Label, names: Sequence[str], letters: Mapping[str, str], item: Item, last: Label | None) -> Node:
    flags = _flags(one, letters)
    order: Node = say("skipped: {reason}", reason=say(one.reason)) if one.act == SKIP else _orders(one, names, letters)
    take = h("button", say("Take this"), on="settle", data=_pressed(item, last, rater=one.rater), class_="small",
             aria_label=say("Settle as {rater} has it", rater=one.rater)) if one.act == RANK else None  # fmt: skip
    comment = h("span", "“", one.comment, "”", class_="raw soft") if one.comment else None
    better = h("details", h("summary", say("A better answer")), h("pre", one.better, class_="raw")) if one.better else None
    return h("div", h("div", h("b", one.rater, class_="raw"), order, *flags, take, class_="row tools"), comment, better)


def _decide(item: Item, most: Mapping[str, Majority], names: Sequence[str], letters: Mapping[str, str], last: Label | None) -> Node:
    """Take what most say, where that is an order, or set every rank by hand."""
    given = last.tiers if last else {}
    text = "; ".join(_order(most[name].tiers, letters, name if len(names) > 1 else "") for name in names)
    button = h("button", say("Take the majority: {order}", order=text), on="settle", data=_pressed(item, last), class_="raw")
    if not all(one.whole for one in most.values()):
        button = h("small", say("Raters are split: most agree on no order of all answers."))
    ranks: list[Node] = []
    for place, name in enumerate(names):
        at = {key: rank for rank, tier in enumerate(given.get(name) or most[name].tiers) for key in tier}
        for key, letter in letters.items():
            options = [h("option", str(rank + 1), value=str(rank), selected=at.get(key, 0) == rank) for rank in range(len(letters))]
            label = say("{criterion}: rank of {letter}", criterion=name, letter=letter)
            ranks.append(h("label", letter, h("select", *options, name=f"{place}/{key}", aria_label=label)))
    hand = h("button", say("Settle like this"), on="settle", data={**_pressed(item, last), "form": True})
    fold = h("details", h("summary", say("Set the ranks by hand")), h("div", *ranks, hand, class_="row typed"))
    return h("div", h("div", button, class_="row tools"), fold)


def _pressed(item: Item, last: Label | None, **more: Any) -> dict[str, Any]:
    """Which item, and what it said when the button was drawn: pressed twice, it is one label."""
    return {"item": item.id, "before": last.id if last else 0, **more}


def settle(database: Engine, project: int, data: Mapping[str, Any], person: str, now: datetime) -> None:
    """Write what an owner decided: one rater's order, ranks set by hand, or else what most say. Raises UserError."""
    id, typed, rater = as_id(str(data.get("item"))), data.get("typed"), data.get("rater")
    with Session(database) as session:
        row, item = session.get(Project, project), opinions.items(session, [id]).get(id)
        if row is None or item is None or item.project != project:
            raise UserError("there is no item {item} in this project", item=id)
        names, said = criteria(row.settings), opinions.of_items(session, project, [id])[id]
    if isinstance(typed, dict):
        tiers: dict[str, Any] = {name: _by_hand(typed, place, item) for place, name in enumerate(names)}
    elif rater:
        theirs = next((one for one in said if one.act == RANK and one.rater == rater), None)
        if theirs is None:
            raise UserError("{rater} has no ranking of this item any more: look again", rater=repr(str(rater)[:80]))
        tiers = dict(theirs.tiers)
    else:
        most = {name: _majority(item, said, name) for name in names}
        if not all(one.whole for one in most.values()):
            raise UserError("most agree on no order of all answers: take a rater's, or set the ranks by hand")
        tiers = {name: [list(tier) for tier in one.tiers] for name, one in most.items()}
    digest = hashlib.sha256(json.dumps(tiers, sort_keys=True).encode()).hexdigest()[:12]
    event = f"settle/{project}/{id}/{as_id(str(data.get('before')))}/{digest}"
    labelling.settle(database, project, person, id, tiers, event, now)


def _by_hand(typed: Mapping[str, Any], place: int, item: Item) -> list[list[str]]:
    ranks: dict[int, list[str]] = {}
    for choice in item.answers:
        ranks.setdefault(as_id(str(typed.get(f"{place}/{choice['key']}"))), []).append(choice["key"])
    return [ranks[rank] for rank in sorted(ranks)]


def _majority(item: Item, said: Sequence[Label], name: str) -> Majority:
    given = [(one.rater, as_tiers(one.tiers.get(name)) or ()) for one in said if one.act == RANK]
    return majority([Ranking(item.id or 0, rater, tiers) for rater, tiers in given if tiers])


def _orders(one: Label, names: Sequence[str], letters: Mapping[str, str]) -> Node:
    line = one.accepted_above
    parts = [
        _order(one.tiers.get(name, ()), letters, name if len(names) > 1 else "", line if place == 0 else None)
        for place, name in enumerate(names)
    ]
    return h("span", "; ".join(parts), class_="raw")


def _flags(one: Label, names: Mapping[str, str]) -> list[Node]:
    return [h("span", f"{names.get(key, '?')}: {say(word)}", class_="tag raw") for key, words in one.flags.items() for word in words]


def _order(tiers: Sequence[Sequence[str]], letters: Mapping[str, str], name: str = "", line: int | None = None) -> str:
    """ "A > B = C", with a word where the acceptable ones end."""
    shown = [" = ".join(sorted(letters.get(key, "?") for key in tier)) for tier in tiers]
    text = " > ".join(shown)
    if line == 0:
        text = say("{order} (none acceptable)", order=text)
    elif line:
        text = " > ".join([*shown[: line - 1], say("{tier} (acceptable to here)", tier=shown[line - 1]), *shown[line:]])
    return f"{name}: {text}" if name else text


def written(session: Session, row: Artifact, known: dict[str, Any]) -> list[Node]:
    """What people wrote: comments, flags, reasons for skipping, better answers; the newest first."""
    if row.summary.get("format") == "judge":
        return []  # a judge's comment is how it came to its ranking
    start = known["said"]
    found = opinions.written(session, row.id or 0, start, WRITTEN + 1)
    if not found and not start:
        return []
    items = opinions.items(session, {one.item for one in found})
    return [
        h("h2", say("What people wrote")),
        *[_said(one, items[one.item]) for one in found[:WRITTEN]],
        _moves("said", start, WRITTEN, len(found) > WRITTEN),
    ]


def _said(one: Label, item: Item) -> Node:
    by = {choice["key"]: str(choice["by"]) for choice in item.answers}
    flags = _flags(one, by)
    skipped = h("span", say("skipped: {reason}", reason=say(one.reason)), class_="tag") if one.act == SKIP else None
    better = h("div", h("small", say("A better answer:")), h("pre", one.better, class_="raw")) if one.better else None
    who = h("small", one.rater, " · ", ago(one.at, queries.utc_now()), class_="raw")
    comment = h("div", one.comment, class_="raw") if one.comment else None
    asked = h("div", str(item.prompt[-1].get("content", ""))[:300], class_="soft raw")
    return h("div", asked, comment, h("div", skipped, *flags, who, class_="row tools"), better, class_="item", key=f"said {one.id}")


def _moves(name: str, start: int, size: int, more: bool) -> Node:
    moves: list[Node] = []
    if start:
        moves.append(h("button", say("← Previous"), on=name, data={"to": max(0, start - size)}))
    if more:
        moves.append(h("button", say("Next →"), on=name, data={"to": start + size}))
    return h("div", *moves, class_="row")
