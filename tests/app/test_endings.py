"""What a page carries for somebody who asked to be told when a run ends."""

from typing import Any

from app.pages import status, tell_button
from storage.queries import utc_now
from storage.tables import Run


def ended(run: Run, told: str = "") -> Any:
    return status(run, told)["a"].get("data", {}).get("ended")


def test_only_a_run_that_ended_has_something_to_tell() -> None:
    run = Run(id=4, stage="finetune", status="running", queued_at=utc_now())
    assert ended(run) is None
    run.status, run.error = "failed", "out of memory " + "x" * 500
    told = ended(run)
    assert (told["title"], told["href"]) == ("✕ 4 Fine-tune: failed", "/runs?run=4")
    assert told["body"] == run.error[:200]
    assert ended(run, "tuned. Loss 2 → 1.")["body"] == "tuned. Loss 2 → 1."


def test_a_run_that_is_resumed_is_asked_for_anew() -> None:
    run = Run(id=4, stage="finetune", status="failed", queued_at=utc_now())
    asked = tell_button(run)["c"][0]["a"]["data"]["run"]
    assert ended(run)["run"] == asked
    run.queued_at = utc_now()
    assert ended(run)["run"] != asked
