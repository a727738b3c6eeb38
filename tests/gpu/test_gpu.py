"""What only a GPU can show: that training there is right, that 4 bits work, that GPUs share a run, that answering live yields."""

from collections.abc import Callable

import pytest
import torch
from sqlmodel import Session

from engine import dispatcher, inference, library
from engine.devices import devices, fast_bfloat16, gpu_memory
from engine.inference import Asked, ask
from engine.processes import alive
from engine.settings import SamplingSettings
from engine.stages.train import _training
from storage.tables import Lock
from tests.engine.conftest import Machine, eventually
from tests.engine.teaching import Class, wide_model

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


def run_of(machine: Machine, school: Class, **settings: object) -> int:
    run = machine.start("finetune", **school.lesson(**settings).model_dump(mode="json"))
    assert machine.finish(run) == ["succeeded"], machine.row(run).error
    return run


def test_slots_and_memory_are_those_of_the_driver(gpus: int) -> None:
    assert devices() == [f"cuda:{place}" for place in range(gpus)]
    for place in range(gpus):
        _, total = torch.cuda.mem_get_info(place)
        assert gpu_memory()[f"cuda:{place}"][1] == pytest.approx(total, rel=0.05)
        assert bool(fast_bfloat16(f"cuda:{place}")) == (torch.cuda.get_device_capability(place) >= (8, 0))


def test_losses_are_those_of_the_cpu(gpus: int, machine: Machine, school: Class, measured: Callable[[str], None]) -> None:
    there = school.curve(run_of(machine, school, training={"precision": "float32"}))
    stage = school.lesson(training={"precision": "float32"})
    work = school.start(stage)
    assert school.finish(work, stage)
    here = school.curve(work.run)
    measured(f"largest difference {max(abs(there[step] - here[step]) for step in here):.1e}")
    assert there == pytest.approx(here, abs=2e-2)


def test_it_learns_in_the_precision_it_chooses(gpus: int, machine: Machine, school: Class, measured: Callable[[str], None]) -> None:
    run = run_of(machine, school, training={"precision": "auto", "steps": 30}, panel_size=2)
    losses = school.curve(run)
    with Session(machine.database) as session:
        (made,) = library.queries.outputs_of(session, run).values()
        measured(made.summary["computed_in"])
    measured(f"{school.curve(run, 'tokens_per_second')[30]:.0f} tokens/s, {max(school.curve(run, 'memory_gb').values()):.2f} GB")
    assert losses[30] < losses[1] - 0.5


def test_a_stopped_run_goes_on(gpus: int, machine: Machine, school: Class) -> None:
    run = machine.start("finetune", **school.lesson(training={"steps": 300}).model_dump(mode="json"))
    machine.dispatch(lambda: machine.row(run).step >= 3)
    dispatcher.stop(machine.database, run)
    assert machine.finish(run) == ["cancelled"]
    (step,) = library.checkpoints(machine.home, run)
    dispatcher.resume(machine.database, run)
    assert machine.finish(run) == ["succeeded"]
    assert sorted(school.curve(run)) == list(range(1, 301))
    assert step >= 3


def test_two_gpus_share_a_run(gpus: int, machine: Machine, school: Class, measured: Callable[[str], None]) -> None:
    if gpus < 2:
        pytest.skip("needs two GPUs")
    one, two = (school.curve(run_of(machine, school, training={"processes": processes})) for processes in (1, 2))
    measured(f"largest difference {max(abs(one[step] - two[step]) for step in one):.1e}")
    assert two == pytest.approx(one, abs=1e-3)


@pytest.mark.parametrize("where", ["cpu", "cuda:0"])
def test_four_bits_learn(
    where: str, request: pytest.FixtureRequest, machine: Machine, school: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU too, where bitsandbytes is installed: the form refuses it there, for it is only slower."""
    pytest.importorskip("bitsandbytes")
    if where != "cpu":
        request.getfixturevalue("gpus")
    monkeypatch.setattr(_training, "devices", lambda: ["cuda:0"])
    wide = school.add("model", "wide", wide_model(school.folder / "wide"), format="full", parameters=10**6, context_length=school.context)
    stage = school.lesson(model=wide, lora={"quantize": "4bit"}, training={"steps": 20}, panel_size=1)
    work = school.start(stage)
    work.device = where
    assert school.finish(work, stage)
    heldout = school.curve(work.run, "eval_loss")
    assert heldout[20] < heldout[0] - 0.5
    assert (work.output("model") / "adapter_model.safetensors").exists()


def test_answering_live_leaves_when_a_run_takes_the_gpu(gpus: int, machine: Machine, school: Class) -> None:
    talk, sampling = [{"role": "user", "content": "say 1"}], SamplingSettings(max_new_tokens=8)
    said = list(ask(machine.database, machine.home, [Asked(school.model, talk)], sampling))
    assert (said[-1].kind, said[-1].device.split(",")[0]) == ("done", "cuda:0")
    with Session(machine.database) as session:
        row = session.get_one(Lock, inference.lock_name("cuda:0"))
        child = row.pid, row.pid_started
    run_of(machine, school, training={"steps": 200})
    eventually(lambda: not alive(*child))
