"""Audit: the receipt for any models, trained anywhere.

All are put to the same suite; what each learned, lost and kept against the base stands in its report, with every item
and both answers.
"""

from pydantic import Field, model_validator

from engine.settings import SuiteSettings
from engine.stage import AnsweringModel, Dataset, Queue, Recipe
from engine.stages.measure.divergence import Divergence
from engine.stages.measure.evaluate import Evaluate
from engine.stages.measure.receipt import Receipt


class Audit(Recipe):
    """What did this model learn, and what did it cost? Measure models alike and write the receipt."""

    base: AnsweringModel = Field(title="Base", description="The model before: import any hub id, folder or adapter first.")
    tuned: list[AnsweringModel] = Field(
        title="Tuned", description="The model after, trained anywhere; or several, such as checkpoints.", min_length=1, max_length=16
    )
    suite: SuiteSettings = SuiteSettings()
    data: Dataset | None = Field(None, title="Data of the new task", description="Its held-out rows say what was learned. Empty: none.")
    scorer: str = Field("", title="Scorer", description="How answers to that data count as right, such as exact_match. Empty: loss only.")
    divergence: bool = Field(
        False, title="KL too", description="Also measure KL(base || tuned) on the data's answers. Needs data and one tokenizer."
    )
    margin: float = Field(
        0.05, gt=0, le=0.5, title="Margin", description="Kept means: the net loss is smaller than this share, with 95 % confidence."
    )

    @model_validator(mode="after")
    def _divergence_needs_data(self) -> "Audit":
        if self.divergence and self.data is None:
            raise ValueError("divergence is on, and data is empty: choose the data whose answers both models shall read")
        return self

    def plan(self, queue: Queue) -> None:
        """Measure all in one run, then compare each with the base."""
        measured = queue(Evaluate(models=[self.base, *self.tuned], suite=self.suite, data=self.data, scorer=self.scorer))
        for tuned in self.tuned:
            scores = [measured["scores"]]
            if self.divergence and self.data:
                scores.append(queue(Divergence(base=self.base, tuned=tuned, data=self.data))["scores"])
            queue(Receipt(base=self.base, tuned=tuned, scores=scores, margin=self.margin))
