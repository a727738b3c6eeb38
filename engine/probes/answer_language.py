"""Answer language: answers in the language of the question."""

from engine.probe import Item, Reply, ask
from engine.probes._written import written
from engine.scorers import language

HOW, GROUP = "answers", "instruction"
MAX_NEW_TOKENS = 48


def items(n: int, seed: int) -> list[Item]:
    """At most `n` open questions in ten languages."""
    return [
        Item(row["question"], ask(row["question"]), (row["language"],), cluster=row["language"])
        for row in written("answer_language", n, seed)
    ]


def score(item: Item, reply: Reply) -> float:
    """1 if it is in the language of the question, else 0; nan where it is too short to tell."""
    return language.score(item.prompt, reply.text, item.references)
