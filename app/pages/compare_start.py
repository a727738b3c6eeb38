"""What can be compared: prompt sets that models have answered, models to talk to, conversations so far."""

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session

from app.view import Node, empty, h, link
from app.wording import ago, say
from engine.comparison import MOST
from storage import answers, listings, queries
from storage.tables import Artifact

SHOWN = 24


def tree(session: Session, known: dict[str, Any]) -> list[Node]:
    """The page before anything was chosen."""
    # The weights of those trained outside are elsewhere, and a reward model writes nothing.
    models = [one for one in queries.artifacts(session, "model") if one.summary.get("format") not in ("outside", "reward")]
    sets = answers.sets(session)
    head = [h("h1", say("Compare")), h("p", say("Read two to four models against each other, on the same prompts."), class_="soft")]
    if not models and not sets:
        hint = say("There is nothing to compare yet: import a model, or start the quickstart, which ends with two sets of answers.")
        actions = [
            link(say("Start the quickstart"), "/new?recipe=quickstart", class_="button primary"),
            link(say("Import a model"), "/new?stage=import_model", class_="button"),
        ]
        return [*head, empty(hint, *actions)]
    return [*head, *_sets(session, sets), *_talk(models, known["picked"]), *_conversations(session)]


def _sets(session: Session, sets: Sequence[Artifact]) -> list[Node]:
    grouped: dict[tuple[int, str], list[Artifact]] = {}
    for one in sets:
        asked = answers.prompts_of(session, one)
        grouped.setdefault((asked.id or 0, asked.name) if asked else (0, one.name), []).append(one)
    cards = [_card(session, name, found) for (_, name), found in grouped.items()]
    more = h(
        "div",
        link(say("Let models answer prompts"), "/new?stage=generate", class_="button"),
        link(say("Import answers"), "/new?stage=import_responses", class_="button"),
        class_="row",
    )
    hint = [] if cards else [empty(say("No model has answered a set of prompts yet."))]
    return [h("h2", say("Stored answers, by prompts")), h("div", *cards[:SHOWN], class_="cards"), *hint, more]


def _card(session: Session, name: str, found: Sequence[Artifact]) -> Node:
    """One set of prompts with the newest answers of each model, the root of the lineage first."""
    newest: dict[tuple[int, str], tuple[str, str]] = {}
    for one in found:
        for column in answers.columns(one):
            who = (0 if column.source else column.model, column.source)
            newest.setdefault(who, (answers.key_of(column, one), column.source or listings.name_of(session, column.model)))
    ordered = sorted(newest, key=lambda who: (len(listings.ancestors(session, who[0])) if who[0] else 99, who))
    chosen = [newest[who] for who in ordered[:MOST]]
    left = len(ordered) - len(chosen)
    names = " · ".join(title for _, title in chosen) + (say(" and {n} more", n=left) if left else "")
    about = say("{n} prompts", n=found[0].summary.get("prompts", "?"))
    address = "/compare?answers=" + ",".join(key for key, _ in chosen)
    return h("a", h("b", name, class_="raw"), h("div", names, class_="raw"), h("span", about, class_="soft"), href=address, class_="card")


def _talk(models: Sequence[Artifact], picked: Sequence[int]) -> list[Node]:
    boxes = [
        h(
            "label",
            h("input", type="checkbox", on="pick", data={"model": one.id}, checked=one.id in picked, disabled=_full(picked, one)),
            h("span", one.name, class_="raw"),
            h("small", _kind(one)),
        )
        for one in models[:SHOWN]
    ]
    address = "/compare?live=" + ",".join(map(str, picked))
    go_on: Node = (
        link(say("Start a conversation"), address, class_="button primary")
        if picked
        else h("button", say("Start a conversation"), disabled=True)
    )
    hint = h("p", say("Pick up to {n} models: all of them answer at once, word by word.", n=MOST), class_="soft")
    weigh = link(say("What comes next?"), "/compare?next=" + ",".join(map(str, picked)), class_="button")
    card = h("div", hint, h("div", *boxes, class_="checks"), h("div", go_on, weigh, class_="row"), class_="card")
    return [h("h2", say("Talk to them live")), card]


def _full(picked: Sequence[int], model: Artifact) -> bool:
    return len(picked) >= MOST and model.id not in picked


def _kind(model: Artifact) -> str:
    return {"adapter": say("adapter"), "endpoint": say("endpoint")}.get(str(model.summary.get("format")), "")


def _conversations(session: Session) -> list[Node]:
    found = listings.conversations(session)
    now = queries.utc_now()
    rows = [
        h(
            "li",
            link(" · ".join(listings.name_of(session, id) for id in run.settings.get("models", [])), f"/compare?talk={run.id}"),
            " ",
            h("small", ago(run.queued_at, now)),
        )
        for run in found
    ]
    return [h("h2", say("Conversations")), h("ul", *rows)] if rows else []
