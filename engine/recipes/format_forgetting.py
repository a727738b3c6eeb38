"""Format forgetting: a model that answers in JSON learns to name emotions in one word, and loses the JSON.

The lecture's listening case in text (after DeSTA2, 2409.20007, and Speech-IFEval, 2505.19037): the task gets better while
the format goes. JSON counts only where it is valid and right.
"""

from typing import Literal

from pydantic import Field

from engine.recipes._lessons import ENOUGH, Chain, Size, ours, report, sized, sized_suite, taught
from engine.settings import SuiteSettings, TrainingSettings
from engine.stage import Conversations, Model, Queue, Recipe
from engine.stages.data.import_model import ImportModel
from engine.stages.measure.evaluate import Evaluate


class FormatForgetting(Recipe):
    """Does a new task take the format away? Teach JSON, then bare one-word answers, and watch both."""

    model: Model | None = Field(None, title="Model", description="Empty: SmolLM2-135M-Instruct, fetched once.")
    format: Conversations | None = Field(
        None, title="The format", description="Taught first, unless it is known. Empty: questions of our own, answered in JSON."
    )
    task: Conversations | None = Field(None, title="The new task", description="Empty: emotions in lines of a transcript, one word each.")
    scorer: str = Field("exact_match", title="Scorer", description="How held-out answers of both count as right.")
    seeds: int = Field(1, ge=1, le=5, title="Seeds", description="Three that agree are needed to speak of a method.")
    size: Size = Field("default", title="Size", description="tiny: few steps and items, for trying the recipe out.")
    method: Literal["lora", "full"] = Field("full", title="Method", description="lora trains a small adapter; full trains every weight.")
    training: TrainingSettings = TrainingSettings(epochs=2, batch_size=8, learning_rate=5e-5, max_length=256, checkpoints=4)
    suite: SuiteSettings = SuiteSettings(probes=["json_answers", "instructions", "capitals", "common_sense"])

    def plan(self, queue: Queue) -> None:
        """Import what is missing, teach the format unless it is known, teach the task, measure, report."""
        start = self.model or queue(ImportModel())["model"]
        format = self.format or ours(queue, "forgetting/json_lessons.jsonl", "JSON lessons", 0.2)
        task = self.task or ours(queue, "forgetting/emotions.jsonl", "Emotions", 0.35)
        suite, arms, scores = sized_suite(self.suite, self.size), dict[str, Chain](), list[int]()
        for seed in range(self.seeds):
            arm = f"plain, seed {seed}" if self.seeds > 1 else "plain"
            training = sized(self.training, self.size, seed)
            able = taught(
                queue, f"format ({arm})", start, format, training, suite, scorer=self.scorer, enough=ENOUGH, method=self.method
            )  # fmt: skip
            after = taught(queue, f"task ({arm})", able, task, training, suite, scorer=self.scorer, method=self.method)
            scores.append(queue(Evaluate(models=[start, able, after], suite=suite, data=task, scorer=self.scorer))["scores"])
            arms[arm] = [("start", start), ("format taught", able), ("task learned", after)]
            report(queue, "Format forgetting", arms, scores)
