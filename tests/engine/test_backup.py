"""A backup taken while others write restores to the same rows; a file that was tampered with restores to nothing."""

import hashlib
import io
import json
import multiprocessing
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect
from sqlmodel import Session, col, select

from engine import backup as backups
from engine import dispatcher, library
from engine.__main__ import main
from engine.backup import DATABASE, MANIFEST, back_up
from engine.errors import UserError
from engine.restore import INTERRUPTED, LEFT_OUT, restore
from storage import queries
from storage.curves import Recorder
from storage.database import HEAD, open_database, transaction
from storage.files import Home
from storage.queries import Made
from storage.tables import Artifact, Attempt, Consumed, Event, Lock, Metric, Rollup, Run, SignIn, User
from tests.engine.conftest import eventually

NOW = queries.utc_now()


@pytest.fixture
def library_of_four(database: Engine, home: Home, add_artifact: Callable[..., int]) -> dict[str, int]:
    """A base, an adapter on it, an adapter on that, and a dataset, with files; a log, an upload, a starter."""
    base = add_artifact("model", "base", format="full")
    child = add_artifact("model", "child, first", format="adapter", base=base)
    made = {"base": base, "child": child, "grandchild": add_artifact("model", "grandchild", format="adapter", base=child)}
    made["data"] = add_artifact("dataset", "data", format="messages")
    for name, id in made.items():
        folder = home.artifact_folder(id)
        (folder / "nested").mkdir()
        (folder / "nested" / "weights.safetensors").write_bytes(name.encode() * 1000)
    for path in (home.run_folder(1) / "log.txt", home.uploads / "mine.jsonl", home.starters / "huge.gguf"):
        path.parent.mkdir(parents=True)
        path.write_text(f"{path.name} is kept as it is\n")
    with Session(database) as session:
        session.add(Run(stage="finetune", status="succeeded", queued_at=NOW))
        session.commit()
    return made


def rows(database: Path, table: str) -> list[tuple]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608


def files(home: Home) -> dict[str, bytes]:
    found = (path for path in home.root.rglob("*") if path.is_file() and not path.name.startswith(DATABASE) and path.suffix != ".lock")
    return {path.relative_to(home.root).as_posix(): path.read_bytes() for path in found}


# under load


def hammer(root: str, writer: int, ended: "threading.Event") -> None:
    """Transactions that always leave the tables in agreement: a metric, an event and the run's step say the same."""
    home = Home(Path(root))
    database = open_database(home)
    with transaction(database) as session:
        run = Run(stage="finetune", queued_at=queries.utc_now())
        session.add(run)
        session.flush()
        queries.begin(session, run.id or 0, 1, "somebody", "cpu", queries.utc_now())
        id = run.id or 0
    recorder = None
    step = 0
    while not ended.is_set():
        step += 1
        with transaction(database) as session:
            recorder = recorder or Recorder(session, id)
            recorder.record(session, queries.utc_now(), step, {"loss": step / 7})
            session.get_one(Run, id).step = step
            queries.say(session, id, f"writer {writer}", queries.utc_now(), "info", step=step)
            if step % 10 == 0:  # a whole short run, made and settled
                short = Run(stage="generate", queued_at=queries.utc_now())
                session.add(short)
                session.flush()
                artifact = Artifact(kind="responses", name=f"{writer}.{step}", folder="", made_by=short.id, field="out", created_at=NOW)
                session.add(artifact)
                session.flush()
                artifact.folder = f"artifacts/{artifact.id}"
                queries.begin(session, short.id or 0, 1, "somebody", None, queries.utc_now())
                folder = home.artifact_folder(artifact.id or 0)
                folder.mkdir(parents=True)
                (folder / "responses.jsonl").write_text(f"{short.id}\n" * 100)
                queries.settle(session, short.id or 0, "succeeded", queries.utc_now(), None, {"out": Made(size=1)})
    database.dispose()


@contextmanager
def hammered(home: Home) -> Iterator[None]:
    """Two processes and two threads that write until the end of the block."""
    context = multiprocessing.get_context("spawn")
    ended = context.Event()
    writers = [context.Process(target=hammer, args=(str(home.root), n, ended)) for n in range(2)]
    writers += [threading.Thread(target=hammer, args=(str(home.root), n, ended)) for n in range(2, 4)]
    for one in writers:
        one.start()
    try:
        yield
    finally:
        ended.set()
        for one in writers:
            one.join(30)
    assert [one.exitcode for one in writers[:2]] == [0, 0]


def test_a_backup_taken_under_load_restores_to_the_same_rows(database: Engine, home: Home, tmp_path: Path) -> None:
    def steps() -> list[int]:
        with Session(database) as session:
            return [run.step for run in session.exec(select(Run).where(Run.stage == "finetune"))]

    taken = []
    with hammered(home):
        for number in range(3):
            before = sum(steps())
            eventually(lambda before=before: len(steps()) == 4 and min(steps()) > 10 and sum(steps()) > before + 20)
            taken.append(back_up(database, home, tmp_path / f"{number}.tar"))
    counts = []
    for number, kept in enumerate(taken):
        new = Home(tmp_path / f"new{number}")
        restore(tmp_path / f"{number}.tar", new)
        before, after = home.root / DATABASE, new.root / DATABASE
        for table in ("metric", "event", "rollup", "consumed", "artifact"):  # rows that are only added: each is in the living home
            restored = rows(after, table)
            assert set(restored) <= set(rows(before, table)), table
            if table in ("metric", "event"):
                assert [row[0] for row in restored] == list(range(1, len(restored) + 1)), "none is missing in between"
        counts.append(len(rows(after, "event")))
        with Session(open_database(new)) as session:
            assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            for run in session.exec(select(Run).where(Run.stage == "finetune")):
                told = [event.data["step"] for event in session.exec(select(Event).where(Event.run == run.id).order_by(col(Event.id)))]
                measured = [metric.step for metric in session.exec(select(Metric).where(Metric.run == run.id).order_by(col(Metric.id)))]
                assert told == measured == list(range(1, run.step + 1)), "no half transaction"
                assert (run.status, run.error, run.pid) == ("failed", INTERRUPTED, None)
                assert sum(r.count for r in session.exec(select(Rollup).where(Rollup.run == run.id))) <= len(told)
            ready = queries.artifacts(session)
            assert sorted(a.id or 0 for a in ready) == sorted(kept.artifacts)
            assert all((new.root / a.folder / "responses.jsonl").read_text() == f"{a.made_by}\n" * 100 for a in ready)
    assert counts == sorted(set(counts)), "each of the three saw more than the one before"


def test_an_artifact_deleted_while_the_backup_is_made_is_told(database, home, library_of_four, tmp_path, monkeypatch) -> None:
    take = backups._take_snapshot

    def then_delete(source: Path, snapshot: Path) -> None:
        take(source, snapshot)
        library.delete(database, home, library_of_four["data"])

    monkeypatch.setattr(backups, "_take_snapshot", then_delete)
    kept = back_up(database, home, tmp_path / "b.tar")
    assert "dataset data: deleted while the backup was made" in kept.left_out
    new = Home(tmp_path / "new")
    restore(tmp_path / "b.tar", new)
    with Session(open_database(new)) as session:
        row = session.get_one(Artifact, library_of_four["data"])
        assert row.deleted_at is not None
        assert not new.artifact_folder(row.id or 0).exists()


def test_files_that_go_while_they_are_read_do_not_make_half_an_artifact(database, home, library_of_four, tmp_path, monkeypatch) -> None:
    """The row says deleted, the folder is still there or half gone: the artifact is left out."""
    real = backups._files

    def half_gone(folder: Path) -> list[Path]:
        found = real(folder)
        if folder == home.artifact_folder(library_of_four["data"]) and found:
            with transaction(database) as session:
                session.get_one(Artifact, library_of_four["data"]).deleted_at = NOW
        return found

    monkeypatch.setattr(backups, "_files", half_gone)
    assert library_of_four["data"] not in back_up(database, home, tmp_path / "b.tar").artifacts


# what is kept


def test_everything_comes_back(database, home, library_of_four, tmp_path) -> None:
    kept = back_up(database, home, tmp_path / "b.tar")
    new = Home(tmp_path / "deep" / "new")
    assert restore(tmp_path / "b.tar", new) == kept
    expected = {path: data for path, data in files(home).items() if not path.startswith("starters/")}
    assert files(new) == expected
    assert rows(new.root / DATABASE, "artifact") == rows(home.root / DATABASE, "artifact")
    assert [line for line in kept.left_out if "starters" in line]
    assert sorted(path.name for path in new.root.iterdir() if path.suffix != ".lock") == ["artifacts", DATABASE, "runs", "uploads"]
    with Session(open_database(new)) as session:
        assert session.connection().exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_sign_ins_stay_behind_and_users_come_along(database, home, tmp_path) -> None:
    with Session(database) as session:
        session.add(User(name="ada", role="owner", password_hash="scrypt$x", created_at=NOW))
        session.flush()
        session.add(SignIn(token_hash="never in a backup", user=1, created_at=NOW, expires_at=NOW + timedelta(days=1)))
        session.add(Attempt(at=NOW, name="eve", address="192.0.2.1"))
        session.add(Lock(name="dispatcher", pid=1, pid_started="x", at=NOW))
        session.commit()
    back_up(database, home, tmp_path / "b.tar")
    assert b"never in a backup" not in (tmp_path / "b.tar").read_bytes()
    restore(tmp_path / "b.tar", Home(tmp_path / "new"))
    with Session(open_database(Home(tmp_path / "new"))) as session:
        assert session.exec(select(User)).one().password_hash == "scrypt$x"
        assert not [row for table in (SignIn, Attempt, Lock) for row in session.exec(select(table))]


def test_a_chosen_adapter_brings_its_bases_and_the_rest_is_named(database, home, library_of_four, tmp_path) -> None:
    with Session(database) as session:
        waiting = Run(stage="finetune", status="queued", queued_at=NOW)
        session.add(waiting)
        session.flush()
        session.add(Consumed(run=waiting.id, artifact=library_of_four["data"], field="data"))
        session.commit()
        waiting_id = waiting.id
    kept = back_up(database, home, tmp_path / "b.tar", "grandchild")
    assert sorted(kept.artifacts) == [library_of_four[name] for name in ("base", "child", "grandchild")]
    assert f"dataset data, needed by run {waiting_id} (finetune, queued)" in kept.left_out
    new = Home(tmp_path / "new")
    restore(tmp_path / "b.tar", new)
    with Session(open_database(new)) as session:
        data, run = session.get_one(Artifact, library_of_four["data"]), session.get_one(Run, waiting_id)
        assert (bool(data.deleted_at), data.note) == (True, LEFT_OUT)
        assert (run.status, run.error) == ("skipped", f"data: {LEFT_OUT}")
    with pytest.raises(UserError, match="any more"):
        library.export(open_database(new), new, library_of_four["data"], tmp_path / "out")


def test_artifacts_can_be_left_out_or_named_by_id(database, home, library_of_four, tmp_path) -> None:
    assert back_up(database, home, tmp_path / "none.tar", "none").artifacts == []
    ids = f"{library_of_four['data']},{library_of_four['base']}"
    assert sorted(back_up(database, home, tmp_path / "two.tar", ids).artifacts) == [library_of_four["base"], library_of_four["data"]]
    with pytest.raises(UserError, match="did you mean"):
        back_up(database, home, tmp_path / "other.tar", "grandchil")
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["none.tar", "two.tar"]


def test_whole_checkpoints_are_kept_when_asked_for(database, home, library_of_four, tmp_path) -> None:
    for step, state in ((5, "{}"), (10, '{"half')):
        folder = home.run_folder(1) / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text("{}")
        (folder / "trainer_state.json").write_text(state)
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
    assert "checkpoints of runs 1: --checkpoints keeps them" in back_up(database, home, tmp_path / "without.tar").left_out
    back_up(database, home, tmp_path / "with.tar", checkpoints=True)
    for name, steps in (("without", []), ("with", [5])):
        new = Home(tmp_path / name)
        restore(tmp_path / f"{name}.tar", new)
        assert library.checkpoints(new, 1) == steps


def test_an_interrupted_run_can_be_resumed_and_what_waits_for_it_follows(machine, tmp_path) -> None:
    first, second, joined = machine.submit("chain").runs
    with transaction(machine.database) as session:
        queries.begin(session, first, 1, "somebody", "cpu", NOW)
    back_up(machine.database, machine.home, tmp_path / "b.tar")
    restored = type(machine)(None, Home(tmp_path / "new"))
    restore(tmp_path / "b.tar", restored.home)
    restored.database = open_database(restored.home)
    assert [restored.row(run).status for run in (first, second, joined)] == ["failed", "queued", "skipped"]
    dispatcher.resume(restored.database, first)
    assert restored.finish(first, second, joined) == ["succeeded"] * 3


# what is refused


def test_nothing_is_overwritten(database, home, tmp_path) -> None:
    target = tmp_path / "b.tar"
    back_up(database, home, target)
    before = target.read_bytes()
    places = {target: "exists already", home.root / "b.tar": "lies in the home", tmp_path / "no" / "b.tar": "make that folder"}
    for place, words in places.items():
        with pytest.raises(UserError, match=words):
            back_up(database, home, place)
    assert target.read_bytes() == before
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    for place in (tmp_path / "used", home.root, target):
        with pytest.raises(UserError, match="is not empty"):
            restore(target, Home(place))
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["mine.txt"]


def test_a_disk_too_full_is_said_before_anything_is_written(database, home, library_of_four, tmp_path, monkeypatch) -> None:
    back_up(database, home, tmp_path / "b.tar")
    usage = type("usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="keep fewer artifacts"):
        back_up(database, home, tmp_path / "c.tar")
    with pytest.raises(UserError, match="choose another place"):
        restore(tmp_path / "b.tar", Home(tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "home"]


def test_rows_on_a_server_are_refused_in_words(database, home, tmp_path, monkeypatch) -> None:
    back_up(database, home, tmp_path / "b.tar")
    monkeypatch.setattr(database.dialect, "name", "postgresql")
    with pytest.raises(UserError, match="pg_dump"):
        back_up(database, home, tmp_path / "c.tar")
    monkeypatch.setenv("DIANJING_DATABASE", "postgresql://nobody@127.0.0.1/none")
    with pytest.raises(UserError, match="DIANJING_DATABASE"):
        restore(tmp_path / "b.tar", Home(tmp_path / "new"))


Members = list[tuple[tarfile.TarInfo, bytes]]


def rewritten(source: Path, target: Path, change: Callable[[Members], Members], honest: bool = True) -> Path:
    """The same backup with other members; an honest one has a manifest that agrees with them."""
    with tarfile.open(source) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar.getmembers()]  # type: ignore[union-attr]
    told = json.loads(members.pop()[1])
    members = change(members)
    if honest:
        told["files"] = [{"path": m.name, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for m, d in members]
    told_member = tarfile.TarInfo(MANIFEST)
    with tarfile.open(target, "w") as tar:
        for member, data in [*members, (told_member, json.dumps(told).encode())]:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "given",
    [
        member("../escaped"),
        member("artifacts/../../escaped"),
        member("/tmp/escaped"),
        member("artifacts\\..\\..\\escaped"),
        member("artifacts//1/x"),
        member("./artifacts/1/x"),
        member("starters/x"),
        member("artifacts"),
        member("migrate.lock"),
        member("artifacts/1/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("artifacts/1/link", tarfile.LNKTYPE, DATABASE),
        member("artifacts/1/device", tarfile.CHRTYPE),
        member("artifacts/1/pipe", tarfile.FIFOTYPE),
        member("artifacts/1/folder", tarfile.DIRTYPE),
        member("uploads/" + "x" * 300),
        member(DATABASE),
    ],
    ids=lambda given: f"{given.name[:30]} {given.type.decode()}",
)
def test_a_member_that_does_not_belong_into_a_home_restores_to_nothing(database, home, library_of_four, tmp_path, given) -> None:
    back_up(database, home, tmp_path / "b.tar")
    bad = rewritten(tmp_path / "b.tar", tmp_path / "bad.tar", lambda members: [(given, b""), *members])
    before = sorted(path.name for path in tmp_path.iterdir())
    for place in (tmp_path / "new", tmp_path / "empty"):
        if place.name == "empty":
            place.mkdir()
        with pytest.raises(UserError, match=r"does not belong|File name too long|size is wrong"):
            restore(bad, Home(place))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "empty"])
    assert not list((tmp_path / "empty").iterdir())


def test_a_symbolic_link_does_not_lead_the_next_member_outside(database, home, library_of_four, tmp_path) -> None:
    back_up(database, home, tmp_path / "b.tar")
    trick = [(member("artifacts/9", tarfile.SYMTYPE, str(tmp_path)), b""), (member("artifacts/9/escaped"), b"x")]
    with pytest.raises(UserError, match="does not belong"):
        restore(rewritten(tmp_path / "b.tar", tmp_path / "bad.tar", lambda members: trick + members), Home(tmp_path / "new"))
    assert not (tmp_path / "escaped").exists()


def changed_byte(members: Members) -> Members:
    return [(m, d[:-1] + bytes([d[-1] ^ 1]) if m.name.endswith("weights.safetensors") else d) for m, d in members]


def longer(members: Members) -> Members:
    return [(m, d + b"x" if m.name.endswith("log.txt") else d) for m, d in members]


@pytest.mark.parametrize(
    "change, words",
    [
        (changed_byte, "checksum is wrong"),
        (longer, "size is wrong"),
        (lambda members: members[1:], "does not hold what its manifest says"),
        (lambda members: [*members, (member("uploads/more"), b"x")], "does not hold what its manifest says"),
    ],
)
def test_what_is_not_as_it_was_saved_restores_to_nothing(database, home, library_of_four, tmp_path, change, words) -> None:
    back_up(database, home, tmp_path / "b.tar")
    with pytest.raises(UserError, match=words):
        restore(rewritten(tmp_path / "b.tar", tmp_path / "bad.tar", change, honest=False), Home(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_file_cut_anywhere_restores_to_nothing(database, home, library_of_four, tmp_path) -> None:
    back_up(database, home, tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    bad = tmp_path / "bad.tar"
    for length in (0, 1, 600, len(whole) // 2, whole.rindex(b"manifest.json"), whole.rindex(b"manifest.json") + 600):
        bad.write_bytes(whole[:length])
        with pytest.raises(UserError):
            restore(bad, Home(tmp_path / "new"))
        assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="cannot be read"):
        restore(tmp_path / "nowhere.tar", Home(tmp_path / "new"))


def altered(source: Path, target: Path, statement: str, **told: object) -> Path:
    """The same backup with another database."""

    def change(members: Members) -> Members:
        file = target.with_suffix(".db")
        file.write_bytes(members[0][1])
        with closing(sqlite3.connect(file)) as connection:
            connection.executescript(statement)
        return [(members[0][0], file.read_bytes()), *members[1:]]

    rewritten(source, target, change)
    if told:
        with tarfile.open(target) as tar:
            members = [(m, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]
        with tarfile.open(target, "w") as tar:
            for m, data in members:
                data = json.dumps(json.loads(data) | told).encode() if m.name == MANIFEST else data
                m.size = len(data)
                tar.addfile(m, io.BytesIO(data))
    return target


def test_an_artifact_that_would_lie_elsewhere_is_refused(database, home, library_of_four, tmp_path) -> None:
    """Deleting it in the restored home would delete that folder."""
    back_up(database, home, tmp_path / "b.tar")
    bad = altered(tmp_path / "b.tar", tmp_path / "bad.tar", "UPDATE artifact SET folder = '../home' WHERE id = 1")
    with pytest.raises(UserError, match="outside its place"):
        restore(bad, Home(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_rows_of_a_newer_version_are_refused_in_words(database, home, tmp_path) -> None:
    back_up(database, home, tmp_path / "b.tar")
    newer = "UPDATE alembic_version SET version_num = '9999'"
    for told, words in (({"revision": "9999"}, "newer version"), ({}, "of revision 9999")):
        bad = altered(tmp_path / "b.tar", tmp_path / "bad.tar", newer, **told)
        with pytest.raises(UserError, match=words):
            restore(bad, Home(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_rows_of_the_first_release_are_migrated(database, home, tmp_path) -> None:
    back_up(database, home, tmp_path / "b.tar")
    first = (Path(__file__).parents[1] / "storage" / "first_release.sql").read_text()
    with database.connect() as connection:
        tables = "".join(f"DROP TABLE {name};" for name in inspect(connection).get_table_names())
    old = altered(tmp_path / "b.tar", tmp_path / "old.tar", f"PRAGMA foreign_keys=OFF;{tables}{first}", revision="0001")
    restore(old, Home(tmp_path / "new"))
    with Session(open_database(Home(tmp_path / "new"))) as session:
        assert session.connection().exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == HEAD
        assert session.exec(select(Run)).first() is not None
        assert all(artifact.deleted_at for artifact in session.exec(select(Artifact)) if artifact.ready_at)


def test_a_failure_while_it_is_written_leaves_nothing(database, home, library_of_four, tmp_path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backups, "_add_loose", fail)
    with pytest.raises(KeyboardInterrupt):
        back_up(database, home, tmp_path / "b.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_the_command_says_what_it_kept_and_left_out(database, home, library_of_four, tmp_path, monkeypatch, capsys) -> None:
    def dianjing(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["dianjing", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return ended.value.code, told.out + told.err

    target, new = tmp_path / "b.tar", tmp_path / "new"
    status, told = dianjing("backup", target, "--artifacts", "data", "--home", home.root)
    assert status == 0
    assert "1 runs, 1 artifacts" in told
    assert "left out: model base, needed by model child, first" in told
    status, told = dianjing("restore", target, "--home", new)
    assert (status, "not in the backup: model base" in told) == (0, True)
    assert dianjing("restore", target, "--home", new) == (2, f"{new} is not empty, and nothing is overwritten: name a folder that is\n")
    assert {path.name for path in new.iterdir()} >= {"artifacts", "runs", "uploads", DATABASE}
