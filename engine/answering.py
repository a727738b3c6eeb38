"""The child process that answers live on one device; `engine.inference` starts it and talks to it.

Every connection is one visit: a token, a question to one or more models, then their answers line by line. One thread
computes, a token of each answer in turn, whoever asked; endpoints are asked in threads of their own and need no torch.
Once a second it looks round: beside a run that trains on the CPU it computes with one thread; a run that takes its GPU
makes it end its answers and leave; and it leaves when nobody has asked for a while, dashboard or not.
"""

import hmac
import json
import os
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from engine.errors import UserError
from engine.inference import ENDS, LOOPBACK, Address, Asked, Said, coming_and_going, forget_address, holder, keep_address, lock_name
from engine.library import existing
from engine.processes import alive, identity
from engine.settings import SamplingSettings
from engine.stage import Input, Kind
from engine.work import as_input
from storage import queries
from storage.database import open_database, transaction
from storage.files import Home
from storage.tables import Lock

if TYPE_CHECKING:
    from engine.training.streaming import Models

LOOK = 1.0  # seconds between two looks at the rows
INTRODUCTION = 10.0  # seconds a visitor has to say its token and question


def main(home: Home, device: str, idle: float) -> None:
    """Entry of the child: answer until it has to leave. Raises UserError if another one answers on this device."""
    os.nice(19)
    Child(open_database(home), home, device, idle).run()


class Visit:
    """One connection: which models still owe it an answer, and whether anybody still listens."""

    def __init__(self, models: list[int]) -> None:
        self.gone = threading.Event()
        self._going, self._lock = set(models), threading.Lock()
        self._outbox: SimpleQueue[Said | None] = SimpleQueue()

    def tell(self, said: Said) -> None:
        """Pass something on, unless that model has ended."""
        with self._lock:
            if said.model and said.model not in self._going:
                return
            self._outbox.put(said)
            if said.kind in ENDS:
                self._going.discard(said.model)
                if not self._going:
                    self._outbox.put(None)

    def end(self, why: str) -> None:
        """End every answer that is not done."""
        for model in tuple(self._going):
            self.tell(Said(model, "error", why))

    def leave(self) -> None:
        """Nobody listens any more."""
        self.gone.set()
        self._outbox.put(None)

    def told(self) -> Iterator[Said]:
        """All that is said to it, until every model has ended or nobody listens."""
        return iter(self._outbox.get, None)


@dataclass
class Question:
    """One model's part of a visit."""

    visit: Visit
    asked: Asked
    model: Input
    sampling: SamplingSettings
    answer: Iterator[Said | None] | None = None  # once it is being answered


class Child:
    """Listens, answers and looks round. Raises UserError if another child answers on this device."""

    def __init__(self, database: Engine, home: Home, device: str, idle: float) -> None:
        self.database, self.home, self.device, self.idle = database, home, device, idle
        self.beside_a_run = False  # training holds the CPU
        self._visits: set[Visit] = set()
        self._last_visit = time.monotonic()
        self._questions: SimpleQueue[Question] = SimpleQueue()
        self._computing: threading.Thread | None = None
        self._token = secrets.token_urlsafe(32)
        self._take_lock()
        self._door = socket.create_server((LOOPBACK, 0))
        keep_address(home, device, Address(os.getpid(), self._door.getsockname()[1], self._token))

    def run(self) -> None:
        """Answer until there is a reason to leave."""
        threading.Thread(target=self._welcome, daemon=True).start()
        while not self._has_to_leave():
            time.sleep(LOOK)
        self._door.close()

    # who comes

    def _welcome(self) -> None:
        with suppress(OSError):  # the door is closed
            while True:
                connection, _ = self._door.accept()
                threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def _receive(self, connection: socket.socket) -> None:
        """One visitor. Whichever side closes the connection ends the visit."""
        with connection, connection.makefile("rb") as reader, suppress(OSError):
            connection.settimeout(INTRODUCTION)
            if not hmac.compare_digest(reader.readline(200).strip(), self._token.encode()):
                return
            request = json.loads(reader.readline())
            connection.settimeout(None)
            connection.sendall(b"welcome\n")
            visit = Visit([one["model"] for one in request["asked"]])
            self._visits.add(visit)
            threading.Thread(target=_send, args=(connection, visit), daemon=True).start()
            for one in request["asked"]:
                self._ask(visit, Asked(**one), SamplingSettings(**request["sampling"]))
            try:
                reader.read(1)
            finally:
                visit.leave()
                self._visits.discard(visit)
                self._last_visit = time.monotonic()

    def _ask(self, visit: Visit, asked: Asked, sampling: SamplingSettings) -> None:
        try:
            model = self._model(asked.model)
        except UserError as error:
            visit.tell(Said(asked.model, "error", str(error)))
            return
        question = Question(visit, asked, model, sampling)
        if model.summary.get("format") == "endpoint":
            threading.Thread(target=_ask_endpoint, args=(question,), daemon=True).start()
            return
        visit.tell(Said(asked.model, "status", "getting ready"))
        self._questions.put(question)
        if self._computing is None:
            self._computing = threading.Thread(target=self._compute, daemon=True)
            self._computing.start()

    def _model(self, id: int) -> Input:
        with Session(self.database) as session:
            row = existing(session, id)
        if row.kind != Kind.MODEL or row.ready_at is None:
            raise UserError("{name} cannot answer: it is {what}", name=row.name, what=f"a {row.kind}" if row.ready_at else "not ready yet")
        if row.summary.get("format") == "reward":
            raise UserError("{name} cannot answer: it is a reward model, which scores answers", name=row.name)
        return as_input(self.home, row)

    # what is computed

    def _compute(self) -> None:
        try:
            self._go_round()
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            os._exit(1)  # rather than leave everybody waiting: they are told, and the next question starts another child

    def _go_round(self) -> None:
        """For ever: begin what can begin, then let every model that answers say its next token."""
        import torch

        from engine.training.streaming import Models

        models, threads = Models(self._model, self.device), torch.get_num_threads()
        waiting: list[Question] = []
        going: list[Question] = []
        room = True  # somebody came or ended: what waits may fit now
        while True:
            wanted = 1 if self.beside_a_run else threads
            if torch.get_num_threads() != wanted:
                torch.set_num_threads(wanted)
            while not (waiting or going) or not self._questions.empty():
                waiting.append(self._questions.get())
                room = True
            if room:
                waiting = [question for question in waiting if not _begins(models, question, going)]
            still = [question for question in going if _says_more(question)]
            room = len(still) < len(going)
            going = still

    # looking round

    def _has_to_leave(self) -> bool:
        try:
            with Session(self.database) as session:
                row, run = session.get(Lock, lock_name(self.device)), holder(session, self.device)
        except OperationalError:  # a database that restarts, or a home that is gone
            return not self.home.root.exists()
        if row is None or row.pid != os.getpid():
            return True
        self.beside_a_run = run is not None and self.device == "cpu"
        if run and self.device != "cpu":
            self._make_way(f"run {run.id} ({run.stage}) took {self.device}: the answer ends here; ask again to have it from the CPU")
            return True
        if self._visits or time.monotonic() - self._last_visit < self.idle:
            return False
        with coming_and_going(self.home, self.device):
            if self._visits:
                return False
            forget_address(self.home, self.device)
            return True

    def _make_way(self, why: str) -> None:
        """End every answer and wait a moment until all are told."""
        forget_address(self.home, self.device)
        for visit in tuple(self._visits):
            visit.end(why)
        end = time.monotonic() + INTRODUCTION
        while self._visits and time.monotonic() < end:
            time.sleep(0.05)

    def _take_lock(self) -> None:
        pid = os.getpid()
        with transaction(self.database) as session:
            row = session.get(Lock, lock_name(self.device))
            if row and alive(row.pid, row.pid_started):
                raise UserError("a process that answers on {device} is already running (pid {pid})", device=self.device, pid=row.pid)
            if row:
                session.delete(row)
                session.flush()
            session.add(Lock(name=lock_name(self.device), pid=pid, pid_started=identity(pid) or "", at=queries.utc_now()))


def _begins(models: "Models", question: Question, going: list[Question]) -> bool:
    """Begin an answer, or end it for a reason; False if it has to wait for memory."""
    from engine.training.streaming import NoRoom

    visit, model = question.visit, question.model
    if visit.gone.is_set():
        return True
    busy = {models.base_of(other.model) for other in going}
    try:
        if models.base_of(model) not in models.bases:
            visit.tell(Said(model.id, "status", f"loading {model.name}"))
        asked = question.asked
        if asked.text is None:
            question.answer = models.answer(model, asked.messages, question.sampling, busy)
        else:
            question.answer = models.likeliest(model, asked.messages, asked.text, busy)
        going.append(question)
    except NoRoom as error:
        visit.tell(Said(model.id, "status" if going else "error", str(error)))
        return not going
    except Exception as error:  # noqa: BLE001  (whatever a model's files do ends this answer, not the process)
        visit.tell(Said(model.id, "error", _explain(error)))
    return True


def _says_more(question: Question) -> bool:
    """Let a model say its next token; False once it has ended or nobody listens."""
    assert question.answer
    try:
        said = None if question.visit.gone.is_set() else next(question.answer)
    except StopIteration:
        return False
    except Exception as error:  # noqa: BLE001
        question.visit.tell(Said(question.model.id, "error", _explain(error)))
        return False
    if said:
        question.visit.tell(said)
    return not question.visit.gone.is_set()


def _ask_endpoint(question: Question) -> None:
    """Let somebody else's server answer."""
    from engine.endpoints import Endpoint

    visit, model, began, pieces = question.visit, question.model, time.monotonic(), 0
    if question.asked.text is not None:
        visit.tell(Said(model.id, "error", f"{model.name} is an endpoint, and gives no probabilities of its next token here"))
        return
    try:
        endpoint = Endpoint.from_summary(model.summary)
        place = f"endpoint at {urlsplit(endpoint.address).hostname}"
        for piece in endpoint.stream(question.asked.messages, question.sampling):
            if visit.gone.is_set():
                return
            seconds = time.monotonic() - began
            if isinstance(piece, str):
                pieces += 1
                visit.tell(Said(model.id, "text", piece, None, pieces, seconds, place))
            else:
                tokens = piece.tokens or pieces
                visit.tell(Said(model.id, "thought", piece.thought, None, tokens, seconds, place))
                visit.tell(Said(model.id, "done", piece.text, piece.finish_reason, tokens, seconds, place))
    except Exception as error:  # noqa: BLE001
        visit.tell(Said(model.id, "error", _explain(error)))


def _explain(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    traceback.print_exc()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "there was not enough memory for this answer: ask fewer models at once, or a smaller one"
    return f"{type(error).__name__}: {error}"


def _send(connection: socket.socket, visit: Visit) -> None:
    with suppress(OSError):
        for said in visit.told():
            connection.sendall(json.dumps(asdict(said)).encode() + b"\n")
        connection.shutdown(socket.SHUT_RDWR)
