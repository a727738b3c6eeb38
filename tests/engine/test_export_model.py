"""A model that leaves is whole: plain transformers says the same with it, its card tells where it comes from, nothing else goes along."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from sqlmodel import Session
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.tokenization_utils_base import generate_merges

from engine import library, submit, worker
from engine.errors import UserError
from engine.lineage import Ancestor, Measured, lineage
from engine.stages.data import _card
from engine.stages.data._gguf import rounded
from engine.stages.data.export_model import ExportModel
from engine.training import exporting, read_back
from engine.training.models import load_model
from engine.work import ItemScore, Work, as_input
from storage.database import transaction
from storage.tables import Artifact, Run
from tests.engine.teaching import Class
from tests.tiny_model import untrained_model

TEXTS = ["the quick brown fox can't jump over 1234 lazy dogs " * 3, "def f(x):\n    return x ** 2\n\n", "a  b   c\t\n d e f " * 4]
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
IDS = [5, 6, 7, 8, 9, 10]


def wrapped(core: Tokenizer) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>")
    fast.chat_template = TEMPLATE
    return fast


def byte_level() -> PreTrainedTokenizerFast:
    """As SmolLM2 has it: bytes, merged in a listed order."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(TEXTS, trainer)
    return wrapped(core)


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Gemma has it: pieces with a blank written as a letter, and bytes for what no piece covers."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=360, special_tokens=special, show_progress=False))
    vocab = trained.get_vocab()
    merges = generate_merges(vocab, {token: -id for token, id in vocab.items()})
    core = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    core.add_special_tokens(["<unk>", "<s>", "</s>"])
    return wrapped(core)


def llama(folder: Path, **changes) -> Path:
    tokenizer = byte_level()
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), **shape, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, **changes)
    return saved(LlamaForCausalLM, config, tokenizer, folder)


def gemma(folder: Path, **changes) -> Path:
    tokenizer = sentencepiece()
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=7, num_attention_heads=2, num_key_value_heads=1,
        head_dim=256, query_pre_attn_scalar=256, max_position_embeddings=256, sliding_window=8, bos_token_id=1, eos_token_id=2, **changes,
    )  # fmt: skip
    return saved(Gemma3ForCausalLM, config, tokenizer, folder)


def saved(kind, config, tokenizer, folder: Path) -> Path:
    torch.manual_seed(0)
    model = kind(config)
    for name, weight in model.named_parameters():  # norms that are all alike would hide that one is misplaced
        torch.nn.init.normal_(weight.data, std=0.3 if "norm" in name else 0.1)
    model.generation_config = GenerationConfig(eos_token_id=2, max_new_tokens=8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapter(base: Path, folder: Path, tokenizer: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight.data, std=0.2)
    model.save_pretrained(folder)
    exporting.copy_tokenizer(tokenizer, folder)
    return folder


def logits(folder: Path, **how) -> torch.Tensor:
    with torch.inference_mode():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how).eval()(torch.tensor([IDS])).logits


@pytest.fixture
def here(monkeypatch):
    """Read back in this process: the same code, five seconds sooner."""

    class Child:
        returncode = 0

        def __init__(self, command, **_):
            read_back.main(*command[-2:])

        def poll(self):
            return 0

        kill = wait = poll

    monkeypatch.setattr(exporting.subprocess, "Popen", Child)


@pytest.fixture
def told(database, home):
    """An artifact's folder and summary."""

    def look(id):
        with Session(database) as session:
            return home.artifact_folder(id), session.get_one(Artifact, id).summary

    return look


@pytest.fixture
def fails(database, home):
    """Run these settings, which must fail; what the run says."""

    def run(**settings):
        submitted = submit.submit(database, home, ExportModel(**settings))
        assert worker.work(database, home, submitted.runs[0]) == 1
        assert not home.artifact_folder(submitted.outputs["model"]).exists(), "nothing half-made may stay"
        with Session(database) as session:
            assert session.get_one(Artifact, submitted.outputs["model"]).ready_at is None
            return session.get_one(Run, submitted.runs[0]).error

    return run


# The folder


def test_a_chain_of_adapters_leaves_as_one_model_that_a_fresh_process_loads(run_stage, add_artifact, database, home, told, tmp_path):
    base = add_artifact("model", "base", llama(tmp_path / "base"), format="full", parameters=1000)
    first = add_artifact("model", "first", adapter(tmp_path / "base", tmp_path / "a", tmp_path / "base", 1), format="adapter", base=base)
    second = add_artifact("model", "second", adapter(tmp_path / "base", tmp_path / "b", tmp_path / "base", 2), format="adapter", base=first)
    folder, summary = told(run_stage(ExportModel(model=second, gguf="q8_0"))["model"])
    with Session(database) as session:
        artifacts = {id: as_input(home, session.get_one(Artifact, id)) for id in (base, first, second)}
    live = load_model(artifacts[second], artifacts.__getitem__, torch.float32, "cpu")
    script = (
        "import sys, torch; from transformers import AutoModelForCausalLM, AutoTokenizer; place = sys.argv[1];"
        "model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place);"
        f"print(model(torch.tensor([{IDS}])).logits.flatten().tolist()); print(tokenizer('the fox')['input_ids'])"
    )
    plain = subprocess.run([sys.executable, "-I", "-c", script, folder], capture_output=True, text=True, cwd="/", check=True)
    theirs, ids = map(json.loads, plain.stdout.splitlines()[-2:])
    with torch.inference_mode():
        assert torch.equal(torch.tensor(theirs), live(torch.tensor([IDS])).logits.flatten()), "float32: the same, bit by bit"
    assert not torch.allclose(torch.tensor(theirs), logits(tmp_path / "base").flatten(), atol=0.1), "the adapters do something"
    assert ids == byte_level()("the fox")["input_ids"]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "README.md", "gguf/second-Q8_0.gguf",
    }  # fmt: skip
    assert summary["format"] == "full"
    assert "base" not in summary
    assert summary["parameters"] == live.num_parameters()
    assert summary["read_back"]["safetensors in float32"] == "no weight was rounded"
    assert "rounding moved logits by at most" in summary["read_back"]["GGUF in q8_0"]
    machine = (str(tmp_path), str(home.root), str(Path.home()))
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [place for place in machine if place.encode() in content], f"{path.name} names a folder of this machine"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_weights_are_kept_as_asked(run_stage, add_artifact, told, tmp_path, here, precision):
    model = add_artifact("model", "m", gemma(tmp_path / "m"), format="full", licence="gemma")
    folder, summary = told(run_stage(ExportModel(model=model, precision=precision))["model"])
    assert "ai.google.dev/gemma/terms" in (folder / "NOTICE").read_text()
    assert summary["dtype"] == json.loads((folder / "config.json").read_text())["dtype"] == precision
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == getattr(torch, precision)
    rounded_here = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=getattr(torch, precision)).float()
    assert torch.allclose(logits(folder), rounded_here(torch.tensor([IDS])).logits, atol=1e-2)
    assert torch.equal(logits(folder), logits(tmp_path / "m")) == (precision == "float32")
    _, more = told(run_stage(ExportModel(model=model, precision="auto"))["model"])
    assert more["dtype"] == "float32"


def test_plain_transformers_says_in_bfloat16_what_the_live_model_says(run_stage, add_artifact, database, home, told, tmp_path, here):
    base = add_artifact("model", "base", llama(tmp_path / "base"), format="full")
    child = add_artifact("model", "child", adapter(tmp_path / "base", tmp_path / "a", tmp_path / "base", 1), format="adapter", base=base)
    folder, _ = told(run_stage(ExportModel(model=child, precision="bfloat16"))["model"])
    with Session(database) as session:
        artifacts = {id: as_input(home, session.get_one(Artifact, id)) for id in (base, child)}
    live = load_model(artifacts[child], artifacts.__getitem__, torch.bfloat16, "cpu")
    assert live.model.rotary_emb.inv_freq.dtype == torch.float32, "rounded frequencies lose their place in long texts"
    ids = torch.tensor([IDS * 30])
    with torch.inference_mode():
        assert torch.equal(live(ids).logits, AutoModelForCausalLM.from_pretrained(folder, dtype="auto")(ids).logits)


# The GGUF file


@pytest.mark.parametrize("make", [llama, gemma])
@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_transformers_reads_the_same_model_from_the_gguf_file(run_stage, add_artifact, told, tmp_path, here, make, kind):
    model = add_artifact("model", "my model / 1", make(tmp_path / "m"), format="full", licence="MIT")
    folder, summary = told(run_stage(ExportModel(model=model, gguf=kind))["model"])
    file = folder / summary["gguf"]
    assert file.name == f"my-model-1-{kind.upper()}.gguf"
    straight = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    for weight in straight.parameters():
        weight.data = torch.from_numpy(rounded(weight.data.numpy(), kind))
    with torch.inference_mode():
        wanted = straight(torch.tensor([IDS])).logits
    read = logits(file.parent, gguf_file=file.name)
    assert float((read - wanted).abs().max() / wanted.abs().max()) < exporting.TOLERANCE
    assert torch.equal(logits(folder), logits(tmp_path / "m")), "the safetensors beside it are not rounded with it"
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    assert tokenizer.chat_template == TEMPLATE
    for text in (*TEXTS, *exporting.TEXTS):
        assert tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(tmp_path / "m")(text)["input_ids"]


def test_number_formats_come_back_as_exactly_as_they_can():
    weight = torch.randn(8, 64).numpy()
    assert (rounded(weight, "f32") == weight).all()
    assert (rounded(weight, "f16") == weight.astype("float16")).all()
    assert abs(rounded(weight, "q8_0") - weight).max() <= abs(weight).max() / 127
    assert (rounded(weight[:, :40], "q8_0") == weight[:, :40].astype("float16")).all(), "rows that do not fill blocks of 32"
    assert (rounded(weight[0], "q8_0") == weight[0]).all(), "vectors stay as they are"


def edit(name, **changes):
    def change(folder):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))

    return change


@pytest.mark.parametrize(("make", "spoil", "says"), [
    (llama, edit("config.json", architectures=["Qwen3ForCausalLM"]), "Qwen3ForCausalLM cannot be written as GGUF here, only Llama"),
    (llama, edit("config.json", attention_bias=True), "attention_bias True"),
    (llama, edit("config.json", rope_parameters={"rope_type": "llama3", "rope_theta": 5e5}), "rope_parameters"),
    (llama, edit("config.json", hidden_act="gelu"), "hidden_act gelu"),
    (gemma, edit("config.json", query_pre_attn_scalar=168), "query_pre_attn_scalar 168"),
    (gemma, edit("config.json", layer_types=["full_attention"] * 7), "layer_types"),
    (llama, edit("tokenizer.json", pre_tokenizer={"type": "Whitespace"}), "cutting text by Whitespace"),
    (llama, lambda folder: (folder / "tokenizer.json").write_text("{"), "no readable tokenizer.json"),
    (untrained_model, lambda folder: None, "WordLevel"),
])  # fmt: skip
def test_what_gguf_cannot_say_is_refused_before_the_run(database, home, add_artifact, tmp_path, make, spoil, says):
    spoil(make(tmp_path / "m"))
    model = add_artifact("model", "m", tmp_path / "m", format="full")
    with pytest.raises(UserError, match="choose none") as caught:
        submit.submit(database, home, ExportModel(model=model, gguf="f16"))
    assert says in str(caught.value)
    assert caught.value.field == "gguf"
    assert submit.submit(database, home, ExportModel(model=model)).runs, "safetensors can still be had"


def test_weights_that_do_not_fit_the_number_format_are_said(fails, add_artifact, tmp_path, here):
    folder = llama(tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = 1e6
    model.save_pretrained(folder)
    id = add_artifact("model", "m", folder, format="full")
    assert "too large for f16: choose bf16 or f32" in fails(model=id, gguf="f16")
    assert "choose float32" in fails(model=id, precision="float16")


# Proof


def test_a_folder_that_reads_back_as_something_else_is_never_kept(fails, add_artifact, tmp_path, monkeypatch, here):
    model = add_artifact("model", "m", llama(tmp_path / "m"), format="full")
    as_it_is = exporting.copy_tokenizer

    def damaged(source, target):
        as_it_is(source, target)
        weights = AutoModelForCausalLM.from_pretrained(target)
        weights.model.layers[0].self_attn.q_proj.weight.data[3, 3] += 0.05
        weights.save_pretrained(target)

    monkeypatch.setattr(exporting, "copy_tokenizer", damaged)
    error = fails(model=model)
    assert "does not read safetensors in float32 as the model it was made from" in error
    assert "of the largest one" in error

    def mixed_up(source, target):
        as_it_is(source, target)
        edit("tokenizer.json", pre_tokenizer={"type": "Whitespace"})(target)

    monkeypatch.setattr(exporting, "copy_tokenizer", mixed_up)
    assert "its tokenizer cuts" in fails(model=model)


def test_a_process_that_cannot_load_it_is_quoted(fails, add_artifact, tmp_path, monkeypatch):
    model = add_artifact("model", "m", llama(tmp_path / "m"), format="full")
    monkeypatch.setattr(exporting, "MESSAGES", [{"no role": "x"}])
    monkeypatch.setattr(exporting.Chat, "prompt_ids", lambda *_: IDS)
    error = fails(model=model)
    assert "Error" in error
    assert "\n" not in error


def test_a_stop_while_it_is_read_back_ends_the_process_too(database, home, add_artifact, tmp_path):
    school = Class(database, home, add_artifact, tmp_path)
    children = []

    class Stopped(Work):
        def progress(self, step, of):
            super().progress(step, of)
            if step == 80:
                children.extend(psutil_children())
                self.stopping = True

    import psutil

    def psutil_children():
        return [child for child in psutil.Process().children() if any("read_back" in word for word in child.cmdline())]

    stage = ExportModel(model=school.model)
    work = school.start(stage, Stopped)
    assert not school.finish(work, stage)
    assert children
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


# Bad input


def test_an_adapter_whose_base_is_gone_is_named(database, home, add_artifact, tmp_path):
    base = add_artifact("model", "the base", llama(tmp_path / "base"), format="full", parameters=1000)
    child = add_artifact("model", "child", adapter(tmp_path / "base", tmp_path / "a", tmp_path / "base", 1), format="adapter", base=base)
    home.artifact_folder(base).unlink()
    with pytest.raises(UserError, match="the base of child, the base") as caught:
        submit.submit(database, home, ExportModel(model=child))
    assert caught.value.field == "model"


@pytest.mark.parametrize("name", ["mine", "a/b/c", "../x", "a/..", "me/bad--name", "me/a\nb", "https://x.y/z", "me/-x", "me/" + "x" * 97])
def test_a_name_the_hub_would_refuse_is_refused_at_once(name):
    with pytest.raises(ValidationError, match="push_to_hub"):
        ExportModel(model=1, push_to_hub=name)
    assert ExportModel(model=1, push_to_hub=" me/my-model_1.0 ").push_to_hub == "me/my-model_1.0"


def test_the_estimate_counts_the_whole_model_under_an_adapter(add_artifact, database, home, tmp_path):
    base = add_artifact("model", "base", llama(tmp_path / "base"), format="full", parameters=1_000_000)
    child = add_artifact("model", "child", tmp_path / "base", format="adapter", base=base, parameters=10)
    told = {settings: submit.estimate(database, home, ExportModel(model=child, **dict(settings))).disk for settings in (
        (), (("precision", "float16"),), (("gguf", "q8_0"),))}  # fmt: skip
    assert list(told.values()) == [4_000_000, 2_000_000, 5_062_500]


# The card


def front(text: str) -> dict:
    return yaml.safe_load(text.removeprefix("---\n").split("\n---\n")[0])


def test_the_card_tells_what_the_model_was_made_from(run_stage, database, home, add_artifact, told, tmp_path, here):
    school = Class(database, home, add_artifact, tmp_path)
    with transaction(database) as session:
        model, data = session.get_one(Artifact, school.model), session.get_one(Artifact, school.data)
        note = "Its weights are 4-bit ones read back into full precision."
        model.summary = {**model.summary, "licence": "Apache-2.0", "note": note, "source": "some-lab/tiny at 0123456789ab"}
        data.summary = {**data.summary, "source": "/home/somebody/secret/talk.jsonl"}
    taught = run_stage(school.lesson(save_as="pupil"))["model"]
    with Session(database) as session:
        run = session.get_one(Artifact, taught).made_by
    work = school.start(school.lesson(), run=run)
    items = [ItemScore(taught, "abcdef", "sums", str(n), float(n < 8), step=6) for n in range(10)]
    work.scores([ItemScore(taught, "abcdef", "sums", "0", 0.0), *items, ItemScore(taught, "abcdef", "sums", "x", None, step=6)])
    folder, summary = told(run_stage(ExportModel(model=taught, notes="Not for *medicine*."))["model"])
    text = (folder / "README.md").read_text()
    assert front(text) == {
        "base_model": "some-lab/tiny", "license": "apache-2.0", "library_name": "transformers", "pipeline_tag": "text-generation",
        "tags": ["dianjing"],
    }  # fmt: skip
    assert "4-bit ones read back into full precision" in text
    assert "| talk | data | 18 | 6 | messages | talk.jsonl |" in text
    assert "| training.learning_rate | 0.01 |" in text
    assert "| pupil | sums | 80.0% (49.0% to 94.3%) | 10 | abcdef |" in text, "at the last step, over the items that gave a value"
    assert "3. pupil (model), by finetune from data: talk, model: tiny" in text
    assert "Not for *medicine*." in text
    assert submit.code_version() in text
    assert "/home/somebody" not in text
    assert str(tmp_path) not in text
    assert summary["licence"] == "Apache-2.0"


def test_the_example_in_the_card_runs_as_it_stands(run_stage, add_artifact, told, tmp_path, here, capsys):
    model = add_artifact("model", "m", llama(tmp_path / "m"), format="full")
    folder, _ = told(run_stage(ExportModel(model=model))["model"])
    code = (folder / "README.md").read_text().split("```python")[1].split("```")[0].replace("path/to/this/folder", str(folder))
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def ancestor(id=1, name="m", **more):
    return Ancestor(id, more.pop("kind", "model"), name, more.pop("stage", ""), **more)


@pytest.mark.parametrize("licence", ["Gemma terms of use, https://ai.google.dev/gemma/terms", "gemma"])
def test_gemmas_terms_go_along(licence):
    base = ancestor(1, "gemma-3-270m", summary={"licence": licence, "source": "google/gemma-3-270m, from a package"})
    child = ancestor(2, "child", stage="finetune", inputs={"model": 1}, summary={"licence": licence})
    text = _card.card([base, child], {"parameters": 10**6, "licence": licence}, "x", "")
    assert front(text)["license"] == "gemma"
    assert "https://ai.google.dev/gemma/terms" in text
    assert "https://ai.google.dev/gemma/terms" in _card.notice([base, child], licence)
    relicensed = _card.card([base, child], {"parameters": 1, "licence": "mit"}, "x", "")
    assert "https://ai.google.dev/gemma/terms" in relicensed, "another licence for the child does not lift them"
    assert "https://ai.google.dev/gemma/terms" in _card.notice([base, child], "mit")
    assert not _card.notice([ancestor(summary={"licence": "mit"})], "Apache-2.0")


def test_an_unknown_licence_is_other_with_its_name():
    text = _card.card([ancestor()], {"parameters": 1, "licence": "Our own: terms"}, "x", "")
    assert front(text)["license"] == "other"
    assert front(text)["license_name"] == "Our own: terms"
    assert "license" not in front(_card.card([ancestor()], {"parameters": 1}, "x", ""))


def test_names_cannot_break_out_of_the_card():
    name = "evil\n---\n# <script>alert(1)</script> | `x` [a](http://b)"
    data = ancestor(1, name, kind="dataset", summary={"rows": 3, "source": r"C:\Users\me\rows.jsonl"})
    model = ancestor(2, name, stage="finetune", inputs={"data": 1}, settings={"data": 1, "panel": None, "file": "/srv/private/x.txt"},
                     scores=(Measured("h", name, 3, 0.25, False),))  # fmt: skip
    text = _card.card([data, model], {"parameters": 1, "licence": name}, "x", "")
    assert "\n# <script" not in text
    body = text.removeprefix("---\n").split("\n---\n", 1)[1]
    assert "<script" not in body.replace("\\<script", "")
    assert "\n---\n" not in body
    assert "private" not in text
    assert "Users" not in text
    assert "| rows.jsonl |" in text
    assert front(text)["license_name"] == " ".join(name.split())


# Lineage


def test_a_lineage_tells_causes_first_each_once_deleted_ones_too(database, home, add_artifact, tmp_path, run_stage):
    school = Class(database, home, add_artifact, tmp_path)
    one = run_stage(school.lesson(save_as="one"))["model"]
    asks = school.rows("asks", [{"prompt": [{"role": "user", "content": "x"}]}], layout="prompts")
    two = run_stage(school.lesson(model=one, panel=asks, save_as="two"))["model"]
    library.delete(database, home, school.data)
    with Session(database) as session:
        told = lineage(session, two)
    assert [ancestor.name for ancestor in told] == ["talk", "tiny", "one", "asks", "two"]
    assert told[0].deleted
    assert told[-1].inputs == {"data": school.data, "model": one, "panel": told[3].id}
    assert told[-1].settings["training"]["learning_rate"] == 1e-2


# The hub


class FakeHub(BaseHTTPRequestHandler):
    """The few addresses an upload needs, for repositories that keep what is committed."""

    repositories: dict[str, dict]
    commits: list[list[str]]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._tell(200, {})

    def do_GET(self):
        if self.path == "/api/whoami-v2":
            good = self.headers["Authorization"] == "Bearer hf_good"
            return self._tell(200, {"name": "me"}) if good else self._tell(401, {"error": "Invalid credentials"})
        if self.path.startswith("/api/models/me/mine"):
            files = self.repositories["me/mine"]["files"]
            tree = [{"type": "file", "path": name, "size": len(data), "oid": oid(data)} for name, data in files.items()]
            siblings = [{"rfilename": name} for name in files]
            return self._tell(200, tree if "/tree/" in self.path else {"id": "me/mine", "sha": "c" * 40, "siblings": siblings})
        return self._tell(404, {"error": self.path})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name.startswith("theirs/"):
                return self._tell(403, {"error": "You don't have the rights to create a model under the namespace theirs"})
            if name in self.repositories:
                return self._tell(409, {"url": f"{os.environ['HF_ENDPOINT']}/{name}"})
            self.repositories[name] = {"visibility": asked["visibility"], "files": {}}
            return self._tell(200, {"url": f"{os.environ['HF_ENDPOINT']}/{name}"})
        if self.path == "/api/validate-yaml":
            return self._tell(200, {"errors": [], "warnings": []})
        files = self.repositories["me/mine"]["files"]
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            told = {"uploadMode": "regular", "shouldIgnore": False}
            return self._tell(200, {"files": [{**told, "path": n, "oid": oid(files[n]) if n in files else None} for n in names]})
        if "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            for line in lines[1:]:
                if line["key"] == "file":
                    files[line["value"]["path"]] = b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
            self.commits.append([line["value"].get("path", "") for line in lines[1:]])
            address = f"{os.environ['HF_ENDPOINT']}/me/mine/commit/{'d' * 40}"
            return self._tell(200, {"commitUrl": address, "commitOid": "d" * 40, "hookOutput": ""})
        return self._tell(404, {"error": self.path})

    def _tell(self, status, told):
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status >= 400:
            self.send_header("X-Error-Message", told.get("error", ""))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine and a token it knows."""
    handler = type("Hub", (FakeHub,), {"repositories": {}, "commits": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(add_artifact, tmp_path):
    return add_artifact("model", "m", llama(tmp_path / "m"), format="full")


def test_a_model_is_pushed_whole_privately_and_once(run_stage, model, told, hub, here):
    folder, summary = told(run_stage(ExportModel(model=model, push_to_hub="me/mine", gguf="f16"))["model"])
    kept = hub.repositories["me/mine"]
    assert kept["visibility"] == "private"
    assert kept["files"] == {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    address = f"{os.environ['HF_ENDPOINT']}/me/mine/commit/{'d' * 40}"
    assert summary["pushed"] == {"repository": "me/mine", "commit": "d" * 40, "address": address}
    assert 'place = "me/mine"' in kept["files"]["README.md"].decode()
    assert len(hub.commits) == 1
    run_stage(ExportModel(model=model, push_to_hub="me/mine", gguf="f16", private=False))
    assert len(hub.commits) == 1, "the same again changes nothing there"
    run_stage(ExportModel(model=model, push_to_hub="me/mine"))
    assert sorted(hub.commits[1]) == ["README.md", "gguf/m-F16.gguf"], "weights that do not belong to it any more are taken away"


def test_a_public_push_says_so(run_stage, model, hub, here):
    run_stage(ExportModel(model=model, push_to_hub="me/mine", private=False))
    assert hub.repositories["me/mine"]["visibility"] == "public"


def test_without_a_token_nothing_begins(database, home, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="set HF_TOKEN where Dianjing is started") as caught:
        submit.submit(database, home, ExportModel(model=model, push_to_hub="me/mine"))
    assert caught.value.field == "push_to_hub"
    with Session(database) as session:
        assert session.get(Run, 1) is None


def test_a_hub_that_refuses_is_quoted_without_the_token(fails, model, hub, monkeypatch, here):
    error = fails(model=model, push_to_hub="theirs/mine")
    assert "the hub does not take theirs/mine" in error
    assert "namespace theirs" in error
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    monkeypatch.setattr(exporting.Exporter, "safetensors", lambda *_: pytest.fail("it worked before it asked"))
    error = fails(model=model, push_to_hub="me/mine")
    assert "does not accept the token" in error
    assert "hf_bad" not in error


def test_a_hub_that_does_not_answer_is_said_before_any_work(fails, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.setattr(exporting.Exporter, "safetensors", lambda *_: pytest.fail("it worked before it asked"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "cannot be reached" in fails(model=model, push_to_hub="me/mine")


def test_a_connection_that_breaks_while_pushing_can_be_resumed(fails, model, hub, monkeypatch, here):
    def broken(*_, **__):  # as it comes out of huggingface_hub, after five tries that take twenty seconds
        raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")

    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", broken)
    assert "the connection to the hub broke while pushing to me/mine" in fails(model=model, push_to_hub="me/mine")
