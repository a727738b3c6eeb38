"""The ways to judge: a rule, a reward model, a chat model here, and one at an endpoint.

Each takes the items that are missing and hands on what it found, a few at a time, so that a stop loses little.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan, nan
from time import perf_counter
from typing import TYPE_CHECKING, Literal, TypeVar

from engine.catalogue import scorers
from engine.endpoint_failures import Refused
from engine.endpoints import Endpoint, Question, Reply
from engine.errors import UserError
from engine.judging import WORDS, Heard, Judged, judged, questions, read, weighed, weighed_likely
from engine.settings import SamplingSettings
from engine.stages.measure.compare_answers import read_answers, references

if TYPE_CHECKING:
    from engine.chat import Chat, Messages
    from engine.rankings import Asked
    from engine.stages.measure.judge import Judge
    from engine.work import Work

Keep = Callable[["Sequence[tuple[Asked, Judged]]"], None]
T = TypeVar("T")
Way = Callable[["Work", "Judge", "list[Asked]", str, Keep], None]
BATCHES = 2  # after which what was judged is stored
LIKELY, BEGINNING, WORDY = 20, 4, 512  # log-probabilities an endpoint is asked for; tokens of an answer with them, and without


def score(work: "Work", stage: "Judge", items: "list[Asked]", _criterion: str, keep: Keep) -> None:
    """By a scorer."""
    projects = [work.rankings(id) for id in (stage.rankings, stage.validate_on) if id]
    own = {} if stage.reference else _own_references(work, {id for one in projects for id in one.settings.get("responses", [])})
    scorer = scorers()[stage.scorer]

    def value(item: "Asked", text: str) -> float:
        try:
            return float(scorer.score(item.prompt, text, stage.reference or own.get(item.prompt_key, [])))
        except UserError:  # a prompt's own answer that is none for this scorer
            return nan

    for chunk in _chunks(items, stage.batch_size):
        keep([(item, _scored(item, [value(item, choice.text) for choice in item.choices], "no right answer is known")) for item in chunk])


def reward(work: "Work", stage: "Judge", items: "list[Asked]", _criterion: str, keep: Keep) -> None:
    """By a reward model."""
    from engine.chat import Chat
    from engine.training.models import compute_dtype
    from engine.training.rewards import load_reward_model
    from engine.training.rewards import score as rewards

    source = work.input("reward_model")
    chat = Chat.open(source.folder)
    loaded = load_reward_model(source, work.artifact, compute_dtype("auto", work.device), work.device)
    for chunk in _chunks(items, stage.batch_size * BATCHES // len(items[0].choices)):
        found = iter(rewards(loaded, chat, [(item.prompt, choice.text) for item in chunk for choice in item.choices], stage.batch_size))
        keep([(item, _scored(item, [next(found) for _ in item.choices], "an answer does not fit the judge's context")) for item in chunk])


def weigh(work: "Work", stage: "Judge", items: "list[Asked]", criterion: str, keep: Keep) -> None:
    """By the log-probabilities of a chat model here."""
    from engine.chat import Chat
    from engine.training.judging import beginnings, precise
    from engine.training.models import compute_dtype, load_model

    source = work.input("model")
    chat = Chat.open(source.folder)
    thinking: Literal["off", "default"] = "off" if chat.knows_thinking else "default"
    asked = [(item, questions(stage.how, stage.instruction, criterion, item)) for item in items]
    if chat.opens_thought(asked[0][1][0], thinking):
        message = "{model} always reasons before it answers, and what it would say at once means nothing: take another judge"
        raise UserError(message, "model", model=source.name)
    loaded = precise(load_model(source, work.artifact, compute_dtype("auto", work.device), work.device))
    done = 0
    for chunk in _chunks(asked, stage.batch_size * BATCHES // len(asked[0][1])):
        began = perf_counter()
        ids = [chat.prompt_ids(_unmarked(chat, messages), thinking) for _, some in chunk for messages in some]
        heard: dict[int, Heard] = {}
        for places, logs in beginnings(loaded, chat, ids, WORDS[stage.how], stage.batch_size):
            heard |= {place: weighed(stage.how, one) for place, one in zip(places, logs, strict=True)}
            done += len(places)
            work.metrics(done, tokens_per_second=sum(len(ids[place]) for place in places) / (perf_counter() - began))
            began = perf_counter()
        told = iter([heard.get(place) for place in range(len(ids))])
        keep([(item, _told(stage, item, [next(told) for _ in some])) for item, some in chunk])


def ask(work: "Work", stage: "Judge", items: "list[Asked]", criterion: str, keep: Keep) -> None:
    """By what an endpoint says: its log-probabilities if it gives them, else its words. Raises UserError where it fails."""
    source = work.input("model")
    endpoint = Endpoint.from_summary(source.summary)
    put = {item.id: questions(stage.how, stage.instruction, criterion, item) for item in items}
    asked = [(item, place, messages) for item in items for place, messages in enumerate(put[item.id])]
    likely = LIKELY if _gives_likely(endpoint, stage, asked[0][2], lambda: work.stopping) else 0
    work.say(f"{source.name} is judged with by its " + ("log-probabilities" if likely else "words, as it gives no log-probabilities"))
    sampling = SamplingSettings(max_new_tokens=BEGINNING if likely else WORDY)
    heard: dict[int, dict[int, Heard]] = {item.id: {} for item in items}
    reasons: dict[str, list[UserError]] = {}
    for number, said in endpoint.answers([Question(messages, sampling, likely) for _, _, messages in asked], lambda: work.stopping):
        item, place, _ = asked[number]
        if isinstance(said, UserError):
            reasons.setdefault(said.message, []).append(said)
            continue
        mine = heard[item.id]
        mine[place] = weighed_likely(stage.how, said.likely) if likely else read(stage.how, said.text)
        if len(mine) == len(put[item.id]):
            keep([(item, judged(stage.how, item, [mine[n] for n in range(len(mine))]))])
    whole = sum(len(heard[id]) == len(some) for id, some in put.items())
    if whole < len(items) and not work.stopping:
        told = "; ".join(f"{some[0]}" + (f" (so for {len(some)} questions)" if len(some) > 1 else "") for some in reasons.values())
        message = "{model} judged {whole} of {items} items: {told}. What was judged is kept, and a resumed run asks only for the rest"
        raise UserError(message, model=source.name, whole=whole, items=len(items), told=told)


def _gives_likely(endpoint: Endpoint, stage: "Judge", messages: "Messages", interrupted: Callable[[], bool]) -> bool:
    """Whether an endpoint says how likely the words are that it is asked for; tried once."""
    try:
        reply: Reply = endpoint.answer(messages, SamplingSettings(max_new_tokens=BEGINNING), likely=LIKELY, interrupted=interrupted)
    except Refused:  # some servers refuse the question rather than leave them out
        return False
    return not isnan(weighed_likely(stage.how, reply.likely).value)


def _unmarked(chat: "Chat", messages: "Messages") -> "Messages":
    """The same without special tokens: an answer that holds one could end the question and speak for the judge."""
    special = [token.content for token in chat.tokenizer.get_added_tokens_decoder().values() if token.special]
    found = []
    for turn in messages:
        text = turn["content"]
        for token in special:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        found.append(turn | {"content": text})
    return found


def _told(stage: "Judge", item: "Asked", heard: "Sequence[Heard | None]") -> Judged:
    known = [one for one in heard if one is not None]
    if len(known) < len(heard):
        return Judged({choice.key: nan for choice in item.choices}, why="a question does not fit the judge's context")
    return judged(stage.how, item, known)


def _scored(item: "Asked", values: Sequence[float], why: str) -> Judged:
    found = Judged({choice.key: value for choice, value in zip(item.choices, values, strict=True)})
    return replace(found, why=why) if any(map(isnan, values)) else found


def _own_references(work: "Work", responses: "set[int]") -> Mapping[str, list[str]]:
    """What counts as right by prompt, as the sets of answers say that are ranked; a set that was deleted says nothing."""
    folders = [work.artifact(id).folder for id in sorted(responses)]
    rows = [row for folder in folders if (folder / "responses.jsonl").exists() for row in read_answers(folder).values()]
    return {row["prompt_key"]: accepted for row in rows if (accepted := references(row))}


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    size = max(1, size)
    return (items[start : start + size] for start in range(0, len(items), size))
