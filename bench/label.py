"""Press to next item of 20 raters at once over 1,000 items with four answers each: 95 of 100 within 150 ms, through the real server.

Each rater is a client of its own that submits as the page does and, once the next item is there, takes a moment as a
person would; `burst` is the same without a moment between: as many presses as the machine can take.
"""

import asyncio
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from storage.database import open_database
from storage.files import Home
from tests.browser.conftest import dashboard
from tests.labelling import add_project, press

RATERS, ITEMS, ANSWERS, PRESSES, AIM_MS = 20, 1000, 4, 40, 150
ANSWER = "A sentence of an answer of some length. " * 12


def main() -> None:
    """Serve a home with two projects, and rank each by all raters at once."""
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(Home(Path(folder)))
        paced, burst = (add_project(database, ITEMS, ANSWERS, lambda n, m: f"{n} {m} {ANSWER}", guideline="Be fair.") for _ in range(2))
        with dashboard(Path(folder), "--no-spare") as address:
            told: dict[str, Any] = {"bench": "label", "raters": RATERS, "items": ITEMS, "answers": ANSWERS, "presses": RATERS * PRESSES}
            for name, project, moment in (("", paced, 2.0), ("burst_", burst, 0.0)):
                times = sorted(asyncio.run(rank(address, project, moment)))
                told[f"{name}median_ms"] = round(statistics.median(times))
                told[f"{name}p95_ms"] = round(times[int(len(times) * 0.95)])
            print(json.dumps(told | {"aim_p95_ms": AIM_MS}))


async def rank(address: str, project: int, moment: float) -> list[float]:
    """All raters at once; milliseconds from each press to its next item."""
    return [one for rater in await asyncio.gather(*[rater(address, project, n, moment) for n in range(RATERS)]) for one in rater]


async def rater(address: str, project: int, number: int, moment: float) -> list[float]:
    """One person: opens the page, then submits item after item, taking `moment` seconds on average for each."""
    chance, name, times = random.Random(number), f"rater {number}", []
    async with httpx.AsyncClient(base_url=f"{address}/label/gradio_api", timeout=60, limits=httpx.Limits(keepalive_expiry=2)) as client:
        events = {event["targets"][0][1]: event["id"] for event in (await client.get(f"{address}/label/config")).json()["dependencies"]}

        async def run(event: str, data: dict[str, Any], query: str = "") -> Any:
            body = {"data": [], "fn_index": events[event], "session_hash": name, "event_data": data}
            return (await client.post(f"/run/predict{query}", json=body)).raise_for_status().json()["data"]

        shown = (await run("load", {}, f"?project={project}&as={name}"))[1]["shown"]
        for _ in range(PRESSES):
            await asyncio.sleep(chance.uniform(0, 2 * moment))
            said = press(shown) | {"client_event_id": f"{project}/{number}/{len(times)}"}
            began = time.perf_counter()
            (told,) = await run("submit", {"project": project, "as": name, "said": said})
            times.append(1000 * (time.perf_counter() - began))
            shown = told["shown"]
    return times


if __name__ == "__main__":
    main()
