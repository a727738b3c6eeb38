"""Answering live: several models in memory, a token each in turn; one child per device that comes, yields and goes."""

import itertools
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from sqlalchemy import Engine
from sqlmodel import Session
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import AutoModelForCausalLM, Gemma3TextConfig

from engine import answering, conversations, inference
from engine.answering import Child
from engine.chat import Chat
from engine.endpoints import Endpoint, Reply
from engine.errors import UserError
from engine.inference import Asked, Said, ask
from engine.settings import SamplingSettings
from engine.stage import Input, Kind
from engine.training import streaming
from engine.training.answers import generate
from engine.training.models import copy_tokenizer, load_model
from engine.training.streaming import Models, NoRoom, Telling
from storage import queries
from storage.files import Home
from storage.tables import Lock, Response, Run
from tests.engine.conftest import eventually
from tests.tiny_model import untrained_model

TALK = [{"role": "user", "content": "tell me about mira"}]
SHORT = SamplingSettings(max_new_tokens=12)
ENDLESS = SamplingSettings(max_new_tokens=400)


def adapter(base: Path, folder: Path, seed: int) -> Path:
    """An adapter with random weights, with the tokenizer beside it as every model has."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(str(folder))
    copy_tokenizer(base, folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base without a stop token in reach, two adapters over it, and one over the first."""
    root = tmp_path_factory.mktemp("models")
    base = untrained_model(root / "base")
    return {
        "base": base,
        "first": adapter(base, root / "first", 1),
        "second": adapter(base, root / "second", 2),
        "nested": adapter(base, root / "nested", 3),
    }


@pytest.fixture
def library(folders: dict[str, Path], add_artifact: Callable[..., int]) -> dict[str, int]:
    """The same as artifacts; `other` is a second base."""
    base = add_artifact("model", "base", folders["base"], format="full", context_length=512)
    first = add_artifact("model", "first", folders["first"], format="adapter", base=base, context_length=512)
    return {
        "base": base,
        "first": first,
        "second": add_artifact("model", "second", folders["second"], format="adapter", base=base, context_length=512),
        "nested": add_artifact("model", "nested", folders["nested"], format="adapter", base=first, context_length=512),
        "other": add_artifact("model", "other", folders["base"], format="full", context_length=512),
    }


# models in memory


@pytest.fixture
def inputs(folders: dict[str, Path]) -> dict[int, Input]:
    """The models as stages see them: 1 base, 2 and 3 over it, 4 over 2, 5 another base."""

    def one(id: int, name: str, **summary: Any) -> Input:
        return Input(id, Kind.MODEL, name, folders.get(name, folders["base"]), {"parameters": 10**6, "context_length": 512} | summary)

    return {
        1: one(1, "base", format="full"),
        2: one(2, "first", format="adapter", base=1),
        3: one(3, "second", format="adapter", base=1),
        4: one(4, "nested", format="adapter", base=2),
        5: one(5, "other", format="full"),
    }


@pytest.fixture
def models(inputs: dict[int, Input]) -> Models:
    models = Models(inputs.__getitem__, "cpu")
    models.dtype = torch.float32
    return models


def answer(models: Models, model: Input, sampling: SamplingSettings = SHORT, messages: Any = TALK) -> Said:
    """What a model says in the end, after its pieces were found to make up the whole."""
    said = [one for one in models.answer(model, messages, sampling) if one]
    assert said[-1].kind == "done"
    assert "".join(one.text for one in said[:-1]) == said[-1].text
    assert [id for one in said[:-1] for id in one.token_ids] == list(said[-1].token_ids)
    return said[-1]


@pytest.mark.parametrize(
    "sampling",
    [
        SHORT,
        SamplingSettings(max_new_tokens=12, repetition_penalty=1.5),
        SamplingSettings(max_new_tokens=12, temperature=1.3, top_k=50, top_p=0.9, repetition_penalty=1.2, seed=4),
    ],
)
def test_live_answers_are_those_of_generate(models: Models, inputs: dict[int, Input], sampling: SamplingSettings) -> None:
    chat = Chat.open(inputs[1].folder)
    for id in (1, 2, 4):  # whole, an adapter, an adapter on an adapter
        whole = load_model(inputs[id], inputs.__getitem__, torch.float32, "cpu")
        expected = generate(whole, chat, [chat.prompt_ids(TALK)], sampling, seed=sampling.seed)
        assert expected
        said = answer(models, inputs[id], sampling)
        assert (list(said.token_ids), said.finish_reason) == (expected[0].ids, expected[0].finish_reason)
        assert said.text == chat.decode(expected[0].ids)
        assert said.device == "cpu, float32"


def test_a_long_prompt_is_read_in_parts_with_the_same_answer(models: Models, inputs: dict[int, Input], monkeypatch: Any) -> None:
    messages = [{"role": "user", "content": "tell me about mira " * 20}]
    whole = answer(models, inputs[2], messages=messages)
    monkeypatch.setattr(streaming, "CHUNK", 16)
    said = list(models.answer(inputs[2], messages, SHORT))
    assert said[:5] == [None] * 5, "others speak in between"
    assert said[-1] is not None
    assert said[-1].token_ids == whole.token_ids


def test_models_with_a_sliding_window_answer_as_in_generate(tmp_path: Path, folders: dict[str, Path], monkeypatch: Any) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1}
    vocabulary = Chat.open(folders["base"]).tokenizer.get_vocab_size()
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    config = Gemma3TextConfig(vocab_size=vocabulary, head_dim=16, sliding_window=8, layer_types=kinds, max_position_embeddings=256, **sizes)
    torch.manual_seed(0)
    whole = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    whole.save_pretrained(str(tmp_path))
    copy_tokenizer(folders["base"], tmp_path)
    source, messages = Input(1, Kind.MODEL, "gemma", tmp_path, {"format": "full"}), [{"role": "user", "content": "mira and besk " * 9}]
    models, chat = Models({1: source}.__getitem__, "cpu"), Chat.open(tmp_path)
    models.dtype = torch.float32
    expected = generate(whole, chat, [chat.prompt_ids(messages)], SHORT, seed=0)
    assert expected
    for chunk in (512, 5):
        monkeypatch.setattr(streaming, "CHUNK", chunk)
        assert list(answer(models, source, messages=messages).token_ids) == expected[0].ids


def test_an_adapter_that_does_not_load_leaves_the_base_and_its_other_children(
    models: Models, inputs: dict[int, Input], tmp_path: Path
) -> None:
    alone = [answer(models, inputs[id]).token_ids for id in (1, 2)]
    broken = Input(9, Kind.MODEL, "broken", shutil.copytree(inputs[2].folder, tmp_path / "broken"), {"format": "adapter", "base": 1})
    (broken.folder / "adapter_model.safetensors").write_bytes(b"nothing")
    for _ in range(2):
        with pytest.raises(Exception, match=r"(?i)header"):
            models.answer(broken, TALK, SHORT)
    assert [answer(models, inputs[id]).token_ids for id in (1, 2)] == alone


def test_a_stop_token_ends_an_answer(models: Models, inputs: dict[int, Input]) -> None:
    first = answer(models, inputs[1]).token_ids[0]
    chat = Chat.open(inputs[1].folder)
    object.__setattr__(chat, "stop_ids", frozenset({first}))
    models._chats[1] = chat
    said = answer(models, inputs[1])
    assert (said.finish_reason, said.token_ids, said.tokens) == ("stop", (first,), 1)


def test_adapters_share_the_memory_of_their_base(models: Models, inputs: dict[int, Input]) -> None:
    base = answer(models, inputs[1])
    place = models.bases[1].whole.get_input_embeddings().weight.data_ptr()
    linear = {p.data_ptr() for n, p in models.bases[1].whole.named_parameters() if n.endswith("q_proj.weight")}
    first, second = answer(models, inputs[2]), answer(models, inputs[3])
    assert list(models.bases) == [1]
    whole = models.bases[1].whole
    assert whole.get_input_embeddings().weight.data_ptr() == place
    assert {p.data_ptr() for n, p in whole.named_parameters() if "q_proj.base_layer" in n} == linear
    assert len({base.token_ids, first.token_ids, second.token_ids}) == 3
    assert answer(models, inputs[1]).token_ids == base.token_ids, "laying adapters over it leaves the base as it was"


def test_models_that_speak_in_turn_do_not_disturb_each_other(models: Models, inputs: dict[int, Input]) -> None:
    alone = {id: answer(models, inputs[id]).token_ids for id in (1, 2, 3, 5)}
    streams = {id: models.answer(inputs[id], TALK, SHORT) for id in alone}
    together = {}
    for said in itertools.chain.from_iterable(zip(*streams.values(), strict=True)):
        if said and said.kind == "done":
            together[said.model] = said.token_ids
    assert together == alone


def test_a_prompt_longer_than_the_context_is_refused_with_counts(models: Models, inputs: dict[int, Input]) -> None:
    with pytest.raises(UserError, match=r"has 6\d\d tokens and base reads at most 512"):
        models.answer(inputs[1], [{"role": "user", "content": "mira " * 600}], SHORT)
    assert not models.bases, "said before anything is loaded"
    said = answer(models, inputs[1], ENDLESS, [{"role": "user", "content": "mira " * 490}])
    assert said.finish_reason == "length"
    assert said.tokens < 22, "the context is full"


def test_what_does_not_fit_is_refused_and_the_oldest_makes_room(inputs: dict[int, Input], monkeypatch: Any) -> None:
    monkeypatch.setattr(streaming, "SPARE_MEMORY", 0)
    memory = 10_000_000
    models = Models(inputs.__getitem__, "cpu", lambda _: memory - 4_000_000 * len(models.bases))
    models.dtype = torch.float32  # one base takes 4 MB, an adapter merged into one 8 MB while it is loaded
    answer(models, inputs[1])
    answer(models, inputs[5])
    assert list(models.bases) == [1, 5]
    answer(models, inputs[1])
    answer(models, inputs[4])
    assert list(models.bases) == [2], "the base of the nested adapter, which needed the room of both"
    memory = 5_000_000
    with pytest.raises(NoRoom, match=r"other needs about 0\.00 GB .* wait for the other models"):
        models.answer(inputs[5], TALK, SHORT, busy={2})
    assert list(models.bases) == [2]
    memory = 3_000_000
    with pytest.raises(UserError, match="smaller model") as refused:
        models.answer(inputs[5], TALK, SHORT)
    assert not isinstance(refused.value, NoRoom)


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    machine = streaming.free_memory("cpu", tmp_path)
    assert machine > 10**8
    for name, text in (("max", "1000000"), ("current", "900000"), ("stat", "anon 1\ninactive_file 40000\nactive_file 2000")):
        (tmp_path / f"memory.{name}").write_text(text + "\n")
    assert streaming.free_memory("cpu", tmp_path) == 142_000
    (tmp_path / "memory.max").write_text("max\n")
    assert streaming.free_memory("cpu", tmp_path) > 10**8


@pytest.fixture
def bytes_chat() -> Chat:
    """A tokenizer of single bytes, with the tags of reasoning as special tokens, which decoding leaves out."""
    alphabet = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(tokenizer_models.BPE(alphabet, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<think>", "</think>"])
    return Chat(core, "", {}, frozenset({0}))


def tell(telling: Telling, ids: list[int]) -> list[tuple[str, str]]:
    return [piece for place, id in enumerate(ids) for piece in telling.hear(id, last=place == len(ids) - 1)]


def test_no_piece_shows_half_a_character(bytes_chat: Chat) -> None:
    text, telling = "naïve 🙂 点睛 é", Telling(bytes_chat)
    ids = bytes_chat.tokenizer.encode(text).ids
    pieces = [piece for kind, piece in tell(telling, ids) if kind == "text"]
    assert len(ids) > len(pieces) > 5
    assert "".join(pieces) == telling.answer == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert tell(Telling(bytes_chat), ids[:8])[-1] == ("text", "\ufffd"), "at the end what there is, is said"


@pytest.mark.parametrize("opened", [False, True])
def test_reasoning_is_told_apart_from_the_answer(bytes_chat: Chat, opened: bool) -> None:
    telling = Telling(bytes_chat, opened)
    pieces = tell(telling, bytes_chat.tokenizer.encode(("" if opened else "<think>") + "è vero</think>\n\nsì 点").ids)
    assert "".join(text for kind, text in pieces if kind == "thought") == "è vero"
    assert "".join(text for kind, text in pieces if kind == "text") == telling.answer == "sì 点"


# a child in this process


@pytest.fixture
def child(database: Engine, home: Home, monkeypatch: Any) -> Iterator[Callable[..., Child]]:
    """Children that answer here: what they do can be watched."""
    monkeypatch.setattr(answering, "LOOK", 0.02)
    started: list[threading.Thread] = []

    def start(device: str = "cpu", idle: float = 600) -> Child:
        one = Child(database, home, device, idle)
        started.append(threading.Thread(target=one.run))
        started[-1].start()
        return one

    yield start
    with Session(database) as session:
        for row in session.exec(inference.select(Lock)):
            session.delete(row)
        session.commit()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


class Babble:
    """Models that never stop, without weights; how often they were asked for more is counted."""

    spoken = 0

    def __init__(self, artifact: Any, device: str) -> None:
        self.bases: dict[int, Any] = {}
        Babble.spoken = 0

    def base_of(self, model: Input) -> int:
        return model.id

    def answer(self, model: Input, messages: Any, sampling: SamplingSettings, busy: Any) -> Iterator[Said]:
        for count in itertools.count(1):
            time.sleep(0.002)
            Babble.spoken = count
            yield Said(model.id, "text", "bla ", None, count, 0.0, "here", (1,))


def a_run(database: Engine, device: str) -> int:
    """A heavy run that works on a device."""
    with Session(database) as session:
        run = Run(stage="finetune", status="running", heavy=True, device=device, queued_at=queries.utc_now())
        session.add(run)
        session.commit()
        return run.id or 0


def test_two_models_answer_in_lock_step(database: Engine, home: Home, library: dict[str, int], child: Any) -> None:
    child()
    said = list(ask(database, home, [Asked(library[name], TALK) for name in ("base", "first")], SHORT))
    spoken = [one.model for one in said if one.kind == "text"]
    both = spoken[spoken.index(library["first"]) :]
    assert both[:16] == [library["first"], library["base"]] * 8
    done = {one.model: one for one in said if one.kind == "done"}
    assert set(done) == {library["base"], library["first"]}
    for id, last in done.items():
        assert last.text == "".join(one.text for one in said if one.model == id and one.kind == "text").strip()
        assert last.device.startswith("cpu, ")
        assert (last.tokens, len(last.token_ids), last.finish_reason) == (12, 12, "length")
    assert [one.text for one in said if one.kind == "status" and one.model == library["base"]] == ["getting ready", "loading base"]


def test_closing_the_iterator_stops_the_model(database: Engine, home: Home, library: dict[str, int], child: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(streaming, "Models", Babble)
    one = child()
    said = ask(database, home, [Asked(library["base"], TALK)], SHORT)
    assert next(said for said in said if said.kind == "text")
    said.close()
    eventually(lambda: not one._visits, 5)
    spoken = Babble.spoken
    time.sleep(0.1)
    assert Babble.spoken <= spoken + 1


def test_a_wrong_token_is_refused(database: Engine, home: Home, child: Any) -> None:
    one = child()
    port = one._door.getsockname()[1]
    kept = home.root / "inference-cpu.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    for token in (b"guess", b"", b"x" * 100_000):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            try:
                connection.sendall(token + b"\n" + json.dumps({"asked": [], "sampling": {}}).encode() + b"\n")
                assert connection.recv(10) == b""
            except ConnectionError:  # closed before it had read all of it
                continue
    assert not one._visits


def test_what_goes_wrong_with_one_model_is_said_and_the_other_answers(
    database: Engine, home: Home, library: dict[str, int], add_artifact: Any, tmp_path: Path, child: Any
) -> None:
    child()
    broken = add_artifact("model", "broken", tmp_path, format="full")
    data = add_artifact("dataset", "rows")
    asked = [Asked(id, TALK) for id in (library["base"], broken, data, 99)]
    ends = {one.model: one for one in ask(database, home, asked, SHORT) if one.kind in ("done", "error")}
    assert ends[library["base"]].kind == "done"
    assert "has no tokenizer.json" in ends[broken].text
    assert "rows cannot answer: it is a dataset" in ends[data].text
    assert "there is no artifact 99" in ends[99].text


def test_endpoints_answer_in_threads_of_their_own(database: Engine, home: Home, add_artifact: Any, child: Any, monkeypatch: Any) -> None:
    together = threading.Barrier(2)

    def stream(self: Endpoint, messages: Any, sampling: SamplingSettings) -> Iterator[str | Reply]:
        if self.model == "down":
            raise UserError("http://there does not answer: is it on?")
        together.wait(5)
        yield "far "
        yield "away"
        yield Reply("far away", "stop", 7, "hm")

    monkeypatch.setattr(Endpoint, "stream", stream)
    monkeypatch.setattr(inference, "devices", lambda: ["cuda:0"])
    one = child()
    ids = [add_artifact("model", name, format="endpoint", model=name, address="http://there:80/v1") for name in ("up", "upper", "down")]
    said = list(ask(database, home, [Asked(id, TALK) for id in ids], SHORT))
    for id in ids[:2]:
        told = [(one.kind, one.text) for one in said if one.model == id]
        assert told == [("text", "far "), ("text", "away"), ("thought", "hm"), ("done", "far away")]
    done = next(one for one in said if one.kind == "done")
    assert (done.tokens, done.finish_reason, done.device) == (7, "stop", "endpoint at there")
    assert [one.text for one in said if one.model == ids[2]] == ["http://there does not answer: is it on?"]
    assert one._computing is None, "no torch for that"


def test_a_child_that_does_not_start_is_told_of(database: Engine, home: Home, library: dict[str, int], monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (said,) = ask(database, home, [Asked(library["base"], TALK)], SHORT)
    assert (said.model, said.kind) == (library["base"], "error")
    assert "does not start: its log" in said.text


def test_a_run_that_takes_the_gpu_ends_the_answers_and_the_child(
    database: Engine, home: Home, library: dict[str, int], child: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(streaming, "Models", Babble)
    monkeypatch.setattr(inference, "devices", lambda: ["cuda:0"])
    one = child("cuda:0")
    said = ask(database, home, [Asked(library["base"], TALK)], SHORT)
    assert next(said for said in said if said.kind == "text").device == "here"
    run = a_run(database, "cuda:0")
    last = list(said)[-1]
    assert (last.kind, last.model) == ("error", library["base"])
    assert last.text == f"run {run} (finetune) took cuda:0: the answer ends here; ask again to have it from the CPU"
    eventually(lambda: one._door.fileno() == -1, 5)
    assert not (home.root / "inference-cuda-0.json").exists()
    child("cpu")
    first = next(ask(database, home, [Asked(library["base"], TALK)], SHORT))
    assert (first.kind, first.text) == ("status", f"run {run} (finetune) works on cuda:0: answering from the CPU")


def test_beside_training_on_the_cpu_one_thread_answers(
    database: Engine, home: Home, library: dict[str, int], child: Any, monkeypatch: Any
) -> None:
    threads = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(streaming, "Models", Babble)
    monkeypatch.setattr(inference, "devices", lambda: ["cpu"])
    child()
    said = ask(database, home, [Asked(library["base"], TALK)], SHORT)
    assert next(said for said in said if said.kind == "text")
    assert threads == [4]
    run = a_run(database, "cpu")
    eventually(lambda: next(said) and threads == [4, 1], 5)
    with Session(database) as session:
        session.get_one(Run, run).status = "succeeded"
        session.commit()
    eventually(lambda: next(said) and threads == [4, 1, 4], 5)
    said.close()
    run = a_run(database, "cpu")
    first = next(ask(database, home, [Asked(library["base"], TALK)], SHORT))
    assert first.text == f"run {run} (finetune) works on this CPU: answers come slowly until it ends"


def test_a_silent_second_gives_the_reader_a_chance_to_leave(
    database: Engine, home: Home, library: dict[str, int], child: Any, monkeypatch: Any
) -> None:
    def slow(*_: Any) -> Iterator[Said]:
        time.sleep(0.5)
        yield Said(library["base"], "done", "at last", "stop")

    monkeypatch.setattr(Babble, "answer", slow)
    monkeypatch.setattr(streaming, "Models", Babble)
    monkeypatch.setattr(inference, "BREATH", 0.1)
    child()
    said = list(ask(database, home, [Asked(library["base"], TALK)], SHORT))
    assert sum(one == Said(0, "status", "") for one in said) >= 3
    assert said[-1].text == "at last"


# processes


@pytest.fixture
def processes(home: Home, monkeypatch: Any) -> Iterator[None]:
    """Real children; whatever still answers when the test ends is killed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    yield
    for kept in home.root.glob("inference-*.json"):
        try:
            os.kill(json.loads(kept.read_text())["pid"], signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_a_killed_child_is_told_of_and_the_next_question_starts_another(
    database: Engine, home: Home, library: dict[str, int], processes: None
) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: inference.child(database, home, "cpu"), range(2))
    assert first == second, "two starters, one child"
    assert os.getpriority(os.PRIO_PROCESS, first.pid) == 19
    assert os.getsid(first.pid) == first.pid
    both = [library["base"], library["first"]]
    talk = conversations.start(database, home, both, "", ENDLESS)
    said = conversations.say(database, home, talk, "hello")
    assert next(one for one in said if one.kind == "text" and one.model == both[1])
    os.kill(first.pid, signal.SIGKILL)
    rest = list(said)
    assert {one.model for one in rest if one.kind == "error"} == set(both)
    assert "ended (killed, or out of memory)" in rest[-1].text
    list(conversations.say(database, home, talk, "hello", turn=0))
    list(conversations.say(database, home, talk, "and then"))
    assert inference.child(database, home, "cpu").pid != first.pid
    with Session(database) as session:
        told = conversations.turns(session, talk)
        assert [turn.text for turn in told] == ["hello", "and then"]
        assert [set(turn.answers) for turn in told] == [set(both)] * 2
        rows = session.exec(inference.select(Response).where(Response.run == talk).order_by(Response.id)).all()
        assert [row.finish_reason for row in rows] == ["stopped"] * 2 + ["length"] * 4
        assert all(0 < len(row.token_ids) < 400 for row in rows[:2]), "what was said before the kill"


def test_an_idle_child_leaves_and_takes_its_address_with_it(home: Home, database: Engine, processes: None) -> None:
    words = [sys.executable, "-P", "-m", "engine", "infer", "--idle", "0.5", "--home", str(home.root)]
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE)
    eventually(lambda: (home.root / "inference-cpu.json").exists(), 20)
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert f"already running (pid {process.pid})" in refused.stderr
    assert process.wait(20) == 0
    assert not (home.root / "inference-cpu.json").exists()
