"""Best of n (Stiennon et al. 2020, 2009.01325): of several answers to a prompt, the one a reward model likes best.

It is what a reward model gives without any training of the model that answers, at n times the price of an answer. What
is kept is stored under a name of its own, so that it can be compared with a single answer.
"""

from collections.abc import Mapping
from math import isnan
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from pydantic import Field

from engine import responses
from engine.chat import Chat, count_tokens
from engine.errors import UserError
from engine.stage import Input, Kind, Responses, RewardModel, Stage

if TYPE_CHECKING:
    from engine.work import Work

CHUNK = 256  # answers between two looks at whether to stop


class BestOf(Stage):
    """Keep, of several answers to a prompt, the one a reward model likes best."""

    outputs = {"responses": Kind.RESPONSES}

    responses: Responses = Field(title="Answers", description="Several to each prompt.")
    reward_model: RewardModel = Field(title="Reward model", description="Scores every answer.")
    batch_size: int = Field(16, ge=1, le=1024, title="Batch size", description="Answers read at once.")

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Whose answers were chosen among, and by what."""
        return f"best of {inputs[self.responses].name} by {inputs[self.reward_model].name}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse a set with one answer to each prompt."""
        given = inputs[self.responses]
        if given.ready and given.summary.get("answers", 0) <= given.summary.get("prompts", 0):
            message = "{name} has one answer to each prompt, and there is nothing to choose: generate several samples"
            raise UserError(message, field="responses", name=given.name)

    def run(self, work: "Work") -> None:
        """Score all, keep the best of each prompt."""
        from engine.training.models import compute_dtype
        from engine.training.rewards import load_reward_model, score
        from engine.work import Answer

        rows = list(responses.read(work.input("responses").folder))
        judge = work.input("reward_model")
        model = load_reward_model(judge, work.artifact, compute_dtype("auto", work.device), work.device)
        rewards: list[float] = []
        for start in range(0, len(rows), CHUNK):
            some = [(row["prompt"], row["answer"]) for row in rows[start : start + CHUNK]]
            rewards += score(model, Chat.open(judge.folder), some, self.batch_size)
            work.progress(len(rewards), len(rows))
        found: dict[tuple[str, str], list[tuple[float, dict[str, Any]]]] = {}
        for row, reward in zip(rows, rewards, strict=True):
            if not isnan(reward):
                found.setdefault((row["model"], row["prompt_key"]), []).append((reward, row))
        if not found:
            raise UserError("{name} could score none of the answers: they are empty, or longer than it reads", name=judge.name)
        kept = []
        for (who, key), some in found.items():
            reward, best = max(some, key=lambda one: one[0])
            name = f"{who}, best of {max(len(others) for (one, _), others in found.items() if one == who)}"
            extra = best["extra"] | {"reward": reward, "mean_reward": mean(one for one, _ in some)}
            kept.append(
                Answer(work.output_id("responses"), key, best["prompt"], best["answer"], best["token_ids"], best["finish_reason"],
                       extra=extra, source=name)
            )  # fmt: skip
        work.responses(kept[len(work.answers()) :])  # what a killed run had stored is the beginning of the same list
        responses.write(work.output("responses"), kept)
        sources = list(dict.fromkeys(one.source for one in kept))
        counted = [(one.source, n) for one in kept if (n := count_tokens(one.token_ids, one.extra))]
        middles = {source: median(n for who, n in counted if who == source) for source in dict(counted)}
        told = {"prompts": len({one.prompt_key for one in kept}), "answers": len(kept), "left_out": sum(map(isnan, rewards))}
        work.describe("responses", **told, models=[], sources=sources, median_tokens=middles)
        gain = mean(one.extra["reward"] - one.extra["mean_reward"] for one in kept)
        work.say(f"{len(kept):,} of {len(rows):,} answers kept; by the reward model itself they are {gain:.2f} above the mean")
