"""Who may import whom, how long a module may be, and what the database handle is called: read from the syntax tree."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path.relative_to(ROOT) for folder in ("app", "engine", "storage") for path in (ROOT / folder).rglob("*.py"))
HEAVY = {"torch", "transformers", "trl", "peft"}
# What no file below a folder may import, anywhere; and what it may not import at module level.
NEVER: dict[str, set[str]] = {
    "storage": {"app", "engine"},
    "engine": {"app", "gradio"},
    "engine/__main__.py": set(),  # the command puts the parts together
    "engine/stages": {"storage"},
    "engine/recipes": {"storage"},
    "engine/scorers": {"storage"},
    "engine/probes": {"storage"},
    "engine/training": {"storage"},
    "app": HEAVY,
}
NOT_AT_ONCE: dict[str, set[str]] = {
    "app": {"engine.training"},
    "engine": HEAVY | {"datasets", "accelerate", "scipy", "engine.training"},
    "engine/training": set(),
}


def imported(nodes) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def forbidden(rules: dict[str, set[str]], path: Path) -> set[str]:
    """All that the rules of the folders above this file forbid; an empty set lifts what outer folders say."""
    found: set[str] = set()
    for folder, names in rules.items():
        if path.is_relative_to(folder):
            found = found | names if names else set()
    return found


def breaches(names: set[str], banned: set[str]) -> set[str]:
    return {name for name in names for ban in banned if name == ban or name.startswith(ban + ".")}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_module_keeps_the_rules(path):
    text = (ROOT / path).read_text()
    tree = ast.parse(text)
    assert not breaches(imported(ast.walk(tree)), forbidden(NEVER, path))
    assert not breaches(imported(tree.body), forbidden(NOT_AT_ONCE, path)), "import it inside the function that needs it"
    assert len([line for line in text.splitlines() if line.strip()]) <= 300
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert "engine" not in arguments | assigned, "the SQLAlchemy handle is called `database`"


def test_the_rules_bite():
    tree = ast.parse("import torch\nfrom engine import training\ndef f():\n    import gradio.themes")
    assert breaches(imported(ast.walk(tree)), forbidden(NEVER, Path("engine/stages/train/x.py"))) == {"gradio.themes"}
    assert breaches(imported(tree.body), forbidden(NOT_AT_ONCE, Path("engine/x.py"))) == {"torch", "engine.training"}
    assert not forbidden(NOT_AT_ONCE, Path("engine/training/x.py"))
