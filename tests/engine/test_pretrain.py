"""Reading plain text: documents do not see each other, a new model learns, an old one goes on, and what was cut resumes alike."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.chat import NO_LOSS, Chat
from engine.errors import UserError
from engine.stage import Input, Kind
from engine.stages.train.pretrain import Pretrain
from engine.training.models import decoder_and_head, load_model
from engine.training.packing import Packed, pack, positions
from engine.training.predictors import said
from tests.engine.teaching import Class, stops_at
from tests.tiny_model import rows, untrained_model

QUICK = {"steps": 8, "batch_size": 4, "max_length": 32, "checkpoints": 2, "learning_rate": 1e-2, "precision": "float32"}
OFF = {"suite": "off"}


@pytest.fixture
def school(database, home, add_artifact, tmp_path):
    return Class(database, home, add_artifact, tmp_path / "school")


@pytest.fixture
def text(school):
    return school.rows("text", rows("plain_text", 60), rows("plain_text", 10, seed=1), layout="text")


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return Chat.open(untrained_model(tmp_path_factory.mktemp("tiny")))


def read(school, **settings):
    stage = Pretrain.model_validate({"retention": OFF} | settings | {"training": QUICK | settings.get("training", {})})
    work = school.start(stage)
    assert school.finish(work, stage)
    return work


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(4, 24))
def test_blocks_hold_every_token_once_in_order(chat, lengths, length):
    texts = [" ".join("cat dog horse goat".split()[n % 4] for n in range(count)) for count in lengths]
    blocks = pack(chat, texts, length)
    told = [id for block in blocks for id in block.ids]
    whole = [id for text in texts for id in chat.encode_text(text).ids]
    assert whole[: len(told)] == told
    assert len(whole) - len(told) <= 1, "a lone token at the end teaches nothing"
    assert all(len(block.ids) == length for block in blocks[:-1])
    assert all(block.labels[0] == NO_LOSS for block in blocks)


def test_a_document_begins_where_nothing_is_learned(chat):
    (block,) = pack(chat, ["cat dog", "horse"], 32)
    assert block.ids == [*chat.encode_text("cat dog").ids, *chat.encode_text("horse").ids]
    assert positions(block.labels) == [0, 1, 2, 0, 1]
    assert block.ids[2] == block.ids[4] == chat.eos_id, "each ends with its end"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_a_document_says_changes_nothing_in_the_next(tmp_path, chat, attention):
    folder = untrained_model(tmp_path)
    model = load_model(Input(1, Kind.MODEL, "m", folder, {"format": "full"}), None, torch.float32, "cpu")
    model.set_attn_implementation(attention)
    batches = [Packed(chat.pad_id)([{"input_ids": b.ids, "labels": b.labels} for b in pack(chat, texts, 32)])
               for texts in (["cat dog fox", "the city of mira"], ["owl owl owl", "the city of mira"])]  # fmt: skip
    with torch.no_grad():
        first, second = (model(input_ids=b["input_ids"], position_ids=b["position_ids"], use_cache=False).logits for b in batches)
        alone = model(input_ids=torch.tensor([chat.encode_text("the city of mira").ids])).logits
    assert not torch.allclose(first[0, :4], second[0, :4]), "the first documents differ"
    assert torch.equal(first[0, 4:], second[0, 4:])
    assert torch.allclose(first[0, 4:9], alone[0], atol=1e-5), "as if it stood alone"


def test_training_computes_the_same_as_documents_alone(school, text, chat):
    """The trainer's own loss of a block is the mean over the documents' tokens, each read alone."""
    stage = Pretrain.model_validate({"data": text, "model": school.model, "retention": OFF, "training": QUICK})
    work = school.start(stage)
    blocks = pack(chat, ["cat dog fox", "the city of mira is dorin", "owl"], 32)
    trainer = stage.lesson(work, chat, work.input("model"), blocks, []).trainer(work, chat)
    batch = trainer.data_collator([{"input_ids": block.ids, "labels": block.labels} for block in blocks])
    with torch.no_grad():
        total, tokens = trainer.summed_loss(batch)
        decoder, head = decoder_and_head(trainer.model)
        by_hand = 0.0
        for one in ("cat dog fox", "the city of mira is dorin", "owl"):
            ids = torch.tensor([chat.encode_text(one).ids])
            logits = head(decoder(input_ids=ids).last_hidden_state)[0, :-1]
            by_hand += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
    assert tokens == 3 + 6 + 1
    assert total.item() == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("tokenizer", ["learned", "borrowed"])
def test_a_new_model_learns_and_is_a_model_like_any_other(school, text, tokenizer):
    small = {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary": 400}
    settings = {"tokenizer": school.model} if tokenizer == "borrowed" else {}
    work = read(school, data=text, architecture=small, training={"steps": 30, "max_length": 64}, **settings)
    losses = school.curve(work.run, "eval_loss")
    assert losses[30] < 0.8 * losses[0]
    perplexities = school.curve(work.run, "eval_perplexity")
    assert perplexities[30] == pytest.approx(math.exp(losses[30]))
    told, folder = work._made["model"], work.output("model")
    assert (told["format"], told["context_length"]) == ("full", 64)
    chat = Chat.open(folder)
    assert chat.decode(chat.encode_text("the city of mira").ids).strip() == "the city of mira"
    assert chat.prompt_ids([{"role": "user", "content": "hello"}])
    loaded = load_model(Input(1, Kind.MODEL, "m", folder, {"format": "full"}), None, torch.float32, "cpu")
    assert loaded.config.num_hidden_layers == 2


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_model_goes_on_and_is_watched(school, text, method):
    work = read(school, data=text, model=school.model, method=method, retention={"suite": "watch", "probes": ["arithmetic"], "every": 4})
    losses = school.curve(work.run, "eval_loss")
    assert losses[8] < losses[0]
    assert set(school.curve(work.run, "ability/arithmetic")) == {0, 4, 8}
    assert set(school.curve(work.run, "ability/text: loss")) == {0, 4, 8}


def test_a_stopped_run_goes_on_as_if_it_had_not_been(school, text):
    settings = {"data": text, "architecture": {"hidden_size": 32, "layers": 1, "heads": 2, "vocabulary": 400}}
    whole = read(school, **settings)
    stage = Pretrain.model_validate({"retention": OFF, "training": QUICK} | settings)
    work = school.start(stage, stops_at(4))
    assert not school.finish(work, stage)
    assert school.finish(school.start(stage, run=work.run), stage)
    assert school.curve(work.run) == school.curve(whole.run)


def test_what_cannot_work_is_refused(school, text):
    with pytest.raises(ValueError, match="an adapter on random weights"):
        Pretrain(data=text, method="lora")
    with pytest.raises(ValueError, match="keeps its own tokenizer"):
        Pretrain(data=text, model=school.model, tokenizer=school.model)
    stage = Pretrain.model_validate({"data": text, "retention": OFF, "training": QUICK, "architecture": {"hidden_size": 30, "heads": 4}})
    with pytest.raises(UserError, match="make it a multiple of 8"):
        school.finish(school.start(stage), stage)


def test_what_will_be_read_is_shown_before(school, text):
    """The preview shows blocks with the first token of each document without loss; the estimate counts them."""
    stage = Pretrain.model_validate({"data": text, "model": school.model, "training": QUICK})
    work = school.start(stage)
    inputs = {text: work.input("data"), school.model: work.input("model")}
    shown = stage.preview(inputs)
    assert not shown.rows[0].pieces[0][1]
    assert shown.rows[0].tokens == 32
    assert stage.estimate(inputs, 100.0).seconds > 0


def test_predictors_read_packed_documents_alone(tmp_path, chat):
    folder = untrained_model(tmp_path)
    model = load_model(Input(1, Kind.MODEL, "m", folder, {"format": "full"}), None, torch.float32, "cpu")
    (block,), alone = pack(chat, ["cat dog fox", "the city of mira"], 32), chat.encode_text("the city of mira")
    alone.labels[0] = -100
    told, _ = said(model, block, torch.float32, packed=True)
    expected, targets = said(model, alone, torch.float32)
    assert torch.allclose(told[-len(targets) :], expected, atol=1e-5)
    assert not torch.allclose(said(model, block, torch.float32)[0][-len(targets) :], expected, atol=1e-5), "it would read the first too"
