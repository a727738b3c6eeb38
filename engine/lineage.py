"""What made an artifact, and what made that: plain data, for a model's card and for anybody who asks why."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from storage import queries
from storage.tables import Artifact, Run, Score


@dataclass(frozen=True)
class Measured:
    """One probe of one suite, over the items that gave a value."""

    suite_hash: str
    probe: str
    n: int
    mean: float
    rate: bool  # every item was right (1) or wrong (0)


@dataclass(frozen=True)
class Ancestor:
    """One artifact of a lineage and how it was made. A deleted one still says what it was."""

    id: int
    kind: str
    name: str
    stage: str  # "" when no run made it
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)  # field of the stage -> artifact
    summary: dict[str, Any] = field(default_factory=dict)
    scores: tuple[Measured, ...] = ()
    deleted: bool = False


def lineage(session: Session, artifact: int) -> list[Ancestor]:
    """An artifact and all it was made from, each once, causes before effects: the last one is the artifact itself."""
    told: dict[int, Ancestor] = {}
    open_: list[tuple[Artifact, bool]] = [(session.get_one(Artifact, artifact), False)]
    while open_:
        row, causes_told = open_.pop()
        if row.id in told or row.id is None:
            continue
        used = queries.consumed_by(session, row.made_by) if row.made_by else []
        if not causes_told:
            open_ += [(row, True), *((cause, False) for _, cause in reversed(used))]
            continue
        run = session.get(Run, row.made_by) if row.made_by else None
        stage, settings = (run.stage, dict(run.settings)) if run else ("", {})
        inputs = {name: cause.id or 0 for name, cause in used}
        summary, deleted = dict(row.summary), row.deleted_at is not None
        told[row.id] = Ancestor(row.id, row.kind, row.name, stage, settings, inputs, summary, _scores(session, row.id), deleted)
    return list(told.values())


def _scores(session: Session, artifact: int) -> tuple[Measured, ...]:
    """The mean of each probe at the last step it was measured at; an item measured twice there counts as it was last."""
    query = select(Score).where(Score.artifact == artifact, col(Score.value).is_not(None)).order_by(col(Score.id))
    steps: dict[tuple[str, str], dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in session.exec(query):
        steps[row.suite_hash, row.probe][row.step][row.item_key] = row.value or 0.0
    last = {name: list(by_step[max(by_step)].values()) for name, by_step in sorted(steps.items())}
    return tuple(
        Measured(suite, probe, len(values), sum(values) / len(values), set(values) <= {0.0, 1.0}) for (suite, probe), values in last.items()
    )
