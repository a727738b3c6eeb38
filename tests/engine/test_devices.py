"""Slots and what fits on them: GPUs that other programs fill are not used, and 4-bit training is wired, or refused in words."""

import importlib.util
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sqlmodel import Session, select

from engine.errors import UserError
from engine.processes import gpu_memory
from engine.stages.train import finetune
from engine.training import models
from storage.tables import Event
from tests.engine.conftest import Machine
from tests.engine.teaching import Class

SMI = """#!/bin/sh
cat <<'END'
0, GPU-aaa, 1000, 8000
1, GPU-bbb, 7000, 8000
2, GPU-ccc, [N/A], [N/A]
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
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_memory() == {}
    smi.unlink()
    assert gpu_memory() == {}


def test_a_full_gpu_is_passed_over_and_a_run_says_what_it_waits_for(
    machine: Machine, school: Class, smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.dispatcher.devices", lambda: ["cuda:0", "cuda:1"])
    run = machine.start("finetune", **school.lesson().model_dump(mode="json"))
    started: list[str] = []
    dispatcher = machine.dispatcher()
    monkeypatch.setattr(dispatcher, "_start", lambda run, device: started.append(device))
    needed = int(4e9)
    monkeypatch.setattr("engine.submit.memory_needed", lambda *_: needed)
    dispatcher.tick()
    assert started == ["cuda:1"]
    started.clear()
    dispatcher.needs[run] = int(9e9)
    for _ in range(3):
        dispatcher.tick()
    dispatcher.close()
    assert started == []
    with Session(machine.database) as session:
        (event,) = session.exec(select(Event).where(Event.run == run)).all()
    assert event.message == "waits for 9.0 GB on a GPU (cuda:0 has 1.0 GB free, cuda:1 has 7.3 GB free): other programs use the rest"


def test_four_bits_need_a_gpu_the_package_and_a_whole_model(school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = school.lesson(lora={"quantize": "4bit"})
    inputs = {id: school.start(school.lesson()).artifact(id) for id in (school.model, school.data)}
    with pytest.raises(UserError, match="needs an NVIDIA GPU"):
        lesson.check(inputs)
    monkeypatch.setattr(finetune, "devices", lambda: ["cuda:0"])
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


def test_the_log_says_how_it_computes(school: Class) -> None:
    stage = school.lesson()
    work = school.start(stage)
    assert school.finish(work, stage)
    with Session(school.database) as session:
        told = [row.message for row in session.exec(select(Event).where(Event.run == work.run))]
    assert any(text.startswith("computing in float32") for text in told)
