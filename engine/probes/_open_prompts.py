"""Open prompts that two probes ask, so that an answer is given once and judged twice."""

from engine.probe import Item, ask
from engine.probes._written import written

MAX_NEW_TOKENS = 96
SHORT = "Answer in one or two sentences."  # so that one who talks on until the limit does so unasked


def items(n: int, seed: int) -> list[Item]:
    """At most `n` open prompts."""
    return [Item(row["question"], ask(f"{row['question']} {SHORT}")) for row in written("open-prompts", n, seed)]
