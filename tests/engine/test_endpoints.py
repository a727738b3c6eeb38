"""Endpoints: good answers, and every bad one as a sentence that says what to do."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine import endpoints
from engine.endpoint_failures import Refused
from engine.endpoints import Endpoint, Pace, Question, Reply
from engine.errors import Cancelled, UserError
from engine.settings import SamplingSettings
from tests.serving import Handler, Server, event, serving

KEY = "sk-very-secret-0123456789"
ASK = [{"role": "user", "content": "say yes"}]
PLAIN = SamplingSettings(max_new_tokens=8)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoints, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("TEST_KEY", KEY)
    with serving() as server:
        yield server


def endpoint(server: Server, **settings: Any) -> Endpoint:
    return Endpoint(server.address, "good", **{"key_variable": "TEST_KEY", "timeout": 5, "retries": 0, **settings})


def ask(server: Server, sampling: SamplingSettings = PLAIN, **settings: Any) -> Reply:
    return endpoint(server, **settings).answer(ASK, sampling)


def told(server: Server, **settings: Any) -> list[str | Reply]:
    return list(endpoint(server, **settings).stream(ASK, PLAIN))


def test_a_question_carries_what_the_api_has_words_for(server: Server) -> None:
    sampling = SamplingSettings(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=4, thinking="off")
    assert ask(server, sampling) == Reply("yes", "stop", 3)
    assert server.asked == [
        {"model": "good", "messages": ASK, "stream": False, "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 4,
         "chat_template_kwargs": {"enable_thinking": False}}
    ]  # fmt: skip
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    ask(server, limit_field="max_completion_tokens")
    assert server.asked[1]["max_completion_tokens"] == 8
    assert not {"max_tokens", "top_p", "chat_template_kwargs"} & set(server.asked[1])


def test_what_the_api_has_no_words_for_is_refused(server: Server) -> None:
    for given in ({"temperature": 1, "top_k": 3}, {"repetition_penalty": 1.1}):
        with pytest.raises(UserError, match=f"the OpenAI API has no {list(given)[-1]}"):
            ask(server, SamplingSettings(**given))
    assert not server.asked


def test_a_local_server_needs_no_key(server: Server) -> None:
    assert ask(server, key_variable="NOT_SET_ANYWHERE").text == "yes"
    assert "authorization" not in server.headers[0]


@pytest.mark.parametrize(
    "text, reason, message, expected",
    [
        ("cut he", "length", {}, Reply("cut he", "length", 3)),
        ("", "stop", {}, Reply("", "stop", 3)),
        ("<think>hm</think>\n\nyes", "stop", {}, Reply("yes", "stop", 3, "hm")),
        ("hm\n</think>\n\nyes", "stop", {}, Reply("yes", "stop", 3, "hm")),
        ("<think>hm, never", "length", {}, Reply("", "length", 3, "hm, never")),
        ("yes", "stop", {"reasoning_content": "hm"}, Reply("yes", "stop", 3, "hm")),
        (None, "length", {"reasoning": "hm"}, Reply("", "length", 3, "hm")),
    ],
)
def test_answers_and_their_reasoning(server: Server, text: str, reason: str, message: dict[str, Any], expected: Reply) -> None:
    server.behaviour = lambda asked: asked.answer(text, reason, **message)
    assert ask(server) == expected


def test_a_server_need_not_count(server: Server) -> None:
    server.behaviour = lambda asked: asked.answer("yes", tokens=None)
    assert ask(server).tokens is None


PAGE = "<!DOCTYPE html><html><head><title>Log in &amp; pay</title></head></html>"
SAID = [  # what the server does, what the person reads
    (lambda asked: asked.send(401, "{}"), r"does not accept the key in the environment variable TEST_KEY \(401\)"),
    (lambda asked: asked.send(403, f"{KEY} is wrong"), r"does not accept the key in .* TEST_KEY \(403\)"),
    (lambda asked: asked.send(404, '{"error": {"message": "no such model"}}'), r"has no model good.*404: no such model.*/v1"),
    (lambda asked: asked.send(301, "", location="https://x:y@elsewhere.test/v2"), r"sends elsewhere \(301: https://elsewhere\.test/v2\)"),
    (lambda asked: asked.send(402, '{"detail": "pay first"}'), r"refuses \(402: pay first\)"),
    (lambda asked: asked.send(429, '{"error": "slow down"}'), r"asked too often \(429: slow down\): .*fewer requests per minute"),
    (lambda asked: asked.send(429, "", retry_after="3600"), r"asked too often.*it says to wait 3600 s"),
    (lambda asked: asked.send(503, PAGE, "text/html"), r"fails to answer as good \(503: Log in & pay\)"),
    (lambda asked: asked.send(200, PAGE, "text/html"), r"web page \(Log in & pay\), not JSON.*usually ends in /v1"),
    (lambda asked: asked.send(200, ""), r"empty answer"),
    (lambda asked: asked.send(200, '{"choices": [{"mess'), r'broken JSON \(\{"choices": \[\{"mess\)'),
    (lambda asked: asked.send(200, "[]"), r"gives no answer and says: \[\]"),
    (lambda asked: asked.send(200, '{"choices": []}'), r"without any choice"),
    (lambda asked: asked.send(200, '{"choices": ["yes"]}'), r"without any choice"),
    (lambda asked: asked.send(200, '{"choices": null}'), r"without any choice"),
    (lambda asked: asked.send(200, '{"error": {"message": "model died"}}'), r"gives no answer and says: model died"),
]  # fmt: skip


@pytest.mark.parametrize("behaviour, sentence", SAID)
def test_what_is_wrong_with_a_server_is_said(server: Server, behaviour: Any, sentence: str) -> None:
    server.behaviour = behaviour
    with pytest.raises(UserError, match=sentence) as failed:
        ask(server)
    assert server.address in str(failed.value)
    assert not isinstance(failed.value, Refused)
    assert KEY not in str(failed.value)
    assert KEY not in repr(failed.value.args)
    with pytest.raises(UserError, match=sentence):
        told(server)


@pytest.mark.parametrize(
    "behaviour, sentence",
    [
        (
            lambda asked: asked.send(400, '{"error": {"message": "maximum context length is 8 tokens, you asked 9"}}'),
            r"8 tokens, you asked 9",
        ),
        (
            lambda asked: asked.send(500, '{"error": "the request exceeds the available context size (9 of 8)"}'),
            r"does not fit what good reads",
        ),
        (lambda asked: asked.send(400, '{"error": "use max_completion_tokens instead"}'), r"choose max_completion_tokens for the limit"),
        (lambda asked: asked.send(422, '{"detail": "Unexpected fields: chat_template_kwargs"}'), r"set sampling\.thinking to default"),
        (lambda asked: asked.send(400, '{"error": "temperature must be 1"}'), r"set sampling\.temperature"),
        (lambda asked: asked.answer(None), r"good gave no text in answer to a prompt \(finish reason: stop\)"),
        (lambda asked: asked.answer(None, "tool_calls"), r"finish reason: tool_calls"),
        (lambda asked: asked.answer("I", "content_filter"), r"finish reason: content_filter"),
    ],
)
def test_what_is_wrong_with_one_prompt_is_told_apart(server: Server, behaviour: Any, sentence: str) -> None:
    server.behaviour = behaviour
    with pytest.raises(Refused, match=sentence):
        ask(server)


def test_a_missing_key_names_its_variable(server: Server) -> None:
    server.behaviour = lambda asked: asked.send(401, "who are you?")
    with pytest.raises(UserError, match=r"wants a key \(401\), and the environment variable NOT_SET_ANYWHERE is not set: set it where"):
        ask(server, key_variable="NOT_SET_ANYWHERE")


def test_a_key_that_cannot_be_sent_is_not_repeated(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in ("sk-one\nsk-two", "sk-é", "sk one"):
        monkeypatch.setenv("TEST_KEY", broken)
        with pytest.raises(UserError, match="variable TEST_KEY has blanks") as refused:
            ask(server)
        assert "sk" not in str(refused.value)
    assert not server.asked


def test_a_wrong_name_is_answered_with_the_right_ones(server: Server) -> None:
    server.behaviour = lambda asked: asked.send(404, "{}")
    server.on_get = lambda asked: asked.send(200, json.dumps({"data": [{"id": "better"}, {"id": "best"}, {"id": 3}]}))
    with pytest.raises(UserError, match=r"has no model good \(404\); it offers best, better: connect again"):
        ask(server)


def test_nobody_listens(server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    began = time.monotonic()
    with pytest.raises(UserError, match=r"cannot be reached \(.*refused.*\): start the server"):
        Endpoint(address, "good", retries=0).answer(ASK, PLAIN)
    with pytest.raises(UserError, match=r"cannot be reached"):
        Endpoint("http://no-such-host.invalid/v1", "good", retries=0).answer(ASK, PLAIN)
    assert time.monotonic() - began < 5


def test_a_slow_server_is_named_with_the_seconds(server: Server) -> None:
    leave = threading.Event()

    def silent(asked: Handler) -> None:
        leave.wait(5)

    def drips(asked: Handler) -> None:
        asked.send_response(200)
        asked.send_header("content-length", "1000")
        asked.end_headers()
        while not leave.wait(0.05):
            asked.wfile.write(b" ")

    for server.behaviour in (silent, drips):
        began = time.monotonic()
        with pytest.raises(UserError, match=r"gave no whole answer within 0\.3 s: .*longer timeout"):
            ask(server, timeout=0.3, retries=3)
        assert time.monotonic() - began < 2
    leave.set()
    assert len(server.asked) == 2, "a slow question is not asked again"


def test_an_answer_without_end_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MOST", 1000)
    server.behaviour = lambda asked: asked.answer("very " * 1000)
    with pytest.raises(UserError, match="without end"):
        ask(server)
    server.behaviour = lambda asked: asked.tell(*[event("very " * 100)] * 100)
    with pytest.raises(UserError, match="without end"):
        told(server)


def breaks_off(asked: Handler) -> None:
    asked.send_response(200)
    asked.send_header("content-type", "application/json")
    asked.send_header("content-length", "1000")
    asked.end_headers()
    asked.wfile.write(b'{"choices": [{"message": {"content": "ye')
    asked.close_connection = True


def test_a_broken_connection_is_tried_again(server: Server) -> None:
    server.behaviour = breaks_off
    with pytest.raises(UserError, match=r"broke off in the middle of its answer .*; asked 3 times"):
        ask(server, retries=2)
    assert len(server.asked) == 3


@pytest.mark.parametrize("bad", [lambda asked: asked.send(500, "oh"), lambda asked: asked.send(429, "", retry_after="0"), breaks_off])
def test_what_passes_by_itself_is_asked_again(server: Server, bad: Any) -> None:
    server.behaviour = lambda asked: (
        bad(asked) if asked.number % 3 < 2 else asked.tell(event("yes", "stop")) if asked.body["stream"] else asked.answer("yes")
    )
    assert ask(server, retries=2).text == "yes"
    if bad is not breaks_off:
        assert told(server, retries=2) == ["yes", Reply("yes", "stop")]


def test_retry_after_is_kept(server: Server) -> None:
    server.behaviour = lambda asked: asked.answer("yes") if asked.number else asked.send(429, "", retry_after="0.4")
    assert ask(server, retries=1).text == "yes"
    assert 0.4 <= server.times[1] - server.times[0] < 2


def test_waiting_can_be_interrupted(server: Server) -> None:
    server.behaviour = lambda asked: asked.send(429, "", retry_after="60")
    began = time.monotonic()
    with pytest.raises(Cancelled):
        endpoint(server, retries=5).answer(ASK, PLAIN, interrupted=lambda: time.monotonic() - began > 0.2)
    assert time.monotonic() - began < 2


def test_a_stream_tells_the_answer_and_not_the_reasoning(server: Server) -> None:
    server.behaviour = lambda asked: asked.tell(event(role="assistant"), event("ye"), event("s"), event(reason="length"), "[DONE]")
    assert told(server) == ["ye", "s", Reply("yes", "length")]
    server.behaviour = lambda asked: asked.tell(event("<thi"), event("nk>h"), event("m</think"), event(">\n\n"), event("yes", "stop"))
    assert told(server) == ["yes", Reply("yes", "stop", None, "hm")]
    usage = json.dumps({"choices": [], "usage": {"completion_tokens": 2}})
    server.behaviour = lambda asked: asked.tell(event(reasoning_content="hm"), event("yes"), event(reason="stop"), usage, "[DONE]")
    assert told(server) == ["yes", Reply("yes", "stop", 2, "hm")]
    server.behaviour = lambda asked: asked.answer("yes")  # a server that cannot stream
    assert told(server) == ["yes", Reply("yes", "stop", 3)]


@pytest.mark.parametrize(
    "events, sentence",
    [
        ([event("ye")], r"broke off in the middle of its answer \(the stream ended before the answer did\)"),
        ([event("ye"), '{"choices": ['], r"broken JSON"),
        ([event("ye"), '{"error": {"message": "out of memory"}}'], r"says: out of memory"),
        ([event(reason="stop"), "[DONE]"], r"gave no text in answer"),
        ([], r"broke off"),
    ],
)
def test_a_stream_that_breaks_says_so_after_what_was_told(server: Server, events: list[str], sentence: str) -> None:
    server.behaviour = lambda asked: asked.tell(*events)
    stream = endpoint(server, retries=3).stream(ASK, PLAIN)
    if events and "ye" in events[0]:
        assert next(stream) == "ye"
    with pytest.raises(UserError, match=sentence):
        next(stream)
    assert len(server.asked) == 1, "it is too late to begin again"


def test_a_stream_that_nobody_reads_is_closed(server: Server) -> None:
    gone = threading.Event()

    def talks(asked: Handler) -> None:
        try:
            asked.tell(*[event("very ")] * 1_000_000)
        finally:
            gone.set()

    server.behaviour = talks
    stream = endpoint(server).stream(ASK, PLAIN)
    assert next(stream) == "very "
    stream.close()
    assert gone.wait(5)


def test_a_server_cannot_give_the_key_away(server: Server) -> None:
    server.behaviour = lambda asked: asked.send(400, f"no such key: {asked.headers['authorization']}")
    with pytest.raises(UserError, match=r"no such key: Bearer \(the key\)"):
        ask(server)
    server.behaviour = lambda asked: asked.answer(f"<think>{KEY}</think>{KEY}")
    assert ask(server) == Reply("(the key)", "stop", 3, "(the key)")


def questions(count: int) -> list[Question]:
    return [Question([{"role": "user", "content": str(n)}], PLAIN) for n in range(count)]


def echo(asked: Handler) -> None:
    asked.answer(asked.body["messages"][0]["content"])


def test_no_more_questions_at_once_than_asked_for(server: Server) -> None:
    def slowly(asked: Handler) -> None:
        time.sleep(0.05)
        echo(asked)

    server.behaviour = slowly
    answers = dict(endpoint(server, parallel=3).answers(questions(12), lambda: False))
    assert {n: said.text for n, said in answers.items() if isinstance(said, Reply)} == {n: str(n) for n in range(12)}
    assert server.most_at_once == 3


def test_no_more_requests_a_minute_than_asked_for(server: Server) -> None:
    server.behaviour = lambda asked: asked.send(500, "") if asked.number == 1 else echo(asked)
    said = list(endpoint(server, parallel=4, requests_per_minute=600, retries=1).answers(questions(5), lambda: False))
    assert all(isinstance(one, Reply) for _, one in said)
    gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert len(gaps) == 5, "an attempt more counts too"
    assert sum(gaps) >= 0.4


def test_pace_has_no_memory_of_quiet_times() -> None:
    pace = Pace(60)
    assert pace.turn() == 0
    assert 0.9 < pace.turn() <= 1
    assert Pace(None).turn() == Pace(None).turn() == 0


def test_a_dead_server_is_given_up_and_a_picky_one_is_not(server: Server) -> None:
    server.behaviour = lambda asked: asked.send(500, "") if asked.number >= 4 else echo(asked)
    asking = endpoint(server, parallel=1).answers(questions(50), lambda: False)
    said = [next(asking)]
    time.sleep(0.5)  # a slow reader changes nothing
    said += asking
    assert [isinstance(one, Reply) for _, one in said] == [True] * 4 + [False] * endpoints.GIVE_UP
    server.behaviour = lambda asked: asked.send(400, "no") if int(asked.body["messages"][0]["content"]) < 8 else echo(asked)
    said = list(endpoint(server, parallel=1).answers(questions(10), lambda: False))
    assert [isinstance(one, Reply) for _, one in said] == [False] * 8 + [True] * 2


def test_leaving_does_not_wait_for_a_slow_server(server: Server) -> None:
    leave = threading.Event()
    server.behaviour = lambda asked: asked.answer("yes") if asked.number == 0 else leave.wait(30)
    began = time.monotonic()
    said = list(endpoint(server, parallel=2, timeout=60).answers(questions(9), lambda: time.monotonic() - began > 0.5))
    assert [isinstance(one, Reply) for _, one in said] == [True]
    assert time.monotonic() - began < 2
    leave.set()


def test_an_error_of_our_own_is_not_hidden(server: Server) -> None:
    with pytest.raises(KeyError):
        list(endpoint(server).answers([Question([{"role": "user"}], PLAIN)], lambda: False))
