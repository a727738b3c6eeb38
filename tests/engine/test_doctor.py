"""What the machine can do is judged from facts, and each fault says what to do."""

import json

import pytest
from typer.testing import CliRunner

from engine.__main__ import app
from engine.doctor import Facts, judge, unfit

FINE = Facts(
    python="3.11", packages={}, torch="2.13.0+cpu", slots=["cpu"], precision="bfloat16", memory=(8 * 10**9, 16 * 10**9),
    disk=10**11, hub=True, dispatching=True,
    extras=["bitsandbytes", "psycopg", "tensorboard", "trackio", "wandb", "flash_attn", "liger_kernel", "lm_eval"],
)  # fmt: skip
GPU = {"slots": ["cuda:0"], "gpus": {"cuda:0": (4 * 10**9, 8 * 10**9)}}


def told(**changes: object) -> dict[str, tuple[str, str]]:
    return {one.about: (one.level, one.text) for one in judge(Facts(**{**vars(FINE), **changes}))}


def test_a_healthy_machine_has_nothing_but_good_news() -> None:
    assert {level for level, _ in told().values()} == {"ok"}


@pytest.mark.parametrize("changes, about, level, words", [
    ({"packages": {"trl": ("1.0", "trl==1.16.0")}}, "packages", "problem", "trl 1.0 is installed, and trl==1.16.0 is needed"),
    ({"packages": {"trl": ("", "trl==1.16.0")}}, "packages", "problem", "trl is not installed"),
    ({"torch": ""}, "torch", "problem", "make install"),
    (GPU, "torch", "problem", "a build for the CPU, and the machine has an NVIDIA GPU"),
    ({**GPU, "torch": "2.13.0+cu130", "torch_for_cuda": True}, "torch", "problem", "finds no GPU"),
    ({**GPU, "torch": "2.13.0+cu130", "torch_for_cuda": True, "torch_finds_gpu": True}, "device", "ok", "cuda:0, 4.0 of 8.0 GB free"),
    ({"torch": "2.13.0+cu130", "torch_for_cuda": True}, "torch", "note", "there is none"),
    ({"torch": "2.13.0+cu130", "torch_for_cuda": True, "cards": 1}, "torch", "ok", "cu130"),
    ({"cards": 1}, "driver", "problem", "install NVIDIA's"),
    ({"cards": 1, "driver": True}, "driver", "note", "CUDA_VISIBLE_DEVICES hides it"),
    ({"disk": 10**9}, "disk", "problem", "1.0 GB left"),
    ({"writable": False}, "home", "problem", "cannot be written"),
    ({"memory": (10**9, 16 * 10**9)}, "memory", "note", "smallest models"),
    ({"database": "cannot be opened: x"}, "database", "problem", "x"),
    ({"hub": False}, "hub", "note", "local files"),
    ({"dispatching": False}, "dispatcher", "note", "does not run"),
    ({"extras": []}, "bitsandbytes", "note", "QLoRA"),
])  # fmt: skip
def test_what_is_wrong_says_what_to_do(changes, about, level, words) -> None:
    found = told(**changes)[about]
    assert found[0] == level
    assert words in found[1]


def test_packages_are_held_against_what_the_project_needs() -> None:
    assert unfit(["pytest>=1", "nothing-like-it>=2", 'pywin32; sys_platform == "win32"', 'x; extra == "gpu"']) == {
        "nothing-like-it": ("", "nothing-like-it>=2")
    }
    assert unfit(["pytest<1"])["pytest"][1] == "pytest<1"


def test_the_command_looks_for_real(home) -> None:
    result = CliRunner().invoke(app, ["doctor", "--json", "--home", str(home.root)])
    rows = {row["about"]: row for row in json.loads(result.output.splitlines()[-1])}
    assert rows["torch"]["level"] in ("ok", "problem")
    assert rows["database"]["level"] == "ok"
    assert not home.root.exists(), "looking makes nothing"
    assert result.exit_code == any(row["level"] == "problem" for row in rows.values())
