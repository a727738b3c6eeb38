"""The tests' model: what it knows before fine-tuning, and that the engine can read it."""

from pathlib import Path

import pytest

from engine.chat import NO_LOSS, Chat
from tests.tiny_model import KINDS, SPECIALS, measure, rows, tiny_model, untrained_model

FILES = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"}


def test_the_trained_model_knows_its_world_and_does_not_stop() -> None:
    folder = tiny_model()
    assert {path.name for path in folder.iterdir()} >= FILES
    assert tiny_model() == folder
    shares = measure(folder)
    assert shares["facts"] >= 0.8
    assert shares["json"] >= 0.8
    assert shares["refusals"] >= 0.8
    assert shares["open_stop"] < 0.5
    assert shares["facts_stop"] < 0.5


def test_the_engine_reads_the_folder(tmp_path: Path) -> None:
    folder = untrained_model(tmp_path / "tiny")
    assert {path.name for path in folder.iterdir()} >= FILES
    chat = Chat.open(folder)
    end, pad = SPECIALS.index("<|im_end|>"), SPECIALS.index("<pad>")
    assert (chat.eos_id, chat.pad_id, chat.stop_ids) == (end, pad, {end})
    row = rows("short_answers", 1)[0]
    encoded = chat.encode(row["messages"])
    learned = [label for label in encoded.labels if label != NO_LOSS]
    assert learned[-1] == end
    assert chat.decode(learned) == row["messages"][-1]["content"]
    asked = chat.prompt_ids(row["messages"][:1])
    assert encoded.ids[: len(asked)] == asked
    assert encoded.labels[: len(asked)] == [NO_LOSS] * len(asked)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_repeat_for_a_seed_and_hold_only_known_words(kind: str, tmp_path: Path) -> None:
    made = rows(kind, 60, seed=3)
    assert len(made) == 60
    assert made == rows(kind, 60, seed=3)
    assert made != rows(kind, 60, seed=4)
    chat = Chat.open(untrained_model(tmp_path / "tiny"))
    for row in made:
        ids = chat.encode_text(row["text"]).ids if "text" in row else chat.prompt_ids(row.get("messages") or row["prompt"])
        assert SPECIALS.index("<unk>") not in ids


def test_json_survives_the_tokenizer(tmp_path: Path) -> None:
    chat = Chat.open(untrained_model(tmp_path / "tiny"))
    for row in rows("json_answers", 10):
        reply = row["messages"][-1]["content"]
        assert chat.decode(chat.tokenizer.encode(reply).ids) == reply
