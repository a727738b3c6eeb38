"""Opening the database: SQLite with WAL by default, Postgres by DIANJING_DATABASE; migrated when it is older.

A SQLAlchemy handle is called `database` here, never `engine`: that word is taken by the folder that does the work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session

from storage.files import Home

HEAD = "0004"  # the newest revision under migrations/versions; a test holds the two equal
ALONE = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7316214)"}  # any number, always the same


class NewerDatabase(RuntimeError):
    """The database was written by a newer version, and nothing here can go back."""


def open_database(home: Home) -> Engine:
    """A handle on the home's database, created or migrated first where needed. Raises NewerDatabase."""
    home.root.mkdir(parents=True, exist_ok=True)
    database = create_engine(home.database_url)
    if database.dialect.name == "sqlite":
        event.listen(database, "connect", _set_pragmas)
    if _revision(database) != HEAD:
        with FileLock(home.root / "migrate.lock"):  # the dashboard and the dispatcher may open a new home together
            if _revision(database) != HEAD:
                _migrate(database)
    return database


@contextmanager
def transaction(database: Engine) -> Iterator[Session]:
    """A session that is all or nothing, and alone: no other transaction lies between its reads and its commit."""
    with Session(database) as session:
        session.connection().exec_driver_sql(ALONE[database.dialect.name])
        yield session
        session.commit()


def _set_pragmas(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _revision(database: Engine) -> str | None:
    try:
        with database.connect() as connection:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DatabaseError:
        return None


def _migrate(database: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    if database.dialect.name == "sqlite":
        with database.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # kept in the file from here on
    migrations = Path(__file__).parent / "migrations"
    if (found := _revision(database)) and not list(migrations.glob(f"versions/{found}_*.py")):
        message = f"the database {database.url.render_as_string()} has revision {found} and this version knows those up to {HEAD}"
        raise NewerDatabase(f"{message}: install the newer version of Dianjing that wrote it, or name another home")
    config = Config()
    config.set_main_option("script_location", str(migrations))
    with database.connect() as connection:
        connection.exec_driver_sql(ALONE[database.dialect.name])  # one transaction: killed half-way, nothing has happened
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
