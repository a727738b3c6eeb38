"""Starting, stopping, resuming and settling, with real children."""

import os
import signal
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import Session, select

from engine import dispatcher
from engine.dispatcher import GRACE, how_it_died
from engine.errors import UserError
from engine.processes import identity
from storage import curves, queries
from storage.database import transaction
from storage.queries import utc_now
from storage.tables import Event, Lock, Metric, Run
from tests.engine.conftest import eventually


def lines(machine, run):
    with Session(machine.database) as session:
        return [event.message for event in queries.rows_after(session, Event, run, 0)]


def counted(machine, run):
    with Session(machine.database) as session:
        return [value for _, value in curves.read(session, run, ["value"], points=10**6).series.get("value", [])]


def test_a_pipeline_is_queued_runs_whose_inputs_are_not_ready_yet(machine):
    submitted = machine.submit("chain", steps=3)
    assert machine.finish(*submitted.runs) == ["succeeded"] * 3
    both = machine.artifact(submitted.outputs["joined"])
    assert (both.name, both.summary["rows"], both.ready_at is not None) == ("both joined", 7, True)
    text = (machine.home.root / both.folder / "train.jsonl").read_text()
    assert text.count("\n") == 7
    assert both.size == len(text)
    assert counted(machine, submitted.runs[0]) == [1, 2, 3]
    assert not list(machine.home.root.glob("artifacts/.*")), "nothing half-written is left"


def test_a_child_may_write_more_than_a_pipe_holds(machine):
    run = machine.start("shout")
    assert machine.finish(run) == ["succeeded"]
    assert (machine.home.run_folder(run) / "log.txt").stat().st_size >= 4 * 2**20


def test_two_dispatchers_cannot_both_run(machine):
    first = machine.dispatcher()
    with pytest.raises(UserError, match=f"already running \\(pid {os.getpid()}\\)"):
        machine.dispatcher()
    with Session(machine.database) as session:
        assert dispatcher.dispatching(session)
    first.close()
    machine.dispatcher().close()
    with Session(machine.database) as session:
        assert not dispatcher.dispatching(session)


def test_the_lock_of_a_dead_dispatcher_is_not_believed(machine):
    """Its pid lives, but belongs to another process by now."""
    with transaction(machine.database) as session:
        session.add(Lock(name="dispatcher", pid=os.getpid(), pid_started="another boot:17", at=utc_now()))
    machine.dispatcher().close()


def test_a_reused_pid_is_not_believed(machine):
    run = machine.start("count")
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        with transaction(machine.database) as session:
            queries.begin(session, run, stranger.pid, "before the restart:5", "cpu", utc_now())
            row = session.get_one(Run, run)
            row.step, row.total = 3, 5
        machine.dispatch(lambda: machine.has_ended(run))
        assert machine.row(run).status == "failed"
        assert "its process is gone" in machine.row(run).error
        assert "last step 3 of 5" in machine.row(run).error
        assert stranger.poll() is None, "somebody else's process was left alone"
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("how, status, says", [
    ("kill", "failed", ["killed (signal 9): probably out of memory", "last step 140 of 600", "resume"]),
    ("exit", "failed", ["its process ended with status 3, last step 140 of 600"]),
    ("bug", "failed", ["ZeroDivisionError: division by zero"]),
    ("disk", "failed", ["the disk is full", "delete artifacts or checkpoints, then resume"]),
    ("memory", "failed", ["out of memory: lower batch size or max length, or use LoRA"]),
    ("torch", "failed", ["out of memory: lower batch size", "CUDA out of memory"]),
    ("fixable", "failed", ["1 rows are too few: give at least 2"]),
])  # fmt: skip
def test_a_failure_says_what_happened_and_what_to_do(machine, how, status, says):
    submitted = machine.submit("fail", how=how)
    run = submitted.runs[0]
    assert machine.finish(run) == [status]
    for words in says:
        assert words in machine.row(run).error
    assert any(says[0] in line for line in lines(machine, run))
    assert machine.artifact(submitted.outputs["nothing"]).ready_at is None
    log = (machine.home.run_folder(run) / "log.txt").read_text()
    assert ("Traceback" in log) == (how in ("bug", "disk", "memory", "torch")), "a traceback only for what may be a bug"


def test_a_stop_saves_and_a_resume_goes_on_from_there(machine):
    run = machine.start("count", steps=40, delay=0.03)
    machine.dispatch(lambda: len(counted(machine, run)) >= 3)
    dispatcher.stop(machine.database, run)
    assert machine.finish(run) == ["cancelled"]
    row = machine.row(run)
    assert "can be resumed" in row.error
    reached = len(counted(machine, run))
    assert reached < 40
    dispatcher.resume(machine.database, run)
    assert machine.row(run).stop_requested is None
    assert machine.finish(run) == ["succeeded"]
    assert counted(machine, run) == list(range(1, 41))
    starts = [line for line in lines(machine, run) if line.startswith("counting")]
    assert starts[0] == "counting from 0"
    assert len(starts) == 2
    assert reached - 1 <= int(starts[1].split()[-1]) <= reached


def test_a_stop_is_heard_even_when_nobody_dispatches(machine):
    run = machine.start("count", steps=10**4, delay=0.03)
    machine.dispatch(lambda: counted(machine, run))
    dispatcher.stop(machine.database, run)
    eventually(lambda: machine.row(run).status == "cancelled")


def test_a_run_taken_over_from_a_dead_dispatcher_can_be_stopped_again_and_again(machine):
    run = machine.start("count", steps=10**4, delay=0.02)
    machine.dispatch(lambda: counted(machine, run))
    second = machine.dispatcher()  # it never saw the child start
    for _ in range(2):
        reached = len(counted(machine, run))
        with transaction(machine.database) as session:  # as if the command's own signal had been lost
            session.get_one(Run, run).stop_requested = utc_now()
        eventually(lambda: second.tick() or machine.row(run).status == "cancelled", 30)
        dispatcher.resume(machine.database, run)
        eventually(lambda more=reached + 2: second.tick() or len(counted(machine, run)) > more)
    second.close()


def test_a_queued_run_is_cancelled_at_once(machine):
    submitted = machine.submit("chain")
    dispatcher.stop(machine.database, submitted.runs[0])
    assert [machine.row(run).status for run in submitted.runs] == ["cancelled", "queued", "skipped"]
    with pytest.raises(UserError, match="already ended \\(cancelled\\)"):
        dispatcher.stop(machine.database, submitted.runs[0])
    dispatcher.resume(machine.database, submitted.runs[0])
    assert machine.finish(*submitted.runs) == ["succeeded"] * 3


@pytest.mark.parametrize("how", ["bug", "kill"])
def test_a_run_that_fails_leaves_no_unfinished_folder(machine, how):
    run = machine.submit("fail", how=how)
    other = machine.home.aside(run.outputs["nothing"] + 1)  # somebody else is writing this
    other.mkdir(parents=True)
    assert machine.finish(*run.runs) == ["failed"]
    assert [path.name for path in other.parent.iterdir()] == [other.name]


def test_a_stubborn_run_is_killed_after_the_grace_period(machine):
    run = machine.start("stubborn")
    machine.dispatch(lambda: machine.row(run).step > 0)
    pid = machine.row(run).pid
    dispatcher.stop(machine.database, run)
    step = machine.row(run).step
    machine.dispatch(lambda: machine.row(run).step > step + 5)
    assert machine.row(run).status == "running", "it is given time"
    machine.dispatch(lambda: machine.has_ended(run), now=lambda: utc_now() + GRACE + timedelta(seconds=1))
    assert machine.row(run).status == "cancelled"
    assert "stopped before it could save" in machine.row(run).error
    assert identity(pid) is None


def test_what_was_skipped_comes_back_on_resume(machine):
    failing = machine.submit("fail", how="kill")
    joined = machine.start("join", parts=[failing.outputs["nothing"]])
    assert machine.finish(failing.runs[0], joined) == ["failed", "skipped"]
    assert f"run {failing.runs[0]} (fail) failed" in machine.row(joined).error
    with pytest.raises(UserError, match="cannot be resumed: it is skipped"):
        dispatcher.resume(machine.database, joined)
    dispatcher.resume(machine.database, failing.runs[0])
    assert machine.row(joined).status == "queued"
    assert machine.row(failing.runs[0]).error is None


def test_a_child_that_dies_before_it_begins_fails_its_run(machine, monkeypatch):
    run = machine.start("count")
    one = machine.dispatcher()
    monkeypatch.setenv("PYTHONPATH", str(machine.home.root / "broken"))
    (machine.home.root / "broken").mkdir()
    (machine.home.root / "broken" / "sqlalchemy.py").write_text("raise RuntimeError('a broken installation')")
    eventually(lambda: one.tick() or machine.has_ended(run))
    one.close()
    assert machine.row(run).status == "failed"
    assert "ended with status 1 before it started: see its log" in machine.row(run).error
    assert "a broken installation" in (machine.home.run_folder(run) / "log.txt").read_text()


def test_a_run_that_is_resumed_while_its_old_process_still_leaves_is_not_taken_for_dead(machine, monkeypatch):
    """The child has settled its run but not yet exited: what ends then is the old process, not the new attempt."""
    run = machine.start("count", steps=400, delay=0.02)
    one = machine.dispatcher()
    eventually(lambda: one.tick() or counted(machine, run))
    child = one.children[run].process
    dispatcher.stop(machine.database, run)
    eventually(lambda: machine.row(run).status == "cancelled")
    dispatcher.resume(machine.database, run)
    assert child.wait(30) == 1
    one.tick()
    assert machine.row(run).status == "queued", machine.row(run).error
    eventually(lambda: one.tick() or machine.row(run).status == "running")
    one.close()


def test_a_run_started_twice_is_run_once(machine):
    """A dispatcher is killed between starting a child and noting it: the next one starts another child."""
    run = machine.start("count", steps=60, delay=0.02)
    first = machine.dispatcher()
    first.tick()
    unnoted = first.children[run].process
    first.children.clear()
    first.close()
    second = machine.dispatcher()
    second.tick()
    assert second.children[run].process.pid != unnoted.pid
    eventually(lambda: second.tick() or machine.has_ended(run))
    second.close()
    unnoted.wait(30)
    assert machine.row(run).status == "succeeded", machine.row(run).error
    with Session(machine.database) as session:
        assert session.exec(select(Metric.step).where(Metric.name == "value").order_by(Metric.id)).all() == list(range(1, 61))


def test_light_runs_overlap_with_a_heavy_one_and_heavy_ones_wait_for_the_device(machine, add_artifact, tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text('{"text": "x"}\n')
    data = add_artifact("dataset", "rows", tmp_path / "rows", format="text", columns=["text"])
    heavy, next_heavy = machine.start("count", steps=10**4, delay=0.02), machine.start("count")
    light = [machine.start("join", parts=[data], pace={"delay": 0.02, "pauses": 25}) for _ in range(4)]
    most = 0

    def light_ones_are_done():
        nonlocal most
        most = max(most, sum(machine.row(run).status == "running" for run in light))
        return machine.has_ended(*light)

    machine.dispatch(light_ones_are_done)
    assert most == dispatcher.LIGHT_AT_ONCE
    assert machine.row(heavy).status == "running"
    assert machine.row(heavy).device == "cpu"
    assert machine.row(next_heavy).status == "queued"
    dispatcher.stop(machine.database, heavy)
    assert machine.finish(next_heavy) == ["succeeded"]


def test_a_database_that_fails_for_a_moment_does_not_end_the_dispatcher(machine, caplog):
    def rename(*names):
        with machine.database.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE {} RENAME TO {}".format(*names))

    run, looks = machine.start("count"), 0

    def until():
        nonlocal looks
        looks += 1
        if looks in (2, 4):
            rename(*(("run", "away") if looks == 2 else ("away", "run")))
        return looks > 4 and machine.has_ended(run)

    machine.dispatcher().run(until, pause=0.02)
    assert machine.row(run).status == "succeeded"
    assert "the database does not answer" in caplog.text


def test_a_process_that_ends_is_described():
    assert how_it_died(None) == "its process is gone (killed, or the machine restarted)"
    assert how_it_died(3) == "its process ended with status 3"
    assert how_it_died(-signal.SIGSEGV) == "killed (signal 11) (SIGSEGV)"
    assert how_it_died(-200) == "killed (signal 200) (unknown)"


def test_unknown_runs_are_named(machine):
    for verb in (dispatcher.stop, dispatcher.resume):
        with pytest.raises(UserError, match="there is no run 99"):
            verb(machine.database, 99)


# the hot spare


@pytest.fixture(params=["stubs", pytest.param("the real libraries", marks=pytest.mark.long)])
def libraries(request, machine, tmp_path, monkeypatch):
    """What the spare imports: empty modules, so that the test takes no half minute of imports; and the real ones."""
    if request.param == "stubs":
        wanted = {"torch": "", "peft": "", "trl": "SFTTrainer", "transformers": "AutoModelForCausalLM AutoTokenizer Trainer"}
        for name, names in wanted.items():
            (tmp_path / f"{name}.py").write_text("".join(f"{each} = None\n" for each in names.split()))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")


def spared(machine, **options):
    """A dispatcher that has just started a spare."""
    one = machine.dispatcher(keep_spare=True, **options)
    one.tick()
    assert one.spare is None, "nobody wanted one"
    with Session(machine.database) as session:
        queries.want_spare(session, utc_now())
        session.commit()
    one.tick()
    with Session(machine.database) as session:
        assert session.get_one(Lock, "spare").pid == one.spare.pid
    return one


def test_the_spare_becomes_the_child_at_normal_priority_and_leaves_when_idle(machine, libraries):
    clock = [utc_now()]
    one = spared(machine, now=lambda: clock[0])
    pid = one.spare.pid
    run = machine.start("count", steps=10**4, delay=0.02)
    one.tick()
    eventually(lambda: machine.row(run).status == "running", 200)
    assert machine.row(run).pid == pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == 0
    assert Path(f"/proc/{pid}/cwd").readlink() == machine.home.run_folder(run)
    eventually(lambda: "counting from 0" in (machine.home.run_folder(run) / "log.txt").read_text())
    dispatcher.stop(machine.database, run)
    eventually(lambda: one.tick() or machine.has_ended(run))
    another = one.spare
    assert another.pid != pid, "another one stands by"
    clock[0] += dispatcher.SPARE_STAYS + timedelta(minutes=1)
    one.tick()
    assert one.spare is None
    assert another.wait(200) == 0
    one.close()


def test_a_spare_leaves_when_its_dispatcher_is_gone(machine, libraries):
    one = spared(machine)
    spare = one.spare
    spare.stdin.close()  # what the system does when the dispatcher is killed
    assert spare.wait(200) == 0
    one.tick()
    assert one.spare.pid != spare.pid
    one.close()


def test_a_spare_that_died_this_moment_does_not_hold_up_the_run(machine, tmp_path, monkeypatch):
    (tmp_path / "peft.py").write_text("import os\nos.close(0)\nimport time\ntime.sleep(5)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    one = spared(machine)
    eventually(lambda: not Path(f"/proc/{one.spare.pid}/fd/0").is_symlink())
    run, spare = machine.start("count", steps=2), one.spare
    one.tick()
    assert one.children[run].process.pid != spare.pid
    eventually(lambda: one.tick() or machine.has_ended(run))
    one.close()
    spare.kill()
    spare.wait()
    assert machine.row(run).status == "succeeded"


def test_what_a_spare_died_of_stands_in_the_log_of_its_run(machine, tmp_path, monkeypatch):
    (tmp_path / "peft.py").write_text("import os\nos.read(0, 1)\nos.write(2, b'Illegal instruction')\nos._exit(132)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    one = spared(machine)
    run = machine.start("count")
    eventually(lambda: one.tick() or machine.has_ended(run))
    one.close()
    assert machine.row(run).error == "its process ended with status 132 before it started: see its log"
    assert "Illegal instruction" in (machine.home.run_folder(run) / "log.txt").read_text()


def test_a_spare_that_sees_another_gpu_is_not_used(machine, libraries, monkeypatch):
    slots = ["cuda:0"]
    monkeypatch.setattr(dispatcher, "devices", lambda: slots)
    one = spared(machine)
    assert one.spare_slot == "cuda:0"
    slots[:] = ["cuda:1"]
    run, spare = machine.start("count", steps=2), one.spare
    one.tick()
    child = one.children[run].process
    assert child.pid != spare.pid
    eventually(lambda: b"CUDA_VISIBLE_DEVICES=1" in Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0"))  # after its exec
    eventually(lambda: one.tick() or machine.has_ended(run))
    one.close()
    assert machine.row(run).status == "succeeded"


def test_no_spare_when_it_is_turned_off(machine):
    with Session(machine.database) as session:
        queries.want_spare(session, utc_now())
        session.commit()
    one = machine.dispatcher(keep_spare=False)
    one.tick()
    assert one.spare is None
    one.close()
