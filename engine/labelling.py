"""What a rater does: gets an item, ranks or skips it, takes it back. All of it is checked here and written at once.

What goes to the rater's browser is made here too, and it holds no word of who gave which answer: answers are numbered as
they are shown, in an order drawn for this rater and this item.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from engine.errors import UserError
from engine.rankings import FLAGS, REASONS, STRENGTHS, criteria, title
from storage import labels
from storage.database import transaction
from storage.labels import PRACTICE, RANK, SETTLE, SKIP, UNDO
from storage.tables import Artifact, Item, Label, Lease, Project

HOLD = timedelta(minutes=10)  # how long an item waits for the rater who has it
LONGEST = 20_000  # characters of a better answer or a comment

Shown = dict[str, Any]  # what a rater's page shows: see `_shown`


class GuidelineChanged(UserError):
    """The guideline has a newer version than the one this rater read: they read it and submit again."""


def next_item(database: Engine, project: int, rater: str, now: datetime) -> Shown:
    """What this rater does now. Without an item "state" says why: paused, closed, or done (nothing is left for them).

    Raises UserError for a project that is not there.
    """
    with transaction(database) as session:
        return _next(session, _existing(session, project), rater, now)


def submit(database: Engine, project: int, rater: str, said: Mapping[str, Any], now: datetime) -> Shown:
    """Write what a rater said of an item, once, and give them the next one; of a practice item, what was right ("feedback").

    `said`: client_event_id, item, guideline (the version read), and either "reason" (a skip) or tiers {criterion: lists of
    shown numbers, best first}, seen (shown numbers), and perhaps accepted_above, strength, flags {shown number: words},
    better; comment, active_ms and wall_ms in both. Whoever changed what may have arrived already says so in `corrects`: the
    client_event_ids before. Raises UserError for anything that does not fit; nothing is written then.
    """
    with transaction(database) as session:
        row, event = _existing(session, project), _event(project, rater, said.get("client_event_id"))
        if labels.with_event(session, event):
            return _next(session, row, rater, now)
        if row.closed_at is not None:
            raise UserError("this project was closed while you worked, and takes no more labels; what you entered is kept in this browser")
        item_id = _whole(said, "item")
        item = session.get(Item, item_id)
        if item is None or item.project != project:
            raise UserError("there is no item {item} in this project", item=item_id)
        held, before = labels.lease(session, item_id, rater), _corrected(session, project, item_id, rater, said)
        if held is None and before is None:
            raise UserError("item {item} was not given to you: reload the page for the one that is", item=item_id)
        _guideline_is_read(session, row, said)
        label = _label(row, item, (held or before).shown, said, now)  # type: ignore[union-attr]
        label.client_event_id, label.rater, label.supersedes = event, rater, before.id if before else None
        label.extra = (held is None or held.expires_at <= now) and not labels.has_room(session, item, rater, now)
        session.add(label)
        if held:
            session.delete(held)
        session.flush()
        following = _next(session, row, rater, now)
        return following | _feedback(item, label) if item.kind == PRACTICE and label.act == RANK else following


def undo(database: Engine, project: int, rater: str, client_event_id: str, now: datetime) -> Shown:
    """Take back the last thing this rater said: its item is theirs again, as they left it, even while the project is paused.

    Raises UserError if there is nothing.
    """
    with transaction(database) as session:
        row, event = _existing(session, project), _event(project, rater, client_event_id)
        if labels.with_event(session, event):
            return _next(session, row, rater, now)
        if row.closed_at is not None:
            raise UserError("this project is closed: nothing in it can be taken back any more")
        last = labels.last_of(session, project, rater)
        if last is None:
            raise UserError("there is nothing to undo")
        taken_back = Label(
            client_event_id=event, rankings=project, item=last.item, rater=rater, act=UNDO, shown=last.shown,
            guideline=last.guideline, supersedes=last.id, at=now,
        )  # fmt: skip
        session.add(taken_back)
        if following := labels.holds(session, project, rater):
            session.delete(following)  # it goes back
        session.flush()
        item = session.get_one(Item, last.item)
        until = now + HOLD if labels.has_room(session, item, rater, now) else now  # a skip held no place: it may be taken by now
        lease = Lease(item=last.item, rater=rater, shown=last.shown, given_at=now, expires_at=until)
        session.add(lease)
        session.flush()
        return _told(session, row, rater, now, (item, lease))


def settle(database: Engine, project: int, owner: str, item: int, tiers: Mapping[str, Any], client_event_id: str, now: datetime) -> None:
    """Write what an owner decides about an item on which raters disagree; `tiers` by criterion, of answer keys. Raises UserError."""
    with transaction(database) as session:
        row, asked = _existing(session, project), session.get(Item, item)
        if asked is None or asked.project != project:
            raise UserError("there is no item {item} in this project", item=item)
        if labels.with_event(session, client_event_id):
            return
        keys = [choice["key"] for choice in asked.answers]
        plain = {name: _tiers(name, tiers.get(name), keys, ties=True) for name in criteria(row.settings)}
        before = labels.settlement(session, project, item)
        session.add(
            Label(
                client_event_id=client_event_id, rankings=project, item=item, rater=owner, act=SETTLE, tiers=plain, shown=keys,
                guideline=labels.guideline(session, project).version, supersedes=before.id if before else None, at=now,
            )
        )  # fmt: skip


def pause(database: Engine, project: int, paused: bool, now: datetime) -> None:
    """Give out no more items, or go on. What raters have before them they may still submit. Raises UserError."""
    with transaction(database) as session:
        row = _existing(session, project)
        if row.closed_at is not None:
            raise UserError("this project is closed and cannot be paused")
        row.paused_at = now if paused else None


def close(database: Engine, project: int, now: datetime) -> None:
    """End a project with the labels it has: what waits for it goes on. Raises UserError."""
    with transaction(database) as session:
        labels.close(session, _existing(session, project), now)


def change_guideline(database: Engine, project: int, text: str, person: str, now: datetime) -> int:
    """Give a project a new version of its guideline, which every rater must read before going on; its number. Raises UserError."""
    with transaction(database) as session:
        _existing(session, project)
        return labels.add_guideline(session, project, text, person, now)


def _existing(session: Session, project: int) -> Project:
    row, artifact = session.get(Project, project), session.get(Artifact, project)
    if row is None or artifact is None:
        raise UserError("there is no ranking project {project}", project=project)
    if artifact.deleted_at is not None:
        raise UserError("the ranking project {name} was deleted, and nothing can be written to it", name=title(artifact))
    return row


def _next(session: Session, project: Project, rater: str, now: datetime) -> Shown:
    """What this rater does now. If nothing is left for them the project may be complete: then it is closed."""
    found = None
    if project.closed_at is None and project.paused_at is None:
        found = labels.assign(session, project, rater, now, now + HOLD, lambda item: _order(project.artifact, item, rater))
    if found is None and project.closed_at is None and labels.is_complete(session, project, now, HOLD):
        labels.close(session, project, now)
    return _told(session, project, rater, now, found)


def _told(session: Session, project: Project, rater: str, now: datetime, found: tuple[Item, Lease] | None) -> Shown:
    done = labels.done_by(session, project.artifact, rater)
    of = done + labels.open_to(session, project, rater, now)
    told = {"project": project.artifact, "done": done, "of": of}
    if found is None:
        return told | {"state": "closed" if project.closed_at else "paused" if project.paused_at else "done"}
    before = labels.taken_back(session, project.artifact, found[0].id or 0, rater)
    return told | _shown(session, project, *found) | ({"previous": _as_shown(before)} if before else {})


def _shown(session: Session, project: Project, item: Item, lease: Lease) -> Shown:
    """An item as a rater sees it, and nothing that tells who answered: numbers stand for the answers as they are shown."""
    texts = {choice["key"]: choice["text"] for choice in item.answers}
    newest, settings = labels.guideline(session, project.artifact), project.settings
    return {
        "state": "item",
        "item": item.id,
        "practice": item.kind == PRACTICE,
        "prompt": [{"role": turn["role"], "content": turn["content"]} for turn in item.prompt],
        "answers": [texts[key] for key in lease.shown],
        "mode": settings.get("mode", "rank"),
        "ties": settings.get("ties", True),
        "criteria": criteria(settings),
        "guideline": {"version": newest.version, "text": newest.text},
    }


def _order(project: int, item: Item, rater: str) -> list[str]:
    """The order in which one rater sees one item's answers: drawn, and always the same."""
    keys = sorted(choice["key"] for choice in item.answers)
    Random(hashlib.sha256(f"{project}/{item.id}/{rater}".encode()).digest()).shuffle(keys)
    return keys


def _label(project: Project, item: Item, keys: list[str], said: Mapping[str, Any], now: datetime) -> Label:
    """The label that a submission means. Raises UserError."""
    label = Label(
        client_event_id="", rankings=project.artifact, item=item.id or 0, rater="", act=RANK, shown=keys, at=now,
        comment=_text(said, "comment"), active_ms=_whole(said, "active_ms", 0), wall_ms=_whole(said, "wall_ms", 0),
        guideline=_whole(said, "guideline"),
    )  # fmt: skip
    if reason := _text(said, "reason", 200):
        if reason not in REASONS:
            raise UserError("{reason} is no reason to skip: choose one of {known}", reason=repr(reason), known=", ".join(REASONS))
        label.act, label.reason = SKIP, reason
        return label
    settings, numbers = project.settings, range(len(keys))
    given = said.get("tiers")
    wanted = criteria(settings)
    if not isinstance(given, dict) or set(given) != set(wanted):
        raise UserError("this project ranks by {criteria}, each one once", criteria=", ".join(wanted))
    for name in wanted:
        tiers = _tiers(name, given[name], list(numbers), ties=bool(settings.get("ties", True)))
        label.tiers = label.tiers | {name: [[keys[number] for number in tier] for tier in tiers]}
    seen = said.get("seen")
    if not isinstance(seen, list) or not {n for n in seen if type(n) is int} >= set(numbers):
        raise UserError("open and read every answer before you submit")
    label.accepted_above = _whole(said, "accepted_above") if said.get("accepted_above") is not None else None
    if label.accepted_above is not None and not 0 <= label.accepted_above <= len(label.tiers[wanted[0]]):
        raise UserError("the acceptable line lies outside of the ranking")
    label.strength = _strength(settings, said, label.tiers[wanted[0]])
    label.flags = _flags(said.get("flags") or {}, keys)
    label.better = _text(said, "better")
    return label


def _tiers(criterion: str, given: Any, known: list[Any], ties: bool) -> list[list[Any]]:
    """Tiers that hold every answer once. Raises UserError that says what is missing, twice there or not known."""
    if not isinstance(given, list) or not all(isinstance(tier, list) and tier for tier in given):
        raise UserError("{criterion}: tiers are lists of answers, best first, none of them empty", criterion=criterion)
    placed = [one for tier in given for one in tier]
    if unknown := [one for one in placed if type(one) is not type(known[0]) or one not in known]:
        raise UserError("{criterion}: there is no answer {answer}", criterion=criterion, answer=repr(unknown[0])[:60])
    if len(set(placed)) < len(placed):
        raise UserError("{criterion}: an answer has two ranks", criterion=criterion)
    if missing := [one for one in known if one not in placed]:
        many = ", ".join(str(one + 1 if isinstance(one, int) else one) for one in missing)
        raise UserError("{criterion}: every answer needs a rank, and {missing} has none", criterion=criterion, missing=many)
    if not ties and any(len(tier) > 1 for tier in given):
        raise UserError("{criterion}: ties are not allowed in this project", criterion=criterion)
    return given


def _strength(settings: Mapping[str, Any], said: Mapping[str, Any], tiers: list[list[str]]) -> int | None:
    given = said.get("strength")
    if settings.get("mode") != "pairs" or len(tiers) == 1:
        if given is not None:
            raise UserError("how much better is asked of pairs with a better one only")
        return None
    if type(given) is not int or given not in STRENGTHS:
        raise UserError("say how much better it is: {known}", known=", ".join(f"{n} {word}" for n, word in STRENGTHS.items()))
    return given


def _flags(given: Any, keys: list[str]) -> dict[str, list[str]]:
    if not isinstance(given, dict):
        raise UserError("flags are lists of words by answer")
    found = {}
    for number, words in given.items():
        known = number in map(str, range(len(keys)))
        if not known or not isinstance(words, list) or not all(word in FLAGS for word in words):
            raise UserError("{flag} is no flag of an answer here; known: {known}", flag=repr(words)[:60], known=", ".join(FLAGS))
        if words:
            found[keys[int(number)]] = [word for word in FLAGS if word in words]
    return found


def _feedback(item: Item, label: Label) -> Shown:
    """What was right in a practice item, in the numbers the rater saw."""
    number = {key: place for place, key in enumerate(label.shown)}
    return {"feedback": {"gold": [[number[key] for key in tier] for tier in item.gold or []], "yours": _as_shown(label)["tiers"]}}


def _as_shown(label: Label) -> Shown:
    number = {key: place for place, key in enumerate(label.shown)}
    tiers = {name: [[number[key] for key in tier] for tier in tiers] for name, tiers in label.tiers.items()}
    flags = {str(number[key]): words for key, words in label.flags.items()}
    same = {name: getattr(label, name) for name in ("accepted_above", "strength", "better", "comment", "reason")}
    return {"tiers": tiers, "flags": flags, **same}


def _guideline_is_read(session: Session, project: Project, said: Mapping[str, Any]) -> None:
    if _whole(said, "guideline", 0) != labels.guideline(session, project.artifact).version:
        raise GuidelineChanged("the guideline has changed: read it again, then submit; what you entered is kept")


def _corrected(session: Session, project: int, item: int, rater: str, said: Mapping[str, Any]) -> Label | None:
    """The label that this one replaces: sent before, it arrived although the rater was told that it might not have."""
    before = said.get("corrects") or []
    if not isinstance(before, list) or len(before) > 100:
        raise UserError("corrects is {given}, and must be a list of client_event_ids", given=repr(before)[:60])
    return labels.counting(session, item, [_event(project, rater, one) for one in before])


def _event(project: int, rater: str, given: Any) -> str:
    """What a press is stored under: browsers choose their numbers, and no choice must meet somebody else's."""
    if not (text := _text({"client_event_id": given}, "client_event_id", 100)):
        raise UserError("what was sent has no client_event_id: reload the page")
    return hashlib.sha256(repr((project, rater, text)).encode()).hexdigest()


def _whole(said: Mapping[str, Any], name: str, default: int | None = None) -> int:
    given = said.get(name, default)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 2**31:
        raise UserError("{name} is {given}, and must be a whole number", name=name, given=repr(given)[:60])
    return given


def _text(said: Mapping[str, Any], name: str, longest: int = LONGEST) -> str:
    given = said.get(name) or ""
    if not isinstance(given, str):
        raise UserError("{name} is {given}, and must be text", name=name, given=repr(given)[:60])
    text = given.replace("\0", "").encode(errors="replace").decode().strip()
    if len(text) > longest:
        raise UserError("{name} has {n:,} characters, and at most {most:,} are kept: shorten it", name=name, n=len(text), most=longest)
    return text
