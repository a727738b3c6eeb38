"""Edits of rows are added and never changed: the newest counts, of each row of each dataset, on both databases."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from storage import edits
from storage.queries import utc_now
from storage.tables import Artifact, Edit

Write = Callable[..., None]


@pytest.fixture
def write(database: Engine) -> Write:
    """Write an edit; the datasets are 1 and 2."""
    with Session(database) as session:
        session.add_all(Artifact(kind="dataset", name=name, folder="", created_at=utc_now()) for name in ("one", "two"))
        session.commit()

    def add(key: str, dataset: int = 1, tags: tuple[str, ...] = (), later: int = 0, **more: Any) -> None:
        with Session(database) as session:
            told: dict[str, Any] = {"excluded": None, "row": None, "person": "ann"} | more
            edits.write(session, dataset, key, now=utc_now() + timedelta(seconds=later), tags=list(tags), **told)
            session.commit()

    return add


def test_the_newest_counts_and_the_others_stay(database: Engine, write: Write) -> None:
    write("a", excluded="wrong")
    write("b", row={"text": "new"})
    write("a", tags=("good",), person="bob")
    write("b", later=-3600)  # a clock that was put back: what was written last counts
    write("a", dataset=2, excluded="another dataset")
    with Session(database) as session:
        found = edits.newest(session, 1)
        assert {key: (row.person, row.tags, row.excluded, row.row) for key, row in found.items()} == {
            "a": ("bob", ["good"], None, None), "b": ("ann", [], None, None),
        }  # fmt: skip
        assert edits.newest(session, 2)["a"].excluded == "another dataset"
        assert edits.newest(session, 3) == {}
        rows = session.exec(select(Edit).where(Edit.dataset == 1).order_by(col(Edit.id))).all()
        assert [(row.row_key, row.excluded, row.row) for row in rows] == [
            ("a", "wrong", None), ("b", None, {"text": "new"}), ("a", None, None), ("b", None, None),
        ]  # fmt: skip
