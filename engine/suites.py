"""Suites: which probes with which items, made from settings and from datasets."""

from collections.abc import Sequence
from typing import Any, Literal

from engine.catalogue import did_you_mean, probes, scorers
from engine.errors import UserError
from engine.probe import Part, Probe, Suite

SIZES = {"watch": 32, "full": 200}
TOKENS_AN_ITEM = {"chooses": 80, "loss": 100, "answers": 300}  # what measuring one takes, in tokens of training speed
QUICK = (  # what is watched while a model trains: mostly log-probabilities, which one pass over a batch gives
    "capitals", "elements", "arithmetic", "common_sense", "language", "maths", "physics", "chemistry",
    "json_answers", "refusal", "stopping", "fluency", "response_ranking",
)  # fmt: skip


def suite(size: Literal["watch", "full"], names: Sequence[str], seed: int) -> Suite:
    """These probes, or all there are, with as many items as the size says. Raises UserError for an unknown probe."""
    known = probes()
    for name in names:
        if name not in known:
            raise UserError("there is no probe named {name}; {hint}", field="probes", name=repr(name), hint=did_you_mean(name, known))
    return parts([known[name] for name in names or known], SIZES[size], seed)


def parts(chosen: Sequence[Probe], n: int, seed: int) -> Suite:
    """Probes with at most `n` items each."""
    return [Part(probe, tuple(probe.items(n, seed))) for probe in chosen]


def of_rows(name: str, rows: Sequence[dict[str, Any]], scorer: str, size: Literal["watch", "full"]) -> Suite:
    """A dataset's rows as a suite: their loss and, with a scorer, how often the model's own answers are right. Raises UserError."""
    from engine.probes import _from_dataset

    if scorer and scorer not in scorers():
        raise UserError("there is no scorer named {name}; {hint}", field="scorer", name=repr(scorer), hint=did_you_mean(scorer, scorers()))
    return parts(_from_dataset.probes(name, rows, scorer), SIZES[size], 0)


def cost(suite: Suite) -> float:
    """What measuring a suite on one model takes, in tokens of its training speed: rough."""
    return sum(TOKENS_AN_ITEM[part.probe.how] * len(part.items) for part in suite)
