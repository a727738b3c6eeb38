"""Conversations as tokens: the same as transformers makes them, and with loss on exactly the answers and their ends."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.chat import NO_LOSS, TEMPLATES, Chat, Encoded, Thinking, ThoughtStream, count_tokens, prompt_key, split_thought
from engine.errors import UserError
from storage.files import default_home

STARTERS = default_home().starters  # the default starter lies there once it was imported
WORDS = ["User: who are you?\nAssistant: a friend", "### Instruction:\nadd 2 and 2\n\n### Response:\n4", "héllo 👋🏽 wörld 你好"] * 3
QUIRKY = """{%- for m in messages -%}
    {%- if loop.first and m.role != 'system' %}{{ '[be kind]' }}{% endif -%}
    {%- if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif -%}
    {%- if m.content == 'skip' %}{% continue %}{% endif %}
    {% if m.role == 'assistant' %}{% generation %}{{ '<|im_start|>' + m.content | trim + eos_token }}{% endgeneration %}{% else %}
    {{ '<|im_start|>' + {'said': m.content, 'in': strftime_now('%Y')} | tojson }}{% endif %}

{% endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>' }}{% endif -%}"""

# Text as people write it. An answer may begin with anything but a blank, which a tokenizer may join to what stands before it.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(lambda text: text.strip() and "<|" not in text)
answers = texts.filter(lambda text: text == text.lstrip() and text[0].isalnum())
talks = st.lists(st.tuples(texts, answers), min_size=1, max_size=3)
relaxed = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def talk(*turns: tuple[str, str], system: str = "") -> list[dict[str, Any]]:
    start = [{"role": "system", "content": system}] if system else []
    return [*start, *({"role": role, "content": said} for turn in turns for role, said in zip(("user", "assistant"), turn, strict=True))]


TALK = talk(("who are you?", "a friend 👋🏽"), ("add 2 and 2", "4"))


def learned(encoded: Encoded) -> list[str]:
    return [text for text, loss in encoded.pieces() if loss]


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer of 320 tokens, made here: most emoji and letters are several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(WORDS, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1], pad_token=special[2], clean_up_tokenization_spaces=False
    )
    wrapped.chat_template = TEMPLATES["chatml"]
    folder = tmp_path_factory.mktemp("byte-level")
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of the default starter."""
    file = next(STARTERS.glob("b179c9523d0e6a0f*.gguf"), None)
    if file is None:
        pytest.skip(f"no SmolLM2 in {STARTERS}: these tests read its tokenizer once it was imported there")
    folder = tmp_path_factory.mktemp("smollm2")
    AutoTokenizer.from_pretrained(STARTERS, gguf_file=file.name).save_pretrained(folder)
    return folder


@pytest.fixture(params=["byte_level", "smollm2"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def opened() -> Callable[[Path], Chat]:
    """Chats already read: a real tokenizer takes a while."""
    return cache(Chat.open)


def with_template(folder: Path, tmp_path: Path, template: str) -> Path:
    """The same tokenizer under another chat template."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("messages", [TALK, TALK[:1], talk(("x  \n", " y "), system="Be brief.")], ids=["two turns", "question", "system"])
@pytest.mark.parametrize("template", ["own", "quirky", *TEMPLATES])
def test_text_and_tokens_are_those_of_transformers(folder: Path, template: str, messages: list[dict[str, Any]], tmp_path: Path) -> None:
    if template != "own":
        folder = with_template(folder, tmp_path, TEMPLATES.get(template, QUIRKY))
    chat, theirs = Chat.open(folder), AutoTokenizer.from_pretrained(folder)
    for ask in (False, True):
        text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
        assert chat.render(messages, ask=ask) == text
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert chat.prompt_ids(messages) == ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert chat.encode(messages, loss="everything").ids == theirs.apply_chat_template(messages, return_dict=False)
    assert (chat.eos_id, chat.pad_id) == (theirs.eos_token_id, theirs.pad_token_id)


@pytest.mark.parametrize("template", TEMPLATES)
def test_answers_and_their_stop_tokens_carry_loss_and_nothing_else(folder: Path, template: str, tmp_path: Path) -> None:
    chat = Chat.open(with_template(folder, tmp_path, TEMPLATES[template]))
    encoded = chat.encode(talk(("who are you?", "a friend 👋🏽\n"), ("add 2 and 2", "4"), system="Be brief."))
    stop = chat.tokens["eos_token"]
    blank = " " if template == "plain" else ""
    assert learned(encoded) == [f"{blank}a friend 👋🏽\n{stop}", f"{blank}4{stop}"]
    ends = [place for place, label in enumerate(encoded.labels) if label == chat.eos_id]
    assert len(ends) == 2
    assert all(encoded.ids[place] == chat.eos_id for place in ends)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_cut_answer_carries_no_stop_token(folder: Path, template: str, tmp_path: Path) -> None:
    chat = Chat.open(with_template(folder, tmp_path, TEMPLATES[template]))
    messages = talk(("who are you?", "a friend"))
    whole = chat.encode(messages)
    end = whole.labels.index(chat.eos_id)
    for length in range(1, len(whole.ids) + 1):
        encoded = chat.encode(messages, max_length=length)
        assert (encoded.ids, encoded.labels) == (whole.ids[:length], whole.labels[:length])
        assert encoded.cut == (length < len(whole.ids))
        assert (chat.eos_id in encoded.labels) == (length > end)


@relaxed
@given(turns=talks, system=st.one_of(st.just(""), texts))
def test_pieces_of_any_text_make_it_whole(folder: Path, opened: Callable[[Path], Chat], turns: list[tuple[str, str]], system: str) -> None:
    chat, messages = opened(folder), talk(*turns, system=system)
    encoded = chat.encode(messages)
    assert "".join(piece for piece, _ in encoded.pieces()) == chat.render(messages)
    assert learned(encoded) == [answer + chat.tokens["eos_token"] for _, answer in turns]
    assert all(label in (id, NO_LOSS) for id, label in zip(encoded.ids, encoded.labels, strict=True))


@relaxed
@given(turns=talks)
def test_learned_tokens_are_the_answers(byte_level: Path, opened: Callable[[Path], Chat], turns: list[tuple[str, str]]) -> None:
    chat, encoded = opened(byte_level), opened(byte_level).encode(talk(*turns))
    assert chat.decode(encoded.ids, special=True) == chat.render(talk(*turns))
    assert chat.decode(label for label in encoded.labels if label != NO_LOSS) == "".join(answer for _, answer in turns)


@relaxed
@given(turns=talks)
def test_training_and_asking_share_the_tokens_of_the_prompt(
    folder: Path, opened: Callable[[Path], Chat], turns: list[tuple[str, str]]
) -> None:
    chat, messages = opened(folder), talk(*turns)
    asked, encoded = chat.prompt_ids(messages[:-1]), chat.encode(messages)
    assert encoded.ids[: len(asked)] == asked
    assert encoded.labels[len(asked)] != NO_LOSS
    assert encoded.labels[len(asked) - 1] == NO_LOSS


def test_a_template_that_trims_still_ends_its_turns(byte_level: Path, tmp_path: Path) -> None:
    trims = "{% for m in messages %}{{ '<|im_start|>' + m.content | trim + '<|im_end|>\\n' }}{% endfor %}"
    chat = Chat.open(with_template(byte_level, tmp_path, trims + "{% if add_generation_prompt %}<|im_start|>{% endif %}"))
    assert learned(chat.encode(talk(("x", "  \n\n yes \n"), ("y", "no")))) == ["yes<|im_end|>", "no<|im_end|>"]


def test_a_template_that_rewrites_earlier_turns_is_refused(byte_level: Path, tmp_path: Path) -> None:
    rewrites = "{% for m in messages %}{{ m.content if loop.last else 'earlier' }}{{ eos_token }}{% endfor %}"
    chat = Chat.open(with_template(byte_level, tmp_path, rewrites))
    with pytest.raises(UserError, match="changes earlier turns"):
        chat.encode(TALK)


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no system turn') }}", "{{ messages.nothing.more }}", "{% if %}", "{{ 'a' + none }}", "{{ ''.__class__ }}!"],
)
def test_a_template_that_fails_says_why(byte_level: Path, tmp_path: Path, template: str) -> None:
    chat = Chat.open(with_template(byte_level, tmp_path, template))
    if "__class__" in template:
        assert chat.render(TALK) == "!"  # the sandbox gives nothing away
    else:
        with pytest.raises(UserError, match=r"the chat template refuses this conversation: \S"):
            chat.render(TALK)


@pytest.mark.parametrize("begins", [False, True])
def test_plain_text_begins_and_ends_as_the_tokenizer_does(byte_level: Path, tmp_path: Path, begins: bool) -> None:
    chat = Chat.open(with_template(byte_level, tmp_path, TEMPLATES["plain"]))
    if begins:
        from tokenizers.processors import TemplateProcessing

        chat.tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 0)])
    encoded = chat.encode_text("once upon")
    assert encoded.pieces() == (("<|im_start|>" * begins + "once upon<|im_end|>", True),)
    assert encoded.ids == [*chat.tokenizer.encode("once upon").ids, chat.eos_id]
    assert chat.encode_text("once upon", max_length=3).cut


def test_every_stop_token_the_model_knows_ends_an_answer(byte_level: Path, tmp_path: Path) -> None:
    folder = with_template(byte_level, tmp_path, TEMPLATES["chatml"])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 1]}))
    assert Chat.open(folder).stop_ids == {1, 2}


def test_what_a_folder_lacks_is_named(byte_level: Path, tmp_path: Path) -> None:
    folder = with_template(byte_level, tmp_path, TEMPLATES["chatml"])
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"has no chat_template\.jinja"):
        Chat.open(folder)
    (folder / "chat_template.jinja").write_text("x")
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_eos_token": True}))
    with pytest.raises(UserError, match="names no eos_token"):
        Chat.open(folder)


def test_a_prompt_has_one_key_whatever_the_order_of_its_fields() -> None:
    assert prompt_key([{"role": "user", "content": "é"}]) == prompt_key([{"content": "é", "role": "user"}])
    assert prompt_key([{"role": "user", "content": "e"}]) != prompt_key([{"role": "user", "content": "é"}])
    assert len(prompt_key([])) == 16


THINKS = (
    TEMPLATES["chatml"].rstrip()
    + "{% if add_generation_prompt %}{{ '<think>\\n' if enable_thinking | default(true) else '<think></think>' }}{% endif %}"
)


def test_reasoning_can_be_switched_where_the_template_knows_how(byte_level: Path, tmp_path: Path) -> None:
    plain, thinks = Chat.open(byte_level), Chat.open(with_template(byte_level, tmp_path, THINKS))
    assert (plain.knows_thinking, thinks.knows_thinking) == (False, True)
    asked: dict[Thinking, str] = {thinking: thinks.render(TALK[:1], ask=True, thinking=thinking) for thinking in ("default", "on", "off")}
    assert asked["default"] == asked["on"] == asked["off"].replace("<think></think>", "<think>\n")
    assert thinks.decode(thinks.prompt_ids(TALK[:1], "off"), special=True) == asked["off"]
    assert [thinks.opens_thought(TALK[:1], thinking) for thinking in ("default", "on", "off")] == [True, True, False]
    assert not plain.opens_thought(TALK[:1], "on")
    theirs = AutoTokenizer.from_pretrained(byte_level)
    options = {"chat_template": THINKS, "tokenize": False, "add_generation_prompt": True}
    assert theirs.apply_chat_template(TALK[:1], enable_thinking=True, **options) == asked["on"]
    assert theirs.apply_chat_template(TALK[:1], enable_thinking=False, **options) == asked["off"]


SPLIT = [  # text, whether the prompt opened the block, reasoning, answer
    ("<think>\nhm\n</think>\n\nyes\n", None, "hm", "yes\n"),
    (" <think></think>yes", False, "", "yes"),
    ("hm\n</think>\n\nyes", True, "hm", "yes"),
    ("hm\n</think>\n\nyes", None, "hm", "yes"),
    ("hm, never", True, "hm, never", ""),
    ("<think>hm, never", False, "hm, never", ""),
    ("<think>a <think> b</think> c </think>", None, "a <think> b", "c </think>"),
    (" yes ", None, "", " yes "),
    ("the tag </think> ends it", False, "", "the tag </think> ends it"),
    ("write <think> first", None, "", "write <think> first"),
    ("<thin", None, "", "<thin"),
    ("", None, "", ""),
    ("", True, "", ""),
]  # fmt: skip


@pytest.mark.parametrize("text, opened, thought, answer", SPLIT)
def test_reasoning_is_told_apart_from_the_answer(text: str, opened: bool | None, thought: str, answer: str) -> None:
    assert split_thought(text, opened) == (thought, answer)


@relaxed
@given(data=st.data())
def test_reasoning_is_told_apart_while_it_arrives(data: st.DataObject) -> None:
    text, opened, thought, answer = data.draw(
        st.sampled_from([case for case in SPLIT if case[1] is not None or "hm\n</think>" not in case[0]])
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    stream, told = ThoughtStream(bool(opened)), []
    for place, piece in enumerate(pieces):
        told += stream.hear(piece, last=place == len(pieces) - 1)
    assert "".join(piece for part, piece in told if part == "thought").strip() == thought
    assert "".join(piece for part, piece in told if part == "text") == answer


def test_tags_that_are_special_tokens_still_tell_reasoning_apart(byte_level: Path) -> None:
    chat = Chat.open(byte_level)
    chat.tokenizer.add_special_tokens(["<think>", "</think>"])
    ids = chat.tokenizer.encode("<think>hm</think>\n\nyes<|im_end|>", add_special_tokens=False).ids
    assert chat.decode(ids) == "hm\n\nyes"
    assert chat.split_thought(ids, opened=False) == ("hm", "yes")
    assert chat.split_thought(ids[1:], opened=True) == ("hm", "yes")
    assert chat.split_thought(ids[:2], opened=False) == (chat.decode(ids[:2]), "")


def test_tokens_are_counted_as_far_as_somebody_did() -> None:
    assert count_tokens([4, 5], {"tokens": 9}) == 2
    assert count_tokens([], {"tokens": 9}) == 9
    assert count_tokens([], {}) is None
