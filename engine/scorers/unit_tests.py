"""Unit tests: the code of the answer passes assertions, run in a limited process of its own.

The first fenced block is run, or the whole answer where there is none, and then the assertions, by `python -I -S` in an
empty folder with an empty environment: limits on CPU time, memory, file size and processes, a session of its own that
is killed as a whole, no output kept. That keeps accidents and runaway answers away from the machine. It is no prison:
code that sets out to harm can still read what this user can read, and on systems other than Linux and macOS only the
time is limited. Run models you do not trust in a container.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from math import nan
from typing import Any

REFERENCE = "Python assertions, such as assert double(2) == 4"
SECONDS = 5  # of wall time; half as much of CPU time
MEMORY, FILE, PROCESSES = 512 * 2**20, 2**20, 64
FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)

# The word which says that all is well is written after the last assertion, to where the answer's output does not go: to
# leave early, to print or to break assertions is no way to it. Code that searches other frames for it could find it.
HARNESS = """
import os, sys
try:
    import resource
    for name, most in (("CPU", {cpu}), ("AS", {memory}), ("FSIZE", {file}), ("NPROC", {processes}), ("CORE", 0)):
        if hasattr(resource, "RLIMIT_" + name):
            limit = getattr(resource, "RLIMIT_" + name)
            _, hard = resource.getrlimit(limit)
            resource.setrlimit(limit, (most, most) if hard < 0 else (min(most, hard), min(most, hard)))
except (ImportError, ValueError, OSError):
    pass
told = os.dup(1)
silent = os.open(os.devnull, os.O_WRONLY)
os.dup2(silent, 1)
os.dup2(silent, 2)
answer, tests, word = (part.encode().decode("unicode_escape").encode("latin-1").decode() for part in sys.stdin.read().split("\\n"))
space = {{"__name__": "answer", "__builtins__": dict(vars(__builtins__))}}
exec(compile(answer, "answer", "exec"), space)
for test in tests.split("\\n"):
    exec(compile(test, "test", "exec", optimize=0), space)
os.write(told, word.encode())
os._exit(0)
"""


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if every assertion passes, else 0.0; nan without any."""
    tests = "\n".join(line for text in reference for line in text.splitlines() if line.strip())
    return float(passes(code_of(answer), tests)) if tests else nan


def code_of(answer: str) -> str:
    """The code of an answer."""
    fenced = FENCE.search(answer)
    return fenced[1] if fenced else answer


def passes(code: str, tests: str) -> bool:
    """Whether the tests, one on each line, pass after the code has run."""
    word = secrets.token_hex(16)
    given = "\n".join(part.encode().decode("latin-1").encode("unicode_escape").decode() for part in (code, tests, word))
    harness = HARNESS.format(cpu=SECONDS // 2, memory=MEMORY, file=FILE, processes=PROCESSES)
    with tempfile.TemporaryDirectory(prefix="dianjing-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", harness], cwd=folder, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
        try:
            told, _ = process.communicate(given, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            told = ""
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout:
                process.stdout.close()
    return told == word
