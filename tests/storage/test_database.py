"""A database is created whole or not at all, equals its tables, and one of the first release still opens."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlmodel import Session, SQLModel, select

import storage.database
from storage import curves, queries
from storage.database import HEAD, NewerDatabase, open_database, transaction
from storage.files import Home
from storage.tables import Artifact, Event, Metric, Plan, Response, Rollup, Run, Score

MIGRATIONS = Path(storage.database.__file__).parent / "migrations"


def differences(database: Engine) -> list[object]:
    with database.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)


def test_migrations_and_tables_are_equal(database):
    assert not differences(database)


def test_a_forgotten_column_would_be_noticed(database):
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE run DROP COLUMN tags"))
    assert differences(database)


def test_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_sqlite_keeps_its_discipline(home):
    with open_database(home).connect() as connection:
        said = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "busy_timeout", "foreign_keys")}
    assert said == {"journal_mode": "wal", "busy_timeout": 30000, "foreign_keys": 1}


def test_a_database_of_the_first_release_opens(home):
    home.root.mkdir(parents=True)
    dump = Path(__file__).with_name("first_release.sql").read_text()
    connection = sqlite3.connect(home.root / "dianjing.db")
    connection.executescript(dump)
    connection.close()
    database = open_database(home)
    assert not differences(database)
    with Session(database) as session:
        trained, stopped, waiting = session.exec(select(Run).order_by(Run.id)).all()
        assert [r.status for r in (trained, stopped, waiting)] == ["succeeded", "cancelled", "skipped"]
        assert trained.settings["training"]["steps"] == 70
        assert session.exec(select(Plan)).one().recipe == "quickstart"
        assert session.exec(select(Event)).one().data == {"rows": 3}
        assert session.exec(select(Response)).one().token_ids == [1, 2]
        assert session.exec(select(Score)).one().value == 0.5
        assert [r.count for r in session.exec(select(Rollup))] == [64, 5]
        assert session.exec(select(Metric).where(Metric.step == 70)).one().value is None
        loss = curves.read(session, trained.id).series["loss"]
        assert [step for step, _ in loss] == list(range(1, 71))
        assert queries.outputs_of(session, trained.id)["model"].summary == {"format": "adapter", "rank": 16}
        assert queries.queue_again(session, stopped.id, queries.utc_now())
        assert waiting.status == "queued", "the old rows still do what rows do"


def test_a_database_of_a_newer_release_is_refused_in_words(home):
    database = open_database(home)
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerDatabase, match=r"revision 9999 .* newer version"):
        open_database(home)


OPEN = "import sys, pathlib; from storage.database import open_database; from storage.files import Home\n"


def test_processes_may_open_a_new_home_together(home):
    script = OPEN + "open_database(Home(pathlib.Path(sys.argv[1]))).connect().close()"
    children = [subprocess.Popen([sys.executable, "-c", script, str(home.root)]) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert not differences(open_database(home))


@pytest.mark.parametrize("statement", [4, 12, 25])
def test_a_migration_that_is_killed_half_way_has_not_happened(home, statement):
    script = OPEN + (
        "import itertools, os\nfrom sqlalchemy import Engine, event\ncount = itertools.count(1)\n"
        "@event.listens_for(Engine, 'after_cursor_execute')\n"
        "def die(c, cursor, statement, *rest):\n"
        f"    if statement.lstrip().startswith('CREATE') and next(count) == {statement}: os._exit(9)\n"
        "open_database(Home(pathlib.Path(sys.argv[1])))"
    )
    assert subprocess.run([sys.executable, "-c", script, str(home.root)], check=False, timeout=60).returncode == 9
    assert not differences(open_database(home))


def test_a_transaction_is_all_or_nothing(database):
    def fail():
        with transaction(database) as session:
            session.add(Run(stage="count", queued_at=queries.utc_now()))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with Session(database) as session:
        assert not session.exec(select(Run)).all()


def test_two_transactions_do_not_interleave(database, add_run):
    """Both read 0 and write +1; without being alone one of the two would be lost."""
    from threading import Thread

    run = add_run()

    def count():
        for _ in range(20):
            with transaction(database) as session:
                row = session.get_one(Run, run)
                row.step += 1

    threads = [Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Session(database) as session:
        assert session.get_one(Run, run).step == 60


def test_a_home_can_be_moved(home, tmp_path):
    database = open_database(home)
    with Session(database) as session:
        session.add(Artifact(kind="model", name="m", folder="artifacts/1", created_at=queries.utc_now()))
        session.commit()
    database.dispose()
    moved = Home(home.root.rename(tmp_path / "elsewhere"))
    with Session(open_database(moved)) as session:
        assert moved.root / session.exec(select(Artifact)).one().folder == moved.artifact_folder(1)
