"""The likeliest next tokens are those of a plain forward pass, as shares of the whole vocabulary."""

import json

import pytest
import torch

from engine.chat import Chat
from engine.errors import UserError
from engine.stage import Input, Kind
from engine.training.models import load_model
from engine.training.streaming import LIKELIEST, Models
from tests.tiny_model import untrained_model

ASKED = [{"role": "user", "content": "what is the city of mira ?"}]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = untrained_model(tmp_path_factory.mktemp("tiny"))
    return Input(1, Kind.MODEL, "tiny", folder, {"format": "full", "context_length": 512})


def told(source, messages, text):
    models = Models(lambda _: source, "cpu", lambda _: 10**12)
    models.dtype = torch.float32
    *silent, said = models.likeliest(source, messages, text)
    assert set(silent) <= {None}
    assert (said.kind, said.finish_reason) == ("done", "next")
    return json.loads(said.text)


@pytest.mark.parametrize("messages, text", [([], "the city of mira is"), (ASKED, "the city"), (ASKED, "")])
def test_they_are_those_of_a_forward_pass(source, messages, text):
    chat = Chat.open(source.folder)
    ids = [*chat.prompt_ids(messages), *chat.tokenizer.encode(text).ids] if messages else chat.text_ids(text)
    model = load_model(source, lambda _: source, torch.float32, "cpu")
    with torch.no_grad():
        share = model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
    likely = share.topk(LIKELIEST)
    found = told(source, messages, text)
    assert [value for _, value in found] == pytest.approx(likely.values.tolist(), rel=1e-4)
    assert found[0][0].strip() == chat.decode([likely.indices[0].item()], special=True).strip()


def test_a_text_longer_than_a_chunk_is_read_whole(source):
    long = "the city of mira is dorin. " * 60
    assert len(told(source, [], long)) == LIKELIEST


def test_nothing_to_read_and_too_much_are_refused(source):
    models = Models(lambda _: source, "cpu", lambda _: 10**12)
    with pytest.raises(UserError, match="type one"):
        models.likeliest(source, [], "")
    with pytest.raises(UserError, match="at most 512"):
        models.likeliest(source, [], "mira " * 600)
