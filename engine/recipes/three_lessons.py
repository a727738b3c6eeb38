"""Three lessons: what does a new skill cost the old subjects?

A model learns to write small Python functions, whose answers are checked by running them, and all the while language,
maths, physics and chemistry are examined: the picture of a student who learns one thing and forgets another.
"""

from typing import Literal

from pydantic import Field

from engine.recipes._lessons import DATASETS, Chain, Size, ours, report, sized, sized_suite, taught
from engine.settings import SuiteSettings, TrainingSettings
from engine.stage import Conversations, Model, Queue, Recipe
from engine.stages.data.import_model import ImportModel
from engine.stages.measure.evaluate import Evaluate

LESSONS = DATASETS / "code-lessons.jsonl"
SUBJECTS = ["language", "maths", "physics", "chemistry"]


class ThreeLessons(Recipe):
    """What does a new skill cost the old subjects? Teach code, and examine language, maths, physics and chemistry."""

    model: Model | None = Field(None, title="Model", description="Empty: SmolLM2-135M-Instruct, fetched once.")
    data: Conversations | None = Field(None, title="The new skill", description="Conversations. Empty: small Python functions of our own.")
    scorer: str = Field("unit_tests", title="Scorer", description="How held-out answers of the new skill count as right.")
    seeds: int = Field(1, ge=1, le=5, title="Seeds", description="Three that agree are needed to speak of a method.")
    size: Size = Field("default", title="Size", description="tiny: few steps and items, for trying the recipe out.")
    method: Literal["lora", "full"] = Field("full", title="Method", description="lora trains a small adapter; full trains every weight.")
    training: TrainingSettings = TrainingSettings(epochs=4, batch_size=8, learning_rate=5e-5, max_length=256, checkpoints=4)
    suite: SuiteSettings = SuiteSettings(probes=SUBJECTS)

    def plan(self, queue: Queue) -> None:
        """Import what is missing, teach, examine before and after, report."""
        model = self.model or queue(ImportModel())["model"]
        data = self.data or ours(queue, LESSONS.name, "Code lessons", 0.45)
        suite, arms, scores = sized_suite(self.suite, self.size), dict[str, Chain](), list[int]()
        for seed in range(self.seeds):
            arm = f"the new skill, seed {seed}" if self.seeds > 1 else "the new skill"
            training = sized(self.training, self.size, seed)
            after = taught(queue, arm, model, data, training, suite, scorer=self.scorer, method=self.method)
            scores.append(queue(Evaluate(models=[model, after], suite=suite, data=data, scorer=self.scorer))["scores"])
            arms[arm] = [("before", model), ("after", after)]
            report(queue, "Three lessons", arms, scores)
