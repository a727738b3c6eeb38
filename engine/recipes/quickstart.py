"""The quickstart: what does a little alignment change?

SmolLM2-135M-Instruct answers held-out prompts, is fine-tuned for a few minutes on short, correct answers written for
this project, answers the same prompts again, and the report says what it learned, kept and lost. The same form takes
another model and other data.
"""

from pathlib import Path

from pydantic import Field

from engine.settings import LoraSettings, SamplingSettings, TrainingSettings
from engine.stage import Conversations, Model, Prompts, Queue, Recipe
from engine.stages.data.import_dataset import ImportDataset
from engine.stages.data.import_model import ImportModel
from engine.stages.generate.generate import Generate
from engine.stages.measure.compare_answers import CompareAnswers
from engine.stages.train.finetune import Finetune

STARTERS = Path(__file__).parents[2] / "assets" / "datasets"


class Quickstart(Recipe):
    """What does alignment change? Fine-tune a small model on short answers and read before and after."""

    model: Model | None = Field(None, title="Model", description="Empty: SmolLM2-135M-Instruct, fetched once.")
    data: Conversations | None = Field(None, title="Training conversations", description="Empty: 200 short answers of our own.")
    prompts: Prompts | None = Field(None, title="Prompts", description="Empty: 40 factual questions and 24 open prompts of our own.")
    training: TrainingSettings = TrainingSettings(epochs=3, batch_size=8, learning_rate=2e-4, max_length=256, checkpoints=3)
    lora: LoraSettings = LoraSettings()
    sampling: SamplingSettings = SamplingSettings(max_new_tokens=128)

    def plan(self, queue: Queue) -> None:
        """Import what is missing, answer, fine-tune, answer again, compare."""
        prompts = self.prompts or queue(
            ImportDataset(source=str(STARTERS / "quickstart-prompts.jsonl"), save_as="Quickstart prompts", heldout=0)
        )["dataset"]
        data = self.data or queue(ImportDataset(source=str(STARTERS / "short-answers.jsonl"), save_as="Short answers"))["dataset"]
        model = self.model or queue(ImportModel())["model"]
        before = queue(Generate(models=[model], prompts=prompts, sampling=self.sampling, save_as="Answers before"))
        tuned = queue(Finetune(model=model, data=data, panel=prompts, training=self.training, lora=self.lora))
        after = queue(Generate(models=[tuned["model"]], prompts=prompts, sampling=self.sampling, save_as="Answers after"))
        queue(CompareAnswers(before=before["responses"], after=after["responses"], save_as="Quickstart report"))
