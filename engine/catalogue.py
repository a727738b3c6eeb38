"""Finds stages and recipes: the files in their folders, and entry points of installed packages, through one door.

A file whose name starts with an underscore is a helper. An extension that does not load is reported and left out; it
never takes the rest down.
"""

import difflib
import importlib
import logging
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import TypeVar

import engine.recipes
import engine.stages
from engine.errors import UserError
from engine.stage import Form, Recipe, Stage

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Form)


@cache
def stages() -> dict[str, type[Stage]]:
    """Every stage by name."""
    return _found(engine.stages, "dianjing.stages", Stage)


@cache
def recipes() -> dict[str, type[Recipe]]:
    """Every recipe by name."""
    return _found(engine.recipes, "dianjing.recipes", Recipe)


def find(name: str) -> type[Form]:
    """The stage or recipe of this name. Raises UserError that names the nearest ones."""
    known: dict[str, type[Form]] = {**stages(), **recipes()}
    if name not in known:
        raise UserError("there is no stage or recipe named {name}; {hint}", name=repr(name), hint=did_you_mean(name, known))
    return known[name]


def did_you_mean(word: str, known: object) -> str:
    """A hint for a word that is not among the known ones."""
    words = [str(k) for k in known]  # type: ignore[attr-defined]
    near = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(words)[:20]) or 'none'}"


def _found(package: ModuleType, group: str, base: type[F]) -> dict[str, type[F]]:
    found: dict[str, type[F]] = {}
    for info in _files(package):
        _add(found, info.name, base)
    for entry in entry_points(group=group):
        try:
            _add(found, entry.module, base)
        except Exception as error:  # noqa: BLE001  (somebody else's code)
            log.warning("the extension %s does not load and is left out: %s", entry.value, error)
    return found


def _add(found: dict[str, type[F]], module: str, base: type[F]) -> None:
    for item in vars(importlib.import_module(module)).values():
        if isinstance(item, type) and issubclass(item, base) and item.__module__ == module:
            if item.name() in found:
                raise RuntimeError(f"two files are named {item.name()}: {found[item.name()].__module__} and {module}")
            found[item.name()] = item


def _files(package: ModuleType) -> list[pkgutil.ModuleInfo]:
    infos = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return [info for info in infos if not info.ispkg and not info.name.rsplit(".", 1)[-1].startswith("_")]
