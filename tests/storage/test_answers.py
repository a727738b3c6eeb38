"""Answers side by side: found by model and source, paged, searched, and never read whole."""

import pytest
from sqlalchemy import event
from sqlmodel import Session, select

from storage import answers, listings, queries
from storage.tables import Artifact, Response
from tests.answers import add_answers


@pytest.fixture
def two(database):
    """Two models, thirty prompts; the second answers every third prompt as the first does."""
    return add_answers(
        database, 2, 30, lambda model, n: "same" if n % 3 == 0 else f"answer {n} of model {model} Größe", lambda n: f"Frage {n} über Äpfel"
    )


def columns(session: Session, keys: list[str]) -> list[answers.Column]:
    found = [answers.column_named(session, key)[0] for key in keys]
    assert all(found)
    return found


def test_a_key_names_its_column_and_what_is_gone_is_told(database, two):
    with Session(database) as session:
        first, _second = columns(session, two)
        row = session.get_one(Artifact, first.answers)
        assert answers.key_of(first, row) == two[0]
        assert answers.column_named(session, "999-1") == (None, None)
        assert answers.column_named(session, f"{first.answers}-999") == (None, row)
        assert answers.column_named(session, "x-1; DROP TABLE run") == (None, None)
        row.deleted_at = queries.utc_now()
        session.commit()
        assert answers.column_named(session, two[0]) == (None, row)


def test_imported_answers_are_columns_by_source(database, two):
    with Session(database) as session:
        run = columns(session, two)[0].run
        now = queries.utc_now()
        row = Artifact(kind="responses", name="from elsewhere", folder="x", made_by=run, created_at=now, ready_at=now)
        row.summary = {"models": [], "sources": ["gpt-x", "5"], "prompts": 1}
        session.add(row)
        session.flush()
        for source in ("gpt-x", "5"):
            more = {"prompt_key": "k", "prompt": [], "answer": source, "token_ids": [], "finish_reason": "", "extra": {"tokens": 9}}
            session.add(Response(run=run, at=now, artifact=row.id, source=source, **more))
        session.commit()
        one, other = answers.columns(row)
        assert [answers.key_of(column, row) for column in (one, other)] == [f"{row.id}-s0", f"{row.id}-s1"]
        assert [next(answers.texts(session, column)).answer for column in (one, other)] == ["gpt-x", "5"]
        assert answers.index(session, one)["k"].tokens == 9
        assert answers.prompts_of(session, row).name == "Questions"


def test_an_index_knows_order_length_tags_and_references(database, two):
    with Session(database) as session:
        found = list(answers.index(session, columns(session, two)[0]).values())
    assert [line.tokens for line in found[:8]] == [1, 2, 3, 4, 5, 6, 7, 1]
    assert found[3].tags == ("odd", "third")
    assert found[3].references == ("answer 3 of model 0",)
    assert [line.finish_reason for line in found[:6]] == ["length", "stop", "stop", "stop", "stop", "length"]


def test_an_index_reads_no_texts(database, two):
    read: list[str] = []
    with Session(database) as session:
        column = columns(session, two)[0]
        event.listen(database, "before_cursor_execute", lambda _c, _cursor, statement, *_: read.append(statement))
        answers.index(session, column)
    assert read
    assert not any("response.answer" in statement or "response.prompt," in statement for statement in read)


@pytest.mark.parametrize(
    "words, hits",
    [("Äpfel", 30), ("frage 17", 1), ("größe", 20), ("model 1", 20), ("same", 10), ("100%", 0), ("_", 0), ('"', 0), ("nothing", 0)],
)
def test_words_are_found_in_prompts_and_answers_also_beyond_ascii(database, two, words, hits):
    with Session(database) as session:
        assert len(answers.matching(session, columns(session, two), words)) == hits


def test_changed_are_the_prompts_that_somebody_answers_differently(database, two):
    with Session(database) as session:
        first, second = columns(session, two)
        assert len(answers.changed(session, first, [second])) == 20
        assert answers.changed(session, first, [first]) == set()


def test_texts_stream_in_batches(database, two):
    with Session(database) as session:
        column = columns(session, two)[0]
        assert [row.id for row in answers.texts(session, column, batch=7)] == list(
            session.exec(select(Response.id).where(Response.run == column.run).order_by(Response.id))
        )


def test_another_sample_is_another_answer(database, two):
    with Session(database) as session:
        column = columns(session, two)[0]
        first = next(answers.texts(session, column))
        again = Response(**(first.model_dump(exclude={"id"}) | {"sample": 1, "answer": "again"}))
        session.add(again)
        session.commit()
        assert answers.samples(session, column) == 2
        assert [row.answer for row in answers.texts(session, column, sample=1)] == ["again"]
        assert len(answers.index(session, column)) == 30


def test_the_root_of_a_lineage_has_no_ancestors(database, two):
    with Session(database) as session:
        base, child = [column.model for column in columns(session, two)]
        assert listings.ancestors(session, base) == []
        assert listings.ancestors(session, child) == [base]
