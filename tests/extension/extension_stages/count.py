"""Counts, step by step, as a trainer trains: metrics, progress, a checkpoint, and on resume from there."""

import json
import time

from pydantic import Field

from engine.stage import Kind, Stage
from engine.work import Work


class Count(Stage):
    """Count to a number."""

    outputs = {"numbers": Kind.DATASET}

    steps: int = Field(5, ge=1, title="Steps", description="How far to count.")
    delay: float = Field(0.0, ge=0, title="Delay", description="Seconds a step takes.")
    seed: int = Field(0, ge=0, title="Seed", description="Changes nothing.")

    def run(self, work: Work) -> None:
        """Report each step, then note where we are."""
        checkpoint = work.folder / "position.json"
        start = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
        work.say(f"counting from {start}", at=start)
        for step in range(start + 1, self.steps + 1):
            time.sleep(self.delay)
            work.metrics(step, value=step, square=step**2)
            work.progress(step, self.steps)
            aside = checkpoint.with_suffix(".partial")
            aside.write_text(json.dumps(step))
            aside.replace(checkpoint)
        rows = "".join(json.dumps({"text": str(number)}) + "\n" for number in range(1, self.steps + 1))
        (work.output("numbers") / "train.jsonl").write_text(rows)
        work.describe("numbers", format="text", rows=self.steps, heldout=0, columns=["text"], name=self.name())
