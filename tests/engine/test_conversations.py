"""Live conversations: every model its own history, every answer a row, nothing deleted, nothing lost."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from engine import conversations, library, submit
from engine.dispatcher import Dispatcher
from engine.errors import UserError
from engine.inference import Asked, Said
from engine.settings import SamplingSettings
from storage import queries
from storage.files import Home
from storage.tables import Response, Run
from tests.tiny_model import untrained_model


class Voices:
    """In place of the models: what each says is scripted, and what each was shown is noted."""

    def __init__(self) -> None:
        self.shown: list[dict[int, list[dict[str, Any]]]] = []
        self.fails: dict[int, str] = {}
        self.closed = 0

    def ask(self, database: Engine, home: Home, asked: Sequence[Asked], sampling: SamplingSettings) -> Generator[Said]:
        self.shown.append({one.model: one.messages for one in asked})
        try:
            yield Said(0, "status", "slowly")
            for one in asked:
                yield Said(one.model, "thought", "hm")
                yield Said(one.model, "text", f"{one.model} hears ", None, 2, 0.1, "cpu, float32", (7, 8))
            for one in asked:
                if one.model in self.fails:
                    yield Said(one.model, "error", self.fails[one.model])
                    continue
                text = f"{one.model} hears {one.messages[-1]['content']}"
                yield Said(one.model, "done", text, "stop", 3, 0.2, "cpu, float32", (7, 8, 9))
        finally:
            self.closed += 1


@pytest.fixture
def voices(monkeypatch: pytest.MonkeyPatch) -> Voices:
    voices = Voices()
    monkeypatch.setattr(conversations, "ask", voices.ask)
    return voices


@pytest.fixture
def models(add_artifact: Callable[..., int], tmp_path: Path) -> list[int]:
    folder = untrained_model(tmp_path / "tiny")
    return [add_artifact("model", name, folder, format="full") for name in ("one", "two")]


@pytest.fixture
def talk(database: Engine, home: Home, voices: Voices, models: list[int]) -> "Talk":
    return Talk(database, home, models)


class Talk:
    """One conversation and short words for it."""

    def __init__(self, database: Engine, home: Home, models: list[int]) -> None:
        self.database, self.home = database, home
        self.run = conversations.start(database, home, models, "be brief", SamplingSettings(max_new_tokens=5, seed=3))

    def say(self, text: str, turn: int | None = None) -> list[Said]:
        return list(conversations.say(self.database, self.home, self.run, text, turn))

    def turns(self) -> list[tuple[str, dict[int, str]]]:
        with Session(self.database) as session:
            told = conversations.turns(session, self.run)
            return [(turn.text, {model: row.answer for model, row in turn.answers.items()}) for turn in told]

    def rows(self) -> list[Response]:
        with Session(self.database) as session:
            return list(session.exec(select(Response).where(Response.run == self.run).order_by(Response.id)))


def test_a_conversation_is_a_run_that_waits_for_nobody(talk: Talk, models: list[int]) -> None:
    with Session(talk.database) as session:
        run = session.get_one(Run, talk.run)
        assert (run.stage, run.status, run.heavy, run.seed) == ("conversation", "succeeded", False, 3)
        assert run.settings["models"] == models
        assert run.settings["system"] == "be brief"
        assert SamplingSettings(**run.settings["sampling"]).max_new_tokens == 5
        assert [(field, model.id) for field, model in queries.consumed_by(session, talk.run)] == [
            ("models.0", models[0]),
            ("models.1", models[1]),
        ]


def test_every_model_has_its_own_history(talk: Talk, voices: Voices, models: list[int]) -> None:
    one, two = models
    for text in ("hello", "again", "bye"):
        talk.say(text)
    assert [text for text, _ in talk.turns()] == ["hello", "again", "bye"]
    assert talk.turns()[1] == ("again", {one: f"{one} hears again", two: f"{two} hears again"})
    assert voices.shown[2][two] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": f"{two} hears hello"},
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": f"{two} hears again"},
        {"role": "user", "content": "bye"},
    ]
    last = talk.rows()[-1]
    assert last.prompt == voices.shown[2][two]
    assert (last.artifact, last.step, last.finish_reason, last.token_ids) == (two, 2, "stop", [7, 8, 9])
    told = {name: last.extra[name] for name in ("device", "seconds", "tokens", "thought")}
    assert told == {"device": "cpu, float32", "seconds": 0.2, "tokens": 3, "thought": "hm"}


def test_an_edited_turn_outdates_what_followed_and_deletes_nothing(talk: Talk, voices: Voices, models: list[int]) -> None:
    for text in ("hello", "again", "bye"):
        talk.say(text)
    talk.say("really", turn=1)
    assert [text for text, _ in talk.turns()] == ["hello", "really"]
    assert [message["content"] for message in voices.shown[-1][models[0]]] == ["be brief", "hello", f"{models[0]} hears hello", "really"]
    assert len(talk.rows()) == 8
    talk.say("and on")
    assert [text for text, _ in talk.turns()] == ["hello", "really", "and on"]
    talk.say("new", turn=0)
    assert [text for text, _ in talk.turns()] == ["new"]


def test_the_same_words_sent_again_are_a_new_turn_of_that_place(talk: Talk, voices: Voices, models: list[int]) -> None:
    talk.say("hello")
    voices.fails[models[0]] = "down"
    said = conversations.say(talk.database, talk.home, talk.run, "hello", turn=0)
    next(said)
    said.close()
    assert talk.turns() == [("hello", {model: f"{model} hears hello" for model in models})], "nothing was said yet"
    talk.say("hello", turn=0)
    assert talk.turns() == [("hello", {models[0]: f"{models[0]} hears ", models[1]: f"{models[1]} hears hello"})]


def test_a_late_answer_to_an_outdated_turn_does_not_come_back(talk: Talk, models: list[int]) -> None:
    talk.say("hello")
    slow = conversations.say(talk.database, talk.home, talk.run, "slow")
    assert next(said for said in slow if said.kind == "text")
    talk.say("again", turn=0)
    talk.say("quick")
    list(slow)
    assert [text for text, _ in talk.turns()] == ["again", "quick"]
    assert talk.turns()[1][1][models[0]] == f"{models[0]} hears quick"


def test_what_was_said_before_a_stop_is_kept(talk: Talk, voices: Voices, models: list[int]) -> None:
    said = conversations.say(talk.database, talk.home, talk.run, "hello")
    heard = [next(said) for _ in range(3)]
    assert heard[-1].model == models[0]
    said.close()
    assert voices.closed == 1, "the models are told to stop"
    (row,) = talk.rows()
    assert (row.artifact, row.answer, row.finish_reason, row.token_ids) == (models[0], f"{models[0]} hears ", "stopped", [7, 8])
    talk.say("and then")
    assert [message["content"] for message in voices.shown[-1][models[1]]] == ["be brief", "and then"], "it had said nothing"


def test_done_answers_are_rows_before_the_others_are_done(talk: Talk) -> None:
    said = conversations.say(talk.database, talk.home, talk.run, "hello")
    next(one for one in said if one.kind == "done")
    assert len(talk.rows()) == 1
    said.close()
    assert [row.finish_reason for row in talk.rows()] == ["stop", "stopped"]


def test_an_answer_cut_by_an_error_is_kept_with_its_reason(talk: Talk, voices: Voices, models: list[int]) -> None:
    voices.fails[models[1]] = "it was killed"
    assert [one.text for one in talk.say("hello") if one.kind == "error"] == ["it was killed"]
    row = next(row for row in talk.rows() if row.artifact == models[1])
    assert (row.answer, row.finish_reason, row.extra["error"]) == (f"{models[1]} hears ", "stopped", "it was killed")


def test_what_cannot_be_a_conversation_is_refused(
    database: Engine, home: Home, talk: Talk, models: list[int], add_artifact: Callable[..., int], tmp_path: Path
) -> None:
    def start(*ids: int, system: str = "") -> int:
        return conversations.start(database, home, list(ids), system, SamplingSettings())

    with pytest.raises(UserError, match="each once"):
        start(models[0], models[0])
    with pytest.raises(UserError, match="each once"):
        start()
    with pytest.raises(UserError, match="no model"):
        start(add_artifact("dataset", "rows"))
    with pytest.raises(UserError, match="there is no artifact 99"):
        start(99)
    strict = untrained_model(tmp_path / "strict")
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system prompts') }}{% endif %}"
    (strict / "chat_template.jinja").write_text(template)
    picky = add_artifact("model", "picky", strict, format="full")
    with pytest.raises(UserError, match="no system prompts"):
        start(picky, system="be brief")
    assert start(picky)
    with pytest.raises(UserError, match="there is no turn 2: the conversation has 0"):
        talk.say("hello", turn=1)
    with pytest.raises(UserError, match="there is no conversation 77"):
        list(conversations.say(database, home, 77, "hello"))


def test_the_answers_of_a_deleted_model_stay(talk: Talk, models: list[int]) -> None:
    talk.say("hello")
    library.delete(talk.database, talk.home, models[1])
    assert len(talk.turns()[0][1]) == 2


def test_the_rest_of_the_house_leaves_conversations_alone(talk: Talk, database: Engine, home: Home) -> None:
    talk.say("hello")
    with pytest.raises(UserError, match="no stage or recipe named 'conversation'"):
        submit.retry(database, home, talk.run)
    dispatcher = Dispatcher(database, home, keep_spare=False)
    dispatcher.tick()
    dispatcher.close()
    with Session(database) as session:
        assert session.get_one(Run, talk.run).status == "succeeded"
