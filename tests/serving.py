"""A server of our own on loopback that speaks the OpenAI API, as well or as badly as a test wants."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request; `body` is what was asked, `number` counts the questions from 0."""

    protocol_version = "HTTP/1.1"
    server: "Server"
    body: dict[str, Any]
    number: int

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.number = self.server.takes(self)
        try:
            self.server.behaviour(self)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self.server.done()

    def do_GET(self) -> None:
        self.server.on_get(self)

    def log_message(self, *_: object) -> None:
        pass

    def send(self, status: int, text: str, kind: str = "application/json", **headers: str) -> None:
        """A whole response."""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text.encode())

    def answer(self, text: str | None, reason: str | None = "stop", tokens: int | None = 3, **message: object) -> None:
        """What a good server says."""
        usage = {} if tokens is None else {"usage": {"completion_tokens": tokens}}
        self.send(200, json.dumps({"choices": [{"message": {"content": text, **message}, "finish_reason": reason}], **usage}))

    def tell(self, *events: str) -> None:
        """A stream of events, one a chunk, and then the end of the connection."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("connection", "close")
        self.end_headers()
        for event in events:
            self.wfile.write(f"data: {event}\n\n".encode())
            self.wfile.flush()
        self.close_connection = True


class Server(ThreadingHTTPServer):
    """What was asked, when, and how many questions at once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour: Behaviour = lambda asked: asked.answer("yes")
        self.on_get: Behaviour = lambda asked: asked.send(500, "Internal Server Error", "text/plain")
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def takes(self, asked: Handler) -> int:
        with self._lock:
            self.asked.append(asked.body)
            self.headers.append({name.lower(): value for name, value in asked.headers.items()})
            self.times.append(time.monotonic())
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            return len(self.asked) - 1

    def done(self) -> None:
        with self._lock:
            self.at_once -= 1

    def handle_error(self, *_: object) -> None:
        """A client that leaves in the middle is part of the game."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server while it is needed."""
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def event(content: str | None = None, reason: str | None = None, **delta: object) -> str:
    """One event of a stream."""
    said = delta if content is None else {"content": content, **delta}
    return json.dumps({"choices": [{"delta": said, "finish_reason": reason}]})
