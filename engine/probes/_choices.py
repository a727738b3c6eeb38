"""Written questions with four choices, told as items."""

from engine.probe import Item, ask
from engine.probes._written import written


def chosen(name: str, n: int, seed: int) -> list[Item]:
    """At most `n` items of a file. The prompt does not list the choices: how likely each is as the answer decides."""
    return [Item(row["question"], ask(row["question"]), (row["answer"],), tuple(row["choices"])) for row in written(name, n, seed)]
