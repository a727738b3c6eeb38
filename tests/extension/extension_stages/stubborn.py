"""Does not listen when it is asked to stop."""

import signal
import time

from engine.stage import Kind, Stage
from engine.work import Work


class Stubborn(Stage):
    """Go on whatever happens."""

    outputs = {"nothing": Kind.DATASET}

    def run(self, work: Work) -> None:
        """Ignore the signal and never come to an end."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for step in range(1, 10**6):
            with work.finishing():
                work.progress(step, 10**6)
                time.sleep(0.02)
