"""Maths: knows school mathematics, from shapes and fractions to a first derivative."""

from functools import partial

from engine.probes._choices import chosen

HOW, GROUP, FLOOR = "chooses", "knowledge", 0.25
items = partial(chosen, "maths")
