"""KL between two models on a task: 0 for the same weights, as computed by hand for others, refused without a common tokenizer."""

import json

import pytest
import torch
from sqlmodel import Session, select

from engine import submit
from engine.chat import Chat
from engine.errors import UserError
from engine.recipes.audit import Audit
from engine.stage import Input, Kind
from engine.stages.measure.divergence import Divergence
from engine.training.models import load_model
from engine.training.predictors import divergence
from storage.tables import Run, Score
from tests.engine.teaching import Class, conversations
from tests.tiny_model import untrained_model


@pytest.fixture
def school(database, home, add_artifact, tmp_path):
    return Class(database, home, add_artifact, tmp_path / "school")


def moved(school, tmp_path, tokenizer=None):
    """The tiny model with its weights moved a little; with another tokenizer if wanted."""
    folder = untrained_model(tmp_path / "moved")
    model = load_model(Input(1, Kind.MODEL, "m", folder, {"format": "full"}), None, torch.float32, "cpu")
    torch.manual_seed(0)
    for part in model.parameters():
        part.data += 0.02 * torch.randn_like(part)
    model.save_pretrained(folder)
    if tokenizer:
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace('"zarek"', f'"{tokenizer}"'))
    return school.add("model", "moved", folder, format="full", parameters=1, context_length=512), model


def test_it_is_the_mean_over_the_tokens_of_the_answers(school, tmp_path, database):
    tuned, after = moved(school, tmp_path)
    before = load_model(Input(1, Kind.MODEL, "m", school.folder / "tiny", {"format": "full"}), None, torch.float32, "cpu")
    row = Chat.open(school.folder / "tiny").encode(conversations(1)[0]["messages"])
    with torch.no_grad():
        p, q = (model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1) for model in (before, after))
    at = [place - 1 for place, label in enumerate(row.labels) if label != -100]
    by_hand = sum((p[place].exp() * (p[place] - q[place])).sum().item() for place in at) / len(at)
    assert divergence(before, after, row, torch.float32) == pytest.approx(by_hand, rel=1e-4)
    assert divergence(before, before, row, torch.float32) == pytest.approx(0, abs=1e-6)

    stage = Divergence(base=school.model, tuned=tuned, data=school.data)
    work = school.start(stage)
    assert school.finish(work, stage)
    with Session(database) as session:
        values = session.exec(select(Score.value).where(Score.artifact == tuned)).all()
    told = work._made["scores"]["divergence"]
    assert told["n"] == len(values) == 6
    assert told["kl"] == pytest.approx(sum(values) / 6)
    assert told["low"] <= told["kl"] <= told["high"]


def test_other_tokenizers_are_refused_before_anything_is_queued(school, tmp_path, database, home):
    tuned, _ = moved(school, tmp_path, tokenizer="other")
    with pytest.raises(UserError, match="different tokenizers"):
        submit.submit(database, home, Audit(base=school.model, tuned=[tuned], data=school.data, divergence=True))
    with Session(database) as session:
        assert not session.exec(select(Run)).all(), "nothing of the plan was queued"
    with pytest.raises(ValueError, match="choose the data"):
        Audit(base=1, tuned=[2], divergence=True)


def test_files_of_one_tokenizer_may_differ_in_padding(school, tmp_path):
    tuned, _ = moved(school, tmp_path)
    path = tmp_path / "moved" / "tokenizer.json"
    cut = {"direction": "Right", "max_length": 900, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation": cut}))
    stage = Divergence(base=school.model, tuned=tuned, data=school.data)
    assert school.finish(school.start(stage), stage)
