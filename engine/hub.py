"""Is the model hub within reach? Asked once, quickly, before anything is fetched, so that nobody waits for a time-out."""

import os
import urllib.error
import urllib.request
from queue import Empty, SimpleQueue
from threading import Thread

from engine.errors import UserError


def require_hub(seconds: float = 3) -> None:
    """Return when the hub answers; raise UserError within `seconds` when it does not."""
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    answer: SimpleQueue[str] = SimpleQueue()
    # In a thread: looking up a name can take far longer than the time-out of the connection.
    Thread(target=lambda: answer.put(_why_not(address, seconds)), daemon=True).start()
    try:
        problem = answer.get(timeout=seconds)
    except Empty:
        problem = f"no answer within {seconds:g} s"
    if problem:
        raise UserError(
            "The model hub at {address} cannot be reached ({problem}). Check the network, set HF_ENDPOINT to a mirror, "
            "or bring the files to this machine and import them from there.",
            address=address,
            problem=problem,
        )


def _why_not(address: str, seconds: float) -> str:
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds).close()
    except urllib.error.HTTPError:
        return ""  # any answer at all means it is there
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""
