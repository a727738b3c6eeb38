"""Instructions: obeys a constraint that a program can check, of eighteen kinds, while doing a plain task."""

from random import Random

from engine.probe import Item, Reply, ask
from engine.probes._constraints import BY_KIND, CONSTRAINTS
from engine.probes._written import written

HOW, GROUP = "answers", "instruction"
MAX_NEW_TOKENS = 64


def items(n: int, seed: int) -> list[Item]:
    """Tasks with constraints, the kinds in turn, each pair once."""
    rng, tasks = Random(f"instructions/{seed}"), [row["task"] for row in written("instruction-tasks")]
    rng.shuffle(tasks)
    made: dict[str, Item] = {}
    for place in range(min(n, len(tasks) * len(CONSTRAINTS))):
        one, turn = CONSTRAINTS[place % len(CONSTRAINTS)], place // len(CONSTRAINTS)
        task = tasks[(turn + place % len(CONSTRAINTS) * 5) % len(tasks)]
        drawn = one.draw(rng)
        asked = f"{task} {rng.choice(one.wordings).format(drawn)}"
        made.setdefault(f"{one.kind}: {task}", Item(f"{one.kind}: {task}", ask(asked), (drawn,), cluster=one.kind))
    return list(made.values())


def score(item: Item, reply: Reply) -> float:
    """1 if the whole answer obeys, else 0; an empty answer obeys nothing."""
    return float(bool(reply.text.strip()) and BY_KIND[item.cluster].obeys(reply.text, item.references[0]))
