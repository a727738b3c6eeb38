"""Rankings as stages and pages read them: what was asked, and what people or a judge said of it.

A ranking project is an artifact of kind rankings; so is what a judge makes of one: labels of its own on the same items.
Answers have keys that say nothing of who gave them; tiers are lists of keys, best first.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, select

from engine.errors import UserError
from engine.masking import names_in
from storage import labels as stored
from storage.tables import Artifact, Item, Label, Project

if TYPE_CHECKING:
    from engine.counting import Ranking

Tiers = tuple[tuple[str, ...], ...]
OVERALL = "overall"  # the criterion of a project that has no others
STRENGTHS = {1: "negligibly", 2: "slightly", 3: "clearly", 4: "significantly"}  # how much better one of two answers is
FLAGS = ("factual error", "unsafe", "ignores the instruction", "bad format")
REASONS = ("unclear prompt", "unsafe", "cannot judge", "broken answer")  # for skipping
FEWEST, MOST = 2, 9  # answers of an item
UNNAMED = "Rankings of "  # how the name of a project begins that its owner gave none: what follows names the answers


@dataclass(frozen=True)
class Choice:
    """One of the answers to be ranked. `by`: who gave it, by name; `original`: what they said, where `text` has a name masked."""

    key: str
    text: str
    by: str
    original: str = ""

    @property
    def said(self) -> str:
        """What a model learns from: never a mask."""
        return self.original or self.text


@dataclass(frozen=True)
class Asked:
    """One item of a project. `gold`: the tiers that are right; `of`: the item it repeats; `wanted`: raters, 0 for everybody."""

    id: int
    kind: str
    prompt_key: str
    prompt: list[dict[str, Any]]
    choices: tuple[Choice, ...]
    wanted: int = 1
    gold: Tiers | None = None
    of: int | None = None


@dataclass(frozen=True)
class Said:
    """One label. `tiers` by criterion; `accepted_above`: so many tiers of the first criterion are acceptable, None if not said."""

    item: int
    rater: str
    act: str = stored.RANK
    tiers: Mapping[str, Tiers] = field(default_factory=dict)
    accepted_above: int | None = None
    strength: int | None = None
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    better: str = ""
    comment: str = ""
    reason: str = ""
    shown: tuple[str, ...] = ()
    active_ms: int = 0
    guideline: int = 0
    extra: bool = False
    id: int = 0


@dataclass(frozen=True)
class Rankings:
    """A project, or what a judge made of it, with its current labels; `settled`: what an owner decided, by item."""

    project: int
    settings: dict[str, Any]
    guideline: str
    guideline_version: int
    items: dict[int, Asked]
    said: list[Said]
    settled: dict[int, Said]

    @property
    def criteria(self) -> list[str]:
        """What is ranked by, the first one first."""
        return criteria(self.settings)

    def ranked(self, criterion: str = "", kinds: Sequence[str] = (stored.NORMAL, stored.REPEAT)) -> "list[Ranking]":
        """What was ranked by a criterion (the first one, unless named), for engine.agreement and engine.strengths; skips left out."""
        from engine.counting import Ranking

        name, found = criterion or self.criteria[0], []
        for one in self.said:
            item = self.items[one.item]
            if item.kind in kinds and one.tiers.get(name):
                lengths = {choice.key: len(choice.text) for choice in item.choices}
                found.append(Ranking(one.item, one.rater, one.tiers[name], one.shown, lengths, item.of))
        return found


def key_of(text: str) -> str:
    """The key of an answer, made from its text, so that it says nothing of who gave it."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def criteria(settings: Mapping[str, Any]) -> list[str]:
    """The criteria of a project with these settings."""
    return list(settings.get("criteria") or [OVERALL])


def title(artifact: Artifact) -> str:
    """What raters know a project by: the name its owner gave it, unless that could tell whose answers they see."""
    by = [str(name) for name in artifact.summary.get("by", [])]
    whole = artifact.name.startswith(UNNAMED) or any(name.lower() in artifact.name.lower() for name in by)
    telling = whole or names_in(artifact.name, by, [])
    return f"Project {artifact.id}" if telling else artifact.name


def read(session: Session, rankings: int) -> Rankings:
    """All of a project or of a judge's labels. Raises UserError if the artifact is none or its project is gone."""
    project = project_of(session, rankings)
    newest = stored.guideline(session, project.artifact)
    items = {item.id or 0: as_asked(item) for item in stored.items(session, project.artifact)}
    acts = (stored.RANK, stored.SKIP, stored.SETTLE)  # a judge is tested on another project's items too: those are not told here
    said = [as_said(label) for label in stored.labels(session, rankings, acts) if label.item in items]
    return Rankings(
        project.artifact,
        dict(project.settings),
        newest.text,
        newest.version,
        items,
        [one for one in said if one.act != stored.SETTLE],
        {one.item: one for one in said if one.act == stored.SETTLE},
    )


def project_of(session: Session, rankings: int) -> Project:
    """The project whose items these rankings rank. Raises UserError."""
    row = session.get(Artifact, rankings)
    if row is None or row.kind != "rankings":
        raise UserError("there are no rankings {rankings}", rankings=rankings)
    project = session.get(Project, row.summary.get("project", rankings))
    if project is None or row.deleted_at is not None:
        raise UserError("the rankings {name} are not there any more", name=row.name)
    return project


def open_project(
    session: Session, artifact: int, settings: dict[str, Any], guideline: str, items: Sequence[Asked], now: datetime
) -> None:
    """Write a project, unless it is there already. Without raters it is closed from the start."""
    if session.get(Project, artifact):
        return
    rows = [
        Item(
            project=artifact, position=place, kind=item.kind, prompt_key=item.prompt_key, prompt=item.prompt,
            wanted=item.wanted, of=item.of, answers=[asdict(one) for one in item.choices],
            gold=None if item.gold is None else [list(tier) for tier in item.gold],
        )
        for place, item in enumerate(items)
    ]  # fmt: skip
    project = stored.open_project(session, artifact, settings, guideline, rows, now)
    by = sorted({choice.by for item in items for choice in item.choices})
    session.get_one(Artifact, artifact).summary = {"by": by}  # known before the run ends: it tells what the title may not say
    if not settings.get("raters", 1):
        project.closed_at = now


def write(session: Session, rankings: int, said: Iterable[Said], now: datetime) -> None:
    """Write labels that no person gives here. One for each rater and item: those that are there already stay as they are."""
    there = set(session.exec(select(Label.rater, Label.item).where(Label.rankings == rankings)))
    for one in said:
        if (one.rater, one.item) not in there:
            plain = {name: getattr(one, name) for name in Said.__dataclass_fields__ if name not in ("id", "tiers", "shown", "flags")}
            tiers = {criterion: [list(tier) for tier in tiers] for criterion, tiers in one.tiers.items()}
            event = f"{rankings}/{one.item}/{one.rater}" + (f"/{one.act}" if one.act == stored.SETTLE else "")
            session.add(
                Label(**plain, tiers=tiers, shown=list(one.shown), flags=dict(one.flags), rankings=rankings, client_event_id=event, at=now)
            )


def written(session: Session, rankings: int) -> list[Said]:
    """What `write` wrote of rankings, on whatever items."""
    return [as_said(label) for label in stored.labels(session, rankings)]


def as_asked(item: Item) -> Asked:
    """An item's row."""
    choices = tuple(Choice(**choice) for choice in item.answers)
    return Asked(item.id or 0, item.kind, item.prompt_key, item.prompt, choices, item.wanted, as_tiers(item.gold), item.of)


def as_said(label: Label) -> Said:
    """A label's row."""
    same = {name: getattr(label, name) for name in Said.__dataclass_fields__ if name not in ("tiers", "shown", "id")}
    tiers = {criterion: as_tiers(one) or () for criterion, one in label.tiers.items()}
    return Said(**same, tiers=tiers, shown=tuple(label.shown), id=label.id or 0)


def as_tiers(plain: Sequence[Sequence[str]] | None) -> Tiers | None:
    """Tiers as JSON has them, as tuples."""
    return None if plain is None else tuple(tuple(tier) for tier in plain)
