"""JSON answers: answers in JSON with the keys asked for, and rightly: valid and right both."""

from random import Random

from engine.probe import Item, Reply, ask
from engine.probes._written import written
from engine.scorers import contains, json_object

HOW, GROUP, FLOOR = "answers", "instruction", 0.0
MAX_NEW_TOKENS = 64
KEYS = (("answer",), ("answer", "reason"), ("question", "answer"), ("answer", "confidence"), ("result",), ("topic", "answer"))
WORDINGS = (
    "{question} Answer in JSON with {keys}.",
    "{question}\nReply with one JSON object that has {keys} and nothing else.",
    "{question} Give your answer as JSON. Use {keys}.",
)


def items(n: int, seed: int) -> list[Item]:
    """Every question with keys and a wording drawn for it; from the second round on each with other keys."""
    rng, rows = Random(f"json_answers/{seed}"), written("json-questions")
    rng.shuffle(rows)
    made = []
    for place in range(min(n, len(rows) * len(KEYS))):
        row, turn = rows[place % len(rows)], place // len(rows)
        keys = KEYS[(place % len(rows) + turn) % len(KEYS)]
        told = f"the key {keys[0]!r}" if len(keys) == 1 else f"the keys {keys[0]!r} and {keys[1]!r}"
        question = rng.choice(WORDINGS).format(question=row["question"], keys=told.replace("'", '"'))
        made.append(Item(f"{row['question']} {'/'.join(keys)}", ask(question), (*row["accept"], *keys), cluster=row["question"]))
    return made


def score(item: Item, reply: Reply) -> float:
    """1 if the answer is JSON with the keys and the value that answers is right, else 0."""
    keys = tuple(item.key.rsplit(" ", 1)[1].split("/"))
    accepted = item.references[: -len(keys)]
    if json_object.score(item.prompt, reply.text, keys) != 1:
        return 0.0
    found = json_object.parsed(reply.text)
    value = found.get("result" if "result" in keys else "answer") if isinstance(found, dict) else None
    return contains.score(item.prompt, _plain(value), accepted) if value is not None else 0.0


def _plain(value: object) -> str:
    """A value as text: a number as people write it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
