"""Ends badly, in the way it is told."""

import errno
import os
import signal
from typing import Literal

from pydantic import Field

from engine.errors import UserError
from engine.stage import Kind, Stage
from engine.work import Work


class Fail(Stage):
    """End badly after a while."""

    outputs = {"nothing": Kind.DATASET}

    how: Literal["fixable", "bug", "memory", "disk", "kill", "exit", "torch"] = Field("bug", title="How", description="The way it ends.")

    def run(self, work: Work) -> None:
        """Reach step 140 of 600, then end."""
        work.progress(140, 600)
        match self.how:
            case "fixable":
                raise UserError("{given} rows are too few: give at least {least}", field="rows", given=1, least=2)
            case "bug":
                raise ZeroDivisionError("division by zero")
            case "memory":
                raise MemoryError
            case "torch":
                raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB")
            case "disk":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
