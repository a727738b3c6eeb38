"""Fluency: how surprised a model is by plain English of many kinds, in nats per token; lower is better."""

from engine.probe import Item
from engine.probes._written import written

HOW, GROUP = "loss", "fluency"


def items(n: int, seed: int) -> list[Item]:
    """Short passages, known by their titles."""
    return [Item(row["title"], [], text=row["text"]) for row in written("fluency", n, seed)]
