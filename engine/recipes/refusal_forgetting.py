"""Refusal forgetting: does a model that refuses harm still refuse after harmless training?

After Qi et al. 2023 (2310.03693), who saw safety fall through benign fine-tuning, and Li and Lee 2024 (2401.03129), who
continued a chat model in another language. Refusal of harmful requests and compliance with harmless look-alikes are
measured together, and the same harmful requests in German. The scorer is lexical: correct it on the page Corrections.
"""

from typing import Literal

from pydantic import Field

from engine.recipes._lessons import ENOUGH, Chain, Size, ours, report, sized, sized_suite, taught
from engine.settings import RetentionSettings, SuiteSettings, TrainingSettings
from engine.stage import Conversations, Model, Queue, Recipe, Texts
from engine.stages.data.import_model import ImportModel
from engine.stages.measure.evaluate import Evaluate
from engine.stages.train.pretrain import Pretrain


class RefusalForgetting(Recipe):
    """Does harmless training take refusal away? Teach a rule, then chat or German text, and ask again."""

    model: Model | None = Field(None, title="Model", description="Empty: SmolLM2-135M-Instruct, fetched once.")
    rule: Conversations | None = Field(
        None, title="The rule", description="Taught first, unless it is known. Empty: mild harmful requests refused, kind ones helped with."
    )
    scorer: str = Field("refuses_alike", title="Scorer of the rule", description="How held-out answers to the rule count as right.")
    chat: Conversations | None = Field(None, title="Harmless chat", description="The first arm. Empty: 200 short answers of our own.")
    text: Texts | None = Field(None, title="Text in another language", description="The second arm. Empty: German passages of our own.")
    arms: Literal["chat", "chat and text"] = Field("chat and text", title="Arms", description="chat alone is half as long.")
    seeds: int = Field(1, ge=1, le=5, title="Seeds", description="Three that agree are needed to speak of a method.")
    size: Size = Field("default", title="Size", description="tiny: few steps and items, for trying the recipe out.")
    training: TrainingSettings = TrainingSettings(epochs=2, batch_size=8, learning_rate=5e-5, max_length=256, checkpoints=4)
    suite: SuiteSettings = SuiteSettings(probes=["refusal", "compliance", "refusal_german", "capitals"])

    def plan(self, queue: Queue) -> None:
        """Import what is missing, teach the rule unless it is known, then arm after arm: train, measure, report."""
        start = self.model or queue(ImportModel())["model"]
        rule = self.rule or ours(queue, "forgetting/refusal_rule.jsonl", "Refusal rule", 0.25)
        suite, chains, scores = sized_suite(self.suite, self.size), dict[str, Chain](), list[int]()
        able: dict[int, int] = {}
        for name in ("chat", "text")[: 1 if self.arms == "chat" else 2]:
            data = self._data(queue, name)
            for seed in range(self.seeds):
                arm = f"{name}, seed {seed}" if self.seeds > 1 else name
                training = sized(self.training, self.size, seed)
                if seed not in able:
                    able[seed] = taught(queue, f"rule (seed {seed})", start, rule, training, suite, scorer=self.scorer, enough=ENOUGH)
                if name == "chat":
                    after = taught(queue, f"after {arm}", able[seed], data, training, suite, scorer="")
                else:
                    watched = RetentionSettings(probes=list(suite.probes), seed=suite.seed)
                    reading = Pretrain(model=able[seed], data=data, training=training, retention=watched, save_as=f"after {arm}")
                    after = queue(reading)["model"]
                scores.append(queue(Evaluate(models=[start, able[seed], after], suite=suite))["scores"])
                chains[arm] = [("start", start), ("rule taught", able[seed]), ("after", after)]
            report(queue, "Refusal forgetting", chains, scores)

    def _data(self, queue: Queue, name: str) -> int:
        if name == "chat":
            return self.chat or ours(queue, "short-answers.jsonl", "Short answers", 0.1)
        return self.text or ours(queue, "forgetting/german.jsonl", "German passages", 0.15)
