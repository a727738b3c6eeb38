"""Task sequence: what does learning the next task do to the last ones?

Tasks are learned in turn, and after each of them all are measured: the full matrix, with the average, the fall from the
best and backward transfer (Lopez-Paz and Ranzato 2017, 1706.08840). Arms in order of information: plain fine-tuning;
5 % of each step's rows replayed from the earlier tasks, LAMOL's real-data baseline (Sun et al. 2019, 1909.03329); all
tasks at once, the ceiling.
"""

from typing import Literal

from pydantic import Field

from engine.recipes._lessons import DATASETS, Chain, Size, ours, report, sized, sized_suite, taught
from engine.settings import SuiteSettings, TrainingSettings
from engine.stage import Conversations, Model, Queue, Recipe
from engine.stages.data.import_model import ImportModel
from engine.stages.data.mix_datasets import MixDatasets
from engine.stages.measure.evaluate import Evaluate

TASKS = DATASETS / "tasks"
OURS = ("sentiment", "dates", "groups", "initials")
HELDOUT = 0.4
ARMS = {"plain": 1, "plain and replay": 2, "all": 3}


class TaskSequence(Recipe):
    """What does the next task do to the last ones? Learn several in turn, and measure all of them after each."""

    model: Model | None = Field(None, title="Model", description="Empty: SmolLM2-135M-Instruct, fetched once.")
    tasks: list[Conversations] = Field(
        [], title="Tasks", description="Conversations with held-out rows, in order. Empty: four of our own.", max_length=8
    )
    scorer: str = Field("exact_match", title="Scorer", description="How held-out answers count as right.")
    replay: float = Field(0.05, gt=0, lt=1, title="Replay", description="Share of earlier tasks' rows in the second arm.")
    arms: Literal["plain", "plain and replay", "all"] = Field(
        "all", title="Arms", description="all: plain, replay, and all tasks at once as the ceiling."
    )
    seeds: int = Field(1, ge=1, le=5, title="Seeds", description="Three that agree are needed to speak of a method.")
    size: Size = Field("default", title="Size", description="tiny: few steps and items, for trying the recipe out.")
    method: Literal["lora", "full"] = Field("full", title="Method", description="lora trains a small adapter; full trains every weight.")
    training: TrainingSettings = TrainingSettings(epochs=3, batch_size=8, learning_rate=5e-5, max_length=256, checkpoints=2)
    suite: SuiteSettings = SuiteSettings(probes=["arithmetic", "common_sense"])

    def plan(self, queue: Queue) -> None:
        """Import what is missing, then arm after arm: learn in turn, measure, report."""
        model = self.model or queue(ImportModel())["model"]
        tasks = self.tasks or [
            ours(queue, f"tasks/{name}.jsonl", f"Task: {name}", HELDOUT) for name in OURS
        ]
        arms: dict[str, Chain] = {}
        scores: list[int] = []
        first: dict[int, int] = {}  # by seed, what has learned the first task: there is nothing to replay yet, so two arms share it
        for name in ("plain", f"replay {self.replay:.0%}", "all at once")[: ARMS[self.arms]]:
            for seed in range(self.seeds):
                arm = f"{name}, seed {seed}" if self.seeds > 1 else name
                arms[arm] = [("start", model), *self._learned(queue, arm, model, tasks, seed, first)]
                scores += self._measured(queue, [id for _, id in arms[arm]], tasks)
            report(queue, "Task sequence", arms, scores, tasks)

    def _learned(self, queue: Queue, arm: str, model: int, tasks: list[int], seed: int, first: dict[int, int]) -> Chain:
        if arm.startswith("all"):
            share = 1 / len(tasks)
            union = queue(MixDatasets(datasets=tasks, shares=[share] * len(tasks), seed=seed, save_as=f"All tasks ({arm})"))["dataset"]
            return [("all tasks", self._taught(queue, arm, model, union, seed))]
        chain: list[tuple[str, int]] = []
        for place, task in enumerate(tasks):
            data = task
            if place and arm.startswith("replay"):
                shares = [1 - self.replay, *[self.replay / place] * place]
                mixed = MixDatasets(datasets=[task, *tasks[:place]], shares=shares, seed=seed, save_as=f"Task {place + 1} with {arm}")
                data = queue(mixed)["dataset"]
            shared = None if place else first.get(seed)
            model = shared or self._taught(queue, f"{arm}, task {place + 1}", model, data, seed)
            first.setdefault(seed, model)
            chain.append((f"task {place + 1}", model))
        return chain

    def _taught(self, queue: Queue, name: str, model: int, data: int, seed: int) -> int:
        training = sized(self.training, self.size, seed)
        return taught(queue, name, model, data, training, self.suite, scorer=self.scorer, method=self.method)

    def _measured(self, queue: Queue, models: list[int], tasks: list[int]) -> list[int]:
        suite = sized_suite(self.suite, self.size)
        return [queue(Evaluate(models=models, suite=suite, data=task, scorer=self.scorer))["scores"] for task in tasks]
