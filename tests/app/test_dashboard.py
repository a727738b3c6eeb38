"""The dashboard as a process: what it refuses, what it gives away, and that it stays light."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from sqlmodel import Session

from app.dashboard import serve
from engine.errors import UserError
from engine.processes import alive
from storage.database import open_database
from storage.files import Home
from storage.tables import Lock
from tests.browser.conftest import dashboard
from tests.browser.seed import seed


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_an_address_that_others_can_reach_is_refused(database, home, host: str) -> None:
    with pytest.raises(UserError, match="dianjing user add NAME --role owner"):
        serve(database, home, host, 7860)


def test_a_port_in_use_is_named_with_a_free_one(database, home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as refused:
            serve(database, home, "127.0.0.1", port)
    other = refused.value.values["other"]
    assert str(port) in str(refused.value)
    assert isinstance(other, int)
    assert other > port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", other))


def test_the_dashboard_needs_no_torch(home) -> None:
    code = (
        "import sys; from app.dashboard import build; from storage.database import open_database; from storage.files import default_home\n"
        "build(open_database(default_home()), default_home())\n"
        "import engine.training.cost, engine.training.rows  # what estimates and previews read with\n"
        "print([name for name in ('torch', 'transformers', 'trl', 'peft', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


def read(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


def test_pages_are_built_empty_and_offer_no_programming_interface(tmp_path: Path) -> None:
    seed(Home(tmp_path / "home"))
    with dashboard(tmp_path / "home", "--no-spare") as address:
        dispatcher_of(Home(tmp_path / "home"))  # the seeded queue keeps it: it must be there to be ended
        config, info = read(address + "/config"), json.loads(read(address + "/gradio_api/info"))
        pages = [read(address + path) for path in ("/", "/runs?run=3", "/library?artifact=2")]
    assert all("SmolLM2-135M-Instruct" not in page and "onerror" not in page for page in [config, *pages])
    assert info["named_endpoints"] == {}
    assert not info["unnamed_endpoints"]


def dispatcher_of(home: Home) -> int:
    """The pid of the home's living dispatcher, waited for."""
    for _ in range(200):
        with Session(open_database(home)) as session:
            row = session.get(Lock, "dispatcher")
        if row and alive(row.pid, row.pid_started):
            return row.pid
        time.sleep(0.1)
    raise AssertionError("nobody dispatches")


def test_a_dispatcher_that_dies_is_replaced(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with dashboard(home.root, "--no-spare"):
        first = dispatcher_of(home)
        os.kill(first, signal.SIGKILL)
        time.sleep(0.3)
        assert dispatcher_of(home) != first
