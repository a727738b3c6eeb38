"""Slots and what fits on them: GPUs that other programs fill are not used, and 4-bit training is wired, or refused in words."""

import importlib.util
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from sqlmodel import Session, select

from engine import devices, submit
from engine.devices import fast_bfloat16, gpu_memory, in_words
from engine.errors import UserError
from engine.inference import holder
from engine.processes import identity
from engine.stage import Input
from engine.stages.train import _training
from engine.training import lesson as lessons
from engine.training import models
from storage import queries
from storage.queries import utc_now
from storage.tables import Event, Lock, Run
from tests.engine.conftest import Machine
from tests.engine.teaching import Class

SMI = """#!/bin/sh
cat <<'END'
0, GPU-aaa, 1000, 8000, 7.5
1, GPU-bbb, 7000, 8000, 8.9
2, GPU-ccc, [N/A], [N/A], [N/A]
END
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose nvidia-smi tells of three GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(SMI)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "FRESH", 1e-9)
    return program


@pytest.fixture
def school(machine: Machine, add_artifact: Callable[..., int], tmp_path: Path) -> Class:
    return Class(machine.database, machine.home, add_artifact, tmp_path)


def test_free_memory_is_what_the_driver_says(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_memory() == {"cuda:0": (1000 * 2**20, 8000 * 2**20), "cuda:1": (7000 * 2**20, 8000 * 2**20)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_memory() == {"cuda:0": (7000 * 2**20, 8000 * 2**20)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bbb,GPU-aaa")
    assert gpu_memory()["cuda:0"][0] == 7000 * 2**20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,-1,1")
    assert list(gpu_memory()) == ["cuda:0"], "CUDA stops reading at what is no GPU"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_memory() == {}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed, and, this, has, five cells'\n")
    assert gpu_memory() == {}
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_memory() == {}
    smi.unlink()
    assert gpu_memory() == {}


def test_bfloat16_is_chosen_by_what_the_device_can(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [fast_bfloat16(slot) for slot in ("cuda:0", "cuda:1", "cuda:2", "cuda:9", "mps")] == ["", "compute capability 8.9", "", "", ""]
    assert bool(fast_bfloat16("cpu")) == (models.compute_dtype("auto", "cpu") == torch.bfloat16), "the form says what the run will do"
    assert models.precision_in_words(torch.bfloat16, "cpu") == in_words("bfloat16", "cpu", fast_bfloat16("cpu"))
    assert in_words("bfloat16", "cpu", "AMX") == "bfloat16: this CPU computes it fast (AMX)"
    assert in_words("float32", "cuda:0", "") == "float32: this GPU is not known to be fast at bfloat16"


class Waiting:
    """A dispatcher on a machine with two GPUs, and a run that says how much it needs."""

    def __init__(self, machine: Machine, school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine, self.started = machine, list[str]()
        self.needed, self.looks = 4e9, 0
        monkeypatch.setattr("engine.dispatcher.devices", lambda: ["cuda:0", "cuda:1"])
        monkeypatch.setattr(submit, "memory_needed", self._look)
        self.run = machine.start("finetune", **school.lesson().model_dump(mode="json"))
        self.dispatcher = machine.dispatcher()
        monkeypatch.setattr(self.dispatcher, "_start", lambda run, slots: self.started.append(slots))

    def _look(self, *_: object) -> float:
        self.looks += 1
        return self.needed

    def told(self) -> list[str]:
        with Session(self.machine.database) as session:
            return [row.message for row in session.exec(select(Event).where(Event.run == self.run))]


@pytest.fixture
def waiting(machine: Machine, school: Class, smi: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    waiting = Waiting(machine, school, monkeypatch)
    yield waiting
    waiting.dispatcher.close()


def test_a_gpu_that_others_fill_is_passed_over(waiting: Waiting) -> None:
    waiting.dispatcher.tick()
    assert (waiting.started, waiting.told()) == (["cuda:1"], [])


def test_a_run_says_once_what_it_waits_for_and_starts_when_there_is_room(waiting: Waiting, smi: Path) -> None:
    waiting.needed = 6e9
    smi.write_text(SMI.replace("7000", "1144"))
    for _ in range(3):
        waiting.dispatcher.tick()
    assert waiting.started == []
    assert waiting.told() == ["waiting for 6.0 GB on a GPU: 1.0 GB free on cuda:0, 1.2 GB free on cuda:1, other programs use the rest"]
    assert waiting.looks == 1, "an estimate reads data: once is enough"
    smi.write_text(SMI)
    waiting.dispatcher.tick()
    assert waiting.started == ["cuda:1"]


def test_an_empty_gpu_is_good_enough_whatever_the_estimate_says(waiting: Waiting, smi: Path) -> None:
    waiting.needed = 90e9
    smi.write_text(SMI.replace("7000", "7800"))
    waiting.dispatcher.tick()
    assert waiting.started == ["cuda:1"]


def test_what_answers_live_does_not_hold_up_a_run(waiting: Waiting) -> None:
    waiting.needed = 90e9
    with Session(waiting.machine.database) as session:
        session.add(Lock(name="inference cuda:0", pid=os.getpid(), pid_started=identity(os.getpid()) or "", at=utc_now()))
        session.commit()
    waiting.dispatcher.tick()
    assert waiting.started == ["cuda:0"], "it leaves once the run has taken its GPU"


def test_a_run_on_several_gpus_holds_each_and_is_not_overtaken(machine: Machine, school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dispatcher", "slots", "submit", "inference"):
        monkeypatch.setattr(f"engine.{module}.devices", lambda: ["cuda:0", "cuda:1"])
    first, both, last = (
        machine.start("finetune", **school.lesson(training={"processes": processes}).model_dump(mode="json")) for processes in (1, 2, 1)
    )
    started: dict[int, str] = {}

    def mark(run: Run, slots: str) -> None:
        started[run.id or 0] = slots
        with Session(machine.database) as session:
            queries.begin(session, run.id or 0, os.getpid(), identity(os.getpid()) or "", slots, utc_now())
            session.commit()

    def end(run: int) -> None:
        with Session(machine.database) as session:
            queries.settle(session, run, "cancelled", utc_now())
            session.commit()

    dispatcher = machine.dispatcher()
    monkeypatch.setattr(dispatcher, "_start", mark)
    for _ in range(2):
        dispatcher.tick()
    assert started == {first: "cuda:0"}, "cuda:1 is kept for the run that needs both"
    end(first)
    dispatcher.tick()
    assert started == {first: "cuda:0", both: "cuda:0,cuda:1"}
    with Session(machine.database) as session:
        assert [getattr(holder(session, slot), "id", None) for slot in ("cuda:0", "cuda:1", "cpu")] == [both, both, None]
    dispatcher.tick()
    assert last not in started
    end(both)
    dispatcher.tick()
    assert started[last] == "cuda:0"
    end(last)
    dispatcher.close()


def test_the_estimate_follows_the_device_the_bits_and_the_processes(school: Class, smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(**settings: object) -> int:
        told = submit.estimate(school.database, school.home, school.lesson(**settings))
        assert told
        return told.memory

    whole = memory()
    assert memory(training={"processes": 2}) > whole, "on a CPU they share one memory"
    monkeypatch.setattr(_training, "devices", lambda: ["cuda:0"])
    halved = memory(training={"precision": "auto"})
    assert halved < memory(training={"precision": "float32"}) < memory(method="full")
    assert memory(training={"precision": "auto", "processes": 2}) < halved
    told = submit.estimate(school.database, school.home, school.lesson(training={"precision": "auto"}))
    assert told
    assert "Computes in float32: this GPU is not known to be fast at bfloat16" in told.notes
    assert told.warnings == ()
    smi.write_text(SMI.replace("8000", "10"))
    warned = submit.estimate(school.database, school.home, school.lesson())
    assert warned
    assert "the largest GPU has 0 GB" in warned.warnings[0]


def test_four_bits_need_a_gpu_the_package_and_a_whole_model(school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = school.lesson(lora={"quantize": "4bit"})
    inputs = {id: school.start(school.lesson()).artifact(id) for id in (school.model, school.data)}
    with pytest.raises(UserError, match="needs an NVIDIA GPU"):
        lesson.check(inputs)
    monkeypatch.setattr(_training, "devices", lambda: ["cuda:0"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install 'bitsandbytes"):
        lesson.check(inputs)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    lesson.check(inputs)
    adapter = inputs[school.model].__class__(**{**vars(inputs[school.model]), "summary": {"format": "adapter", "base": 1}})
    with pytest.raises(UserError, match="export it as a whole model"):
        lesson.check({**inputs, school.model: adapter})
    with pytest.raises(ValueError, match=r"lora\.quantize is 4bit but method is full"):
        school.lesson(lora={"quantize": "4bit"}, method="full")


def test_four_bits_reach_the_loader(school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes computes on CUDA only: what it would be given is looked at just before."""
    given: dict[str, object] = {}

    class Config:
        def __init__(self, **settings: object) -> None:
            given.update(settings)

    loaded = models.AutoModelForCausalLM.from_pretrained

    def load(folder: Path, **settings: object) -> object:
        given["at"] = settings["device_map"]
        assert isinstance(settings["quantization_config"], Config)
        return loaded(folder, dtype=torch.float32)

    monkeypatch.setattr(models, "BitsAndBytesConfig", Config)
    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", load)
    work = school.start(school.lesson())
    model = models.load_quantized(work.input("model"), torch.bfloat16, "cuda:0")
    assert given == {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.bfloat16,
        "at": {"": "cuda:0"},
    }  # fmt: skip
    assert not any(part.requires_grad for part in model.parameters()), "only the adapter learns"


def test_four_bits_are_what_the_run_loads_and_the_result_says_so(school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(source: Input, dtype: torch.dtype, device: str) -> object:
        asked.append((source.id, dtype, device))
        return models.load_model(source, work.artifact, dtype, device)

    monkeypatch.setattr(_training, "_refuse_quantizing", lambda model: None)
    monkeypatch.setattr(lessons, "load_quantized", load)
    stage = school.lesson(lora={"quantize": "4bit"})
    work = school.start(stage)
    assert school.finish(work, stage)
    assert asked == [(school.model, torch.float32, "cpu")]
    summary = work.put_outputs_in_place()["model"].summary
    assert (summary["format"], summary["base"]) == ("adapter", school.model)
    assert summary["trained_on"].startswith("4-bit weights (nf4)")


def test_the_log_says_how_it_computes(school: Class) -> None:
    stage = school.lesson()
    work = school.start(stage)
    assert school.finish(work, stage)
    with Session(school.database) as session:
        told = [row.message for row in session.exec(select(Event).where(Event.run == work.run))]
    assert any(text.startswith("computing in float32") for text in told)
