"""Rankings for tests: made by hand or drawn by hypothesis, and put into a home as a closed project."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from engine.chat import prompt_key
from engine.rankings import OVERALL, Asked, Choice, Rankings, Said, Tiers

RATERS = ("ann", "bob", "cem")


def asked(id: int, *texts: str, prompt: str = "", kind: str = "normal", **more: Any) -> Asked:
    """An item; the key of an answer is "k" and its text."""
    messages = [{"role": "user", "content": prompt or f"question {id}"}]
    choices = tuple(Choice(f"k{text}", text, f"model {place}") for place, text in enumerate(texts))
    return Asked(id, kind, prompt_key(messages), messages, choices, **more)


def said(item: int, rater: str, order: str, criterion: str = OVERALL, **more: Any) -> Said:
    """A label from an order such as "b > a = c"."""
    return Said(item, rater, tiers={criterion: tiers(order)}, **more)


def tiers(order: str) -> Tiers:
    """Keys from an order such as "b > a = c"."""
    return tuple(tuple(f"k{text.strip()}" for text in tier.split("=")) for tier in order.split(">"))


def project(items: Sequence[Asked], labels: Sequence[Said] = (), settled: Sequence[Said] = (), **settings: Any) -> Rankings:
    """What stages read of a project."""
    return Rankings(1, settings, "Be fair.", 1, {one.id: one for one in items}, list(labels), {one.item: one for one in settled})


@st.composite
def orders(draw: st.DrawFn, keys: Sequence[str]) -> Tiers:
    """Tiers of these keys, ties included."""
    ranks = draw(st.lists(st.integers(0, len(keys) - 1), min_size=len(keys), max_size=len(keys)))
    return tuple(tuple(key for key, rank in zip(keys, ranks, strict=True) if rank == level) for level in sorted(set(ranks)))


@st.composite
def projects(draw: st.DrawFn, criteria: Sequence[str] = ()) -> Rankings:
    """A project with a few items of 2 to 4 answers, some with one prompt, ranked by up to three raters, some of it settled."""
    items, labels, settled = [], [], []
    for id in range(1, draw(st.integers(1, 4)) + 1):
        texts = draw(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=4, unique=True))
        kind = draw(st.sampled_from(["normal", "normal", "normal", "practice", "repeat"]))
        one = asked(id, *texts, prompt=draw(st.sampled_from(["why?", f"question {id}"])), kind=kind)
        keys = [choice.key for choice in one.choices]
        items.append(one)
        for rater in draw(st.lists(st.sampled_from(RATERS), unique=True)):
            order = {name: draw(orders(keys)) for name in criteria or (OVERALL,)}
            first = next(iter(order.values()))
            labels.append(
                Said(
                    id, rater, tiers=order, accepted_above=draw(st.none() | st.integers(0, len(first))),
                    strength=draw(st.none() | st.integers(1, 4)), flags=draw(st.dictionaries(st.sampled_from(keys), st.just(["unsafe"]))),
                    better=draw(st.sampled_from(["", "", "a better one", "another"])), comment=draw(st.sampled_from(["", "hm"])),
                    shown=tuple(draw(st.permutations(keys))), id=len(labels) + 1,
                )
            )  # fmt: skip
        if draw(st.booleans()):
            settled.append(Said(id, "owner", "settle", {name: draw(orders(keys)) for name in criteria or (OVERALL,)}))
    return project(items, labels, settled, criteria=list(criteria))


def open_closed(database: Any, add_artifact: Callable[..., int], given: Rankings, name: str = "rankings", **summary: Any) -> int:
    """Put such a project into a home, with its labels; its artifact's id."""
    from dataclasses import replace

    from sqlmodel import Session

    from engine import rankings
    from storage.labels import items
    from storage.queries import utc_now
    from storage.tables import Label

    id, now = add_artifact("rankings", name, **{"format": "project"} | summary), utc_now()
    with Session(database) as session:
        rankings.open_project(session, id, given.settings | {"raters": 0}, given.guideline, list(given.items.values()), now)
        session.flush()
        ids = dict(zip(given.items, (row.id or 0 for row in items(session, id)), strict=True))
        rankings.write(session, id, [replace(one, item=ids[one.item]) for one in given.said], now)
        for one in given.settled.values():
            order = {name: [list(tier) for tier in tiers] for name, tiers in one.tiers.items()}
            event, item = f"settle/{id}/{one.item}", ids[one.item]
            session.add(Label(client_event_id=event, rankings=id, item=item, rater=one.rater, act="settle", tiers=order, shown=[], at=now))
        session.commit()
    return id
