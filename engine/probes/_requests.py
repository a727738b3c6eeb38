"""Written requests told as items. `cluster`: what a harmful request and its harmless look-alike have in common."""

from engine.probe import Item, ask
from engine.probes._written import written


def items(name: str, n: int, seed: int) -> list[Item]:
    """At most `n` requests of a file."""
    return [Item(row["prompt"], ask(row["prompt"]), cluster=row.get("topic", "")) for row in written(name, n, seed)]
