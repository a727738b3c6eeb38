"""What the Library says of a model that learned from preferences, with what it was counted on."""

from typing import Any

from app.pages.reward_figures import quality
from app.view import Node
from storage.tables import Artifact

FOUND: dict[str, Any] = {
    "accuracy": {"rate": 0.875, "low": 0.75, "high": 0.95, "prompts": 40, "pairs": 120},
    "length_matched": {"pairs": 4},
    "length": {"pearson": 0.31, "spearman": 0.42, "answers": 160},
    "histogram": {"edges": [-1.0, 0.0, 1.0], "chosen": [20, 100], "rejected": [90, 30], "pairs": 120},
}


def text(nodes: list[Node | str]) -> str:
    return " ".join(node if isinstance(node, str) else text(node["c"]) for node in nodes)


def model(**summary: Any) -> Artifact:
    return Artifact(kind="model", name="m", folder="", summary=summary)


def test_a_reward_model_says_how_it_judges_and_on_how_much() -> None:
    told = text(quality(model(format="reward", heldout_pairs=FOUND)))
    assert "in 88% of pairs, by prompt (75% to 95%, 40 prompts)" in told
    assert "Too few prompts have pairs of like length" in told
    assert "n = 4" in told
    assert "not enough pairs" in told
    assert "+0.42" in told
    assert "n = 120" in told


def test_where_lengths_are_alike_often_enough_the_rate_is_told() -> None:
    alike = {"rate": 0.6, "low": 0.4, "high": 0.8, "pairs": 30}
    assert "Where both answers are of like length: 60% (40% to 80%, 30 pairs)" in text(
        quality(model(format="reward", heldout_pairs=FOUND | {"length_matched": alike}))
    )


def test_nothing_held_out_is_said_and_other_models_say_nothing() -> None:
    assert "No pairs were held out" in text(quality(model(format="reward", heldout_pairs={})))
    told = text(quality(model(format="adapter", heldout_pairs={"accuracy": FOUND["accuracy"]})))
    assert "in 88% of pairs, by prompt (75% to 95%, 40 prompts)" in told
    assert "90% of 20 pairs." in text(quality(model(format="adapter", heldout_pairs={"accuracy": 0.9, "pairs": 20, "prompts": 10})))
    assert quality(model(format="full")) == quality(model(format="reward")) == []
