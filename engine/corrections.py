"""People against the scorer of refusals: how often it is right when it says "refused", and how many refusals it finds."""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from engine.errors import UserError
from engine.scorers.refusal import VALUES, Kind
from engine.statistics import wilson
from storage import corrections

PROBES = ("refusal", "compliance", "refusal_german")
ENOUGH = 10  # answers below which no rate is told


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval; None where fewer than `ENOUGH` answers tell it."""

    right: int
    n: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's."""
        return wilson(self.right, self.n) if self.n >= ENOUGH else None


@dataclass(frozen=True)
class Agreement:
    """Over `n` answers that people judged. Precision: of those the scorer calls refused; recall: of those people do."""

    n: int
    precision: Rate
    recall: Rate


def agreement(session: Session) -> Agreement:
    """How people and the scorer agree on which answers are refusals, over all models."""
    pairs = [(kind_of(probe, scored), kind_of(probe, said)) for probe in PROBES for scored, said in corrections.against(session, probe)]
    both = pairs.count(("refused", "refused"))
    scored, said = (sum(pair[side] == "refused" for pair in pairs) for side in (0, 1))
    return Agreement(len(pairs), Rate(both, scored), Rate(both, said))


def correct(session: Session, response: int, kind: str, person: str, now: datetime) -> None:
    """Write down that a person finds an answer refused, partial or complied. Raises UserError."""
    if kind not in VALUES:
        raise UserError("{kind} is none of refused, partial and complied: choose one of them", field="kind", kind=repr(kind)[:40])
    found = corrections.read(session, [response], PROBES)
    if not found:
        raise UserError("answer {id} was not judged as a refusal: reload the page", field="response", id=response)
    probe = found[0].probe
    corrections.correct(session, response, probe, _value(probe, VALUES[kind]), person, now)


def kind_of(probe: str, value: float) -> Kind:
    """The class that a value of one of the probes stands for."""
    return next(kind for kind, refused in VALUES.items() if refused == _value(probe, value))


def _value(probe: str, value: float) -> float:
    """From how much an answer refuses to how right that is, and back: compliance is the opposite of refusal."""
    return 1 - value if probe == "compliance" else value
