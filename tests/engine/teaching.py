"""What the tests of training share: a tiny model and conversations in a library, and runs that can be taken apart."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, select

from engine import submit
from engine.errors import Cancelled
from engine.stage import Stage
from engine.stages.train.finetune import Finetune
from engine.work import Work
from storage.files import Home
from storage.tables import Metric, Response, Run
from tests.tiny_model import _new_model, _save, tokenizer, untrained_model

QUICK = {"steps": 6, "batch_size": 4, "max_length": 128, "checkpoints": 2, "learning_rate": 1e-2, "precision": "float32"}


def conversations(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Conversations of different lengths, some of them with two answers."""
    rows = []
    for n in range(first, first + count):
        turns = [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "yes " * (1 + n * 7 % 5) + str(n)}]
        rows.append({"messages": turns * (1 + n % 2)})
    return rows


def dataset(folder: Path, train: list[dict[str, Any]], heldout: list[dict[str, Any]]) -> Path:
    """A dataset folder with these rows."""
    folder.mkdir(parents=True)
    for name, rows in (("train", train), ("heldout", heldout)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def wide_model(folder: Path) -> Path:
    """An untrained model whose layers are as wide as 4-bit kernels ask for: multiples of 64."""
    words = tokenizer()
    _save(_new_model(len(words), 192, 2, 4), words, folder)
    return folder


class Class:
    """A tiny untrained model and a dataset in a library, and the means to teach the one the other."""

    def __init__(self, database: Engine, home: Home, add: Callable[..., int], folder: Path) -> None:
        self.database, self.home, self.add, self.folder = database, home, add, folder
        untrained_model(folder / "tiny")
        config = json.loads((folder / "tiny" / "config.json").read_text())
        self.context = config["max_position_embeddings"]
        self.model = add("model", "tiny", folder / "tiny", format="full", parameters=10**6, context_length=self.context)
        self.data = self.rows("talk", conversations(18), conversations(6, first=50))

    def rows(self, name: str, train: list[dict[str, Any]], heldout: list[dict[str, Any]] | None = None, layout: str = "messages") -> int:
        """A dataset in the library; its id."""
        heldout = heldout or []
        folder = dataset(self.folder / name, train, heldout)
        return self.add("dataset", name, folder, format=layout, rows=len(train), heldout=len(heldout), columns=sorted(set().union(*train)))

    def lesson(self, **settings: Any) -> Finetune:
        """A finetune stage on these, short unless told otherwise."""
        training = QUICK | settings.pop("training", {})
        chosen = {"model": self.model, "data": self.data, "panel_size": 0, "retention": {"suite": "off"}, "training": training} | settings
        return Finetune.model_validate(chosen)

    def start(self, stage: Stage, kind: type[Work] = Work, run: int | None = None) -> Work:
        """The work of a newly submitted run of this stage, or of one begun before."""
        number = submit.submit(self.database, self.home, stage).runs[0] if run is None else run
        with Session(self.database) as session:
            row = session.get_one(Run, number)
            session.expunge(row)
        work = kind(self.database, self.home, row, stage)
        work.folder.mkdir(parents=True, exist_ok=True)
        return work

    def finish(self, work: Work, stage: Stage) -> bool:
        """Run a stage to its end; False if it was stopped."""
        try:
            stage.run(work)
        except Cancelled:
            return False
        return True

    def curve(self, run: int, name: str = "loss") -> dict[int, float]:
        """A metric of a run by step; not-a-number where it is not one."""
        with Session(self.database) as session:
            rows = session.exec(select(Metric).where(Metric.run == run, Metric.name == name)).all()
            return {row.step: math.nan if row.value is None else row.value for row in rows}

    def responses(self, run: int) -> list[Response]:
        """The answers a run stored."""
        with Session(self.database) as session:
            return list(session.exec(select(Response).where(Response.run == run).order_by(Response.id)).all())


def stops_at(step: int) -> type[Work]:
    """The kind of work whose person asks to stop once a step is reached."""

    class StopsEarly(Work):
        def progress(self, step_now: int, of: int) -> None:
            super().progress(step_now, of)
            self.stopping = step_now >= step

    return StopsEarly
