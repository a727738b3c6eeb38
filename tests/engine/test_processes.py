"""Who a process is, and what its environment must hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.devices import devices
from engine.processes import alive, child_environment, identity
from tests.engine.conftest import eventually

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_process_is_known_by_more_than_its_pid():
    mine = identity(os.getpid())
    assert mine == identity(os.getpid())
    assert alive(os.getpid(), mine)
    assert not alive(os.getpid(), "another boot:1")
    assert not alive(None, mine)
    assert not alive(os.getpid(), None)
    assert identity(1) != mine


@linux
def test_a_zombie_is_dead():
    child = subprocess.Popen(["sleep", "60"])
    who = identity(child.pid)
    assert alive(child.pid, who)
    child.kill()
    eventually(lambda: Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "Z")
    assert identity(child.pid) is None
    child.wait()
    assert not alive(child.pid, who)


@linux
def test_a_name_with_brackets_and_spaces_does_not_confuse(tmp_path):
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "60"])
    plain = subprocess.Popen(["sleep", "60"])
    try:
        eventually(lambda: ") S 1 (" in Path(f"/proc/{child.pid}/stat").read_text())
        assert int(identity(plain.pid).split(":")[1]) - int(identity(child.pid).split(":")[1]) in range(200)
    finally:
        for process in (child, plain):
            process.kill()
            process.wait()


def test_children_are_offline_unless_they_must_ask(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert child_environment(tmp_path, heavy=True)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in child_environment(tmp_path, heavy=True, online=True)
    assert child_environment(tmp_path, heavy=True)["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_a_light_child_keeps_out_of_the_way(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert child_environment(tmp_path, heavy=False)["OMP_NUM_THREADS"] == "1"
    heavy = child_environment(tmp_path, heavy=True)
    assert "OMP_NUM_THREADS" not in heavy
    assert int(heavy["MALLOC_TOP_PAD_"]) > int(child_environment(tmp_path, heavy=False)["MALLOC_TOP_PAD_"])
    assert heavy["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_no_slots(monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(Path, "is_dir", lambda self: True)
    monkeypatch.setattr(sys, "platform", "linux")
    assert devices() == ["cpu"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert devices() == ["cuda:0", "cuda:1"]
