"""Rankings become datasets: which rows, with which weights, on which side; what is left out; and what trains in plain TRL."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import comb
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlmodel import Session

from engine import collecting
from engine.collecting import Collected
from engine.errors import UserError
from engine.rankings import Choice, Rankings, Said
from engine.stages.data._formats import convert, prompt_of
from engine.stages.data.collect_preferences import CollectPreferences
from storage.files import Home
from storage.tables import Artifact
from tests.ranking import asked, open_closed, project, projects, said

LABELS = st.sampled_from(["each rater", "majority", "settled"])
PAIRINGS = st.sampled_from(["all", "best_worst", "adjacent"])
ABC = asked(1, "a", "b", "c")
SPLIT = "ties, or pairs on which raters are split"


def told(made: Collected) -> list[tuple[str, str, float]]:
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"], round(row["weight"], 6)) for row in made.rows]


def pairs(given: Rankings, labels: Any = "each rater", pairing: Any = "all", better: bool = False) -> Collected:
    return collecting.pairs(given, labels, given.criteria[0], pairing, better)


# pairs


def test_a_ranking_of_three_gives_three_pairs_each_a_third() -> None:
    made = pairs(project([ABC], [said(1, "ann", "b > c > a")]))
    assert told(made) == [("b", "c", 0.333333), ("b", "a", 0.333333), ("c", "a", 0.333333)]
    row = made.rows[0]
    assert row["prompt"] == ABC.prompt
    assert (row["item"], row["rater"], row["chosen_by"], row["rejected_by"]) == (1, "ann", "model 1", "model 2")
    assert "margin" not in row
    assert convert("preference", row) == row, "it is stored as an import would store it"


def test_ties_are_dropped_and_counted_and_take_their_weight_with_them() -> None:
    made = pairs(project([ABC], [said(1, "ann", "b = c > a")]))
    assert told(made) == [("b", "a", 0.333333), ("c", "a", 0.333333)]
    assert made.left_out == {"ties": 1}
    assert pairs(project([ABC], [said(1, "ann", "a = b = c")])).left_out == {"ties": 3}


def test_best_against_worst_and_neighbours() -> None:
    four = asked(1, "a", "b", "c", "d")
    strict, tied = (project([four], [said(1, "ann", order)]) for order in ("d > c > b > a", "c = d > b = a"))
    assert told(pairs(strict, pairing="best_worst")) == [("d", "a", 1)]
    assert told(pairs(strict, pairing="adjacent")) == [(*two, 0.333333) for two in ("dc", "cb", "ba")]
    assert told(pairs(tied, pairing="best_worst")) == [(*two, 0.25) for two in ("ca", "cb", "da", "db")]
    assert pairs(tied, pairing="adjacent").left_out == {"ties": 2}
    assert pairs(project([four], [said(1, "ann", "a = b = c = d")]), pairing="best_worst").left_out == {"ties": 1}


def test_several_raters_of_a_prompt_share_its_weight() -> None:
    two = [said(1, "ann", "a > b > c"), said(1, "bob", "c > b > a")]
    made = pairs(project([ABC], two))
    assert sum(row["weight"] for row in made.rows) == pytest.approx(1)
    assert {row["rater"]: row["weight"] for row in made.rows} == pytest.approx({"ann": 1 / 6, "bob": 1 / 6})


def test_all_the_pairs_of_a_prompt_asked_one_by_one_weigh_what_a_ranking_of_it_does() -> None:
    items = [asked(n, *two, prompt="why?") for n, two in enumerate(("ab", "ac", "bc"), 1)]
    labels = [said(n, "ann", f"{two[0]} > {two[1]}", strength=n) for n, two in enumerate(("ab", "ac", "bc"), 1)]
    made = pairs(project(items, labels, mode="pairs"))
    assert [row["weight"] for row in made.rows] == pytest.approx([1 / comb(3, 2)] * 3)
    assert [row["margin"] for row in made.rows] == pytest.approx([0, 1 / 3, 2 / 3]), "LLaMA 2's small margins"


def test_a_margin_is_in_every_row_or_in_none() -> None:
    items = [asked(1, "a", "b"), asked(2, "a", "b")]
    some = [said(1, "ann", "a > b", strength=4), said(2, "ann", "a > b")]
    made = pairs(project(items, some))
    assert not any("margin" in row for row in made.rows)
    assert made.left_out == {"margins, since not every pair has one": 1}
    told = pairs(project(items[:1], [said(1, "ann", "a > b", strength=4), said(1, "bob", "a > b", strength=2)]), "majority")
    assert told.rows[0]["margin"] == pytest.approx((1 + 1 / 3) / 2), "the mean of those who say so"
    three = [said(1, *one, strength=how) for *one, how in (("ann", "a > b", 4), ("bob", "a > b", 4), ("cem", "b > a", 1))]
    against = pairs(project(items[:1], three), "majority")
    assert against.rows[0]["margin"] == 1


def test_the_same_text_twice_makes_no_pair() -> None:
    same = replace(ABC, choices=(Choice("ka", "x", "m"), Choice("kb", "x", "n"), Choice("kc", "y", "o")))
    made = pairs(project([same], [said(1, "ann", "a > b > c")]))
    assert [row[:2] for row in told(made)] == [("x", "y"), ("x", "y")]
    assert made.left_out == {"pairs of the same text": 1}


def test_the_majority_the_owner_and_a_circle() -> None:
    circle = [said(1, "ann", "a > b > c"), said(1, "bob", "b > c > a"), said(1, "cem", "c > a > b")]
    assert pairs(project([ABC], circle), "majority").left_out == {"items whose majority goes round in a circle": 1}
    assert not pairs(project([ABC], circle), "settled").rows
    owner = said(1, "owner", "c > b = a", act="settle")
    made = pairs(project([ABC], circle, [owner]), "settled")
    assert told(made) == [("c", "a", 0.333333), ("c", "b", 0.333333)]
    assert {row["rater"] for row in made.rows} == {"settled"}
    two_of_three = pairs(project([ABC], [*circle[:2], said(1, "cem", "a > b > c")]), "settled")
    assert [row[:2] for row in told(two_of_three)] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert {row["rater"] for row in two_of_three.rows} == {"majority"}
    assert told(pairs(project([ABC], [], [owner]), "settled"))


def test_what_people_wrote_is_chosen_over_everything_it_was_written_beside() -> None:
    made = pairs(project([ABC], [said(1, "ann", "a > b = c", better=" much better ")]), better=True)
    assert [row[:2] for row in told(made)] == [("a", "b"), ("a", "c"), *(("much better", text) for text in "abc")]
    assert {row["weight"] for row in made.rows} == {1 / comb(4, 2)}
    assert {row["chosen_by"] for row in made.rows[2:]} == {"ann"}
    assert pairs(project([ABC], [said(1, "ann", "a > b > c", better="b")]), better=True).left_out == {"pairs of the same text": 1}


def test_practice_gold_repeats_and_skips_are_not_collected() -> None:
    items = [replace(asked(n, "a", "b"), kind=kind) for n, kind in enumerate(("normal", "practice", "gold", "repeat"), 1)]
    labels = [said(n, "ann", "a > b", better="x", accepted_above=1) for n in (1, 2, 3, 4)] + [Said(1, "bob", "skip", reason="unsafe")]
    given = project(items, labels)
    for made in (pairs(given), collecting.unpaired(given, "each rater", "overall"), collecting.tiers(given, "each rater", "overall"),
                 collecting.demonstrations(given)):  # fmt: skip
        assert {row["item"] for row in made.rows} == {1}
    assert collecting.skips(given) == 1


def shuffled(given: Rankings, seed: int) -> Rankings:
    """The same project with other keys, and with answers and tied keys in another order."""
    chance, items, keys = Random(seed), {}, {}
    for id, one in given.items.items():
        names = {choice.key: f"{chance.random()}" for choice in one.choices}
        keys[id] = names
        choices = [replace(choice, key=names[choice.key]) for choice in one.choices]
        items[id] = replace(one, choices=tuple(chance.sample(choices, len(choices))))

    def label(one: Said) -> Said:
        names = keys[one.item]
        order = {
            name: tuple(tuple(names[k] for k in chance.sample(tier, len(tier))) for tier in ranked) for name, ranked in one.tiers.items()
        }
        flags = {names[key]: words for key, words in one.flags.items()}
        return replace(one, tiers=order, flags=flags, shown=tuple(names[key] for key in one.shown))

    return replace(given, items=items, said=list(map(label, given.said)), settled={id: label(one) for id, one in given.settled.items()})


@given(projects(), st.integers(0, 99), LABELS, PAIRINGS, st.booleans())
def test_shuffling_answers_and_keys_never_changes_what_is_collected(
    given: Rankings, seed: int, labels: Any, pairing: Any, better: bool
) -> None:
    other = shuffled(given, seed)
    assert pairs(other, labels, pairing, better) == pairs(given, labels, pairing, better)
    assert collecting.unpaired(other, labels, "overall") == collecting.unpaired(given, labels, "overall")
    assert collecting.tiers(other, labels, "overall") == collecting.tiers(given, labels, "overall")
    assert collecting.demonstrations(other) == collecting.demonstrations(given)


@given(projects(), LABELS, PAIRINGS, st.booleans())
def test_no_prompt_counts_more_than_once_and_every_pair_is_counted_or_left_out(
    given: Rankings, labels: Any, pairing: Any, better: bool
) -> None:
    made, found = pairs(given, labels, pairing, better), collecting.opinions(given, labels, "overall")[0]
    sums: dict[str, float] = defaultdict(float)
    for row in made.rows:
        sums[prompt_of(row)] += row["weight"]
        assert row["chosen"] != row["rejected"]
        assert convert("preference", row) == row
    assert all(total <= 1 + 1e-9 for total in sums.values())
    assert len({"margin" in row for row in made.rows}) <= 1
    if pairing == "all" and not better:
        ties = made.left_out["ties"] + made.left_out[SPLIT]
        assert len(made.rows) + ties == sum(comb(len(one.asked.choices), 2) for one in found)
        if not ties:
            assert all(total == pytest.approx(1) for total in sums.values())


@given(projects(), st.sampled_from(["majority", "settled"]), PAIRINGS)
def test_every_pair_of_the_majority_has_more_raters_for_it_than_against(given: Rankings, labels: Any, pairing: Any) -> None:
    orders = [(row["item"], row["chosen"], row["rejected"]) for row in pairs(given, labels, pairing).rows if row["rater"] == "majority"]
    for row in collecting.tiers(given, labels, "overall").rows:
        texts = [[[{"role": "assistant", "content": row["responses"][place]}] for place in tier] for tier in row["tiers"]]
        if row["rater"] == "majority":
            orders += [(row["item"], a, b) for one, other in combinations(texts, 2) for a in one for b in other]
    for item, chosen, rejected in orders:
        above, below = ("k" + side[0]["content"] for side in (chosen, rejected))
        ranks = [{key: n for n, tier in enumerate(one.tiers["overall"]) for key in tier} for one in given.said if one.item == item]
        ranks = [rank for rank in ranks if rank]
        assert sum(rank[above] < rank[below] for rank in ranks) > sum(rank[above] > rank[below] for rank in ranks)


def test_pairs_on_which_raters_are_split_are_no_majority() -> None:
    split = project([ABC], [said(1, "ann", "a > b > c"), said(1, "bob", "c > a > b")])
    made = pairs(split, "majority")
    assert told(made) == [("a", "b", 0.333333)]
    assert made.left_out == {SPLIT: 2}
    assert not pairs(split, "majority", "best_worst").rows
    assert collecting.tiers(split, "majority", "overall").left_out == {"items on which raters are split, so that most agree on no order": 1}


@given(projects(criteria=("kind", "short")), LABELS, PAIRINGS)
def test_each_criterion_has_rankings_of_its_own(given: Rankings, labels: Any, pairing: Any) -> None:
    alone = replace(given, settings={"criteria": ["short"]})
    assert [row | {"margin": 0} for row in collecting.pairs(given, labels, "short", pairing).rows] == [
        row | {"margin": 0} for row in pairs(alone, labels, pairing).rows
    ]
    short = collecting.pairs(given, labels, "short", pairing).rows
    assert not any("margin" in row for row in short), "strengths are of the first criterion"


def test_an_unknown_criterion_names_the_nearest() -> None:
    given = project([ABC], criteria=["helpful", "harmless"])
    assert collecting.criterion_of(given, " ") == "helpful"
    with pytest.raises(UserError, match="did you mean harmless") as refused:
        collecting.criterion_of(given, "harmles")
    assert refused.value.field == "criterion"
    with pytest.raises(UserError, match="belongs to helpful"):
        collecting.unpaired(given, "each rater", "harmless")


# other rows


def test_the_acceptable_line_says_which_answers_are_good() -> None:
    labels = [said(1, "ann", "b > c > a", accepted_above=1), said(1, "bob", "b > c > a", accepted_above=2), said(1, "cem", "a > b > c")]
    made = collecting.unpaired(project([ABC], labels), "each rater", "overall")
    assert [(row["rater"], row["completion"][0]["content"], row["label"]) for row in made.rows] == [
        ("ann", "a", False), ("ann", "b", True), ("ann", "c", False), ("bob", "a", False), ("bob", "b", True), ("bob", "c", True),
    ]  # fmt: skip
    assert made.left_out == {"labels without an acceptable line": 1}
    assert all(convert("unpaired", row) == row for row in made.rows)
    most = collecting.unpaired(project([ABC], labels), "majority", "overall")
    assert [(row["completion"][0]["content"], row["label"]) for row in most.rows] == [("a", False), ("b", True)]
    assert most.left_out["answers that as many accept as not"] == 1
    none = collecting.unpaired(project([ABC], [said(1, "ann", "a > b > c", accepted_above=0)]), "each rater", "overall")
    assert not any(row["label"] for row in none.rows)
    assert len(none.rows) == 3


def test_tiers_say_all_that_a_rater_said() -> None:
    label = said(
        1, "ann", "c > a = b", accepted_above=1, flags={"kb": ["unsafe"]}, better="x", comment="y", shown=("kb", "ka", "kc"), active_ms=5
    )
    (row,) = collecting.tiers(project([ABC], [label]), "each rater", "overall").rows
    assert (row["responses"], row["tiers"], row["by"]) == (["a", "b", "c"], [[2], [0, 1]], ["model 0", "model 1", "model 2"])
    assert (row["rater"], row["item"], row["accepted_above"], row["flags"]) == ("ann", 1, 1, [[], ["unsafe"], []])
    assert (row["better"], row["comment"], row["shown"], row["active_ms"], row["strength"]) == ("x", "y", [1, 0, 2], 5, None)
    stored = convert("tiers", row)
    assert stored == {name: value for name, value in row.items() if value is not None}


def test_demonstrations_are_what_people_wrote_once_each() -> None:
    labels = [said(1, "ann", "a > b > c", better="do x "), said(1, "bob", "a > b > c", better="do x"), said(1, "cem", "a > b > c")]
    made = collecting.demonstrations(project([ABC], labels))
    (row,) = made.rows
    assert row["messages"] == [*ABC.prompt, {"role": "assistant", "content": "do x"}]
    assert (row["rater"], made.left_out) == ("ann", {"better answers that are there already": 1})


# the stage


@pytest.fixture
def collect(database: Engine, home: Home, run_stage: Callable[..., dict[str, int]], add_artifact: Callable[..., int]) -> Callable[..., Any]:
    """Collect from a project; the summary, the rows of both files and the folder."""

    def run(given: Rankings, **settings: Any) -> tuple[dict[str, Any], list[Any], list[Any], Path]:
        rankings = open_closed(database, add_artifact, given, **settings.pop("summary", {}))
        id = run_stage(CollectPreferences(rankings=rankings, **settings))["dataset"]
        with Session(database) as session:
            row = session.get_one(Artifact, id)
        folder = home.root / row.folder
        sides = [[json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()] for split in ("train", "heldout")]
        return row.summary, *sides, folder

    return run


MANY = project(
    [asked(n, f"a{n}", f"b{n}", f"c{n}", prompt=f"question {n // 2}") for n in range(40)],
    [said(n, rater, f"a{n} > b{n} > c{n}" if n % 3 else f"c{n} > a{n} = b{n}", accepted_above=1, better="w" if n == 3 else "", id=1)
     for n in range(40) for rater in ("ann", "bob")] + [Said(0, "cem", "skip", reason="unsafe")],
)  # fmt: skip


@pytest.mark.parametrize("rows", ["pairs", "unpaired", "tiers"])
def test_no_prompt_is_in_both_files(collect: Callable[..., Any], rows: str) -> None:
    summary, train, heldout, folder = collect(MANY, rows=rows, heldout=0.3)
    assert (summary["rows"], summary["heldout"]) == (len(train), len(heldout))
    assert train
    assert heldout
    assert not {prompt_of(row) for row in train} & {prompt_of(row) for row in heldout}
    assert not (folder / "train.parquet").exists()


def test_the_card_says_who_ranked_and_how_far_they_agree(collect: Callable[..., Any]) -> None:
    summary, train, heldout, folder = collect(MANY)
    assert summary["format"] == "preference"
    assert (summary["prompts"], summary["items"], summary["raters"]) == (20, 40, 2)
    assert summary["rows_by_rater"] == {"ann": 106, "bob": 106}
    assert summary["left_out"] == {"ties": 28}
    assert (summary["skipped"], summary["labels"]) == (1, {"ann": 40, "bob": 40})
    assert summary["newest_label"] == 81
    assert {row["rankings"] for row in train + heldout} == {1}
    card = (folder / "card.md").read_text()
    for told in (
        "Two raters say the same of two answers: 100% (", "ties: 28", "skipped: 1", "Be fair.", "had read: not known (80 labels)",
        "The answer shown first wins: not enough labels", "number 81", "By overall; labels: each rater",
    ):  # fmt: skip
        assert told in card
    assert "judge" not in card


def test_parquet_holds_the_same_rows_and_is_read_back(collect: Callable[..., Any]) -> None:
    from engine.stages.data._read import read

    for rows, layout in (("pairs", "preference"), ("tiers", "tiers"), ("unpaired", "unpaired"), ("demonstrations", "messages")):
        _, train, _, folder = collect(MANY, rows=rows, parquet=True, heldout=0)
        back = [convert(layout, row) for _, row in read(folder / "train.parquet")]
        assert back == [convert(layout, row) for row in train]


def test_demonstrations_from_the_better_answers(collect: Callable[..., Any]) -> None:
    summary, train, _, _ = collect(MANY, rows="demonstrations", heldout=0)
    assert (summary["format"], len(train), train[0]["messages"][-1]["content"]) == ("messages", 1, "w")


def test_what_the_owner_settles_on_the_page_is_collected(database: Engine, run_stage: Any, add_artifact: Any, home: Home) -> None:
    from engine import labelling
    from storage.labels import items
    from storage.queries import utc_now

    rankings = open_closed(database, add_artifact, project([ABC], [said(1, "ann", "a > b > c"), said(1, "bob", "c > b > a")]))
    with Session(database) as session:
        item = items(session, rankings)[0].id or 0
    for event, order in (("e1", [["ka"], ["kb"], ["kc"]]), ("e2", [["kb"], ["ka", "kc"]])):  # the second takes the place of the first
        labelling.settle(database, rankings, "owner", item, {"overall": order}, event, utc_now())
    made = run_stage(CollectPreferences(rankings=rankings, labels="settled", heldout=0))["dataset"]
    rows = [json.loads(line) for line in (home.artifact_folder(made) / "train.jsonl").read_text().splitlines()]
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [("b", "a"), ("b", "c")]


def test_a_judges_labels_are_said_to_be_a_judges(database: Engine, run_stage: Any, add_artifact: Any, home: Home) -> None:
    from engine import rankings
    from engine.judging import validation
    from storage.queries import utc_now

    people = open_closed(database, add_artifact, project([ABC], [said(1, "ann", "a > b > c")]))
    with Session(database) as session:
        read = rankings.read(session, people)
        labels = [Said(item, "judge", tiers={"overall": (("kc",), ("kb",), ("ka",))}) for item in read.items]
        told = {"format": "judge", "judge": "length", "project": people, "agreement": validation(labels, read, "overall")}
        judge = add_artifact("rankings", "judged", **told)
        rankings.write(session, judge, labels, utc_now())
        session.commit()
    made = run_stage(CollectPreferences(rankings=judge, heldout=0))["dataset"]
    with Session(database) as session:
        summary = session.get_one(Artifact, made).summary
    assert summary["judge"].startswith("length: not validated: only 3 pairs of 1 items")
    assert "The labels are a judge's, length: not validated" in (home.artifact_folder(made) / "card.md").read_text()
    assert summary["rows_by_rater"] == {"judge": 3}


@pytest.fixture
def refused(database: Engine, home: Home, add_artifact: Callable[..., int]) -> Callable[..., str]:
    """Collect from a project and be refused; with which words."""
    from engine import submit, worker
    from storage.tables import Run

    def run(given: Rankings, **settings: Any) -> str:
        stage = CollectPreferences(rankings=open_closed(database, add_artifact, given), **settings)
        submitted = submit.submit(database, home, stage).runs[0]
        worker.work(database, home, submitted)
        with Session(database) as session:
            row = session.get_one(Run, submitted)
            assert row.status == "failed"
            return row.error or ""

    return run


@pytest.mark.parametrize(
    ("given", "settings", "words"),
    [
        (project([ABC]), {}, "nobody has ranked anything in rankings: rank on the Label page"),
        (project([ABC], [Said(1, "ann", "skip", reason="unsafe")]), {}, "nobody has ranked"),
        (project([ABC], [said(1, "ann", "a = b = c")]), {"heldout": 0}, "prefers one answer"),
        (project([ABC], [said(1, "ann", "a > b > c")]), {"rows": "unpaired"}, "acceptable line"),
        (project([ABC], [said(1, "ann", "a > b > c")]), {"rows": "demonstrations"}, "nobody wrote a better answer"),
        (project([ABC], [said(1, "ann", "a > b > c")]), {"criterion": "overal"}, "did you mean overall"),
        (project([ABC], [said(1, "ann", "a > b > c")]), {"heldout": 0.9, "seed": 1}, "held-out share: lower it"),
    ],
)
def test_what_cannot_be_collected_is_refused(refused: Callable[..., str], given: Rankings, settings: Any, words: str) -> None:
    assert words in refused(given, **settings)


def test_better_answers_belong_to_pairs() -> None:
    with pytest.raises(ValidationError, match="better_as_chosen is on and rows is tiers"):
        CollectPreferences(rankings=1, rows="tiers", better_as_chosen=True)


@pytest.mark.parametrize("margins", [True, False])
def test_the_file_trains_in_plain_trl(collect: Callable[..., Any], tmp_path: Path, margins: bool) -> None:
    """TRL's own trainers with their defaults, and not a line of ours between the file and them."""
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    from tests.tiny_model import untrained_model

    folder = untrained_model(tmp_path / "model")
    items = [asked(n, "yes, it is blue.", "no, it is red.", prompt=f"is the colour {n}?") for n in range(8)]
    labels = [said(n, "ann", "yes, it is blue. > no, it is red.", strength=1 + n % 4 if margins else None) for n in range(8)]
    _, train, heldout, made = collect(project(items, labels, mode="pairs"), heldout=0.2)
    assert heldout
    assert ("margin" in train[0]) is margins
    data = load_dataset("json", data_files={split: str(made / f"{split}.jsonl") for split in ("train", "heldout")}, cache_dir=tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain: dict[str, Any] = {"use_cpu": True, "bf16": False, "max_steps": 2, "report_to": "none", "per_device_train_batch_size": 2}
    dpo = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(folder), args=DPOConfig(str(tmp_path / "dpo"), **plain), train_dataset=data["train"],
        eval_dataset=data["heldout"], processing_class=tokenizer,
    )  # fmt: skip
    assert dpo.train().training_loss == pytest.approx(0.693, abs=0.05)
    scoring = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    reward = RewardTrainer(
        scoring, args=RewardConfig(str(tmp_path / "reward"), **plain), train_dataset=data["train"], processing_class=tokenizer
    )  # fmt: skip
    assert 0 < reward.train().training_loss < 5


def test_the_other_rows_train_in_plain_trl_too(collect: Callable[..., Any], tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

    from tests.tiny_model import untrained_model

    folder = untrained_model(tmp_path / "model")
    items = [asked(n, "yes, it is blue.", "no, it is red.", prompt=f"is the colour {n}?") for n in range(8)]
    given = project(items, [said(n, "ann", "yes, it is blue. > no, it is red.", accepted_above=1, better=f"it is {n}.") for n in range(8)])
    plain: dict[str, Any] = {"use_cpu": True, "bf16": False, "max_steps": 2, "report_to": "none", "per_device_train_batch_size": 2}
    for rows, trainer, config in (("unpaired", KTOTrainer, KTOConfig), ("demonstrations", SFTTrainer, SFTConfig)):
        made = collect(given, rows=rows, heldout=0)[-1]
        data = load_dataset("json", data_files=str(made / "train.jsonl"), split="train", cache_dir=tmp_path)
        teacher = trainer(
            AutoModelForCausalLM.from_pretrained(folder), args=config(str(tmp_path / rows), **plain), train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(folder),
        )  # fmt: skip
        assert teacher.train().training_loss > 0
