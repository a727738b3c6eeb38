"""The installer's decisions, as pure functions, and that the wheel ships every data file."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import setup  # noqa: E402

sys.path.pop(0)


@pytest.mark.parametrize("version, ensurepip, says", [
    ((3, 10), True, "make run PYTHON=python3.11"),
    ((3, 14), True, "3.11 to 3.13"),
    ((3, 12), False, "sudo apt-get install -y python3.12-venv"),
    ((3, 11), True, ""),
    ((3, 13), True, ""),
])  # fmt: skip
def test_an_unfit_python_is_told_the_fix(version, ensurepip, says):
    problem = setup.python_problem(version, ensurepip)
    assert says in problem
    assert bool(problem) == bool(says)


def test_pyproject_and_installer_agree_on_the_pythons():
    assert 'requires-python = ">=3.11,<3.14"' in (ROOT / "pyproject.toml").read_text()
    assert setup.PYTHONS == ((3, 11), (3, 13))


def test_a_second_run_installs_nothing_until_a_file_changes(tmp_path):
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("one")
    before = setup.fingerprint(tmp_path, (3, 11))
    assert setup.satisfied(f"{before} run\n", before, test=False)
    assert setup.satisfied(f"{before} test\n", before, test=False)
    assert not setup.satisfied(f"{before} run\n", before, test=True)
    assert not setup.satisfied("", before, test=False)
    assert not setup.satisfied("", before, test=True)
    (tmp_path / "constraints.txt").write_text("two")
    after = setup.fingerprint(tmp_path, (3, 11))
    assert not setup.satisfied(f"{before} test\n", after, test=False)
    assert setup.fingerprint(tmp_path, (3, 12)) != after


@pytest.mark.parametrize("system, nvidia, answers, source", [
    ("Linux", False, True, "cpu"),
    ("Linux", False, False, "cuda"),
    ("Linux", True, True, "cuda"),
    ("Darwin", False, True, "default"),
])  # fmt: skip
def test_which_pytorch(system, nvidia, answers, source):
    assert setup.torch_source(system, nvidia, answers) == source
    assert "GB" in setup.SIZES[source]


def test_an_address_nobody_listens_on_does_not_answer():
    assert not setup.answers("http://127.0.0.1:9/", seconds=1)


@pytest.mark.parametrize("system, apt, root, sudo, last", [
    ("ID=debian\n", True, True, False, "apt-get install -y --no-install-recommends chromium"),
    ("ID=debian\n", True, False, True, "sudo -n apt-get install -y --no-install-recommends chromium"),
    ("ID=debian\n", True, False, False, "playwright install chromium"),
    ("ID=ubuntu\nID_LIKE=debian\n", True, True, False, "playwright install --with-deps chromium"),
    ("", False, False, False, "playwright install chromium"),
])  # fmt: skip
def test_where_chromium_comes_from(system, apt, root, sudo, last):
    assert " ".join(setup.chromium_commands(system, apt, root, sudo)[-1]).endswith(last)


def test_constraints_pin_every_dependency():
    import importlib.metadata
    import re

    plain = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower(): line for line in (ROOT / "constraints.txt").read_text().split()}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in plain.values())
    named = [re.match(r"[\w.-]+", wanted).group() for wanted in importlib.metadata.requires("dianjing")]
    assert [name for name in named if re.sub(r"[-_.]+", "-", name).lower() not in plain] == []


def test_the_wheel_ships_every_data_file(tmp_path):
    """Built without asking an index: hatchling must be there, as it is where the tests' extra is installed."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    shipped = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    tracked = [
        str(path.relative_to(ROOT))
        for folder in ("app", "assets", "engine", "storage")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert [name for name in tracked if name not in shipped] == []
