"""Scores as they are read: the newest measurement of an item counts, and what a person says counts more."""

import pytest
from sqlmodel import Session

from storage import corrections, queries, scores
from storage.tables import Artifact, Response, Run, Score


@pytest.fixture
def session(database):
    with Session(database) as session:
        now = queries.utc_now()
        session.add(Run(stage="evaluate", queued_at=now))
        session.add(Artifact(kind="model", name="m", folder="m", created_at=now))
        session.flush()
        yield session


def add(session, key, value, *, step=0, answer="", hash="h"):
    now, response = queries.utc_now(), None
    if answer:
        response = Response(run=1, at=now, artifact=1, prompt_key=key, prompt=[], answer=answer, token_ids=[], finish_reason="stop")
        session.add(response)
        session.flush()
    score = Score(run=1, at=now, artifact=1, step=step, suite_hash=hash, probe="refusal", item_key=key, value=value)
    score.response = response.id if response else None
    session.add(score)
    session.flush()
    return score.response


def test_the_newest_measurement_of_an_item_counts(session):
    add(session, "a", 1.0, answer="first")
    add(session, "a", 0.0, answer="second")
    add(session, "b", None)
    add(session, "c", 1.0, step=5)
    add(session, "d", 1.0, hash="other")
    assert scores.values(session, 1, 0, "h") == {"a": 0.0, "b": None}
    told = scores.judged(session, 1, 0, "h")
    assert (told["a"][0], told["a"][1].answer) == (0.0, "second")
    assert told["b"] == (None, None)
    assert scores.values(session, 1, 0, "h", run=2) == {}


def test_what_a_person_says_counts_more(session):
    response = add(session, "a", 1.0, answer="I cannot, but here it is")
    for value in (0.5, 0.0):
        corrections.correct(session, response, "refusal", value, "ann", queries.utc_now())
    assert scores.values(session, 1, 0, "h") == {"a": 0.0}
    assert scores.judged(session, 1, 0, "h")["a"][0] == 0.0


def test_rates_and_verdicts_read_the_same_values(session):
    add(session, "a", 1.0, answer="one")
    said = add(session, "b", 1.0, answer="two")
    add(session, "c", None, answer="three")
    corrections.correct(session, said, "refusal", 0.0, "ann", queries.utc_now())
    read = scores.values(session, 1, 0, "h").values()
    assert scores.summary(session, 1) == [("refusal", "h", 0, sum(value == 1 for value in read), 3, 1, 0.5)]


def test_what_was_measured_while_it_learned_is_counted_by_step(session):
    for step, right in ((0, 2), (10, 1)):
        for n in range(3):
            add(session, str(n), float(n < right), step=step)
    assert scores.by_step(session, 1) == [("refusal", "h", 0, 2, 3), ("refusal", "h", 10, 1, 3)]
