"""Live conversations, kept: a run of its own, and a row for every answer.

Each model has its own history: what it was asked and what it said itself. Rows are only ever added. A turn that is
edited and sent again is a newer set of rows, and the older ones from there on no longer count.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from engine.chat import Chat, Messages, prompt_key
from engine.errors import UserError
from engine.inference import ENDS, Asked, Said, ask
from engine.library import existing
from engine.settings import SamplingSettings
from engine.stage import Form, Kind
from engine.submit import code_version
from storage import queries
from storage.database import transaction
from storage.files import Home
from storage.tables import SUCCEEDED, Consumed, Response, Run

STAGE = "conversation"


class Talk(Form):
    """How a conversation is held."""

    system: str = Field("", title="System prompt", description="Said to every model before the first turn. Empty: none.")
    sampling: SamplingSettings = SamplingSettings()


@dataclass
class Turn:
    """What the person said, and the answers by model; a model that failed has none."""

    text: str
    answers: dict[int, Response] = field(default_factory=dict)


def start(database: Engine, home: Home, models: Sequence[int], system: str, sampling: SamplingSettings) -> int:
    """Begin a conversation with these models; its run.

    Raises UserError for what is no model or named twice, and for a system prompt that a chat template refuses.
    """
    now = queries.utc_now()
    if not models or len(set(models)) < len(models):
        raise UserError("a conversation needs one or more models, each once, and was given {models}", field="models", models=list(models))
    with transaction(database) as session:
        for model in models:
            row = existing(session, model)
            if row.kind != Kind.MODEL or row.ready_at is None or row.summary.get("format") == "reward":
                raise UserError("{name} is no model that can answer: choose another", field="models", name=row.name)
            if row.summary.get("format") != "endpoint":
                Chat.open(home.root / row.folder).render(_history(system, [], model, "hello"), ask=True)
        settings = {"models": list(models), "system": system, "sampling": sampling.model_dump(mode="json")}
        run = Run(
            stage=STAGE, settings=settings, status=SUCCEEDED, heavy=False, seed=sampling.seed, code_version=code_version(),
            queued_at=now, started_at=now, ended_at=now,
        )  # fmt: skip
        session.add(run)
        session.flush()
        assert run.id is not None
        session.add_all(Consumed(run=run.id, artifact=model, field=f"models.{place}") for place, model in enumerate(models))
        return run.id


def turns(session: Session, run: int) -> list[Turn]:
    """A conversation as it stands."""
    told: list[Turn] = []
    sent: list[str] = []  # when each turn was sent: all answers to it carry the same
    for row in session.exec(select(Response).where(Response.run == run).order_by(col(Response.id))):
        if row.step > len(told) or (row.step < len(told) and row.extra["sent"] < sent[row.step]):
            continue  # an answer to a turn that was sent again meanwhile, or to one after it
        if row.step == len(told) or row.extra["sent"] > sent[row.step]:
            del told[row.step :], sent[row.step :]
            told.append(Turn(str(row.prompt[-1]["content"])))
            sent.append(row.extra["sent"])
        told[row.step].answers[row.artifact] = row
    return told


def say(database: Engine, home: Home, run: int, text: str, turn: int | None = None) -> Generator[Said]:
    """Say something to all models of a conversation, or say turn `turn` anew. Every answer is stored the moment it is
    done; of one that is cut, by closing the iterator or by an error, what was said so far.

    Raises UserError if there is no such conversation or turn.
    """
    with Session(database) as session:
        row = session.get(Run, run)
        if row is None or row.stage != STAGE:
            raise UserError("there is no conversation {run}", run=run)
        settings, before = dict(row.settings), turns(session, run)
        session.expunge_all()
    place = len(before) if turn is None else turn
    if not 0 <= place <= len(before):
        raise UserError("there is no turn {turn}: the conversation has {turns}", turn=place + 1, turns=len(before))
    asked = [Asked(model, _history(settings["system"], before[:place], model, text)) for model in settings["models"]]
    sent = queries.utc_now()
    speaking = {one.model: _Spoken(one, place, sent) for one in asked}
    try:
        with closing(ask(database, home, asked, SamplingSettings(**settings["sampling"]))) as saying:
            for said in saying:
                if said.model:
                    speaking[said.model].hear(said)
                if said.kind in ENDS:
                    speaking.pop(said.model).store(database, run)
                yield said
    finally:
        for cut in speaking.values():
            cut.store(database, run)


@dataclass
class _Spoken:
    """What one model has said so far in one turn."""

    asked: Asked
    turn: int
    sent: datetime
    answer: str = ""
    thought: str = ""
    ids: list[int] = field(default_factory=list)
    finish_reason: str = "stopped"
    extra: dict[str, Any] = field(default_factory=dict)

    def hear(self, said: Said) -> None:
        if said.kind == "error":
            self.extra["error"] = said.text
        elif said.kind == "done":
            self.answer, self.ids, self.finish_reason = said.text, list(said.token_ids), said.finish_reason or "stop"
        elif said.kind == "text":
            self.answer += said.text
        elif said.kind == "thought":
            self.thought += said.text
        if said.kind in ("text", "thought"):
            self.ids += said.token_ids
        if said.device:
            self.extra |= {"device": said.device, "seconds": round(said.seconds, 3), "tokens": said.tokens}

    def store(self, database: Engine, run: int) -> None:
        """Keep it, if there is anything to keep."""
        if self.finish_reason == "stopped" and not (self.answer or self.thought):
            return
        if thought := self.thought.strip():
            self.extra["thought"] = thought
        row = Response(
            run=run, at=queries.utc_now(), artifact=self.asked.model, step=self.turn, prompt_key=prompt_key(self.asked.messages),
            prompt=self.asked.messages, answer=self.answer, token_ids=self.ids, finish_reason=self.finish_reason,
            extra=self.extra | {"sent": self.sent.isoformat(timespec="microseconds")},
        )  # fmt: skip
        with Session(database) as session:
            session.add(row)
            session.commit()


def _history(system: str, before: list[Turn], model: int, text: str) -> Messages:
    """What a model is shown: its own turns. One that it failed in was never part of its conversation."""
    messages: Messages = [{"role": "system", "content": system}] if system else []
    for turn in before:
        if answer := turn.answers.get(model):
            messages += [{"role": "user", "content": turn.text}, {"role": "assistant", "content": answer.answer}]
    return [*messages, {"role": "user", "content": text}]
