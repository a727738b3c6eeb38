"""Arithmetic: adds, subtracts and multiplies small numbers, picking the right result among four."""

from random import Random

from engine.probe import Item, ask

HOW, GROUP, FLOOR = "chooses", "knowledge", 0.25
WORDS = {"+": "plus", "-": "minus", "*": "times"}


def items(n: int, seed: int) -> list[Item]:
    """Sums, differences and products in turn, each different, with three near misses."""
    rng, made = Random(f"arithmetic/{seed}"), dict[str, Item]()
    while len(made) < n:
        sign = list(WORDS)[len(made) % 3]
        a, b = (rng.randint(2, 12), rng.randint(2, 9)) if sign == "*" else sorted((rng.randint(10, 60), rng.randint(2, 40)), reverse=True)
        right = {"+": a + b, "-": a - b, "*": a * b}[sign]
        near = [value for value in (right + step for step in (-10, -2, -1, 1, 2, 10)) if value >= 0]
        choices = [right, *rng.sample(near, 3)]
        rng.shuffle(choices)
        key = f"{a}{sign}{b}"
        question = f"What is {a} {WORDS[sign]} {b}? Answer with the number only."
        made.setdefault(key, Item(key, ask(question), (str(right),), tuple(map(str, choices))))
    return list(made.values())
