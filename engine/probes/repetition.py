"""Repetition: says something, and does not say it again and again."""

from engine.probe import Item, Reply
from engine.probes._open_prompts import MAX_NEW_TOKENS as MAX_NEW_TOKENS
from engine.probes._open_prompts import items as items
from engine.scorers import repetition
from engine.scorers.length import words

HOW, GROUP = "answers", "fluency"
MOST = 0.2  # of the trigrams may have stood there before


def score(item: Item, reply: Reply) -> float:
    """1 for an answer with words of which few come again, else 0."""
    return float(bool(words(reply.text)) and repetition.score(item.prompt, reply.text, ()) < MOST)
