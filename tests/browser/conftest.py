"""A real dashboard in a process of its own, and Chromium."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sqlmodel import Session, select

from engine.processes import alive
from storage.database import open_database
from storage.files import Home
from storage.tables import Lock
from tests.browser.seed import seed

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def dashboard(home: Path, *options: str, port: int = 0) -> Iterator[str]:
    """`dianjing ui` on a free port, or on this one again; its address. It and its dispatcher are gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = port or probe.getsockname()[1]
    words = [sys.executable, "-P", "-m", "engine", "ui", "--home", str(home), "--port", str(port), *options]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "ui.txt").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, cwd=home)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, process, home / "ui.txt")
        yield address
    finally:
        process.terminate()
        process.wait(20)
        _end_children(home)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser: the one that DIANJING_CHROMIUM names, the system's, or playwright's own."""
    with sync_playwright() as playwright:
        path = os.environ.get("DIANJING_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file; while it is open, playwright's event loop runs in this thread and no other can."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="package")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dashboard on a home that has seen work."""
    home = tmp_path_factory.mktemp("filled")
    seed(Home(home))
    with dashboard(home, "--no-spare") as address:
        yield address


@pytest.fixture(scope="package")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dashboard on an empty home."""
    with dashboard(tmp_path_factory.mktemp("bare"), "--no-spare") as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose console errors fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    context.close()
    assert problems == []


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1800):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError(f"the dashboard did not answer: {log.read_text()}")


def _end_children(home: Path) -> None:
    """The dispatcher and whoever answers live outlive the dashboard."""
    with Session(open_database(Home(home))) as session:
        pids = [row.pid for row in session.exec(select(Lock)) if alive(row.pid, row.pid_started)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
