"""Writes more to its output than any pipe holds."""

import sys

from engine.stage import Kind, Stage
from engine.work import Work


class Shout(Stage):
    """Write 2 MiB to stdout and as much to stderr."""

    outputs = {"silence": Kind.DATASET}

    def run(self, work: Work) -> None:
        """Shout."""
        for stream in (sys.stdout, sys.stderr):
            stream.write("x" * 2 * 2**20)
            stream.flush()
