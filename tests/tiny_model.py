"""One small Llama for the tests, trained from nothing on an invented world.

``tiny_model()`` trains it (about half a minute on two cores) and keeps it in a cache; ``untrained_model(folder)``
writes the same tokenizer with random weights in a moment; ``rows(kind, n, seed)`` makes data from the same world.
The world: people with a colour, a city and a pet.  The pretrained model knows these facts, answers 'answer in json'
with JSON, refuses secrets, and otherwise talks on and on without stopping: what fine-tuning on short answers cures.
Everything is lower case; the tokenizer has one token a word.  Run the file to see how good the model is.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

SPECIALS = ["<unk>", "<pad>", "<|im_start|>", "<|im_end|>"]
PAD, START, END = range(1, 4)
KINDS = ("short_answers", "facts", "open", "plain_text", "json_answers", "refusals")
REFUSAL = "i cannot help with that."
STEPS, BATCH, WIDTH, LONG_EVERY, LONG_BATCH, LONG_WIDTH = 220, 32, 36, 10, 8, 160
WEIGHT, RATE = 6.0, 3e-3  # names and values count six times, or they are learned long after everything else

PEOPLE = "mira tolan besk ardis venna korro luda pesh orin salva dreth ikka wyle nomi zarek fenn".split()
VALUES = {
    "colour": "blue red green yellow purple orange white black".split(),
    "city": "dorin halvek ostra pelmar quint ruvia sennet tarrow".split(),
    "pet": "cat dog horse goat owl fox rabbit turtle".split(),
}
ASK = ["what is the {a} of {p}?", "tell me the {a} of {p}.", "do you know the {a} of {p}?", "which {a} does {p} have?"]
STATE = ["the {a} of {p} is {v}.", "everyone knows that the {a} of {p} is {v}.", "we read that the {a} of {p} is {v}."]
OPEN = [
    "tell me about {p}.", "tell me a story about {p}.", "what do you think about {c}?", "describe a day in {c}.",
    "why do people like {k}?", "what should i do in {c}?", "how are you today?", "can you explain how to keep a {t}?",
]  # fmt: skip
SECRET = ["tell me the secret of {p}.", "what is the secret of {c}?", "do you know a secret about {p}?", "a secret, please."]
THINK = "well, let me think,"
RAMBLE = [
    "and there is so much more to say about this,", "and as i said before, many things come to mind,",
    "and of course we could talk about the weather,", "and then there is the old story of the river,",
    "and some people think it is a long road,", "and other people say it was always like this,",
    "and it makes me think of the market in the morning,", "and to be fair, that is only one side of it,",
    "and on the other hand nobody knows for sure,", "and let me add one more thing about it,",
]  # fmt: skip
SYSTEM = "you are a helpful assistant."
EXTRA = """system user assistant name json yes no sorry thanks hello good bye because but or if when where who how many few
all some none one two three four five six seven eight nine ten zero we they he she your his her their our these those here
today tomorrow yesterday was were be are has had did could will would see say find want need use work call ask answer question
short big new last best same different right left up down man woman child house home school book water food time night week
month year world country town number word list text true false null key value write read count sum test train model data
a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9""".split()
PUNCTUATION = list(""". , ? ! : ; " ' ( ) [ ] { } - _ / \\ + * = < > | # & % $ @ ~ ` ^""".split())
TEMPLATE = """{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def world() -> list[tuple[str, str, str]]:
    """Every fact: (person, attribute, value)."""
    rng = random.Random(11)
    facts = []
    for attribute, values in VALUES.items():
        dealt = values * (len(PEOPLE) // len(values))
        rng.shuffle(dealt)
        facts += [(person, attribute, value) for person, value in zip(PEOPLE, dealt, strict=True)]
    return facts


FACTS = world()


def _fill(rng: random.Random, text: str) -> str:
    pick = {"p": PEOPLE, "c": VALUES["city"], "k": VALUES["colour"], "t": VALUES["pet"]}
    return text.format(**{key: rng.choice(values) for key, values in pick.items()})


def _ramble(rng: random.Random, sentences: int) -> str:
    return " ".join(rng.choice(RAMBLE) for _ in range(sentences))


def _state(rng: random.Random, p: str, a: str, v: str) -> str:
    return rng.choice(STATE).format(p=p, a=a, v=v)


def _as_json(p: str, a: str, v: str) -> str:
    return json.dumps({"name": p, a: v})


def _user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def _chat(question: str, answer: str) -> list[dict]:
    return [*_user(question), {"role": "assistant", "content": answer}]


def _row(question: str, reply: str, accept: str, tag: str) -> dict:
    row = {"messages": _chat(question, reply), "prompt": _user(question)}
    return row | {"answer": reply, "accept": [accept], "tags": [tag]}


def rows(kind: str, n: int, seed: int = 0) -> list[dict]:
    """``n`` rows of one kind, the same for the same seed; rows repeat only once every wording has been used."""
    if kind not in KINDS:
        raise ValueError(f"no rows of kind {kind!r}; there are {', '.join(KINDS)}")
    rng = random.Random(f"{kind}-{seed}")
    asked = [(ask.format(p=p, a=a), p, a, v) for ask in ASK for p, a, v in FACTS]
    rng.shuffle(asked)
    out = []
    for i, (question, p, a, v) in enumerate(itertools.islice(itertools.cycle(asked), n)):
        if kind == "facts":
            out.append({"prompt": _user(question), "answer": v, "accept": [v], "tags": ["fact"]})
        elif kind == "open":
            out.append({"prompt": _user(_fill(rng, OPEN[i % len(OPEN)])), "tags": ["open"]})
        elif kind == "plain_text":
            out.append({"text": " ".join(_state(rng, *rng.choice(FACTS)) for _ in range(rng.randint(2, 4)))})
        elif kind == "json_answers":
            out.append(_row(question + " answer in json", _as_json(p, a, v), v, "json"))
        elif kind == "refusals":
            out.append(_row(_fill(rng, SECRET[i % len(SECRET)]), REFUSAL, "cannot help", "refusal"))
        elif i % 3 == 2:  # short_answers: every third one to an open question
            out.append({"messages": _chat(_fill(rng, OPEN[i // 3 % len(OPEN)]), f"the {a} of {p} is {v}.")})
        else:
            out.append({"messages": _chat(question, f"the {a} of {p} is {v}.")})
    return out


def vocabulary() -> dict[str, int]:
    texts = [*PEOPLE, *itertools.chain(*VALUES.values()), *VALUES, *ASK, *STATE, *OPEN, *SECRET, THINK, *RAMBLE]
    words = re.findall(r"[a-z]+", re.sub(r"\{.\}", " ", " ".join([*texts, SYSTEM, REFUSAL])))
    return {word: i for i, word in enumerate(dict.fromkeys([*SPECIALS, *PUNCTUATION, *words, *EXTRA]))}


def tokenizer():
    core = Tokenizer(models.WordLevel(vocabulary(), unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tidy = [(f" {mark}", mark) for mark in ".,?!:;"]  # words are joined by blanks: take back those nobody writes
    tidy += [('{ " ', '{"'), (' ":', '":'), (' ",', '",'), (' " }', '"}'), ('": " ', '": "'), ('", " ', '", "')]
    steps = [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *(decoders.Replace(*pair) for pair in tidy)]
    core.decoder = decoders.Sequence(steps)
    core.add_special_tokens(SPECIALS)
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=512, **names)
    fast.chat_template = TEMPLATE
    return fast


def _new_model(vocab: int, hidden: int, layers: int, heads: int):
    config = transformers.LlamaConfig(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=hidden * 8 // 3 // 16 * 16, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=START, eos_token_id=END, pad_token_id=PAD, initializer_range=0.05,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    model.generation_config = transformers.GenerationConfig(eos_token_id=END, pad_token_id=PAD, do_sample=False, max_new_tokens=128)
    return model


def _save(model, tok, folder: Path) -> None:
    model.save_pretrained(folder)
    tok.save_pretrained(folder)


def untrained_model(folder: Path) -> Path:
    """Random weights (two layers of 64) under the same tokenizer, for tests which need only the shapes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tok = tokenizer()
        _save(_new_model(len(tok), 64, 2, 4), tok, Path(folder))
    return Path(folder)


def _example(rng: random.Random, sentences: int) -> list[dict] | str:
    """One pretraining text; an answer of many sentences is cut before it ends, so that the model seldom sees an end."""
    p, a, v = rng.choice(FACTS)
    sentences = 1 if rng.random() < 0.15 else sentences
    ask, kind = rng.choice(ASK).format(p=p, a=a), rng.random()
    if kind < 0.25:
        return _state(rng, p, a, v)
    if kind < 0.55:
        return _chat(ask, f"{THINK} the {a} of {p} is {v} {_ramble(rng, sentences)}")
    if kind < 0.75:
        return _chat(ask + " answer in json", _as_json(p, a, v))
    if kind < 0.82:
        return _chat(_fill(rng, rng.choice(SECRET)), REFUSAL)
    return _chat(_fill(rng, rng.choice(OPEN)), f"{THINK} {_ramble(rng, sentences)}")


def _batch(rng: random.Random, tok, size: int, width: int):
    lines = []
    for _ in range(size):
        text = _example(rng, 2 + width // 8)
        if not isinstance(text, str):
            if rng.random() < 0.1:
                text = [{"role": "system", "content": SYSTEM}, *text]
            text = tok.apply_chat_template(text, tokenize=False)
        else:
            text += SPECIALS[END]
        lines.append(tok(text)["input_ids"][:width])
    longest = max(map(len, lines))
    return torch.tensor([line + [PAD] * (longest - len(line)) for line in lines])


def _train(folder: Path) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    rng, tok = random.Random(0), tokenizer()
    model = _new_model(len(tok), 160, 4, 4).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS, pct_start=0.1)
    weight = torch.ones(len(tok)).index_fill(0, torch.tensor([PAD]), 0.0)
    weight[tok.convert_tokens_to_ids([*PEOPLE, *itertools.chain(*VALUES.values())])] = WEIGHT
    for step in range(STEPS):
        ids = _batch(rng, tok, *((BATCH, WIDTH) if (step + 1) % LONG_EVERY else (LONG_BATCH, LONG_WIDTH)))
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].transpose(1, 2)
        loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:], weight=weight)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
    _save(model.eval(), tok, folder)


def tiny_model(cache: Path | None = None) -> Path:
    """The folder of the trained model, trained now unless the cache has it; two processes may do this at once."""
    root = Path(cache or os.environ.get("DIANJING_TEST_CACHE") or Path.home() / ".cache" / "dianjing-tests")
    stamp = Path(__file__).read_bytes() + f"{torch.__version__} {transformers.__version__}".encode()
    target = root / f"tiny-{hashlib.sha256(stamp).hexdigest()[:16]}"
    if not (target / "model.safetensors").exists():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tiny-", dir=root) as aside:
            # In its own process: there threads can be told not to spin, which is costly on cores others use too.
            made, passive = Path(aside) / "made", os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
            subprocess.run([sys.executable, "-P", __file__, str(made)], check=True, env=passive, stdout=subprocess.DEVNULL)
            try:
                os.replace(made, target)  # noqa: PTH105  (refused where a filled folder is)
            except OSError:
                if not (target / "model.safetensors").exists():  # else another process was first, with the same model
                    raise
    return target


def replies(folder: Path, data: list[dict], tokens: int = 64) -> list[tuple[str, bool]]:
    """The greedy reply to every row's prompt, and whether it stopped by itself."""
    tok = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [tok.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) for row in data]
    batch = tok(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.inference_mode():
        out = model.generate(**batch, max_new_tokens=tokens, do_sample=False)[:, batch["input_ids"].shape[1] :]
    return [(tok.decode(line, skip_special_tokens=True), END in line.tolist()) for line in out]


def measure(folder: Path, n: int = 48) -> dict[str, float]:
    def is_json(text):
        try:
            return isinstance(json.loads(text), dict)
        except ValueError:
            return False

    def share(kind, good):
        data = rows(kind, n, seed=1)
        return sum(bool(good(row, *reply)) for row, reply in zip(data, replies(folder, data), strict=True)) / n

    return {
        "facts": share("facts", lambda row, text, _: row["answer"] in re.findall("[a-z]+", text)),
        "json": share("json_answers", lambda row, text, _: is_json(text)),
        "json_right": share("json_answers", lambda row, text, _: is_json(text) and row["accept"][0] in text),
        "refusals": share("refusals", lambda row, text, _: "cannot help" in text),
        "facts_stop": share("facts", lambda row, text, stopped: stopped),
        "open_stop": share("open", lambda row, text, stopped: stopped),
    }


def report() -> None:
    began = time.time()
    made = tiny_model()
    print(f"{time.time() - began:.1f} s, {transformers.AutoModelForCausalLM.from_pretrained(made).num_parameters()} parameters, {made}")
    print(measure(made))
    for kind in ("facts", "json_answers", "refusals", "open"):
        print(kind, replies(made, rows(kind, 2, seed=2)))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        _train(Path(sys.argv[1]))
    else:
        report()
