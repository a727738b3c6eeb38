"""Which lines a chart has and how they look. Pure functions."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.wording import say

# Okabe and Ito's colours without yellow and black, told apart by marker and dash too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star")
DASHES = ("solid", "dash", "dot")  # from the seventh line on
MAIN = ("loss", "eval_loss")
TITLES = {
    "loss": "Loss",
    "eval_loss": "Held-out loss",
    "learning_rate": "Learning rate",
    "tokens_per_second": "Tokens a second",
    "memory_gb": "Memory (GB)",
    "grad_norm": "Gradient norm",
}


@dataclass(frozen=True)
class Line:
    """One line: the series it draws, its name, its panel (0 is the top one), and its look."""

    series: str
    label: str
    panel: int
    colour: str
    marker: str
    sparse: bool  # few points, each worth a marker
    dash: str = DASHES[0]


def of_run(names: Iterable[str], main: bool) -> list[Line]:
    """A run's lines: losses together on top, or everything else, one panel each."""
    chosen = [name for name in MAIN if name in set(names)] if main else sorted(set(names) - set(MAIN))
    return [
        Line(name, title(name), 0 if main else place, COLOURS[place % 6], MARKERS[place % 6], name == "eval_loss")
        for place, name in enumerate(chosen)
    ]


def overlay(runs: list[tuple[int, str]], name: str) -> list[Line]:
    """The same metric of several runs."""
    return [
        Line(f"{run}/{name}", f"{run} {label}", 0, COLOURS[place % 6], MARKERS[place % 6], name == "eval_loss", DASHES[place // 6 % 3])
        for place, (run, label) in enumerate(runs)
    ]


def title(name: str) -> str:
    """A metric's name for people."""
    return say(TITLES.get(name) or name.replace("_", " ").capitalize())
