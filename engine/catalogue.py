"""Finds stages, recipes, scorers and probes: the files in their folders, and entry points of installed packages, through one door.

A file whose name starts with an underscore is a helper. An extension that does not load is reported and left out; it
never takes the rest down.
"""

import difflib
import importlib
import logging
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import engine.probes
import engine.recipes
import engine.scorers
import engine.stages
from engine.errors import UserError
from engine.probe import Probe, source_version
from engine.stage import Form, Recipe, Stage

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Form)
T = TypeVar("T")
PROBE_CARDS = Path(__file__).parent.parent / "assets" / "probes"


@cache
def stages() -> dict[str, type[Stage]]:
    """Every stage by name."""
    return _found(engine.stages, "dianjing.stages", Stage)


@cache
def recipes() -> dict[str, type[Recipe]]:
    """Every recipe by name."""
    return _found(engine.recipes, "dianjing.recipes", Recipe)


@dataclass(frozen=True)
class Scorer:
    """One function (prompt, answer, reference) -> float, nan where it does not apply; alike a metric, a reward and a judge.

    `reference` says what it compares with, "" if with nothing. `rate`: it says right (1) or wrong (0), not how much.
    """

    name: str
    title: str
    summary: str
    score: Callable[[list[dict[str, Any]], str, Sequence[str]], float]
    reference: str
    rate: bool


@cache
def scorers() -> dict[str, Scorer]:
    """Every scorer by name."""
    found: dict[str, Scorer] = {}

    def take(module: ModuleType) -> None:
        name, title, summary = _words(module)
        told = getattr(module, "REFERENCE", ""), getattr(module, "RATE", True)
        _add(found, name, module.__name__, Scorer(name, title, summary, module.score, *told))

    _each_module(engine.scorers, "dianjing.scorers", take)
    return found


@cache
def probes() -> dict[str, Probe]:
    """Every probe by name; those made of a dataset come from `engine.suites`."""
    found: dict[str, Probe] = {}

    def take(module: ModuleType) -> None:
        name, title, summary = _words(module)
        told = getattr(module, "score", None), getattr(module, "FLOOR", None), getattr(module, "MAX_NEW_TOKENS", 64)
        probe = Probe(name, title, summary, module.HOW, module.GROUP, module.items, *told, version=source_version(module))
        _add(found, name, module.__name__, probe)

    _each_module(engine.probes, "dianjing.probes", take)
    return found


def probe_card(name: str) -> str:
    """What is known of a probe, in markdown: its card, or its summary where it came without one. Raises UserError for an unknown probe."""
    known = probes()
    if name not in known:
        raise UserError("there is no probe named {name}; {hint}", name=repr(name), hint=did_you_mean(name, known))
    card = PROBE_CARDS / f"{name}.md"
    return card.read_text(encoding="utf-8") if card.exists() else f"# {known[name].title}\n\n{known[name].summary}\n"


def find(name: str) -> type[Form]:
    """The stage or recipe of this name. Raises UserError that names the nearest ones."""
    known: dict[str, type[Form]] = {**stages(), **recipes()}
    if name not in known:
        raise UserError("there is no stage or recipe named {name}; {hint}", name=repr(name), hint=did_you_mean(name, known))
    return known[name]


def is_rate(probe: str) -> bool:
    """Whether a probe that is known by its name only says right or wrong, rather than how much."""
    known = probes().get(probe)
    return known.rate if known else not probe.endswith(": loss") and not probe.startswith("KL from ")


def did_you_mean(word: str, known: object) -> str:
    """A hint for a word that is not among the known ones."""
    words = [str(k) for k in known]  # type: ignore[attr-defined]
    near = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(words)[:20]) or 'none'}"


def _words(module: ModuleType) -> tuple[str, str, str]:
    """Its name, and title and summary from its docstring."""
    name = module.__name__.rsplit(".", 1)[-1]
    title, _, rest = " ".join((module.__doc__ or name).split()).partition(":")
    return name, title, (rest or title).strip()


def _found(package: ModuleType, group: str, base: type[F]) -> dict[str, type[F]]:
    found: dict[str, type[F]] = {}

    def take(module: ModuleType) -> None:
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, base) and item.__module__ == module.__name__:
                _add(found, item.name(), module.__name__, item)

    _each_module(package, group, take)
    return found


def _each_module(package: ModuleType, group: str, take: Callable[[ModuleType], None]) -> None:
    for info in _files(package):
        take(importlib.import_module(info.name))
    for entry in entry_points(group=group):
        try:
            take(importlib.import_module(entry.module))
        except Exception as error:  # noqa: BLE001  (somebody else's code)
            log.warning("the extension %s does not load and is left out: %s", entry.value, error)


def _add(found: dict[str, T], name: str, module: str, item: T) -> None:
    if name in found:
        raise RuntimeError(f"two files are named {name}: the other one is {module}")
    found[name] = item


def _files(package: ModuleType) -> list[pkgutil.ModuleInfo]:
    infos = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return [info for info in infos if not info.ispkg and not info.name.rsplit(".", 1)[-1].startswith("_")]
