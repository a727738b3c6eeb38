"""Asking models live: whoever asks finds, or starts, the one child process that answers on a device.

The answers come over a loopback socket, the one stream that does not go through the database; whoever wants them kept
stores them (`engine.conversations` does). Closing the iterator closes the socket, and the child stops within a token.
The child itself is `engine.answering`. Nothing here imports torch: the dashboard asks.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from engine.devices import devices
from engine.errors import UserError
from engine.processes import alive, inference_environment
from engine.settings import SamplingSettings
from storage.files import Home
from storage.tables import RUNNING, Artifact, Lock, Run

LOOPBACK = "127.0.0.1"
STARTS_WITHIN = 60.0  # seconds until a child listens
BREATH = 1.0  # seconds: whoever listens gets something this often, and so a chance to leave
PATIENCE = 30  # breaths until a child that does not greet is given up
ENDS = ("done", "error")


@dataclass(frozen=True)
class Asked:
    """One model and the conversation it shall continue. With a `text` its ten likeliest next tokens are asked for instead: of
    the text alone, or of an answer to the conversation that begins with it."""

    model: int
    messages: list[dict[str, Any]]
    text: str | None = None


@dataclass(frozen=True)
class Said:
    """Something a model said, or something about it.

    text, thought: the next piece of the answer, or of the reasoning before it. status: what a person should know
    meanwhile; about all models if `model` is 0, which is said in every silent second, even empty. done: the whole answer,
    and why it ended ("stop", "length"; "next": the text is JSON, [token, probability] by likelihood). error: why there
    will be no more of it. Every model ends with one done or one error.
    """

    model: int
    kind: str
    text: str
    finish_reason: str | None = None
    tokens: int = 0  # so far
    seconds: float = 0.0  # since the model began to read
    device: str = ""  # where and how precisely it is computed: "cpu, bfloat16"
    token_ids: tuple[int, ...] = ()  # of this piece; when done, of the whole answer


def ask(database: Engine, home: Home, asked: Sequence[Asked], sampling: SamplingSettings) -> Generator[Said]:
    """Let models, each named once, answer at the same time. What goes wrong is said, not raised."""
    device, note = _device(database, asked)
    status = Said(0, "status", note)
    if note:
        yield status
    request = {"asked": [asdict(one) for one in asked], "sampling": sampling.model_dump()}
    going = [one.model for one in asked]
    why = f"the process that answers on {device} ended (killed, or out of memory): ask again; its log is {_file(home, device, 'txt')}"
    try:
        with closing(_visit(database, home, device, request)) as told:
            for said in told:
                if said and said.kind in ENDS:
                    going.remove(said.model)
                yield said or status
    except UserError as error:
        why = str(error)
    yield from (Said(model, "error", why) for model in going)


@dataclass(frozen=True)
class Address:
    """Where a child listens, and what it must be told first: kept in a file that only its owner can read."""

    pid: int
    port: int
    token: str


def keep_address(home: Home, device: str, address: Address) -> None:
    """Write the private file of a child that listens."""
    aside = _file(home, device, f"{address.pid}.partial")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(address), file)
    aside.replace(_file(home, device, "json"))


def forget_address(home: Home, device: str) -> None:
    """Remove that file."""
    _file(home, device, "json").unlink(missing_ok=True)


def coming_and_going(home: Home, device: str) -> FileLock:
    """Held while a child starts or decides to leave, so that nobody is sent to one that is about to be gone."""
    return FileLock(_file(home, device, "lock"))


def lock_name(device: str) -> str:
    """The Lock row that says who answers on a device."""
    return f"inference {device}"


def holder(session: Session, device: str) -> Run | None:
    """The heavy run that works on a device now."""
    working = session.exec(select(Run).where(Run.status == RUNNING, col(Run.heavy))).all()
    return next((run for run in working if device in (run.device or "").split(",")), None)


def child(database: Engine, home: Home, device: str) -> Address:
    """The child that answers on a device, started if there is none. Raises UserError if it does not start."""
    home.root.mkdir(parents=True, exist_ok=True)
    with coming_and_going(home, device):
        if known := _known(database, home, device):
            return known
        log = _file(home, device, "txt")
        words = [sys.executable, "-P", "-m", "engine", "infer", "--device", device, "--home", str(home.root)]
        with log.open("ab") as output:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=home.root,
                env=inference_environment(home.root), start_new_session=True,
            )  # fmt: skip
        threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie
        end = time.monotonic() + STARTS_WITHIN
        while process.poll() is None and time.monotonic() < end:
            if (known := _known(database, home, device)) and known.pid == process.pid:
                return known
            time.sleep(0.05)
        process.kill()
    raise UserError("the process that answers on {device} does not start: its log {log} says why", device=device, log=log)


def _known(database: Engine, home: Home, device: str) -> Address | None:
    with Session(database) as session:
        row = session.get(Lock, lock_name(device))
        if row is None or not alive(row.pid, row.pid_started):
            return None
    try:
        address = Address(**json.loads(_file(home, device, "json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return address if address.pid == row.pid else None


def _visit(database: Engine, home: Home, device: str, request: dict[str, Any]) -> Generator[Said | None]:
    """Ask a child; what it says until it closes the connection, and None for every silent second."""
    for _ in range(3):  # one that leaves at this very moment is followed by another
        address = child(database, home, device)
        with socket.socket() as connection:
            connection.settimeout(BREATH)
            try:
                connection.connect((LOOPBACK, address.port))
                connection.sendall(f"{address.token}\n{json.dumps(request)}\n".encode())
            except OSError:
                continue
            lines = _lines(connection)
            if any(islice(lines, PATIENCE)):  # it greets whom it will answer
                yield from (_said(line) if line else None for line in lines)
                return
    log = _file(home, device, "txt")
    raise UserError("the process that answers on {device} takes no questions: its log {log} may say why", device=device, log=log)


def _lines(connection: socket.socket) -> Iterator[bytes]:
    """Lines until the other side is gone; an empty one whenever a second brought nothing."""
    rest = b""
    while True:
        try:
            data = connection.recv(65536)
        except TimeoutError:
            yield b""
            continue
        except OSError:
            return
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _said(line: bytes) -> Said:
    told = json.loads(line)
    return Said(**told | {"token_ids": tuple(told["token_ids"])})


def _device(database: Engine, asked: Sequence[Asked]) -> tuple[str, str]:
    """Where to compute: a slot that no heavy run holds, else the CPU; and what a person should know about it."""
    slots = devices()
    with Session(database) as session:
        found = [session.get(Artifact, one.model) for one in asked]
        if all(model and model.summary.get("format") == "endpoint" for model in found):
            return "cpu", ""
        holders = [holder(session, slot) for slot in slots]
    free = next((slot for slot, run in zip(slots, holders, strict=True) if run is None), None)
    if free:
        return free, ""
    run = next(run for run in holders if run)
    if slots == ["cpu"]:
        return "cpu", f"run {run.id} ({run.stage}) works on this CPU: answers come slowly until it ends"
    return "cpu", f"run {run.id} ({run.stage}) works on {run.device}: answering from the CPU"


def _file(home: Home, device: str, ending: str) -> Path:
    return home.root / f"inference-{device.replace(':', '-')}.{ending}"
