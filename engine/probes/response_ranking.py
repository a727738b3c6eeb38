"""Response ranking: finds the response to an instruction likelier than a response of like length to another one.

After Hewitt et al. 2024 (2409.14254), where models never taught to follow instructions do this too: it shows whether
what a response owes to its instruction is still there, whatever form the model's own answers take.
"""

from random import Random

from engine.probe import Item, ask
from engine.probes._written import written

HOW, GROUP, FLOOR = "chooses", "instruction", 0.5


def items(n: int, seed: int) -> list[Item]:
    """Each instruction with its own response and another's. Whose is the same for every `n` and seed: pairs were read."""
    rng, other = Random(f"response_ranking/{seed}"), _others()
    made = []
    for row in written("response_ranking", n, seed):
        choices = [row["response"], other[row["response"]]]
        rng.shuffle(choices)
        made.append(Item(row["instruction"], ask(row["instruction"]), (row["response"],), tuple(choices)))
    return made


def _others() -> dict[str, str]:
    """For each response the one next in length: neighbours of the sorted list stand for each other."""
    sorted_ = sorted((row["response"] for row in written("response_ranking")), key=lambda text: (len(text.encode()), text))
    return {text: sorted_[place ^ 1] for place, text in enumerate(sorted_)}
