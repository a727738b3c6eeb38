"""Everything a person reads passes through `say`, and reads well."""

import ast
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import Session

from app import wording
from app.pages import Place, library, report, run_list
from app.pages import home as home_page
from engine.errors import UserError

APP = Path(wording.__file__).parent
FILES = sorted(APP.rglob("*.py"))
# Calls whose text arguments a person sees, and named arguments that are seen wherever they stand.
SHOWING = {"h", "link", "problem", "empty", "table", "missing", "state", "Button", "Accordion", "Markdown", "UploadButton", "route"}
SEEN = {"label", "info", "placeholder", "title", "aria_label", "confirm", "alt", "main_page_name", "value"}
NAME = "Dianjing"
WORDS = re.compile(r"[A-Za-z]+ [A-Za-z]{2,}|^[A-Z]?[a-z]{2,}[.?!:]?$")


def unsaid(tree: ast.AST) -> list[str]:
    """Literals that are shown to people and do not pass through `say`."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in SHOWING:
                found += [text for place, one in enumerate(node.args) for text in literals(one) if name != "h" or place]
            found += [text for keyword in node.keywords if keyword.arg in SEEN for text in literals(keyword.value)]
    return [text for text in found if WORDS.search(text.strip()) and text.strip() not in (NAME,)]


def literals(node: ast.AST) -> list[str]:
    """The text that this expression may put on the screen as it stands: not what is said, asked of or named by it."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) and not node.value.startswith(("/", "?", "#")) else []
    if isinstance(node, ast.JoinedStr):
        whole = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        return [] if whole.startswith(("/", "?", "#")) else [whole.replace("{}", " ")]
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in literals(value)]
    if isinstance(node, ast.List | ast.Tuple):
        return [text for value in node.elts for text in literals(value)]
    if isinstance(node, ast.Starred | ast.Await):
        return literals(node.value)
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(APP)))
def test_what_people_read_passes_through_say(path: Path) -> None:
    assert unsaid(ast.parse(path.read_text())) == []


def test_the_search_finds_what_is_not_said() -> None:
    def found(code: str) -> list[str]:
        return unsaid(ast.parse(code))

    assert found('h("p", "All runs")') == ["All runs"]
    assert found('h("p", h("b", "Stop"))') == ["Stop"]
    assert found('gr.Button("Start")') == ["Start"]
    assert found('h("p", f"{n} of {m} runs done")') != []
    assert found('h("input", placeholder="a note")') == ["a note"]
    assert found('h("p", say("All runs"), f"{n} · {m}", class_="row between", href="/runs")') == []


class Shouted(dict[str, str]):
    """A language in which everything said stands in brackets: what is not said stands out."""

    def get(self, text: str, default: str = "") -> str:  # type: ignore[override]
        return f"[{text}]"


@pytest.fixture
def shouting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wording, "_catalogue", Shouted)


@pytest.fixture
def german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A catalogue with one entry."""
    (tmp_path / "de.json").write_text(json.dumps({"there is no run {run}": "Lauf {run} fehlt"}))
    monkeypatch.setattr(wording, "WORDS", tmp_path)
    monkeypatch.setenv("DIANJING_LANGUAGE", "de")
    wording._catalogue.cache_clear()
    yield
    wording._catalogue.cache_clear()


def texts(node: object) -> list[str]:
    """Every text of a tree."""
    if isinstance(node, str):
        return [node]
    if isinstance(node, list):
        return [text for child in node for text in texts(child)]
    return [text for child in node["c"] for text in texts(child)]  # type: ignore[index]


def test_another_language_reaches_every_page(shouting, database, home) -> None:
    place = Place(database, home)
    with Session(database) as session:
        trees = [
            library.tree(place, {"artifact": None, "kind": "", "words": "", "start": 0}),
            library.tree(place, {"artifact": 7, "kind": "", "words": "", "start": 0}),
            report.parts(place, None, "all", 0)[0],
            report.parts(place, 7, "all", 0)[0],
            run_list.tree(session, {"filter": {"status": "", "words": ""}}),
        ]
    for tree in trees:
        told = [text for text in texts(tree) if re.search(r"[A-Za-z]{2,}", text)]
        assert told
        assert [text for text in told if "[" not in text] == []
    assert any("[Begin something]" in text for text in texts(home_page.tree(place)))


def test_a_language_says_what_it_has_and_the_rest_stays_english(german) -> None:
    assert wording.error(UserError("there is no run {run}", run=7)) == "Lauf 7 fehlt"
    assert wording.say("Never said anywhere {n}", n=3) == "Never said anywhere 3"


def test_braces_in_values_are_only_values() -> None:
    assert wording.error(UserError("there is no file {path}", path="{0}{x.y}")) == "There is no file {0}{x.y}"
    assert wording.say("{0} literal, nothing given") == "{0} literal, nothing given"


@pytest.mark.parametrize(
    "seconds, told", [(0.42, "0.4 s"), (59.4, "59 s"), (59.6, "1 min"), (70, "1 min 10 s"), (3599.9, "1 h"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, told: str) -> None:
    assert wording.duration(seconds) == told


@pytest.mark.parametrize("amount, told", [(0, "0 B"), (999, "999 B"), (268_000_000, "268 MB"), (1_500_000_000, "1.5 GB")])
def test_sizes(amount: float, told: str) -> None:
    assert wording.size(amount) == told


def test_times() -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert wording.ago(now - timedelta(seconds=3), now) == "just now"
    assert wording.ago(now - timedelta(minutes=5), now) == "5 min ago"
    assert wording.ago(now - timedelta(hours=3), now) == "3 h ago"
    assert wording.ago(now - timedelta(days=3), now).startswith("2026-11-20")


def test_numbers_have_no_needless_digits() -> None:
    told = {0.1 + 0.2: "0.3", 2e-5: "2e-05", 134515008: "134,515,008", None: "empty", "x": "x", (1, 0.5): "1, 0.5"}
    assert {value: wording.number(value) for value in told} == told
    assert wording.number(True) == "yes"
