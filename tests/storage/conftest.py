"""Every storage test runs on SQLite and, where DIANJING_TEST_POSTGRES names a server, on Postgres in a schema of its own:
DIANJING_TEST_POSTGRES=postgresql+psycopg://user@127.0.0.1/test pytest tests/storage
"""

import os
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlmodel import Session

from storage.database import open_database
from storage.files import Home
from storage.queries import utc_now
from storage.tables import Artifact, Consumed, Run

SERVER = os.environ.get("DIANJING_TEST_POSTGRES")
SCHEMA = "dianjing_test"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A new database of each kind."""
    if request.param == "postgres":
        if not SERVER:
            pytest.skip("set DIANJING_TEST_POSTGRES to the URL of a Postgres server")
        _execute(SERVER, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE", f"CREATE SCHEMA {SCHEMA}")
        monkeypatch.setenv("DIANJING_DATABASE", f"{SERVER}?options=-csearch_path%3D{SCHEMA}")
    database = open_database(home)
    yield database
    database.dispose()


@pytest.fixture
def add_run(database: Engine) -> Callable[..., int]:
    """Write a queued run that uses these artifacts and reserves one output named "out"; its id."""

    def add(*inputs: int, stage: str = "count", outputs: tuple[str, ...] = ("out",)) -> int:
        with Session(database) as session:
            id = write_run(session, inputs, stage, outputs)
            session.commit()
            return id

    return add


def write_run(session: Session, inputs: tuple[int, ...] = (), stage: str = "count", outputs: tuple[str, ...] = ("out",)) -> int:
    run = Run(stage=stage, queued_at=utc_now())
    session.add(run)
    session.flush()
    assert run.id is not None
    session.add_all(Consumed(run=run.id, artifact=artifact, field=f"parts.{n}") for n, artifact in enumerate(inputs))
    session.add_all(
        Artifact(kind="dataset", name=f"{name} of {run.id}", folder="", made_by=run.id, field=name, created_at=utc_now())
        for name in outputs
    )
    session.flush()
    return run.id


def _execute(url: str, *statements: str) -> None:
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    server.dispose()
