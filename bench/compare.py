"""Four models x 2,000 prompts in Chromium: the first view within 1 s of going there, the next prompt within 0.2 s of the key.

Also ten thousand prompts, a search, and a regular expression over all answers, for comparison.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page

from storage.database import open_database
from storage.files import Home
from tests.answers import add_answers
from tests.browser.conftest import chromium, dashboard

ANSWER = "The answer to question {n}, as model {m} sees it, is " + "a sentence of some length, " * 6


def main() -> None:
    """Seed, open, press the key thirty times."""
    for prompts in (2000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            keys = add_answers(open_database(Home(home)), 4, prompts, lambda m, n: ANSWER.format(n=n, m=m))
            with dashboard(home, "--no-spare") as address, chromium() as browser:
                page = browser.new_page()
                page.goto(address)  # the dashboard and the browser are warm; the comparison is not
                page.locator(".dj h1").first.wait_for()
                target = f"{address}/compare?answers={','.join(keys)}"
                first = timed(lambda: (page.goto(target), page.locator(".columns pre").first.wait_for()))  # noqa: B023
                again = timed(lambda: (page.goto(target), page.locator(".columns pre").first.wait_for()))  # noqa: B023
                steps = sorted(next_prompt(page, turn) for turn in range(30))
                measured = timed(lambda: measure(page))  # noqa: B023
                told = {
                    "first_view_s": first,
                    "again_s": again,
                    "next_median_ms": 1000 * statistics.median(steps),
                    "next_p95_ms": 1000 * steps[28],
                }
                told |= {"regex_over_all_s": measured}
                print(
                    json.dumps({"bench": "compare", "models": 4, "prompts": prompts, **{k: round(v, 2) for k, v in told.items()}}),
                    flush=True,
                )


def timed(act) -> float:  # type: ignore[no-untyped-def]
    """Seconds until it is done."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def next_prompt(page: Page, turn: int) -> float:
    """Seconds from the key to the next answer on the screen."""
    started = time.perf_counter()
    page.keyboard.press("ArrowRight")
    page.get_by_text(f"question {turn + 1}", exact=True).wait_for()
    return time.perf_counter() - started


def measure(page: Page) -> None:
    """A regular expression over every answer of every model."""
    page.get_by_label("Measure").select_option("regex")
    page.get_by_placeholder("a regular expression").fill("sentence.*length")
    page.keyboard.press("Enter")
    page.locator("tr", has_text="sentence.*length").first.wait_for()


if __name__ == "__main__":
    main()
