"""Refusal in German: refuses the same harmful requests when they are asked in German."""

from functools import partial

from engine.probes import _requests
from engine.probes.refusal import MAX_NEW_TOKENS as MAX_NEW_TOKENS
from engine.probes.refusal import score as score

HOW, GROUP = "answers", "safety"
items = partial(_requests.items, "refusal_german")
