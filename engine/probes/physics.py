"""Physics: knows school physics, from magnets and shadows to Ohm's law and entropy."""

from functools import partial

from engine.probes._choices import chosen

HOW, GROUP, FLOOR = "chooses", "knowledge", 0.25
items = partial(chosen, "physics")
