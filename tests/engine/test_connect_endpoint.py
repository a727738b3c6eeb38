"""The stage that connects an endpoint, and generate asking one: what is kept, what is refused, what is resumed."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from engine import dispatcher, endpoints, submit, worker
from engine.errors import UserError
from engine.stage import Stage
from engine.stages.data.connect_endpoint import ConnectEndpoint
from engine.stages.generate.generate import Generate
from engine.stages.measure.compare_answers import CompareAnswers
from engine.stages.train.finetune import Finetune
from storage import queries
from storage.files import Home
from storage.tables import Artifact, Event, Response, Run
from tests.engine.teaching import dataset, stops_at
from tests.serving import Handler, Server, serving
from tests.tiny_model import untrained_model

KEY = "sk-very-secret-0123456789"
RunStage = Callable[[Stage], dict[str, int]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoints, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as server:
        server.behaviour = echo
        yield server


@pytest.fixture
def prompts(add_artifact: Callable[..., int], tmp_path: Path) -> int:
    rows = [{"prompt": [{"role": "user", "content": f"say {n}"}], "answer": f"say {n}", "tags": ["odd"]} for n in range(12)]
    return add_artifact("dataset", "Twelve", dataset(tmp_path / "twelve", rows, []), format="prompts", rows=12, heldout=0, columns=[])


def echo(asked: Handler) -> None:
    asked.answer(asked.body["messages"][-1]["content"], tokens=asked.body["seed"] % 5 + 1)


def connect(server: Server, **settings: Any) -> ConnectEndpoint:
    return ConnectEndpoint.model_validate({"address": server.address, "model": "them/good", "retries": 0, **settings})


def fails(database: Engine, home: Home, stage: Stage, run: int | None = None) -> tuple[int, str]:
    """A run that must fail: its id and error."""
    if run is None:
        run = submit.submit(database, home, stage).runs[0]
    assert worker.work(database, home, run) == 1
    with Session(database) as session:
        return run, session.get_one(Run, run).error or ""


def artifact(database: Engine, id: int) -> Artifact:
    with Session(database) as session:
        return session.get_one(Artifact, id)


def answers(database: Engine, run: int) -> list[Response]:
    with Session(database) as session:
        return list(session.exec(select(Response).where(Response.run == run)).all())


def test_an_endpoint_is_a_model_that_keeps_no_key(
    server: Server, run_stage: RunStage, database: Engine, home: Home, capfd: pytest.CaptureFixture[str]
) -> None:
    server.behaviour = lambda asked: asked.answer(f"yes, {asked.headers['authorization']}")
    made = artifact(database, run_stage(connect(server, context_length=100, requests_per_minute=90))["model"])
    assert made.name == "good"
    told = {"format": "endpoint", "address": server.address, "model": "them/good", "context_length": 100, "requests_per_minute": 90}
    assert told.items() <= made.summary.items()
    assert len(server.asked) == 1
    assert server.asked[0]["max_tokens"] <= 16
    with Session(database) as session:
        said = [event.message for event in session.exec(select(Event)).all()]
    assert "them/good says: yes, Bearer (the key)" in said
    assert KEY not in capfd.readouterr().out
    files = [path for path in home.root.rglob("*") if path.is_file()]
    assert (home.root / made.folder / "endpoint.json") in files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize("address", [" {} ", "{}/", "{}/chat/completions"])
def test_an_address_may_be_copied_with_more(server: Server, run_stage: RunStage, database: Engine, address: str) -> None:
    made = run_stage(connect(server, address=address.format(server.address)))["model"]
    assert artifact(database, made).summary["address"] == server.address


@pytest.mark.parametrize(
    "field, given, sentence",
    [
        ("address", "ftp://127.0.0.1/v1", "begin with http"),
        ("address", "127.0.0.1:8000/v1", "begin with http"),
        ("address", "http:///v1", "must name a server"),
        ("address", "http://host:port/v1", "not a web address"),
        ("address", f"https://me:{KEY}@host/v1", "holds a user name or password"),
        ("address", f"https://{KEY}@host/v1", "holds a user name or password"),
        ("address", f"https://host/v1?key={KEY}", r"stands after \? or #"),
        ("key_variable", KEY, "never the key itself"),
        ("key_variable", "gsk_0123456789", "never the key itself"),
        ("key_variable", "", "no name of an environment variable"),
    ],
)
def test_secrets_and_wrong_addresses_are_not_stored(
    server: Server, database: Engine, home: Home, field: str, given: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as refused:
        submit.submit(database, home, connect(server, **{field: given}))
    assert refused.value.field == field
    assert KEY not in str(refused.value)
    with Session(database) as session:
        assert not session.exec(select(Run)).all()
    assert not server.asked


def test_a_wrong_endpoint_fails_at_once(server: Server, database: Engine, home: Home) -> None:
    server.behaviour = lambda asked: asked.send(429, "", retry_after="50")
    began = time.monotonic()
    assert "asked too often" in fails(database, home, connect(server, retries=9))[1]
    assert time.monotonic() - began < 5
    server.behaviour = lambda asked: asked.send(401, KEY)
    run, error = fails(database, home, connect(server))
    assert "does not accept the key in the environment variable OPENAI_API_KEY (401)" in error
    with Session(database) as session:
        assert not [artifact for artifact in queries.artifacts(session) if artifact.made_by == run]


def test_only_what_answers_may_use_an_endpoint(
    server: Server, run_stage: RunStage, database: Engine, home: Home, add_artifact: Callable[..., int]
) -> None:
    model = run_stage(connect(server))["model"]
    data = add_artifact("dataset", "talk", format="messages", rows=3)
    with pytest.raises(UserError, match="good is an endpoint: it can answer, but its weights are not here"):
        submit.submit(database, home, Finetune(model=model, data=data))
    from engine.recipes.quickstart import Quickstart

    with pytest.raises(UserError, match="good is an endpoint"):
        submit.submit(database, home, Quickstart(model=model))


def test_every_prompt_is_asked_once_and_counted(server: Server, run_stage: RunStage, database: Engine, home: Home, prompts: int) -> None:
    model = run_stage(connect(server, parallel=3))["model"]
    sampling = {"temperature": 0.7, "max_new_tokens": 9, "seed": 5}
    made = artifact(database, run_stage(Generate(models=[model], prompts=prompts, samples=2, sampling=sampling))["responses"])
    rows = [json.loads(line) for line in (home.root / made.folder / "responses.jsonl").read_text().splitlines()]
    assert [(row["answer"], row["sample"]) for row in rows] == [(f"say {n}", sample) for n in range(12) for sample in (0, 1)]
    assert all(row["token_ids"] == [] and row["extra"]["tags"] == ["odd"] and 1 <= row["extra"]["tokens"] <= 5 for row in rows)
    asked = server.asked[1:]
    assert len(asked) == 24
    assert len({question["seed"] for question in asked}) == 24, "samples and prompts are drawn differently"
    assert {(question["temperature"], question["max_tokens"]) for question in asked} == {(0.7, 9)}
    assert 1 <= made.summary["median_tokens"][str(model)] <= 5


def test_lengths_nobody_counted_stay_unknown(server: Server, run_stage: RunStage, database: Engine, home: Home, prompts: int) -> None:
    model = run_stage(connect(server))["model"]
    server.behaviour = lambda asked: asked.answer(f"<think>hm</think>{asked.body['messages'][-1]['content']}", tokens=None)
    made = run_stage(Generate(models=[model], prompts=prompts))["responses"]
    assert artifact(database, made).summary["median_tokens"] == {str(model): None}
    report = artifact(database, run_stage(CompareAnswers(before=made, after=made))["report"])
    told = json.loads((home.root / report.folder / "report.json").read_text())
    assert [fact for fact in told["facts"] if "length" in fact[0]] == [["Median length", "not counted", "not counted"]]
    assert {side["tokens"] for row in told["answers"] for side in row["answers"]} == {None}
    assert all(side["correct"] for row in told["answers"] for side in row["answers"]), "reasoning is not scored"
    assert "None tokens" not in (home.root / report.folder / "report.html").read_text()


@pytest.mark.parametrize("parallel", [1, 4])
def test_what_was_answered_is_kept_and_only_the_rest_is_asked_again(
    server: Server, run_stage: RunStage, database: Engine, home: Home, prompts: int, parallel: int
) -> None:
    model = run_stage(connect(server, parallel=parallel))["model"]
    server.behaviour = lambda asked: echo(asked) if asked.number <= 5 else asked.send(503, "overloaded")
    stage = Generate(models=[model], prompts=prompts)
    run, error = fails(database, home, stage)
    kept = {row.prompt_key for row in answers(database, run)}
    assert len(kept) == 5
    assert "good answered 5 of 12 prompts: " in error
    assert "503: overloaded" in error
    assert "What was answered is kept, and a resumed run asks only for the rest" in error
    server.behaviour, before = echo, len(server.asked)
    dispatcher.resume(database, run)
    assert worker.work(database, home, run) == 0
    assert len(server.asked) - before == 7
    assert len({row.prompt_key for row in answers(database, run)}) == len(answers(database, run)) == 12


def test_refused_prompts_are_counted_and_the_others_answered(
    server: Server, run_stage: RunStage, database: Engine, home: Home, prompts: int
) -> None:
    model = run_stage(connect(server))["model"]

    def picky(asked: Handler) -> None:
        number = int(asked.body["messages"][-1]["content"].split()[1])
        if number % 2:
            asked.send(400, json.dumps({"error": {"message": f"maximum context length is 8 tokens, this has {number + 8}"}}))
        else:
            echo(asked)

    server.behaviour = picky
    run, error = fails(database, home, Generate(models=[model], prompts=prompts))
    assert len(answers(database, run)) == 6
    assert "answered 6 of 12 prompts: a prompt does not fit what them/good reads (maximum context length is 8 tokens" in error
    assert "(so for 6 prompts)" in error
    with Session(database) as session:
        warnings = session.exec(select(Event).where(Event.run == run, Event.level == "warning")).all()
    assert len(warnings) == 1, "one line for each reason, not for each prompt"


def test_prompts_longer_than_a_known_context_are_refused_before_they_are_asked(
    server: Server, run_stage: RunStage, database: Engine, home: Home, add_artifact: Callable[..., int], tmp_path: Path
) -> None:
    model = run_stage(connect(server, context_length=6))["model"]
    rows = [{"prompt": [{"role": "user", "content": "word " * length}]} for length in (2, 6, 9)]
    data = add_artifact("dataset", "Long", dataset(tmp_path / "long", rows, []), format="prompts", rows=3, columns=[])
    with pytest.raises(UserError, match=r"2 of 3 prompts do not fit the 6 tokens that good reads \(the longest has 9 words\)"):
        submit.submit(database, home, Generate(models=[model], prompts=data))


def test_sampling_that_the_api_has_no_word_for_is_refused(
    server: Server, run_stage: RunStage, database: Engine, home: Home, prompts: int
) -> None:
    model = run_stage(connect(server))["model"]
    for name, value in (("top_k", 5), ("repetition_penalty", 1.2)):
        stage = Generate(models=[model], prompts=prompts, sampling={"temperature": 1, name: value})
        with pytest.raises(UserError, match=f"the OpenAI API has no {name}: set sampling.{name} to") as refused:
            submit.submit(database, home, stage)
        assert refused.value.field == f"sampling.{name}"


def test_a_stopped_run_keeps_what_it_has(server: Server, run_stage: RunStage, database: Engine, home: Home, prompts: int) -> None:
    from engine.errors import Cancelled

    model = run_stage(connect(server, parallel=1))["model"]
    stage = Generate(models=[model], prompts=prompts)
    with Session(database) as session:
        row = session.get_one(Run, submit.submit(database, home, stage).runs[0])
        session.expunge(row)
    with pytest.raises(Cancelled):
        stage.run(stops_at(4)(database, home, row, stage))
    assert len(answers(database, row.id or 0)) == 4


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real server with a tiny model: its address and the model's folder, which is also its name there."""
    pytest.importorskip("openai", reason="transformers serve needs it; the extra `test` brings it")
    model, folder = untrained_model(tmp_path_factory.mktemp("served")), tmp_path_factory.mktemp("server")
    (folder / "hub").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    words = [Path(sys.executable).with_name("transformers"), "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(words, env=os.environ | environment, stdout=log, stderr=log, cwd=folder)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                httpx2.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx2.ConnectError:
                assert process.poll() is None, (folder / "log.txt").read_text()
                assert time.monotonic() < end, "transformers serve does not start"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", model
    finally:
        process.terminate()
        process.wait(30)


def test_a_real_server_answers_like_the_model_itself(
    transformers_serve: tuple[str, Path],
    run_stage: RunStage,
    database: Engine,
    home: Home,
    add_artifact: Callable[..., int],
    prompts: int,
) -> None:
    address, folder = transformers_serve
    here = add_artifact("model", "here", folder, format="full", parameters=10**6)
    there = run_stage(ConnectEndpoint(address=address, model=str(folder), parallel=2, save_as="there"))["model"]
    sampling = {"max_new_tokens": 8}
    made = run_stage(Generate(models=[here, there], prompts=prompts, limit=4, sampling=sampling))["responses"]
    rows = [json.loads(line) for line in (home.root / artifact(database, made).folder / "responses.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in rows[:4]] == [row["answer"] for row in rows[4:]]
    assert [len(row["token_ids"]) for row in rows[:4]] == [row["extra"]["tokens"] for row in rows[4:]]
    assert [row["finish_reason"] for row in rows[:4]] == [row["finish_reason"] for row in rows[4:]]


def test_a_real_server_streams_and_refuses_a_name_it_does_not_know(transformers_serve: tuple[str, Path]) -> None:
    from engine.settings import SamplingSettings

    address, folder = transformers_serve
    asked, sampling = [{"role": "user", "content": "what is the colour of mira?"}], SamplingSettings(max_new_tokens=8, thinking="off")
    *pieces, reply = endpoints.Endpoint(address, str(folder)).stream(asked, sampling)
    assert isinstance(reply, endpoints.Reply)
    assert "".join(map(str, pieces)) == reply.text == endpoints.Endpoint(address, str(folder)).answer(asked, sampling).text
    with pytest.raises(UserError, match="fails to answer as nothing"):
        endpoints.Endpoint(address, "nothing", retries=0).answer(asked, sampling)
