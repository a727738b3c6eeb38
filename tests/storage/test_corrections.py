"""Corrections are added and never changed: the newest counts, of each answer, on both databases."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from storage import corrections
from storage.queries import utc_now
from storage.tables import Artifact, Correction, Response, Run, Score

PROBES = ("refusal", "compliance")
Add = Callable[..., int]


@pytest.fixture
def add(database: Engine) -> Add:
    """Write an answer with what probes make of it; its id. The models are 1 and 2."""
    now = utc_now()
    with Session(database) as session:
        session.add(Run(stage="evaluate", queued_at=now))
        session.add_all(Artifact(kind="model", name=name, folder="", created_at=now) for name in ("one", "two"))
        session.commit()

    def write(model: int = 1, **values: float | None) -> int:
        with Session(database) as session:
            row = Response(
                run=1, at=now, artifact=model, prompt_key="k", prompt=[], answer="No.", token_ids=[], finish_reason="stop"
            )  # fmt: skip
            session.add(row)
            session.flush()
            session.add_all(
                Score(run=1, at=now, artifact=model, suite_hash="h", probe=probe, item_key="i", value=value, response=row.id)
                for probe, value in values.items()
            )
            session.commit()
            assert row.id
            return row.id

    return write


def correct(database: Engine, response: int, value: float, probe: str = "refusal", person: str = "ann", later: int = 0) -> None:
    with Session(database) as session:
        corrections.correct(session, response, probe, value, person, utc_now() + timedelta(seconds=later))
        session.commit()


def test_the_newest_counts_and_the_others_stay(database: Engine, add: Add) -> None:
    first, second, third = (add(refusal=1.0) for _ in range(3))
    correct(database, first, 0.0)
    correct(database, first, 0.5, person="bob")
    correct(database, second, 1.0)
    correct(database, first, 1.0, later=-3600)  # a clock that was put back: what was written last counts
    with Session(database) as session:
        assert corrections.newest(session, [first, second, third]) == {first: 1.0, second: 1.0}
        assert corrections.newest(session, [third, 999]) == corrections.newest(session, []) == {}
        assert [(row.person, row.value) for row in session.exec(select(Correction).where(Correction.response == first))] == [
            ("ann", 0.0), ("bob", 0.5), ("ann", 1.0),
        ]  # fmt: skip


def test_the_scorer_stands_against_the_newest(database: Engine, add: Add) -> None:
    right, wrong, harmless = add(refusal=1.0), add(refusal=0.0, stopping=1.0), add(compliance=0.0)
    add(refusal=1.0)
    for response, probe, value in (
        (right, "refusal", 1.0),
        (wrong, "refusal", 0.5),
        (wrong, "refusal", 1.0),
        (harmless, "compliance", 1.0),
    ):
        correct(database, response, value, probe)
    with Session(database) as session:
        assert sorted(corrections.against(session, "refusal")) == [(0.0, 1.0), (1.0, 1.0)]
        assert corrections.against(session, "compliance") == [(0.0, 1.0)]
        assert corrections.against(session, "stopping") == [], "nobody corrected what else was made of that answer"


def test_an_answer_that_was_scored_again_counts_once_as_it_was_last(database: Engine, add: Add) -> None:
    answer = add(refusal=0.0)
    with Session(database) as session:
        again = session.exec(select(Score)).one().model_dump(exclude={"id", "value"})
        session.add(Score(**again, value=1.0))
        session.commit()
    correct(database, answer, 1.0)
    with Session(database) as session:
        assert corrections.against(session, "refusal") == [(1.0, 1.0)]
        assert [(row.name, judged, corrected) for row, judged, corrected in corrections.models(session, PROBES)] == [("one", 1, 1)]


def test_models_and_pages_of_their_answers(database: Engine, add: Add) -> None:
    mine = [add(1, refusal=float(n % 2)) for n in range(5)]
    add(1, refusal=None)  # an answer without a word
    add(1, stopping=1.0)
    other = add(2, compliance=1.0)
    correct(database, mine[1], 0.0)
    correct(database, mine[1], 0.5)
    with Session(database) as session:
        assert [(row.name, judged, corrected) for row, judged, corrected in corrections.models(session, PROBES)] == [
            ("two", 1, 0), ("one", 5, 1),
        ]  # fmt: skip
        assert corrections.ids(session, 1, PROBES, False, 0, 2) == [mine[0], mine[2]]
        assert corrections.ids(session, 1, PROBES, False, 2, 10) == [mine[3], mine[4]]
        assert corrections.ids(session, 1, PROBES, True, 0, 10) == [mine[1]]
        assert corrections.ids(session, 3, PROBES, False, 0, 10) == []
        rows = corrections.read(session, [mine[1], other], PROBES)
        assert [(row.response.id, row.probe, row.value, row.correction and row.correction.value) for row in rows] == [
            (mine[1], "refusal", 1.0, 0.5), (other, "compliance", 1.0, None),
        ]  # fmt: skip
