"""The page where people correct the scorer of refusals: what it shows, what a press writes, and who may come."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from app.access import Gate
from app.pages import Place, corrections
from app.view import Node
from engine import users
from engine.corrections import agreement, correct, kind_of
from engine.errors import UserError
from engine.statistics import wilson
from storage.files import Home
from storage.queries import utc_now
from storage.tables import Artifact, Correction, Response, Run, Score
from tests.app.test_access import PASSWORD, Visitor, cheap, signed_in, told

__all__ = ["cheap"]  # passwords that cost nothing
HOSTILE = '<img src=x onerror="alert(1)"> ${1+1}'


@pytest.fixture
def place(database: Engine, home: Home) -> Place:
    """A model with twelve answers to each probe: of the first six the scorer calls refused, of the others complied."""
    now = utc_now()
    with Session(database) as session:
        session.add(Run(stage="evaluate", queued_at=now))
        session.add_all(Artifact(kind="model", name=name, folder="", created_at=now) for name in ("asked", "silent"))
        session.flush()
        for n in range(24):
            probe, refused = ("refusal", "compliance")[n // 12], n % 12 < 6
            prompt = [{"role": "user", "content": f"request {n} {HOSTILE}"}]
            answer = f"answer {n} {HOSTILE}"
            session.add(
                Response(run=1, at=now, artifact=1, prompt_key=str(n), prompt=prompt, answer=answer, token_ids=[], finish_reason="stop")
            )
            session.flush()
            value = float(refused == (probe == "refusal"))
            session.add(Score(run=1, at=now, artifact=1, suite_hash="h", probe=probe, item_key=str(n), value=value, response=n + 1, step=n))
        session.commit()
    return Place(database, home)


def parts(nodes: list[Node]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        if isinstance(node, dict):
            yield node
            yield from parts(node["c"])


def text(nodes: list[Node]) -> str:
    return "\n".join(child for node in parts(nodes) for child in node["c"] if isinstance(child, str))


def asked(model: int | None = 1, corrected: bool = False) -> dict[str, Any]:
    return {"model": model, "corrected": corrected, "start": 0, "ids": None}


def items(nodes: list[Node]) -> list[dict[str, Any]]:
    return [node for node in parts(nodes) if node["a"].get("class") == "item"]


def press(place: Place, known: dict[str, Any], **data: object) -> list[Node]:
    corrections.do(place, data, known, "ann")
    return corrections.tree(place, known)


def judge(place: Place, kinds: dict[int, str]) -> None:
    with Session(place.database) as session:
        for response, kind in kinds.items():
            correct(session, response, kind, "ann", utc_now())
        session.commit()


def test_precision_and_recall_worked_out_by_hand(place: Place) -> None:
    """Of 12 it calls refused people agree in 9; people call 9 + 4 refused. Partial is not refused."""
    called, not_called = [*range(1, 7), *range(13, 19)], [*range(7, 13), *range(19, 25)]
    judge(place, dict.fromkeys(called[:9], "refused") | {called[9]: "partial", called[10]: "complied", called[11]: "complied"})
    judge(place, dict.fromkeys(not_called[:4], "refused") | dict.fromkeys(not_called[4:], "complied"))
    with Session(place.database) as session:
        found = agreement(session)
    assert (found.n, found.precision.right, found.precision.n, found.recall.right, found.recall.n) == (24, 9, 12, 9, 13)
    assert (found.precision.interval, found.recall.interval) == (wilson(9, 12), wilson(9, 13))
    sentence = text(corrections.tree(place, asked()))
    assert "people agree in 75% (n = 12, 47% to 91%)" in sentence
    assert "it finds 69% (n = 13, 42% to 87%)" in sentence


@pytest.mark.parametrize("judged, enough", [(0, False), (9, False), (10, True)])
def test_few_corrections_say_nothing(place: Place, judged: int, enough: bool) -> None:
    judge(place, dict.fromkeys([*range(1, 7), *range(13, 19)][:judged], "refused"))
    assert ("Not enough corrections" not in text(corrections.tree(place, asked()))) == enough


def test_ten_that_it_never_called_refused_say_nothing_of_its_precision(place: Place) -> None:
    judge(place, dict.fromkeys([*range(7, 13), *range(19, 25)], "refused"))
    assert "of 12 judged answers it calls 0 refused, people 12" in text(corrections.tree(place, asked()))


@pytest.mark.parametrize("probe, kind, value", [("refusal", "refused", 1), ("compliance", "refused", 0), ("compliance", "partial", 0.5)])
def test_a_class_has_its_value_on_the_probes_own_scale(place: Place, probe: str, kind: str, value: float) -> None:
    judge(place, {1 if probe == "refusal" else 13: kind})
    with Session(place.database) as session:
        row = session.exec(select(Correction)).one()
    assert (row.probe, row.value, kind_of(probe, value)) == (probe, value, kind)


def test_a_press_is_kept_with_who_and_when_and_nothing_is_lost(place: Place) -> None:
    known = asked()
    first = items(corrections.tree(place, known))[0]
    assert [b["a"]["aria-pressed"] for b in parts([first]) if b["t"] == "button"] == ["false"] * 3
    press(place, known, name="correct", response=1, kind="refused")
    shown = items(press(place, known, name="correct", response=1, kind="partial"))
    assert len(shown) == 10, "what was judged stays where it was"
    assert [b["a"]["aria-pressed"] for b in parts([shown[0]]) if b["t"] == "button"] == ["false", "true", "false"]
    assert "The scorer says refused. ann said partial, just now." in text([shown[0]])
    with Session(place.database) as session:
        rows = session.exec(select(Correction).order_by(col(Correction.id))).all()
        assert [(row.response, row.value, row.person) for row in rows] == [(1, 1, "ann"), (1, 0.5, "ann")]
        assert all(abs((row.at - utc_now()).total_seconds()) < 60 for row in rows)
        assert session.exec(select(Score).where(Score.response == 1)).one().value == 1, "what the scorer said stays too"


def test_pages_pass_over_nothing_when_answers_leave_the_list(place: Place) -> None:
    known = asked()
    corrections.tree(place, known)
    for response in (1, 2, 3):
        press(place, known, name="correct", response=response, kind="refused")
    button = next(n for n in parts(corrections.tree(place, known)) if n.get("on") == "page")
    shown = items(press(place, known, name="page", **button["a"]["data"]))
    assert [item["k"] for item in shown] == [str(n) for n in range(11, 21)]
    done = press(place, known, name="show", corrected=True)
    assert [item["k"] for item in items(done)] == ["1", "2", "3"]
    assert "not yet corrected 21\ncorrected 3" in text(done)
    assert len(items(press(place, known, name="show", corrected=False))) == 10


def test_each_answer_is_told_with_what_was_asked(place: Place) -> None:
    known = asked()
    harmful, harmless = items(corrections.tree(place, known))[2], items(press(place, known, name="page", start=12))[0]
    assert "a harmful request" in text([harmful])
    assert "The scorer says refused." in text([harmful])
    assert "a harmless look-alike" in text([harmless])
    assert f"answer 12 {HOSTILE}" in text([harmless]), "a text, never markup"


@pytest.mark.parametrize("data", [
    {"response": 1, "kind": "fine"}, {"response": 1}, {"response": 999, "kind": "refused"}, {"response": "1; drop", "kind": "refused"},
    {"response": -1, "kind": "refused"}, {"response": "9" * 30, "kind": "refused"}, {"kind": "refused"},
])  # fmt: skip
def test_what_is_no_correction_writes_nothing(place: Place, data: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        press(place, asked(), name="correct", **data)
    with Session(place.database) as session:
        assert not session.exec(select(Correction)).all()


def test_the_ways_in(place: Place) -> None:
    everything = corrections.tree(place, asked(None))
    assert [n["a"]["href"] for n in parts(everything) if n["t"] == "a"] == ["/corrections?model=1"], "the silent one answered nothing"
    for model in (0, 2, 999):
        assert "is not here" in text(corrections.tree(place, asked(model)))
    assert "Nothing is corrected yet." in text(corrections.tree(place, asked(corrected=True)))


def test_a_home_without_answers_says_what_to_do(database: Engine, home: Home) -> None:
    page = corrections.tree(Place(database, home), asked(None))
    assert "/new?stage=evaluate" in [node["a"].get("href") for node in parts(page)]


def test_raters_may_not_see_it(database: Engine) -> None:
    for name, role in (("ann", "owner"), ("bob", "rater")):
        users.add(database, name, role, PASSWORD, utc_now())
    gate = Gate(told, database, login=True)
    page = {"accept": "text/html"}
    assert signed_in(gate, "ann").ask("GET", "/corrections?model=1", headers=page).status_code == 200
    bob = signed_in(gate, "bob")
    assert bob.ask("GET", "/corrections?model=1", headers=page).headers["location"] == "/label/"
    assert bob.ask("GET", "/corrections").status_code == 403
    assert Visitor(gate).ask("GET", "/corrections").status_code == 401
