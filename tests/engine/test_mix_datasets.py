"""Mixing: shares of the result, no repeats, evenly spread."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlmodel import Session

from engine import submit
from engine.errors import UserError
from engine.stage import Stage
from engine.stages.data.mix_datasets import MixDatasets, counts, interleave
from storage.files import Home
from storage.tables import Artifact

pools = st.lists(st.integers(1, 60), min_size=1, max_size=4)


def shares_of(sizes: list[int], weights: list[int]) -> list[float]:
    return [weight / sum(weights[: len(sizes)]) for weight in weights[: len(sizes)]]


@given(pools, st.lists(st.integers(1, 9), min_size=4, max_size=4), st.integers(0, 99))
def test_a_mixture_has_its_shares_at_every_point_and_no_row_twice(sizes: list[int], weights: list[int], seed: int) -> None:
    shares = shares_of(sizes, weights)
    rows = [[(place, row) for row in range(size)] for place, size in enumerate(sizes)]
    taken = counts(sizes, shares, None, ["x"] * len(sizes))
    mixed = interleave(rows, taken, seed)
    assert mixed == interleave(rows, taken, seed)
    assert len(set(mixed)) == len(mixed) == sum(taken)
    for place, (count, share) in enumerate(zip(taken, shares, strict=True)):
        assert abs(count - share * sum(taken)) <= len(sizes)
        for end in range(len(mixed)):
            assert abs(sum(p == place for p, _ in mixed[:end]) - end * count / len(mixed)) <= len(sizes)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 9))
def test_a_share_of_zero_equals_plain(size: int, other: int, seed: int) -> None:
    plain = [f"row {n}" for n in range(size)]
    taken = counts([size, other], [1.0, 0.0], None, ["a", "b"])
    assert interleave([plain, ["other"] * other], taken, seed) == plain


@given(pools, st.lists(st.integers(1, 9), min_size=4, max_size=4), st.integers(1, 100))
def test_exactly_the_rows_asked_for_or_a_refusal_that_is_right(sizes: list[int], weights: list[int], total: int) -> None:
    shares = shares_of(sizes, weights)
    try:
        taken = counts(sizes, shares, total, ["x"] * len(sizes))
    except UserError:
        assert any(share * total > size - 1 for size, share in zip(sizes, shares, strict=True))
    else:
        assert sum(taken) == total
        assert all(abs(count - share * total) < 1 for count, share in zip(taken, shares, strict=True))


def test_a_pool_too_small_says_so() -> None:
    with pytest.raises(UserError, match=r"big has 10 rows and 40 are needed: .* at most 12 rows"):
        counts([10, 50], [0.8, 0.2], 50, ["big", "small"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"datasets": [1, 2], "shares": [1.0]}, "datasets names 2 and shares 1"),
        ({"datasets": [1, 2], "shares": [0.5, 0.6]}, "shares sum to 1.1"),
        ({"datasets": [1, 1], "shares": [0.5, 0.5]}, "twice"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MixDatasets.model_validate(settings)


@pytest.fixture
def dataset(tmp_path: Path, add_artifact: Callable[..., int]) -> Callable[..., int]:
    def make(name: str, rows: int, layout: str = "messages") -> int:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train.jsonl").write_text("".join(json.dumps({"n": f"{name} {n}"}) + "\n" for n in range(rows)))
        (folder / "heldout.jsonl").write_text(json.dumps({"n": f"{name} held out"}) + "\n")
        return add_artifact("dataset", name, folder, format=layout, rows=rows, heldout=1, columns=["n"])

    return make


def test_the_stage_writes_both_splits(
    dataset: Callable[..., int], run_stage: Callable[[Stage], dict[str, int]], database: Engine, home: Home
) -> None:
    id = run_stage(MixDatasets(datasets=[dataset("a", 30), dataset("b", 30)], shares=[0.75, 0.25], rows=20))["dataset"]
    with Session(database) as session:
        row = session.get_one(Artifact, id)
    assert row.summary["rows_by_source"] == {"a": 15, "b": 5}
    assert len((home.root / row.folder / "train.jsonl").read_text().splitlines()) == 20


def test_formats_that_differ_are_refused(dataset: Callable[..., int], database: Engine, home: Home) -> None:
    mix = MixDatasets(datasets=[dataset("a", 3), dataset("b", 3, "text")], shares=[0.5, 0.5])
    with pytest.raises(UserError, match=r"a \(messages\) and b \(text\) are of different formats"):
        submit.submit(database, home, mix)
