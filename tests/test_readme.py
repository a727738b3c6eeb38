"""The README is true: its commands, files, pictures and figures exist."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from engine.__main__ import app
from engine.catalogue import recipes, stages

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CODE = "\n".join(re.findall(r"```\n(.*?)```", README, re.S))


def test_every_make_verb_exists() -> None:
    verbs = set(re.findall(r"\bmake (?!git)([a-z][a-z-]*)", CODE + " ".join(re.findall(r"`(make [^`]+)`", README))))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"run", "test"} <= verbs <= targets


def test_every_command_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    used = set(re.findall(r"\bdianjing ([a-z]+)", CODE))
    assert used
    assert used <= known


def test_every_stage_and_recipe_it_runs_exists() -> None:
    assert set(re.findall(r"dianjing run ([a-z_]+)", README)) <= {*stages(), *recipes()}


@pytest.mark.parametrize("path", re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README))
def test_every_picture_exists(path: str) -> None:
    assert (ROOT / path).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", [one or two for one, two in re.findall(r"`([a-z_/.]+/[a-z_.]*)`|^([a-z]+/) ", README, re.M)])
def test_every_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_two_commands_come_first() -> None:
    assert re.findall(r"^make (\w+)", CODE, re.M)[:2] == ["run", "test"]
