"""What the recipes about forgetting share: their data, their sizes, and a report after each arm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from engine.settings import RetentionSettings, SuiteSettings, TrainingSettings
from engine.stage import Queue
from engine.stages.data.import_dataset import ImportDataset
from engine.stages.measure.forgetting_report import ForgettingReport
from engine.stages.train.finetune import Finetune

Size = Literal["default", "tiny"]
Chain = Sequence[tuple[str, int]]  # what a model is, and the model
DATASETS = Path(__file__).parents[2] / "assets" / "datasets"
TINY = {"epochs": 1, "steps": 60, "batch_size": 16, "learning_rate": 1e-3, "max_length": 64, "checkpoints": 2}
ENOUGH = 0.7  # of the held-out answers right, and nothing needs to be taught


def ours(queue: Queue, file: str, name: str, heldout: float) -> int:
    """A dataset of our own, imported."""
    return queue(ImportDataset(source=str(DATASETS / file), save_as=name, heldout=heldout))["dataset"]


def sized(training: TrainingSettings, size: Size, seed: int) -> TrainingSettings:
    """The settings of one seed, shortened for the tiny size."""
    return training.model_copy(update=(TINY if size == "tiny" else {}) | {"seed": training.seed + seed})


def sized_suite(suite: SuiteSettings, size: Size) -> SuiteSettings:
    """The suite, or few items of it for the tiny size."""
    return suite.model_copy(update={"size": "watch"} if size == "tiny" else {})


def taught(
    queue: Queue, name: str, model: int, data: int, training: TrainingSettings, suite: SuiteSettings, *, scorer: str = "exact_match",
    enough: float | None = None, method: Literal["lora", "full"] = "full",
) -> int:  # fmt: skip
    """A model after a lesson that is watched with the suite's probes."""
    retention = RetentionSettings(probes=list(suite.probes), scorer=scorer, seed=suite.seed)
    lesson = Finetune(
        model=model, data=data, method=method, training=training, retention=retention, panel_size=0, enough=enough, save_as=name
    )  # fmt: skip
    return queue(lesson)["model"]


def report(queue: Queue, title: str, arms: Mapping[str, Chain], scores: Sequence[int], tasks: Sequence[int] = ()) -> None:
    """The report of the arms so far."""
    flat = [(arm, stage, model) for arm, chain in arms.items() for stage, model in chain]
    names, stages, models = (list(column) for column in zip(*flat, strict=True))
    wanted = f"{title}: {', '.join(arms)}"
    queue(ForgettingReport(models=models, arms=names, stages=stages, scores=list(scores), tasks=list(tasks), save_as=wanted))
