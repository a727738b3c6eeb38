"""2,000 Bradley-Terry fits of 10 models, a bootstrap over 300 prompts with four answers each, in under 1 s; and choix beside it."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import choix
import numpy

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.statistics import resampled  # noqa: E402
from engine.strengths import PRIOR, bradley_terry  # noqa: E402

T = TypeVar("T")
MODELS, PROMPTS, ANSWERS, FITS_OF_CHOIX = 10, 300, 4, 5


def main() -> None:
    """Draw rankings, fit both in turn, print one line."""
    rng, wins = numpy.random.default_rng(0), numpy.zeros((PROMPTS, MODELS, MODELS))
    true = numpy.linspace(-1, 1, MODELS)
    for prompt in range(PROMPTS):
        shown = rng.choice(MODELS, ANSWERS, replace=False)
        order = shown[numpy.argsort(-(true[shown] + rng.gumbel(size=ANSWERS)))]
        for place, winner in enumerate(order):
            wins[prompt, winner, order[place + 1 :]] += 1
    drawn = resampled(wins.reshape(PROMPTS, -1)).reshape(-1, MODELS, MODELS)
    data = [[(int(i), int(j)) for i, j in numpy.argwhere(one) for _ in range(int(one[i, j]))] for one in drawn[:FITS_OF_CHOIX]]
    ours, wall, cpu = timed(lambda: bradley_terry(drawn))
    theirs, wall_choix, cpu_choix = timed(lambda: [choix.opt_pairwise(MODELS, one, alpha=PRIOR / 2) for one in data])
    told = {
        "bench": "strengths",
        "models": MODELS,
        "fits": len(drawn),
        "wall_s": round(wall, 3),
        "cpu_s": round(cpu, 3),
        "aim_s": 1,
        "choix_ms_per_fit": round(1000 * wall_choix / FITS_OF_CHOIX, 2),
        "ours_ms_per_fit": round(1000 * wall / len(drawn), 4),
        "wall_ratio": round(wall_choix / FITS_OF_CHOIX / (wall / len(drawn))),
        "cpu_ratio": round(cpu_choix / FITS_OF_CHOIX / (cpu / len(drawn))),
        "largest_difference": float(f"{abs(numpy.array(theirs) - ours[:FITS_OF_CHOIX]).max():.1e}"),
    }
    print(json.dumps(told), flush=True)


def timed(act: Callable[[], T]) -> tuple[T, float, float]:
    """What it gives, and its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    given = act()
    return given, time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
