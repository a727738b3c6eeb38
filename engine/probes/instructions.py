"""Instructions: obeys a constraint that a program can check, of eighteen kinds, while doing a plain task."""

from random import Random

from engine.probe import Item, Reply, ask
from engine.probes._constraints import BY_KIND, CONSTRAINTS
from engine.probes._written import written

HOW, GROUP = "answers", "instruction"
MAX_NEW_TOKENS = 64
STRIDE = 5  # tasks between neighbouring kinds, so that the first items are of many tasks


def items(n: int, seed: int) -> list[Item]:
    """Tasks with constraints, the kinds in turn, each pair once."""
    rng, tasks = Random(f"instructions/{seed}"), [row["task"] for row in written("instruction-tasks")]
    rng.shuffle(tasks)
    made = []
    for place in range(min(n, len(tasks) * len(CONSTRAINTS))):
        turn, kind = divmod(place, len(CONSTRAINTS))
        one, task = CONSTRAINTS[kind], tasks[(turn + kind * STRIDE) % len(tasks)]
        drawn = one.draw(rng)
        asked = f"{task} {rng.choice(one.wordings).format(drawn)}"
        made.append(Item(f"{one.kind}: {task}", ask(asked), (drawn,), cluster=one.kind))
    return made


def score(item: Item, reply: Reply) -> float:
    """1 if the whole answer obeys, else 0; an empty answer obeys nothing."""
    return float(BY_KIND[item.cluster].met(reply.text, item.references[0], reply.stopped))
