"""Scores that lm-evaluation-harness or lighteval measured elsewhere, to stand beside those measured here.

Where the files hold items, they are stored one by one, so that paired tests stay possible; where they hold averages only,
those stay averages: no items are made up for them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from engine.errors import UserError
from engine.stage import AnsweringModel, Input, Kind, Preview, PreviewRow, Stage
from engine.stages.data._read import whole_path

if TYPE_CHECKING:
    from engine.work import Work


class ImportScores(Stage):
    """Bring in what lm-evaluation-harness or lighteval measured elsewhere on one of your models."""

    outputs = {"scores": Kind.SCORES}
    heavy = False

    model: AnsweringModel = Field(title="Model", description="The one these files were measured on: they do not say it for sure.")
    path: str = Field(
        "", title="Results", description="results_….json, or its folder. Items are read from the samples or details beside it."
    )
    metric: str = Field(
        "", title="Metric", description="Such as acc_norm or exact_match,flexible-extract, for tasks that have it. Empty: each one's first."
    )

    @field_validator("path")
    @classmethod
    def _path_is_whole(cls, path: str) -> str:
        return whole_path(path.strip()) if path.strip() else ""

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Whose scores they are."""
        return f"Scores of {inputs[self.model].name}, imported"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """The results can be read; the items are read when it runs."""
        from engine.stages.measure._harness_files import read_results

        if not self.path:
            raise UserError("there is no file yet: type the path of results_….json, or of its folder", field="path")
        read_results(self.path, self.metric.strip(), items=False)

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The tasks with their averages."""
        from engine.stages.measure._harness_files import read_results

        if not self.path:
            return None
        try:
            found = read_results(self.path, self.metric.strip(), items=False)
        except UserError:  # `check` says it, beside the field
            return None
        rows = [PreviewRow(((f"{task.name}: {task.metric} {task.average}", False),)) for task in found.tasks]
        limited = (f"limit {found.settings['limit']}: for testing only",) if found.settings["limit"] is not None else ()
        return Preview(f"{Path(found.path).name} of {found.harness}", tuple(rows), notes=limited)

    def run(self, work: "Work") -> None:
        """Read everything, then store it."""
        from engine.stages.measure._harness_files import keep, read_results, write
        from engine.stages.measure.evaluate import steps_of

        model, results = work.input("model"), read_results(self.path, self.metric.strip())
        keep(work, model, steps_of(model), results)
        write(work, [(model, results)])
        items = sum(len(task.items) for task in results.tasks)
        work.say(f"{items:,} items of {len(results.tasks)} tasks by {results.harness}")
