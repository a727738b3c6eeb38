"""Mixing: shares of the result, no repeats, evenly spread."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from storage.tables import Artifact, Event

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
        assert abs(count - share * sum(taken)) < 1
        for end in range(len(mixed)):
            assert abs(sum(p == place for p, _ in mixed[:end]) - end * share) < 2


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
        assert total > sum(counts(sizes, shares, None, ["x"] * len(sizes)))
        assert any(share * total > size - 1 for size, share in zip(sizes, shares, strict=True))
    else:
        assert sum(taken) == total
        assert all(abs(count - share * total) < 1 for count, share in zip(taken, shares, strict=True))


def test_a_pool_too_small_says_so() -> None:
    with pytest.raises(UserError, match=r"big has 10 rows and 40 are needed: .* at most 13 rows"):
        counts([10, 50], [0.8, 0.2], 50, ["big", "small"])
    assert counts([10, 50], [0.8, 0.2], 13, ["big", "small"]) == [10, 3]
    with pytest.raises(UserError, match="big has no rows: give it the share 0"):
        counts([0, 50], [0.8, 0.2], None, ["big", "small"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"datasets": [1, 2], "shares": [1.0]}, "datasets names 2 and shares 1"),
        ({"datasets": [1, 2], "shares": [0.5, 0.6]}, "shares sum to 1.1"),
        ({"datasets": [1, 1], "shares": [0.5, 0.5]}, "twice"),
        ({"datasets": [1, 2], "shares": [1.5, -0.5]}, "0 or more"),
        ({"datasets": [1], "shares": [float("nan")]}, "shares sum to nan"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MixDatasets.model_validate(settings)


@pytest.fixture
def dataset(tmp_path: Path, add_artifact: Callable[..., int]) -> Callable[..., int]:
    def make(name: str, rows: int, layout: str = "text", heldout: tuple[str, ...] = ("held out",)) -> int:
        folder = tmp_path / f"{name} {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        sides = {"train": [f"{name} {n}" for n in range(rows)], "heldout": heldout}
        for side, said in sides.items():
            (folder / f"{side}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in said))
        return add_artifact("dataset", name, folder, format=layout, rows=rows, heldout=len(heldout), columns=["text"])

    return make


@pytest.fixture
def mixed(run_stage: Callable[[Stage], dict[str, int]], database: Engine, home: Home) -> Callable[..., tuple[dict, Path]]:
    """Mix with these settings; the summary and the folder."""

    def mix(**settings: Any) -> tuple[dict[str, Any], Path]:
        id = run_stage(MixDatasets(**settings))["dataset"]
        with Session(database) as session:
            row = session.get_one(Artifact, id)
        return row.summary, home.root / row.folder

    return mix


def test_the_stage_writes_both_splits_and_says_what_came_from_where(dataset: Callable[..., int], mixed: Callable[..., Any]) -> None:
    one, two = dataset("same name", 30), dataset("same name", 30, heldout=("other",))
    summary, folder = mixed(datasets=[one, two], shares=[0.75, 0.25], rows=20)
    train, heldout = ((folder / f"{side}.jsonl").read_text().splitlines() for side in ("train", "heldout"))
    assert (summary["rows"], summary["heldout"]) == (len(train), len(heldout)) == (20, 1)
    assert summary["rows_by_source"] == {f"same name #{one}": 15, f"same name #{two}": 5}
    assert sum(summary["heldout_by_source"].values()) == 1
    assert json.loads((folder / "card.json").read_text()) == summary


def test_a_share_of_zero_writes_the_files_of_plain(dataset: Callable[..., int], mixed: Callable[..., Any], home: Home) -> None:
    plain, other = dataset("plain", 25, heldout=("a", "b", "c")), dataset("other", 40)
    _, folder = mixed(datasets=[plain, other], shares=[1, 0])
    for side in ("train", "heldout"):
        assert (folder / f"{side}.jsonl").read_bytes() == (home.artifact_folder(plain) / f"{side}.jsonl").read_bytes()


def test_held_out_prompts_that_are_trained_on_are_told(dataset: Callable[..., int], mixed: Callable[..., Any], database: Engine) -> None:
    leaky = dataset("leaky", 9)
    mixed(datasets=[dataset("a", 9, heldout=("leaky 3",)), leaky], shares=[0.5, 0.5])
    mixed(datasets=[dataset("b", 9, heldout=()), leaky], shares=[0.5, 0.5])
    with Session(database) as session:
        told = [event.message for event in session.query(Event) if event.level == "warning"]
    assert told[0].startswith("1 held-out prompts are trained on too")
    assert told[1] == "b has no held-out rows, so at these shares the mixture has none"
    assert len(told) == 2


def test_formats_that_differ_are_refused(dataset: Callable[..., int], database: Engine, home: Home) -> None:
    mix = MixDatasets(datasets=[dataset("a", 3), dataset("b", 3, "messages")], shares=[0.5, 0.5])
    with pytest.raises(UserError, match=r"a \(text\) and b \(messages\) are of different formats"):
        submit.submit(database, home, mix)
