"""The same numbers in another tool as well: TensorBoard, trackio or W&B, where it is installed and asked for.

Written directly and not through transformers' callbacks, so that the other tool shows what the dashboard shows, the
speed and the memory too, under the same names. A tracker that fails is said once and left alone: it never ends a run.
"""

import json
import netrc
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from engine.errors import UserError
from engine.work import Work

Values = dict[str, float]


class Open(NamedTuple):
    """A tool that takes numbers, until it is closed."""

    log: Callable[[int, Values], Any]
    close: Callable[[], Any]


def check(tracker: str) -> None:
    """Raise UserError if this tracker's package is not installed."""
    if tracker != "none" and not _installed(tracker):
        message = "{tracker} is not installed here: `pip install {tracker}` beside Dianjing, or choose none"
        raise UserError(message, field="training.tracker", tracker=tracker)


class Tracker:
    """One run's numbers on their way to another tool. `settings` go along; keys stay in the environment."""

    def __init__(self, tool: str, work: Work, name: str, settings: dict[str, Any]) -> None:
        self.tool, self.work, self.settings = tool, work, settings
        self.name = f"{work.run} {name}"
        self.project = re.sub(r"[^\w-]+", "-", work.folder.parent.parent.name).strip("-") or "dianjing"  # the home's name
        self.open: Open | None = None
        self.failed = False

    def log(self, step: int, values: dict[str, float | None]) -> None:
        """Send numbers of a step; the first ones open the tool. After a resume they replace what came after that step."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        if self.failed:
            return
        with self._quietly():
            self.open = self.open or OPENERS[self.tool](self, step)
            self.open.log(step, known)

    def end(self) -> None:
        """Close the tool, which then has everything."""
        with self._quietly():
            if self.open:
                self.open.close()
                self.open = None

    def id(self) -> tuple[str, bool]:
        """What the tool knows the run by, and whether it has seen it before. Kept beside the log: numbers repeat in other homes."""
        path = self.work.folder / "tracker.txt"
        known = path.exists()
        if not known:
            path.write_text(uuid.uuid4().hex)
        return path.read_text(), known

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  (whatever happens in there, training goes on)
            self.failed = True
            self.work.warn(f"{self.tool} gets no more numbers: {type(error).__name__}: {error}")


def _tensorboard(tracker: Tracker, step: int) -> Open:
    from torch.utils.tensorboard import SummaryWriter

    folder = re.sub(r"[^\w.+ -]", "-", tracker.name)[:100]
    writer = SummaryWriter(str(tracker.work.folder / "tensorboard" / folder), purge_step=step, flush_secs=10)
    writer.add_text("settings", f"```json\n{json.dumps(tracker.settings, indent=2)}\n```", 0)

    def log(at: int, values: Values) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, at, new_style=True, double_precision=True)

    return Open(log, writer.close)


def _trackio(tracker: Tracker, _: int) -> Open:
    import trackio

    known = tracker.id()[1]
    run = trackio.init(
        project=tracker.project, name=tracker.name, config=tracker.settings, resume="allow" if known else "never", embed=False,
        auto_log_cpu=False, auto_log_gpu=False,
    )  # fmt: skip
    return Open(lambda at, values: run.log(values, step=at), run.finish)


def _wandb(tracker: Tracker, _: int) -> Open:
    import wandb

    run = wandb.init(
        project=tracker.project, name=tracker.name, config=tracker.settings, id=tracker.id()[0], resume="allow",
        dir=str(tracker.work.folder), mode=None if "WANDB_MODE" in os.environ or _has_wandb_key() else "offline",
        settings=wandb.Settings(console="off", disable_code=True, disable_git=True, x_disable_stats=True),
    )  # fmt: skip
    run.define_metric("*", step_metric="step")  # its own step cannot go back, and a resumed run may
    return Open(lambda at, values: run.log(values | {"step": at}), run.finish)


OPENERS: dict[str, Callable[[Tracker, int], Open]] = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}


def _installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _has_wandb_key() -> bool:
    """Whether W&B would find a key; without one it asks on a terminal that a run does not have."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser()).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
