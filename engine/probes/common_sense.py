"""Common sense: knows what every child knows of the world, from what melts to who repairs a car."""

from functools import partial

from engine.probes._choices import chosen

HOW, GROUP, FLOOR = "chooses", "knowledge", 0.25
items = partial(chosen, "common_sense")
