"""Direct preference optimisation and its variants, by TRL.

The reference is the model as it starts; its log-probabilities are taken once. Before the first step and at every
checkpoint held-out pairs are measured and a few fixed prompts are answered. Weights of pairs are not used.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from engine.chat import Chat
from engine.settings import LoraSettings, RetentionSettings, TrainingSettings
from engine.stage import Estimate, Input, Kind, Model, Preferences, Prompts
from engine.stages.train._preferences import PreferenceTraining

if TYPE_CHECKING:
    from engine.training.dpo_trainer import Preferring
    from engine.training.preferences import Pair
    from engine.work import Work

# TRL's 1e-6 is for large models trained whole. 5e-6 suits small ones trained whole; an adapter takes ten times as much.
LEARNING_RATE = 5e-5


class DPO(PreferenceTraining):
    """Make a model prefer chosen answers over rejected ones, without a reward model."""

    outputs = {"model": Kind.MODEL}

    model: Model = Field(title="Model to align", description="Where learning starts, and what it is held to. An adapter is merged first.")
    preferences: Preferences = Field(title="Preference pairs", description="Its held-out prompts are measured at each checkpoint.")
    method: Literal["lora", "full"] = Field(
        "lora", title="Method", description="lora trains a small adapter; full trains every weight, at a tenth of the learning rate."
    )
    beta: float = Field(0.1, gt=0, le=1, title="β", description="Higher stays closer to the starting model.")
    loss: Literal["sigmoid", "ipo", "hinge", "robust", "apo_zero", "sigmoid_norm"] = Field(
        "sigmoid", title="Loss", description="sigmoid is DPO itself; ipo does not trust pairs fully; robust expects wrong labels."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, title="Wrong labels", description="For robust: the share of pairs expected to be the wrong way round."
    )
    sft_weight: float = Field(
        0.0, ge=0, le=10, title="SFT weight", description="Above 0 the chosen answers are imitated too, so that they stay likely."
    )
    training: TrainingSettings = TrainingSettings(learning_rate=LEARNING_RATE)
    lora: LoraSettings = LoraSettings()
    panel: Prompts | None = Field(
        None, title="Prompt panel", description="Prompts to answer at each checkpoint. Empty: the first held-out ones."
    )
    panel_size: int = Field(6, ge=0, le=64, title="Panel size", description="How many of them are answered; 0 answers none.")
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _only_robust_expects_wrong_labels(self) -> "DPO":
        if self.loss == "robust" and not self.label_smoothing:
            raise ValueError("loss is robust and label_smoothing is 0, which makes it sigmoid: set label_smoothing between 0 and 0.5")
        if self.loss != "robust" and self.label_smoothing:
            given = f"label_smoothing is {self.label_smoothing} and loss is {self.loss}"
            raise ValueError(f"{given}, which expects none: set label_smoothing to 0, or loss to robust")
        return self

    @classmethod
    def title(cls) -> str:
        """As people write it."""
        return "DPO"

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Pairs and tokens as they will be read; time from the last run with this model, or a rough guess."""
        from engine.training.cost import PANEL_TOKENS

        model, data = inputs[self.model], inputs[self.preferences]
        counted = self.count(model, data)
        mean = counted.pair_tokens / max(counted.pairs, 1)
        heldout = data.summary.get("heldout", 0) * mean / 3  # forward only
        unused = "; weights are not used by DPO: every pair counts the same" if "weight" in data.summary.get("columns", ()) else ""
        return self.told(
            inputs,
            tokens_per_second,
            rows=counted.pairs,
            row_tokens=mean,
            batch_tokens=2 * self.training.batch_size * counted.longest,
            looks=heldout + self.panel_size * PANEL_TOKENS,
            words=counted.in_words(self.length(model)) + unused,
            before=counted.pair_tokens / 3 + heldout,
        )

    def run(self, work: "Work") -> None:
        """Read the reference, train, look, save."""
        chat = Chat.open(work.input("model").folder)
        lesson = self.lesson(work, chat, *self.read(work, chat))
        lesson.learn(work, lesson.trainer(work, chat))

    def lesson(self, work: "Work", chat: Chat, pairs: "list[Pair]", heldout: "list[Pair]") -> "Preferring":
        """What is learned from these pairs."""
        from engine.training.dpo_trainer import Preferring

        model, data = work.input("model"), work.input("preferences")
        return Preferring(
            model, data, pairs, heldout, self.panel_of(work, chat, "preferences"), self.method, self.training, self.lora, self.retention,
            self.model_dump(mode="json"), f"{model.name} aligned by DPO on {data.name}",
            beta=self.beta, loss=self.loss, label_smoothing=self.label_smoothing, sft_weight=self.sft_weight,
        )  # fmt: skip
