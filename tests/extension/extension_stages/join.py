"""Puts datasets one after the other. Light: it overlaps with everything."""

import time

from pydantic import Field

from engine.stage import Dataset, Group, Kind, Stage
from engine.work import Work


class Pace(Group):
    """How fast to go."""

    delay: float = Field(0.0, ge=0, title="Delay", description="Seconds a part takes.")
    pauses: int = Field(1, ge=1, title="Pauses", description="How many delays a part takes.")


class Join(Stage):
    """Join datasets into one."""

    outputs = {"joined": Kind.DATASET, "report": Kind.REPORT}
    heavy = False

    parts: list[Dataset] = Field(min_length=1, title="Parts", description="What to join, in this order.")
    pace: Pace = Pace(delay=0.01)

    def run(self, work: Work) -> None:
        """Concatenate the rows."""
        texts = []
        for place, part in enumerate(work.inputs("parts"), 1):
            for _ in range(self.pace.pauses):
                time.sleep(self.pace.delay)
                work.progress(place, len(self.parts))
            texts.append((part.folder / "train.jsonl").read_text())
        (work.output("joined") / "train.jsonl").write_text("".join(texts))
        (work.output("report") / "report.json").write_text("{}")
        work.describe("joined", format="text", rows=sum(text.count("\n") for text in texts), heldout=0, columns=["text"])
