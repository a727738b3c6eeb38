"""Chemistry: knows school chemistry, from rust and acids to moles and equilibrium."""

from functools import partial

from engine.probes._choices import chosen

HOW, GROUP, FLOOR = "chooses", "knowledge", 0.25
items = partial(chosen, "chemistry")
