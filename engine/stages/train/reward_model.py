"""A reward model from preferences, by TRL: a language model's decoder with a head that gives one number.

One row a prompt: its answers are read once each and all its pairs count together. Before the first step and at every
checkpoint the held-out prompts are ordered, and what the language model inside can still do is watched.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from engine.chat import Chat
from engine.settings import LoraSettings, RetentionSettings, TrainingSettings
from engine.stage import Estimate, Input, Kind, Model, Preferences
from engine.stages.train._preferences import PreferenceTraining

if TYPE_CHECKING:
    from engine.training.preferences import Pair
    from engine.training.reward_trainer import Judging
    from engine.work import Work


class TeachReward(PreferenceTraining):
    """Learn from preferences to score answers: the better one gets the higher number."""

    outputs = {"model": Kind.MODEL}

    model: Model = Field(title="Model to start from", description="Its decoder learns to judge. An adapter is merged into its base first.")
    preferences: Preferences = Field(title="Preference pairs", description="Its held-out prompts are ordered at each checkpoint.")
    method: Literal["lora", "full"] = Field(
        "lora", title="Method", description="lora trains a small adapter and the head; full trains every weight."
    )
    center_rewards_coefficient: float = Field(
        0.01, ge=0, le=1, title="Centring", description="Pulls rewards towards a mean of 0, so that they can be compared. 0 is off."
    )
    training: TrainingSettings = TrainingSettings()
    lora: LoraSettings = LoraSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _it_gives_no_answers(self) -> "TeachReward":
        if self.retention.scorer:
            raise ValueError(f"retention.scorer is {self.retention.scorer}, and a reward model gives no answers to score: leave it empty")
        if self.lora.quantize != "none":
            raise ValueError("lora.quantize is 4bit, and a reward model is not trained on 4-bit weights: set quantize to none")
        return self

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The data's name, and what it is."""
        return f"{inputs[self.preferences].name} reward ({inputs[self.model].name})"

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Prompts and tokens as they will be read; time from the last run with this model, or a rough guess."""
        model, data = inputs[self.model], inputs[self.preferences]
        counted = self.count(model, data)
        return self.told(
            inputs,
            tokens_per_second,
            rows=counted.prompts,
            row_tokens=counted.answer_tokens / max(counted.prompts, 1),
            batch_tokens=self.training.batch_size * counted.most * counted.longest,
            looks=data.summary.get("heldout", 0) * counted.answer_tokens / max(counted.pairs, 1) / 3,  # forward only
            words=counted.in_words(self.length(model)),
        )

    def run(self, work: "Work") -> None:
        """Train, look, save."""
        chat = Chat.open(work.input("model").folder)
        lesson = self.lesson(work, chat, *self.read(work, chat))
        lesson.learn(work, lesson.trainer(work, chat))

    def lesson(self, work: "Work", chat: Chat, pairs: "list[Pair]", heldout: "list[Pair]") -> "Judging":
        """What is learned from these pairs."""
        from engine.training.preferences import by_prompt
        from engine.training.reward_trainer import Judging

        model, data = work.input("model"), work.input("preferences")
        return Judging(
            model, data, by_prompt(pairs), by_prompt(heldout), [], self.method, self.training, self.lora, self.retention,
            self.model_dump(mode="json"), f"reward model of {model.name} on {data.name}", center=self.center_rewards_coefficient,
        )  # fmt: skip
