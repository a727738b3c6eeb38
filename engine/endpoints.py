"""Somebody else's server as a model: any address that speaks the OpenAI API.

Whatever goes wrong between two machines becomes a sentence that says what happened and what to do; what may pass by
itself is asked again first. The key is read from the environment at the moment it is sent, is kept nowhere, and is cut
out of everything the server says. Answers are read here; sentences about failures come from `engine.endpoint_failures`.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from queue import Empty, SimpleQueue
from random import Random
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import httpx2

from engine import endpoint_failures as failures
from engine.chat import Messages, ThoughtStream, split_thought
from engine.endpoint_failures import Again, Refused
from engine.errors import Cancelled, UserError
from engine.settings import SamplingSettings

CONNECTS_WITHIN = 10.0  # seconds
LONGEST_WAIT = 120.0  # seconds between two attempts; who asks for more is not waited for
FIRST_WAIT = 1.0  # seconds, doubled with each attempt
LOOK = 0.1  # seconds between two looks whether to leave
GIVE_UP = 3  # failures in a row after which the others are not tried
MOST = 16 * 2**20  # bytes of an answer
SECRET = 12  # characters from which on a key is also cut out of answers: shorter ones are placeholders such as "none"

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """A whole answer. `tokens` as the server counted them, its reasoning apart. `likely`: what the answer could have begun
    with, and the log-probability of each, where that was asked and the server says so."""

    text: str
    finish_reason: Literal["stop", "length"]
    tokens: int | None = None
    thought: str = ""
    likely: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Question:
    """A conversation to continue, and how. `likely`: so many beginnings of the answer shall be told with their log-probability."""

    messages: Messages
    sampling: SamplingSettings
    likely: int = 0


class Pace:
    """Lets requests go at even distances, so many a minute."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next, self._lock = 0.0, threading.Lock()

    def turn(self) -> float:
        """Take the next turn; the seconds until it comes."""
        with self._lock:
            now = time.monotonic()
            mine = max(now, self._next)
            self._next = mine + self._gap
            return mine - now


@dataclass
class Endpoint:
    """Where it is, what it is called there, and how patiently it is asked."""

    address: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    limit_field: str = "max_tokens"
    timeout: float = 300.0
    retries: int = 5
    requests_per_minute: float | None = None
    parallel: int = 4

    def __post_init__(self) -> None:
        here = urlsplit(self.address).hostname in ("localhost", "127.0.0.1", "::1")
        timeout = httpx2.Timeout(self.timeout, connect=min(CONNECTS_WITHIN, self.timeout))
        self._client = httpx2.Client(timeout=timeout, trust_env=not here)  # no proxy on the way to this machine
        self._pace, self._dice = Pace(self.requests_per_minute), Random()

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> "Endpoint":
        """The endpoint that a model artifact describes."""
        return cls(**{one.name: summary[one.name] for one in fields(cls) if one.name in summary})

    def answer(
        self, messages: Messages, sampling: SamplingSettings, *, likely: int = 0, interrupted: Callable[[], bool] = lambda: False
    ) -> Reply:
        """One whole answer. Raises UserError when there is none, Refused if only this question gets none, and Cancelled."""

        def whole() -> Reply:
            until = time.monotonic() + self.timeout
            with self._asked(Question(messages, sampling, likely), stream=False) as response:
                return self._whole(self._read(response, until))

        return self._patiently(whole, interrupted)

    def stream(self, messages: Messages, sampling: SamplingSettings) -> Iterator[str | Reply]:
        """The answer in pieces as they come, then all of it. Raises as `answer` does."""
        question = Question(messages, sampling)
        try:
            with ExitStack() as asked:
                response = self._patiently(lambda: asked.enter_context(self._asked(question, stream=True)), lambda: False)
                if response.headers.get("content-type", "").startswith("text/event-stream"):
                    yield from self._pieces(response)
                else:
                    reply = self._whole(self._read(response, time.monotonic() + self.timeout))
                    yield from (reply.text, reply)
        except Again as cut:  # once pieces were told it is too late to begin again
            raise cut.problem from None

    def answers(self, questions: Sequence[Question], interrupted: Callable[[], bool]) -> Iterator[tuple[int, Reply | UserError]]:
        """The answer to each question, or why there is none, as they come; some at once, and none after `GIVE_UP` failures."""
        waiting, told, stop = SimpleQueue[int](), SimpleQueue[tuple[int, Reply | Exception] | None](), threading.Event()
        failed, counting = 0, threading.Lock()
        for number in range(len(questions)):
            waiting.put(number)

        def leaving() -> bool:
            return stop.is_set() or interrupted()

        def tell(number: int, said: Reply | Exception) -> None:
            nonlocal failed
            with counting:  # here, not where it is read: a slow reader must not let a dead server be asked on
                failed = failed + 1 if isinstance(said, UserError) and not isinstance(said, Refused) else 0
                if failed == GIVE_UP:
                    stop.set()
                told.put((number, said))

        def work() -> None:
            while not leaving():
                try:
                    number = waiting.get_nowait()
                    asked = questions[number]
                    tell(number, self.answer(asked.messages, asked.sampling, likely=asked.likely, interrupted=leaving))
                except (Empty, Cancelled):
                    break
                except Exception as error:  # noqa: BLE001  (raised again where it is read)
                    tell(number, error)
            told.put(None)

        going = min(self.parallel, len(questions))
        for _ in range(going):
            threading.Thread(target=work, daemon=True).start()  # whoever leaves does not wait for a slow server
        try:
            while going and not interrupted():
                try:
                    one = told.get(timeout=LOOK)
                except Empty:
                    continue
                if one is None:
                    going -= 1
                    continue
                number, said = one
                if isinstance(said, Exception) and not isinstance(said, UserError):
                    raise said
                yield number, said
        finally:
            stop.set()

    def offers(self) -> list[str]:
        """The names of the models the server says it has, if it says."""
        try:
            told = self._client.get(f"{self.address}/models", headers=self._headers(), timeout=CONNECTS_WITHIN).json()
            return [one["id"] for one in told["data"] if isinstance(one["id"], str)]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            return []

    # asking

    def _headers(self) -> dict[str, str]:
        key = self._key()
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise failures.unfit_key(self)
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        return os.environ.get(self.key_variable, "").strip()

    def _body(self, question: Question, stream: bool) -> dict[str, Any]:
        sampling = question.sampling
        failures.refuse_unsayable(self.model, sampling)
        messages = [{"role": turn["role"], "content": turn["content"]} for turn in question.messages]
        body: dict[str, Any] = {"model": self.model, "messages": messages, "stream": stream, self.limit_field: sampling.max_new_tokens}
        body |= {"temperature": sampling.temperature, "seed": sampling.seed}
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.thinking != "default":
            body["chat_template_kwargs"] = {"enable_thinking": sampling.thinking == "on"}
        if question.likely:
            body |= {"logprobs": True, "top_logprobs": question.likely}
        return body

    @contextmanager
    def _asked(self, question: Question, stream: bool) -> Iterator[httpx2.Response]:
        """A response that promises an answer. Raises Again for what may pass by itself, else UserError."""
        address, body = f"{self.address}/chat/completions", self._body(question, stream)
        try:
            with self._client.stream("POST", address, json=body, headers=self._headers()) as response:
                if response.status_code != 200:
                    text = self._hide(self._read(response, time.monotonic() + CONNECTS_WITHIN))
                    offered = self.offers() if response.status_code == 404 else []
                    raise failures.refusal(self, response.status_code, response.headers, text, offered, bool(self._key()))
                yield response
        except httpx2.TimeoutException as error:
            raise failures.slow(self, error) from None
        except httpx2.ConnectError as error:
            raise Again(failures.unreachable(self, self._hide(str(error)))) from None
        except httpx2.HTTPError as error:
            raise Again(failures.cut(self, self._hide(str(error)))) from None

    def _patiently(self, ask: Callable[[], T], interrupted: Callable[[], bool]) -> T:
        """Ask until it is answered or enough was tried."""
        tried = 0
        while True:
            _rest(self._pace.turn(), interrupted)
            try:
                return ask()
            except Again as failed:
                tried += 1
                wait = FIRST_WAIT * 2 ** (tried - 1) * (0.75 + self._dice.random() / 2) if failed.wait is None else failed.wait
                if tried > self.retries or wait > LONGEST_WAIT:
                    raise failed.after(tried) from None
            _rest(min(wait, LONGEST_WAIT), interrupted)

    # reading

    def _read(self, response: httpx2.Response, until: float) -> str:
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if time.monotonic() > until:
                raise failures.slow(self)
            if len(data) > MOST:
                raise failures.endless(self)
        return data.decode("utf-8", errors="replace")

    def _whole(self, text: str) -> Reply:
        told = self._json(text)
        choice = _first(told)
        if not choice:
            raise failures.no_choices(self)
        message = _object(choice.get("message"))
        reply = self._reply(_text(message.get("content")), _thought(message), choice.get("finish_reason"), told)
        return replace(reply, likely=_likely(choice))

    def _pieces(self, response: httpx2.Response) -> Iterator[str | Reply]:
        content, thought, reason, said, ended, parts = None, "", None, dict[str, Any](), False, ThoughtStream()
        for event in httpx2.EventSource(response):
            if ended := event.data.strip() == "[DONE]":
                break
            told = self._json(event.data)
            said |= told
            choice = _first(told)
            delta, reason = _object(choice.get("delta")), choice.get("finish_reason") or reason
            thought += _thought(delta)
            piece = _text(delta.get("content"))
            if piece is not None:
                content = (content or "") + piece
                yield from (text for part, text in parts.hear(self._hide(piece, SECRET)) if part == "text")
            if len(content or "") + len(thought) > MOST:
                raise failures.endless(self)
        if not ended and reason is None:
            raise Again(failures.cut(self, "the stream ended before the answer did"))
        yield from (text for part, text in parts.hear("", last=True) if part == "text")
        yield self._reply(content, thought, reason, said)

    def _reply(self, content: str | None, thought: str, reason: Any, told: Mapping[str, Any]) -> Reply:
        if reason == "content_filter" or (content is None and not thought):
            raise failures.nothing_said(self, reason)
        apart, text = ("", content or "") if thought else split_thought(content or "")
        tokens = _object(told.get("usage")).get("completion_tokens")
        ended: Literal["stop", "length"] = "length" if reason == "length" else "stop"
        count = tokens if isinstance(tokens, int) else None
        return Reply(self._hide(text, SECRET), ended, count, self._hide(thought.strip() or apart, SECRET))

    def _json(self, text: str) -> dict[str, Any]:
        try:
            told = json.loads(text)
        except ValueError:
            raise failures.not_json(self, self._hide(text)) from None
        if not isinstance(told, dict) or told.get("error"):
            raise failures.says_no(self, self._hide(text))
        return told

    def _hide(self, text: str, least: int = 1) -> str:
        key = self._key()
        return text.replace(key, "(the key)") if len(key) >= least else text


def _rest(seconds: float, interrupted: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not interrupted():
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, LOOK))
    raise Cancelled


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(told: Mapping[str, Any]) -> dict[str, Any]:
    choices = told.get("choices")
    return _object(choices[0]) if isinstance(choices, list) and choices else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _thought(message: Mapping[str, Any]) -> str:
    """Servers that take reasoning apart name it one way or the other."""
    return _text(message.get("reasoning_content")) or _text(message.get("reasoning")) or ""


def _likely(choice: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """What could have stood at the first place of an answer that is not blank, with log-probabilities."""
    told = _object(choice.get("logprobs")).get("content")
    places = [_object(place) for place in told] if isinstance(told, list) else []
    first = next((place for place in places if str(place.get("token", "")).strip()), {})
    top = first.get("top_logprobs")
    likely = [(one.get("token"), one.get("logprob")) for one in map(_object, top if isinstance(top, list) else [])]
    return tuple((token, float(log)) for token, log in likely if isinstance(token, str) and isinstance(log, int | float))
