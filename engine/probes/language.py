"""Language: knows English grammar, spelling, word meanings and well-known books."""

from functools import partial

from engine.probes._choices import chosen

HOW, GROUP, FLOOR = "chooses", "knowledge", 0.25
items = partial(chosen, "language")
