"""Three lessons: what does a new skill cost the old subjects?

A model learns to write small Python functions, whose answers are checked by running them, and all the while language,
maths, physics and chemistry are examined: the picture of a student who learns one thing and forgets another.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from engine.settings import RetentionSettings, SuiteSettings, TrainingSettings
from engine.stage import Conversations, Model, Queue, Recipe
from engine.stages.data.import_dataset import ImportDataset
from engine.stages.data.import_model import ImportModel
from engine.stages.measure.evaluate import Evaluate
from engine.stages.measure.forgetting_report import ForgettingReport
from engine.stages.train.finetune import Finetune

LESSONS = Path(__file__).parents[2] / "assets" / "datasets" / "code-lessons.jsonl"
SUBJECTS = ["language", "maths", "physics", "chemistry"]
TINY = {"epochs": 1, "steps": 60, "batch_size": 16, "learning_rate": 1e-3, "max_length": 64, "checkpoints": 2}


class ThreeLessons(Recipe):
    """What does a new skill cost the old subjects? Teach code, and examine language, maths, physics and chemistry."""

    model: Model | None = Field(None, title="Model", description="Empty: SmolLM2-135M-Instruct, fetched once.")
    data: Conversations | None = Field(None, title="The new skill", description="Conversations. Empty: small Python functions of our own.")
    scorer: str = Field("unit_tests", title="Scorer", description="How held-out answers of the new skill count as right.")
    seeds: int = Field(1, ge=1, le=5, title="Seeds", description="Three that agree are needed to speak of a method.")
    size: Literal["default", "tiny"] = Field("default", title="Size", description="tiny: few steps and items, for trying the recipe out.")
    method: Literal["lora", "full"] = Field("full", title="Method", description="lora trains a small adapter; full trains every weight.")
    training: TrainingSettings = TrainingSettings(epochs=4, batch_size=8, learning_rate=5e-5, max_length=256, checkpoints=4)
    suite: SuiteSettings = SuiteSettings(probes=SUBJECTS)

    def plan(self, queue: Queue) -> None:
        """Import what is missing, teach, examine before and after, report."""
        model = self.model or queue(ImportModel())["model"]
        data = self.data or queue(ImportDataset(source=str(LESSONS), save_as="Code lessons", heldout=0.45))["dataset"]
        suite = self.suite.model_copy(update={"size": "watch"} if self.size == "tiny" else {})
        retention = RetentionSettings(probes=list(suite.probes), scorer=self.scorer, seed=suite.seed)
        arms, taught, scores = list[str](), list[int](), list[int]()
        for seed in range(self.seeds):
            training = self.training.model_copy(update=(TINY if self.size == "tiny" else {}) | {"seed": self.training.seed + seed})
            arm = f"the new skill, seed {seed}" if self.seeds > 1 else "the new skill"
            lesson = Finetune(model=model, data=data, method=self.method, training=training, retention=retention, panel_size=0, save_as=arm)
            taught.append(queue(lesson)["model"])
            scores.append(queue(Evaluate(models=[model, taught[-1]], suite=suite, data=data, scorer=self.scorer))["scores"])
            arms.append(arm)
            chains = [id for after in taught for id in (model, after)]
            names = [name for arm in arms for name in (arm, arm)]
            stages = ["before", "after"] * len(arms)
            queue(ForgettingReport(models=chains, arms=names, stages=stages, scores=scores, save_as=f"Three lessons: {', '.join(arms)}"))
