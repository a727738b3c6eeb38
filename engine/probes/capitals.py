"""Capitals: knows the capitals of the world, among the country's other cities and its neighbours' capitals."""

from random import Random
from typing import Any

from engine.probe import Item, ask
from engine.probes._written import written

HOW, GROUP, FLOOR = "chooses", "knowledge", 0.25
WORDINGS = ("What is the capital of {}?", "Which city is the capital of {}?", "Name the capital city of {}.")


def items(n: int, seed: int) -> list[Item]:
    """A country each: its capital, another of its cities and two capitals of the same part of the world."""
    rng, countries = Random(f"capitals/{seed}"), written("capitals")
    rng.shuffle(countries)
    return [_item(rng, country, countries) for country in countries[:n]]


def _item(rng: Random, country: dict[str, Any], countries: list[dict[str, Any]]) -> Item:
    near = [other["capital"] for other in countries if other["region"] == country["region"] and other is not country]
    choices = [country["capital"], rng.choice(country["cities"]), *rng.sample(near, 2)]
    rng.shuffle(choices)
    question = rng.choice(WORDINGS).format(country["country"])
    return Item(country["country"], ask(f"{question} Answer with the name only."), (country["capital"],), tuple(choices))
