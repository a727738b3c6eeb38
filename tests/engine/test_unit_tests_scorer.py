"""Code in answers: right code is right, and code that cheats, runs away or breaks things is not."""

import math
import time
from pathlib import Path

import psutil
import pytest

from engine.scorers.unit_tests import SECONDS, code_of, score

TESTS = ["assert double(2) == 4", "assert double(-1) == -2"]
RIGHT = "```python\ndef double(x):\n    return 2 * x\n```"


def judged(answer, tests=TESTS):
    return score([], answer, tests)


@pytest.mark.parametrize("answer", [
    RIGHT,
    "def double(x):\n    return x + x",
    f"Here it is, with a greeting:\n\n{RIGHT}\n\nIt doubles. ```not code```",
    "```\ndef double(x):\n    '''grüß 你好 \\n'''\n    return x * 2",
    "import math\ndef double(x):\n    print('noise')\n    return math.prod([2, x])",
])  # fmt: skip
def test_right_code_is_right(answer):
    assert judged(answer) == 1.0


@pytest.mark.parametrize("answer", [
    "", "I cannot do that.", "```python\ndef double(x): return x\n```", "def double(x)\n    return 2 * x", "double = 2",
    "raise SystemExit(0)", "import sys\nsys.exit(0)", "import os\nos._exit(0)",
    "class Always:\n    def __eq__(self, other): raise SystemExit\ndef double(x): return Always()",
    "import sys\nsys.stdout.write('1' * 32)\ndef double(x): return 0",
    "__builtins__['AssertionError'] = None\ndef double(x): return 0",
    "def double(x):\n    return double(x)",
    "x = 'a' * (4 * 2**30)\ndef double(x): return 2 * x",
])  # fmt: skip
def test_wrong_and_cheating_code_is_not(answer):
    assert judged(answer) == 0.0


def test_without_assertions_nothing_is_said():
    assert math.isnan(judged(RIGHT, []))
    assert math.isnan(judged(RIGHT, ["  "]))


def test_a_loop_ends_and_leaves_no_child():
    before = {process.pid for process in psutil.process_iter()}
    began = time.monotonic()
    assert judged("import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        time.sleep(60)\nwhile True: pass") == 0.0
    assert time.monotonic() - began < SECONDS + 5
    time.sleep(0.2)
    new = [process for process in psutil.process_iter(["cmdline"]) if process.pid not in before]
    assert not [process for process in new if "-S" in (process.info["cmdline"] or [])]


def test_files_are_small_and_gone(tmp_path):
    code = "open('big', 'wb').write(b'x' * 2**24)\ndef double(x): return 2 * x"
    assert judged(code) == 0.0
    assert judged("import os\nhere = os.getcwd()", ["assert 'dianjing-' in here"]) == 1.0
    assert judged(f"open({str(tmp_path / 'left')!r}, 'w').close()\ndef double(x): return 2 * x") == 1.0, "no prison: the docstring says so"
    assert Path(tmp_path / "left").exists()


def test_the_environment_is_empty(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert judged("import os\ndef double(x): return 2 * x", [*TESTS, "assert 'HF_TOKEN' not in os.environ"]) == 1.0


def test_the_first_block_is_the_code():
    assert code_of("a\n```py\none\n```\n```py\ntwo\n```") == "one\n"
    assert code_of("no block") == "no block"
