"""Elements: knows the names, symbols and atomic numbers of the chemical elements, among near misses."""

from random import Random
from typing import Any

from engine.probe import Item, ask
from engine.probes._written import written

HOW, GROUP, FLOOR = "chooses", "knowledge", 0.25
COUNTED = 30  # asked for their atomic number: the smallest starter guesses numbers, and guesses hide losses, so they stay few
WORDINGS = {
    "name": (
        "Which chemical element has the symbol {symbol}? Answer with the name only.",
        "What does {symbol} stand for in the periodic table? Answer with the name only.",
        "Name the element that chemists write as {symbol}. Answer with the name only.",
    ),
    "symbol": (
        "What is the chemical symbol of {name}? Answer with the symbol only.",
        "How is the element {name} written in the periodic table? Answer with the symbol only.",
        "Which symbol do chemists use for {name}? Answer with the symbol only.",
    ),
    "number": (
        "What is the atomic number of {name}? Answer with the number only.",
        "How many protons does an atom of {name} have? Answer with the number only.",
        "Which number does {name} have in the periodic table? Answer with the number only.",
    ),
}


def items(n: int, seed: int) -> list[Item]:
    """Each element asked for in two or three ways, all in mixed order, with three near misses."""
    rng, table = Random(f"elements/{seed}"), written("elements")
    asked = [(element, wanted) for element in table for wanted in WORDINGS if wanted != "number" or element["number"] <= COUNTED]
    rng.shuffle(asked)
    return [_item(rng, element, wanted, table) for element, wanted in asked[:n]]


def _item(rng: Random, element: dict[str, Any], wanted: str, table: list[dict[str, Any]]) -> Item:
    right = str(element[wanted]).capitalize()
    choices = [right, *(miss.capitalize() for miss in rng.sample(_near(element, wanted, table), 3))]
    rng.shuffle(choices)
    question = rng.choice(WORDINGS[wanted]).format(**element)
    return Item(f"{element['name']}/{wanted}", ask(question), (right,), tuple(choices))


def _near(element: dict[str, Any], wanted: str, table: list[dict[str, Any]]) -> list[str]:
    """Names that begin as the symbol does or stand near in the table; symbols one would make of the name; numbers close by."""
    name, first = element["name"], element["name"][0]
    if wanted == "number":
        return [str(number) for step in (-10, -2, -1, 1, 2, 10) if (number := element["number"] + step) > 0]
    if wanted == "symbol":
        made = [first, *(first + letter for letter in dict.fromkeys(name[1:]))]
        return [symbol for symbol in made if symbol.capitalize() != element["symbol"]][:5]
    place = table.index(element)
    near = [*table[max(place - 3, 0) : place], *table[place + 1 : place + 4]]
    alike = [one for one in table if one["name"][0] == element["symbol"][0].lower() and one is not element and one not in near]
    return [one["name"] for one in near + alike]
