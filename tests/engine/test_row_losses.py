"""The loss of each row under a model: the mean over its response's tokens, as computed by hand, whatever it is batched with."""

import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sqlmodel import Session

from engine import submit
from engine.chat import Chat
from engine.curation import row_keys
from engine.errors import UserError
from engine.stage import Input, Kind
from engine.stages.measure.row_losses import RowLosses, encode
from engine.training.models import load_model
from storage.tables import Artifact
from tests.engine.teaching import Class, conversations


@pytest.fixture
def school(database, home, add_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.training.models.compute_dtype", lambda *_: torch.float32)
    return Class(database, home, add_artifact, tmp_path / "school")


@pytest.fixture
def measured(school, database, home, run_stage):
    """Measure a dataset; the artifact and {(row key, what): loss}."""

    def measure(data: int, **settings: Any) -> tuple[Artifact, dict[tuple[str, str], float]]:
        id = run_stage(RowLosses(model=school.model, data=data, **settings))["scores"]
        with Session(database) as session:
            row = session.get_one(Artifact, id)
        lines = [json.loads(line) for line in (home.root / row.folder / "scores.jsonl").read_text().splitlines()]
        assert {line["model"] for line in lines} == {school.model}
        return row, {(line["item_key"], line["probe"]): line["value"] for line in lines}

    return measure


def by_hand(school, prompt: list[dict[str, str]], answer: list[dict[str, str]]) -> float:
    """The same without batches: over the tokens that the answer adds to the prompt, turn by turn."""
    model = load_model(Input(1, Kind.MODEL, "m", school.folder / "tiny", {"format": "full"}), None, torch.float32, "cpu")
    chat, losses = Chat.open(school.folder / "tiny"), []
    for turn, message in enumerate(answer):
        if message["role"] == "assistant":
            row = chat.encode([*prompt, *answer[: turn + 1]])
            begin = len(chat.prompt_ids([*prompt, *answer[:turn]]))
            with torch.no_grad():
                told = model(input_ids=torch.tensor([row.ids])).logits[0].float().log_softmax(-1)
            losses += [-told[place - 1, row.ids[place]].item() for place in range(begin, len(row.ids)) if row.labels[place] != -100]
    return sum(losses) / len(losses)


def test_conversations_of_both_splits_as_computed_by_hand(school, measured):
    row, found = measured(school.data, batch_size=4)
    rows = {"train": conversations(18), "heldout": conversations(6, first=50)}
    keys = {split: row_keys(split, some) for split, some in rows.items()}
    assert set(found) == {(key, "loss") for some in keys.values() for key in some}
    for split, place in (("train", 0), ("train", 1), ("heldout", 3)):
        expected = by_hand(school, [], rows[split][place]["messages"])
        assert found[keys[split][place], "loss"] == pytest.approx(expected, rel=1e-4)
    assert row.summary["row_losses"] == {"model": school.model, "data": school.data, "rows": 24, "cut": 0}
    assert row.name == "Losses of talk under tiny"


def test_both_answers_of_a_pair_and_nothing_of_what_was_said_before(school, measured):
    before = conversations(2)[1]["messages"][:2]
    prompt = [*before, {"role": "user", "content": "say 3"}]
    good, bad = ([{"role": "assistant", "content": text}] for text in ("yes yes", "no 7"))
    pair = {"prompt": prompt, "chosen": good, "rejected": bad}
    _, found = measured(school.rows("pairs", [pair], layout="preference"))
    key = row_keys("train", [pair])[0]
    assert found[key, "loss of chosen"] == pytest.approx(by_hand(school, prompt, good), rel=1e-4)
    assert found[key, "loss of rejected"] == pytest.approx(by_hand(school, prompt, bad), rel=1e-4)
    chat = Chat.open(school.folder / "tiny")
    both = encode(chat, pair, "chosen", 128), chat.encode([*prompt, *good])
    learned, every = ([text for text, loss in row.pieces() if loss] for row in both)
    assert learned == every[1:]
    assert len(every) == 2


def test_texts_and_a_batch_of_any_size_give_the_same(school, measured):
    rows = [{"text": f"say {n} yes yes {n}"} for n in range(5)]
    data = school.rows("texts", rows, layout="text")
    one, all_at_once = measured(data, batch_size=1)[1], measured(data, batch_size=64)[1]
    assert one.keys() == all_at_once.keys()
    assert list(one.values()) == pytest.approx(list(all_at_once.values()), rel=1e-4)
    assert len(measured(data, limit=2)[1]) == 2


def test_what_is_cut_is_counted_and_what_has_no_response_left_is_left_out(school, measured):
    long = {"messages": [{"role": "user", "content": "say " * 40}, {"role": "assistant", "content": "yes"}]}
    cut = {"messages": [{"role": "user", "content": "say"}, {"role": "assistant", "content": "yes " * 40}]}
    data = school.rows("long", [long, cut, conversations(1)[0]])
    row, found = measured(data, max_length=20)
    assert {key for key, _ in found} == set(row_keys("train", [long, cut, conversations(1)[0]])[1:])
    assert row.summary["row_losses"]["cut"] == 2


def test_what_has_no_response_is_refused_before_it_is_queued(school, database, home):
    prompts = school.rows("prompts", [{"prompt": [{"role": "user", "content": "say"}]}], layout="prompts")
    with pytest.raises(UserError, match="prompts"):
        submit.submit(database, home, RowLosses(model=school.model, data=prompts))
    with pytest.raises(ValidationError):
        RowLosses(model=1, data=2, limit=0)
