"""One run shared by two processes, proven with gloo on the CPU: the same losses, one voice, one checkpoint, one end."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from sqlmodel import Session, select

from engine import dispatcher, library, worker
from engine.devices import compute_device, seen_by
from engine.errors import Cancelled, UserError
from engine.processes import child_environment
from engine.settings import TrainingSettings
from engine.slots import Slots
from engine.stages.train.finetune import Finetune
from storage import queries
from storage.queries import utc_now
from storage.tables import Event, Metric, Run
from tests.engine.conftest import Machine, eventually
from tests.engine.teaching import Class, conversations

LESSON = {"steps": 6, "batch_size": 4, "accumulation": 2, "checkpoints": 2}


@pytest.fixture
def school(machine: Machine, add_artifact: Callable[..., int], tmp_path: Path) -> Class:
    return Class(machine.database, machine.home, add_artifact, tmp_path)


def start(machine: Machine, school: Class, processes: int, **more: object) -> int:
    """Queue a run on 18 rows in steps of 8: the last batch of an epoch is half empty."""
    rows = school.rows(f"even {processes} {more}", conversations(18), conversations(6, first=50))
    lesson = school.lesson(data=rows, panel_size=1, training=LESSON | {"processes": processes} | more)
    return machine.start("finetune", **lesson.model_dump(mode="json"))


def others(run: int, machine: Machine) -> list[psutil.Process]:
    """The processes that share a run, but for the one that leads it."""
    leader = machine.row(run).pid
    here = [one for one in psutil.process_iter(["cmdline"]) if ["work", str(run)] == (one.info["cmdline"] or [])[-6:-4]]
    agent = psutil.Process(leader).parent()
    return [one for one in here if one.pid not in (leader, agent.pid) and one.parent() == agent]


def weights(machine: Machine, run: int) -> dict[str, torch.Tensor]:
    with Session(machine.database) as session:
        made = library.queries.outputs_of(session, run)["model"]
    return load_file(machine.home.artifact_folder(made.id) / "adapter_model.safetensors")


@pytest.mark.timeout(280)
def test_two_processes_learn_what_one_does_and_one_speaks(machine: Machine, school: Class) -> None:
    one, two = start(machine, school, 1), start(machine, school, 2)
    assert machine.finish(one, two) == ["succeeded", "succeeded"], (machine.home.run_folder(two) / "log.txt").read_text()[-3000:]
    alone, shared = school.curve(one), school.curve(two)
    assert shared == pytest.approx(alone, abs=1e-5)
    assert school.curve(two, "eval_loss") == pytest.approx(school.curve(one, "eval_loss"), abs=1e-5)
    learnt = weights(machine, one)
    for name, tensor in weights(machine, two).items():
        assert torch.allclose(tensor, learnt[name], atol=5e-4), name
    with Session(machine.database) as session:
        told = [(row.name, row.step) for row in session.exec(select(Metric).where(Metric.run == two))]
        assert sorted(told) == sorted(set(told)), "nobody says anything twice"
        events = [[row.message for row in session.exec(select(Event).where(Event.run == run))] for run in (one, two)]
        assert events[0] == events[1]
    assert [r.prompt_key for r in school.responses(one)] == [r.prompt_key for r in school.responses(two)]
    assert library.checkpoints(machine.home, two) == [3, 6]


@pytest.mark.timeout(280)
def test_a_stop_saves_once_and_resume_goes_on(machine: Machine, school: Class) -> None:
    run = start(machine, school, 2, steps=400)
    machine.dispatch(lambda: machine.row(run).step >= 2)
    dispatcher.stop(machine.database, run)
    assert machine.finish(run) == ["cancelled"]
    (step,) = library.checkpoints(machine.home, run)
    assert 2 <= step < 400
    dispatcher.resume(machine.database, run)
    machine.dispatch(lambda: machine.row(run).step > step)
    steps = sorted(school.curve(run))
    assert steps == sorted(set(steps)), "no step is told twice"
    os.kill(others(run, machine)[0].pid, signal.SIGKILL)
    assert machine.finish(run) == ["failed"]
    assert "process" in machine.row(run).error
    assert "ended (killed, or out of memory)" in machine.row(run).error
    assert "resume goes on" in machine.row(run).error
    eventually(lambda: not [p for p in psutil.process_iter(["cmdline"]) if ["work", str(run)] == (p.info["cmdline"] or [])[-6:-4]])


@pytest.mark.long
@pytest.mark.timeout(280)
def test_a_signal_to_every_process_ends_the_run_once(machine: Machine, school: Class) -> None:
    """What a machine that shuts down does: torchrun, the leader and the others all get it, some of them twice."""
    run = start(machine, school, 2, steps=400)
    machine.dispatch(lambda: machine.row(run).step >= 2)
    leader = psutil.Process(machine.row(run).pid)
    for process in (leader.parent(), leader, *others(run, machine)):
        process.send_signal(signal.SIGTERM)
    assert machine.finish(run) == ["cancelled"]
    (step,) = library.checkpoints(machine.home, run)
    assert 2 <= step < 400
    assert (machine.home.run_folder(run) / "log.txt").read_text().count("Traceback") <= 1, "only torchrun's own, about the signal"


@pytest.mark.long
@pytest.mark.timeout(280)
def test_when_the_leader_is_killed_the_run_fails_and_nobody_stays(machine: Machine, school: Class) -> None:
    run = start(machine, school, 2, steps=400)
    machine.dispatch(lambda: machine.row(run).step >= 2)
    (other,) = others(run, machine)
    os.kill(machine.row(run).pid, signal.SIGKILL)
    assert machine.finish(run) == ["failed"]
    assert "one of its 2 processes ended (killed, or out of memory) and took the others along, last step" in machine.row(run).error
    eventually(lambda: not other.is_running() or other.status() == psutil.STATUS_ZOMBIE)


def test_what_goes_wrong_beside_the_leader_is_told(machine: Machine, school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(problem: Exception | None) -> int:
        def run_it(*_: object) -> None:
            if problem:
                raise problem

        monkeypatch.setattr(Finetune, "run", run_it)
        return worker.work(machine.database, machine.home, run)

    run = start(machine, school, 2)
    with Session(machine.database) as session:
        queries.begin(session, run, os.getpid(), "me", "cpu", utc_now())
        session.commit()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    gone = RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234")
    told = [act(problem) for problem in (None, Cancelled(), gone, UserError("the leader says it"), MemoryError("on its GPU"))]
    assert told == [0, 0, 1, 1, 1]
    with Session(machine.database) as session:
        assert session.get_one(Run, run).status == "running", "its end is the leader's to say"
        (event,) = session.exec(select(Event).where(Event.run == run)).all()
    assert event.message.startswith("process 1 of this run: out of memory: lower batch size")
    assert worker.explain(gone, machine.home).startswith("another process of this run ended (killed, or out of memory)")


def test_a_child_is_alone_whatever_started_the_dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert not {"RANK", "WORLD_SIZE"} & set(child_environment(tmp_path, heavy=True))
    assert child_environment(tmp_path, heavy=True)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_run_takes_as_many_slots_as_it_has_processes(machine: Machine, monkeypatch) -> None:
    choose = Slots(machine.database, machine.home, utc_now).choose
    run = Run(id=machine.start("count"), stage="finetune", settings={"model": 1, "data": 2, "training": {"processes": 2, "batch_size": 4}})
    assert choose(run, ["cuda:0", "cuda:2", "cuda:3"]) == ["cuda:0", "cuda:2"]
    assert choose(run, ["cpu"]) == ["cpu"]
    assert choose(Run(stage="finetune", settings={"old": 1}), ["cuda:1"]) == ["cuda:1"]
    for there in ("cuda:0 cuda:1", "cuda:1", "cuda:1"):
        monkeypatch.setattr("engine.slots.devices", there.split)
        assert choose(run, ["cuda:1"]) == []
    with Session(machine.database) as session:
        assert [row.message for row in session.exec(select(Event))] == ["waiting for 2 GPUs: this machine has 1 now"]


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 5 cannot be shared equally by processes 2"):
        TrainingSettings(batch_size=5, processes=2)


@pytest.mark.parametrize("slots, given, rank, seen, device", [
    ("cpu", "", "0", "", "cpu"), ("mps", "", "0", "", "mps"), ("cuda:1", "", "0", "1", "cuda:0"),
    ("cuda:1", "GPU-a,GPU-b", "0", "GPU-b", "cuda:0"),
    ("cuda:0,cuda:2", "", "1", "0,2", "cuda:1"), ("cuda:0,cuda:1", "5,7", "1", "5,7", "cuda:1"),
])  # fmt: skip
def test_a_run_sees_the_gpus_of_its_slots_only(monkeypatch, slots, given, rank, seen, device) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert compute_device(slots) == device
    assert seen_by(slots).get("CUDA_VISIBLE_DEVICES", "") == seen


def test_more_gpus_than_there_are_are_refused(machine: Machine, school: Class, monkeypatch) -> None:
    monkeypatch.setattr("engine.submit.devices", lambda: ["cuda:0"])
    with pytest.raises(Exception, match="wants 2 GPUs and the machine has 1"):
        start(machine, school, 2)
