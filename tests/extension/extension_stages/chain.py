"""A recipe of three stages, the last of which can be made to be wrong."""

from pydantic import Field

from engine.stage import Dataset, Queue, Recipe
from extension_stages.count import Count
from extension_stages.join import Join


class Chain(Recipe):
    """Count twice and join."""

    steps: int = Field(3, ge=1, title="Steps", description="How far to count.")
    delay: float = Field(0.0, ge=0, title="Delay", description="Seconds a step takes.")
    more: Dataset | None = Field(None, title="More", description="Joined too; empty: nothing.")

    def plan(self, queue: Queue) -> None:
        """Two counts, whose results are named before they exist."""
        first = queue(Count(steps=self.steps, delay=self.delay, save_as="first"))["numbers"]
        second = queue(Count(steps=self.steps + 1, delay=self.delay, save_as="second"))["numbers"]
        queue(Join(parts=[first, second, *([self.more] if self.more else [])], save_as="both"))
