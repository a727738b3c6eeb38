"""Work as the processes see it that share a run without leading it: they read everything and say nothing.

Every one of them computes the same, so what the leader reports is what happened.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.work import Answer, Measurement, Work
from storage.queries import Made


class Follower(Work):
    """The same face as `Work`; what is said goes nowhere, and what is written goes to a folder nobody looks into."""

    leads = False

    def _aside_for(self, artifact: int) -> Path:
        if not hasattr(self, "_nowhere"):
            self._nowhere = tempfile.TemporaryDirectory(prefix="dianjing-")  # gone with this object
        folder = Path(self._nowhere.name, str(artifact))
        folder.mkdir()
        return folder

    def put_outputs_in_place(self) -> dict[str, Made]:
        """Nothing to put."""
        return {}

    def metrics(self, step: int, /, **values: float | None) -> None:
        """Left to the leader."""

    def progress(self, step: int, of: int) -> None:
        """Left to the leader."""
        self._leave_if_stopping()

    def responses(self, rows: Iterable[Answer]) -> None:
        """Left to the leader."""

    def measured(self, rows: Iterable[Measurement]) -> None:
        """Left to the leader."""

    def _log(self, level: str, message: str, data: dict[str, Any]) -> None:
        """Left to the leader."""
