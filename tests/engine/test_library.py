"""Promote, delete, rename and export: nothing that is needed is lost, nothing half-written is left."""

import json
import threading

import pytest
from sqlmodel import Session

from engine import dispatcher, library
from engine.errors import UserError
from storage import queries
from storage.database import transaction
from storage.tables import Artifact


@pytest.fixture
def trained(machine):
    """A run with a whole checkpoint at step 5 and a half-written one at step 9."""
    run = machine.start("count")
    for step, state in ((5, "{}"), (9, '{"half')):
        folder = machine.home.run_folder(run) / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(state)
        (folder / "summary.json").write_text('{"format": "adapter", "base": 1}')
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        (folder / "optimizer.pt").write_bytes(b"a pickle")
    return run


def test_a_checkpoint_becomes_a_model(machine, trained):
    assert library.checkpoints(machine.home, trained) == [5]
    id = library.promote(machine.database, machine.home, trained, 5)
    artifact = machine.artifact(id)
    folder = machine.home.root / artifact.folder
    assert (artifact.name, artifact.kind, artifact.size) == ("count at step 5", "model", 7)
    assert artifact.summary == {"format": "adapter", "base": 1, "step": 5}
    assert [file.name for file in folder.iterdir()] == ["adapter_model.safetensors"], "no optimizer, no pickle"
    assert library.promote(machine.database, machine.home, trained, 5) == id, "twice is once"


def test_only_whole_checkpoints_are_promoted(machine, trained):
    with pytest.raises(UserError, match="no whole checkpoint at step 9; there are: 5"):
        library.promote(machine.database, machine.home, trained, 9)


def test_a_trainer_need_not_wait_for_a_copy(machine, trained, monkeypatch):
    """Copying gigabytes takes longer than a writer waits: while it goes on, others write."""
    copying, written = threading.Event(), threading.Event()

    def slow_copy(source, target):
        copying.set()
        assert written.wait(20), "the copy held the database"

    monkeypatch.setattr(library.shutil, "copy2", slow_copy)
    thread = threading.Thread(target=library.promote, args=(machine.database, machine.home, trained, 5))
    thread.start()
    assert copying.wait(20)
    with machine.database.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=100")
        connection.exec_driver_sql("UPDATE run SET step = 6")
        connection.commit()
    written.set()
    thread.join(20)
    assert machine.row(trained).step == 6


def test_what_is_needed_is_not_deleted(machine, add_artifact):
    base = add_artifact("model", "base")
    adapter = add_artifact("model", "adapter", base=base)
    data = add_artifact("dataset", "rows", format="text")
    waiting = machine.submit("join", parts=["rows"])
    for id, why in ((base, "base is needed by model adapter"), (data, f"rows is needed by run {waiting.runs[0]} \\(join, queued\\)"),
                    (waiting.outputs["joined"], "is being made by run")):  # fmt: skip
        with pytest.raises(UserError, match=why):
            library.delete(machine.database, machine.home, id)
    library.delete(machine.database, machine.home, adapter)
    library.delete(machine.database, machine.home, base)
    assert machine.artifact(base).name == "base", "lineage can still say what it was"
    assert not (machine.home.root / machine.artifact(base).folder).exists()
    with pytest.raises(UserError, match="any more"):
        library.delete(machine.database, machine.home, base)


def test_names_stay_unique(machine, add_artifact):
    one, two = add_artifact("dataset", "one"), add_artifact("dataset", "two")
    with pytest.raises(UserError, match="already an artifact named 'one'"):
        library.rename(machine.database, two, " one ", "")
    with pytest.raises(UserError, match="cannot be empty"):
        library.rename(machine.database, two, "  ", "")
    library.rename(machine.database, one, "one", "a note")
    library.rename(machine.database, two, "three", "")
    assert (machine.artifact(one).note, machine.artifact(two).name) == ("a note", "three")


def test_an_export_can_be_used_where_it_lies(machine, add_artifact, tmp_path):
    base = add_artifact("model", "base")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"r": 4, "base_model_name_or_path": "/gone"}))
    adapter = add_artifact("model", "adapter", tmp_path / "adapter", base=base)
    library.export(machine.database, machine.home, adapter, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert settings == {"r": 4, "base_model_name_or_path": str(machine.home.artifact_folder(base))}
    with pytest.raises(UserError, match="exists already"):
        library.export(machine.database, machine.home, adapter, tmp_path / "out")
    with pytest.raises(UserError, match="not ready yet"):
        library.export(machine.database, machine.home, machine.submit("count").outputs["numbers"], tmp_path / "other")


def test_a_run_whose_input_is_gone_says_so_when_it_is_resumed(machine, add_artifact):
    data = add_artifact("dataset", "rows", format="text")
    run = machine.start("join", parts=[data])
    dispatcher.stop(machine.database, run)
    library.delete(machine.database, machine.home, data)
    with pytest.raises(UserError, match="one of its inputs is not there"):
        dispatcher.resume(machine.database, run)
    with transaction(machine.database) as session:
        assert queries.is_lost(session, session.get_one(Artifact, data))
    with Session(machine.database) as session:
        assert [r.id for r in queries.users_of(session, data)] == [run]
