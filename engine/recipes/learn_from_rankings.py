"""Learn from rankings: the whole circle of alignment, with people in it.

A model answers prompts several times, people rank the answers blind, the rankings train the model by DPO, or a reward
model that chooses among its answers, and people (or a judge that is checked against them) compare old and new answers to
prompts nobody has seen.
"""

from typing import Literal

from pydantic import Field, model_validator

from engine.recipes._lessons import Size, ours, sized, sized_suite
from engine.settings import LoraSettings, SamplingSettings, SuiteSettings, TrainingSettings
from engine.stage import AnsweringModel, Model, Prompts, Queue, Rankings, Recipe
from engine.stages.data.collect_preferences import CollectPreferences
from engine.stages.data.import_model import ImportModel
from engine.stages.generate.best_of import BestOf
from engine.stages.generate.generate import Generate
from engine.stages.generate.rank_answers import GUIDELINE, CareSettings, RankAnswers
from engine.stages.measure.evaluate import Evaluate
from engine.stages.measure.judge import Judge
from engine.stages.measure.preference_report import PreferenceReport
from engine.stages.measure.receipt import Receipt
from engine.stages.train.dpo import DPO
from engine.stages.train.reward_model import TeachReward

BEST_OF, HELDOUT = 8, 0.2


class LearnFromRankings(Recipe):
    """Do people's rankings make a model better? Rank its answers, train on that, compare blind on unseen prompts."""

    model: Model | None = Field(None, title="Model", description="Empty: SmolLM2-135M-Instruct, fetched once.")
    other: AnsweringModel | None = Field(None, title="Another model", description="Its answers are ranked too. Empty: the model's alone.")
    prompts: Prompts | None = Field(None, title="Prompts to rank", description="Empty: 40 everyday requests of our own.")
    unseen: Prompts | None = Field(None, title="Unseen prompts", description="For the comparison. Empty: 40 others of our own.")
    rankings: Rankings | None = Field(None, title="Rankings", description="A project that people ranked already. Empty: a new one.")
    learn: Literal["dpo", "reward_model"] = Field(
        "dpo", title="Learn by", description="dpo trains the model; reward_model chooses the best of 8 of its answers."
    )
    answers: int = Field(4, ge=2, le=9, title="Answers per prompt", description="So many are ranked at a time.")
    raters: int = Field(1, ge=1, le=20, title="Raters per item", description="Two or more show how far people agree.")
    guideline: str = Field(GUIDELINE, title="Guideline", description="What raters go by, in markdown.", json_schema_extra={"lines": 8})
    judge: AnsweringModel | None = Field(
        None, title="Judge", description="Compares old and new answers, checked against people's rankings. Empty: people compare."
    )
    size: Size = Field("default", title="Size", description="tiny: few steps and items, for trying the recipe out.")
    training: TrainingSettings = TrainingSettings(epochs=3, batch_size=4, learning_rate=5e-5, max_length=512, checkpoints=3)
    lora: LoraSettings = LoraSettings()
    sampling: SamplingSettings = SamplingSettings(max_new_tokens=128, temperature=0.7, top_p=0.95)
    suite: SuiteSettings = SuiteSettings(probes=["capitals", "common_sense", "instructions", "json_answers", "stopping"])

    @model_validator(mode="after")
    def _several_answers_differ(self) -> "LearnFromRankings":
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature is 0, where several answers of one model are the same: set it above 0, such as 0.7")
        return self

    def plan(self, queue: Queue) -> None:
        """Answer, let people rank, learn, answer anew, let people or the judge compare, report."""
        model = self.model or queue(ImportModel())["model"]
        unseen = self.unseen or ours(queue, "rankings/unseen.jsonl", "Unseen prompts", 0)
        rankings = self.rankings or self._ranked(queue, model)
        data = queue(CollectPreferences(rankings=rankings, heldout=HELDOUT, save_as="Preferences"))["dataset"]
        training = sized(self.training, self.size, 0)
        receipt = None
        if self.learn == "dpo":
            greedy = self.sampling.model_copy(update={"temperature": 0.0, "top_p": 1.0, "top_k": None})
            asked = Generate(models=[model], prompts=unseen, limit=self._limit, sampling=greedy, save_as="Answers before")
            before = queue(asked)["responses"]
            aligned = queue(DPO(model=model, preferences=data, training=training, lora=self.lora))["model"]
            asked = asked.model_copy(update={"models": [aligned], "save_as": "Answers after"})
            after = queue(asked)["responses"]
            scores = queue(Evaluate(models=[model, aligned], suite=sized_suite(self.suite, self.size)))["scores"]
            receipt = queue(Receipt(base=model, tuned=aligned, scores=[scores]))["report"]
        else:
            asked = Generate(models=[model], prompts=unseen, limit=self._limit, sampling=self.sampling, save_as="Answers before")
            before = queue(asked)["responses"]
            reward = queue(TeachReward(model=model, preferences=data, training=training, lora=self.lora))["model"]
            drawn = self.sampling.model_copy(update={"seed": self.sampling.seed + 1})
            several = asked.model_copy(update={"samples": BEST_OF, "sampling": drawn, "save_as": f"{BEST_OF} answers each"})
            after = queue(BestOf(responses=queue(several)["responses"], reward_model=reward, save_as="Answers after"))["responses"]
        compared = self._compared(queue, before, after, rankings)
        report = PreferenceReport(
            rankings=compared, before=before, after=after, data=data, receipt=receipt, save_as="Learned from rankings: report"
        )  # fmt: skip
        queue(report)

    @property
    def _limit(self) -> int | None:
        return 16 if self.size == "tiny" else None

    def _ranked(self, queue: Queue, model: int) -> int:
        """The project in which people rank several answers to each prompt."""
        prompts = self.prompts or ours(queue, "rankings/ask.jsonl", "Prompts to rank", 0)
        models = [model] + ([self.other] if self.other else [])
        samples = -(-self.answers // len(models)) + 1  # one more than needed: some will be the same
        asked = Generate(
            models=models, prompts=prompts, limit=self._limit, samples=samples, sampling=self.sampling, save_as="Answers to rank"
        )  # fmt: skip
        project = RankAnswers(
            responses=[queue(asked)["responses"]], answers=self.answers, raters=self.raters, guideline=self.guideline,
            save_as="Rank the answers",
        )  # fmt: skip
        return queue(project)["rankings"]

    def _compared(self, queue: Queue, before: int, after: int, rankings: int) -> int:
        """Old and new answers in pairs, ranked by people or by the judge."""
        blind = RankAnswers(
            responses=[before, after], answers=2, raters=0 if self.judge else self.raters, guideline=self.guideline,
            care=CareSettings(everyone=0, repeats=0), save_as="Compare old and new answers",
        )  # fmt: skip
        project = queue(blind)["rankings"]
        if self.judge is None:
            return project
        return queue(Judge(rankings=project, by="chat model", model=self.judge, validate_on=rankings))["rankings"]
