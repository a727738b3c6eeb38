"""Mix datasets by the share each has in the result, evenly interleaved.

Each pool's rows are laid at even distances over the whole, so that at every point the mixture so far is within two
rows of its shares. Each pool is drawn from in a seeded order without repeating a row; a single pool keeps its own
order, so that a share of 0 for the others gives exactly what training on it alone would.
"""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from engine.errors import UserError
from engine.stage import Dataset, Input, Kind, Stage
from engine.stages.data._formats import prompt_of

if TYPE_CHECKING:
    from engine.work import Work


class MixDatasets(Stage):
    """Mix several datasets by the share each has in the result."""

    outputs = {"dataset": Kind.DATASET}
    heavy = False

    datasets: list[Dataset] = Field(title="Datasets", description="All of one format.", min_length=1, max_length=20)
    shares: list[float] = Field(title="Shares", description="Each dataset's share of the mixture, in the same order; they sum to 1.")
    rows: int | None = Field(None, ge=1, title="Rows", description="Of the mixture. Empty: as many as the pools allow.")
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Draws the rows.")

    @model_validator(mode="after")
    def _one_share_each(self) -> "MixDatasets":
        if len(self.shares) != len(self.datasets):
            raise ValueError(f"datasets names {len(self.datasets)} and shares {len(self.shares)}: give one share for each dataset")
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError("datasets names one dataset twice: name each once and add its shares")
        if any(share < 0 for share in self.shares) or not abs(sum(self.shares) - 1) <= 1e-6:
            raise ValueError(f"shares sum to {sum(self.shares):g}: make them 0 or more and sum to 1")
        return self

    def check(self, inputs: Mapping[int, Input]) -> None:
        """One format, and pools that are large enough."""
        ready = [inputs[id] for id in self.datasets if inputs[id].ready]
        formats = {given.summary.get("format"): given.name for given in ready}
        if len(formats) > 1:
            told = " and ".join(f"{name} ({layout})" for layout, name in formats.items())
            raise UserError("{told} are of different formats: mix datasets of one format", field="datasets", told=told)
        if len(ready) == len(self.datasets):
            counts([given.summary.get("rows", 0) for given in ready], self.shares, self.rows, [given.name for given in ready])

    def run(self, work: "Work") -> None:
        """Draw, interleave, write; the held-out rows alike."""
        pools = work.inputs("datasets")
        names = [pool.name for pool in pools]
        folder = work.output("dataset")
        mixed: dict[str, list[str]] = {}
        taken: dict[str, list[int]] = {}
        for split in ("train", "heldout"):
            lines = [_lines(pool.folder / f"{split}.jsonl") for pool in pools]
            sizes = [len(some) for some in lines]
            taken[split] = counts(sizes, self.shares, self.rows, names) if split == "train" else _apportion(*_most(sizes, self.shares))
            mixed[split] = interleave(lines, taken[split], self.seed)
            (folder / f"{split}.jsonl").write_text("".join(mixed[split]), encoding="utf-8")
        for pool, share in zip(pools, self.shares, strict=True):
            if share and not mixed["heldout"] and not pool.summary.get("heldout"):
                work.warn(f"{pool.name} has no held-out rows, so at these shares the mixture has none")
        shared = {prompt_of(json.loads(line)) for line in mixed["train"]} & {prompt_of(json.loads(line)) for line in mixed["heldout"]}
        if shared:
            work.warn(f"{len(shared):,} held-out prompts are trained on too: import these datasets with one seed and held-out share")
        sources = [f"{pool.name} #{pool.id}" for pool in pools]  # two datasets may have one name
        summary = {
            "format": pools[0].summary["format"], "rows": len(mixed["train"]), "heldout": len(mixed["heldout"]),
            "columns": sorted({column for pool in pools for column in pool.summary.get("columns", [])}), "source": "a mixture",
            "rows_by_source": dict(zip(sources, taken["train"], strict=True)),
            "heldout_by_source": dict(zip(sources, taken["heldout"], strict=True)),
        }  # fmt: skip
        (folder / "card.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8")
        work.describe("dataset", **summary)
        work.say("mixed " + ", ".join(f"{count:,} rows of {name}" for name, count in zip(names, taken["train"], strict=True)))


def counts(sizes: Sequence[int], shares: Sequence[float], rows: int | None, names: Sequence[str]) -> list[int]:
    """How many rows of each pool make the mixture. Raises UserError for a pool that is too small."""
    largest, shares = _most(sizes, shares)
    taken = _apportion(largest if rows is None else rows, shares)
    for count, size, share, name in zip(taken, sizes, shares, names, strict=True):
        if share and not size:
            raise UserError("{name} has no rows: give it the share 0, or take it out", field="datasets", name=name)
        if count > size:
            message = "{name} has {size} rows and {count} are needed: at these shares a mixture can have at most {largest} rows"
            raise UserError(message, field="rows", name=name, size=size, count=count, largest=largest)
    return taken


def _most(sizes: Sequence[int], shares: Sequence[float]) -> tuple[int, list[float]]:
    """The rows of the largest mixture without repeats, and the shares, summing to exactly 1 but for rounding."""
    shares = [share / sum(shares) for share in shares]
    total = min(int(size / share + 1e-9) for size, share in zip(sizes, shares, strict=True) if share > 0)
    while total and all(count <= size for count, size in zip(_apportion(total + 1, shares), sizes, strict=True)):
        total += 1  # the last rows may all come from pools that have more
    return total, shares


def _apportion(total: int, shares: Sequence[float]) -> list[int]:
    """Whole rows for shares of a total, by largest remainder: each within one row of its share."""
    exact = [total * share for share in shares]
    taken = [int(amount + 1e-9) for amount in exact]
    order = sorted(range(len(exact)), key=lambda i: taken[i] - exact[i])
    for place in order[: total - sum(taken)]:
        taken[place] += 1
    return taken


def interleave(pools: Sequence[Sequence[Any]], taken: Sequence[int], seed: int) -> list[Any]:
    """`taken[i]` rows of pool i, spread evenly over the whole."""
    single = sum(count > 0 for count in taken) == 1
    drawn = []
    for place, (pool, count) in enumerate(zip(pools, taken, strict=True)):
        order = list(range(len(pool)))
        if not single:
            random.Random(f"{seed}/{place}").shuffle(order)
        drawn.append([pool[row] for row in order[:count]])
    placed = [((turn + 0.5) / len(rows), place, row) for place, rows in enumerate(drawn) for turn, row in enumerate(rows)]
    return [row for _, _, row in sorted(placed, key=lambda item: item[:2])]


def _lines(path: Path) -> list[str]:
    return [line + "\n" for line in path.read_text(encoding="utf-8").split("\n") if line] if path.exists() else []
