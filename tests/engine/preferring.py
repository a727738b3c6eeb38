"""What the tests of learning from preferences share: ranked answers, and a class that has some."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Engine
from sqlmodel import Session

from engine.chat import Chat
from engine.stage import Stage
from storage.files import Home
from storage.tables import Artifact
from tests.engine.teaching import QUICK, Class, stops_at

# field: (other settings, what of the trainer shows it), of all stages that learn from preferences
SHARED_FIELDS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "method": ({"method": "full"}, lambda t: t.summary["parameters"]),
    "training.learning_rate": ({"training": {"learning_rate": 0.5}}, lambda t: t.args.learning_rate),
    "training.batch_size": ({"training": {"batch_size": 3}}, lambda t: t._get_train_sampler().chunk),
    "training.max_length": ({"training": {"max_length": 11}}, lambda t: max(t.lengths)),
    "lora.rank": ({"lora": {"rank": 3}}, lambda t: t.model.peft_config["default"].r),
    "lora.dropout": ({"lora": {"dropout": 0.4}}, lambda t: [m.p for m in t.model.modules() if isinstance(m, torch.nn.Dropout)]),
    "retention": ({"retention": {"probes": ["capitals"]}}, lambda t: t.watch is not None),
}


def turn(role: str, text: str) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": role, "content": text}]


def ranked(count: int, answers: int = 3, first: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Prompts with this many answers each, the longer ones better, every pair a row."""
    rows = []
    for n in range(first, first + count):
        said = [turn("assistant", "yes " * (k + 1) + str(n)) for k in range(answers)]
        pairs = [(better, worse) for better in range(answers) for worse in range(better)]
        rows += [{"prompt": turn("user", f"say {n}"), "chosen": said[b], "rejected": said[w], **more} for b, w in pairs]
    return rows


class RankingClass(Class):
    """A class that learns from preferences, by one stage."""

    def __init__(self, stage: type[Stage], database: Engine, home: Home, add: Callable[..., int], folder: Path) -> None:
        super().__init__(database, home, add, folder)
        self.stage = stage
        self.preferences = self.rows("pairs", ranked(17, margin=0.5), ranked(6, first=50), "preference")

    def preferring(self, **settings: Any) -> Any:
        """The stage on the class's preferences, short unless told otherwise."""
        training = QUICK | settings.pop("training", {})
        chosen = {"model": self.model, "preferences": self.preferences, "retention": {"suite": "off"}, "training": training}
        return self.stage.model_validate(chosen | settings)

    def trainer(self, **settings: Any) -> Any:
        """Its trainer, before the first step."""
        stage = self.preferring(**settings)
        work = self.start(stage)
        chat = Chat.open(work.input("model").folder)
        return stage.lesson(work, chat, *stage.read(work, chat)).trainer(work, chat)

    def losses(self, **settings: Any) -> dict[int, float]:
        """The losses of a whole run by step."""
        stage = self.preferring(**settings)
        work = self.start(stage)
        assert self.finish(work, stage)
        return self.curve(work.run)

    def interrupted(self, **settings: Any) -> int:
        """A run of twelve steps that is stopped after seven and goes on; its id."""
        stage = self.preferring(**settings, training={"steps": 12, "checkpoints": 3}, save_as="stopped")
        work = self.start(stage, stops_at(7))
        assert not self.finish(work, stage)
        assert list(self.curve(work.run)) == list(range(1, 8))
        assert self.finish(self.start(stage, run=work.run), stage)
        assert list(self.curve(work.run, "eval_loss")) == [0, 4, 8, 12]
        return work.run

    def artifact(self, id: int) -> Artifact:
        """An artifact's row."""
        with Session(self.database) as session:
            row = session.get_one(Artifact, id)
            session.expunge(row)
        return row
