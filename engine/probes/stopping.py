"""Stopping: ends an answer by itself instead of talking on until the limit."""

from engine.probe import Item, Reply
from engine.probes._open_prompts import MAX_NEW_TOKENS as MAX_NEW_TOKENS
from engine.probes._open_prompts import items as items

HOW, GROUP = "answers", "fluency"


def score(_item: Item, reply: Reply) -> float:
    """1 if it stopped by itself, else 0."""
    return float(reply.stopped)
