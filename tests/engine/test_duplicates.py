"""Near-duplicates: exactly what comparing every pair finds, exact copies always, and quickly."""

import random
import time

from hypothesis import given
from hypothesis import strategies as st

from engine.duplicates import groups, words

WORDS = st.lists(st.sampled_from("a b c d e f g".split()), min_size=1, max_size=12).map(" ".join)
ANY = st.text(max_size=30)


def shingles(row: dict) -> frozenset[tuple[str, ...]]:
    said = words(row)
    return frozenset(tuple(said[place : place + 3]) for place in range(max(1, len(said) - 2)))


def similarity(one: frozenset, other: frozenset) -> float:
    return len(one & other) / len(one | other)


def talk(user: str, answer: str, system: str = "") -> dict:
    start = [{"role": "system", "content": system}] if system else []
    return {"messages": [*start, {"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


@given(st.lists(WORDS, max_size=25), st.sampled_from([0.5, 0.6, 0.8, 1.0]))
def test_groups_are_those_of_comparing_every_pair(texts: list[str], threshold: float) -> None:
    rows = [{"text": text} for text in texts]
    sets = [shingles(row) for row in rows]
    slow: dict[int, list[int]] = {}
    for place, one in enumerate(sets):
        leader = max(slow, key=lambda other: (similarity(one, sets[other]), -other), default=None)
        if leader is None or similarity(one, sets[leader]) < threshold:
            leader = place
        slow.setdefault(leader, []).append(place)
    assert groups(rows, threshold) == [places for places in slow.values() if len(places) > 1]


@given(st.lists(ANY, min_size=1, max_size=12), st.data())
def test_an_exact_copy_is_always_found(texts: list[str], data: st.DataObject) -> None:
    """Of texts without a word too, whatever lies between, at every threshold."""
    copied = data.draw(st.sampled_from(texts))
    rows = [talk(text, text) for text in [*texts, copied]]
    threshold = data.draw(st.floats(0.5, 1))
    group = next(places for places in groups(rows, threshold) if len(texts) in places)
    assert any(shingles(rows[place]) == shingles(rows[-1]) for place in group if place != len(texts))


@given(st.lists(WORDS, max_size=20))
def test_no_row_is_in_two_groups_and_all_are_like_the_first(texts: list[str]) -> None:
    rows = [{"text": text} for text in texts]
    found = groups(rows)
    places = [place for group in found for place in group]
    assert len(set(places)) == len(places)
    assert all(similarity(shingles(rows[group[0]]), shingles(rows[other])) >= 0.8 for group in found for other in group)


def test_a_shared_instruction_makes_no_two_rows_alike() -> None:
    system = "You are a helpful assistant who answers in one short sentence and never repeats the question. " * 4
    assert groups([talk("Name a river.", "The Rhine.", system), talk("Who wrote Faust?", "Goethe did.", system)]) == []
    same = "Please tell me in a few words what the capital of France is and why it is well known"
    assert groups([talk(same, "Paris, for its tower.", system), talk(same + "!", "Paris, for its tower.", "")]) == [[0, 1]]


def test_writing_without_spaces_is_compared_sign_by_sign() -> None:
    long = "龙的眼睛一点就活了，它从墙上飞走，人们都看见了它的影子"
    assert groups([{"text": long}, {"text": long[:-1] + "尾"}, {"text": "今天的天气很好，我们去公园散步"}]) == [[0, 1]]


def test_tags_make_no_row_another() -> None:
    assert groups([{"text": "the same words here", "tags": ["a"]}, {"text": "the same words here", "tags": "b"}]) == [[0, 1]]


def test_ten_thousand_rows_take_seconds() -> None:
    chance = random.Random(0)
    known = [f"w{n}" for n in range(3000)]
    frame = "please read the following report with care and write what it says in one sentence for a busy reader"
    rows = []
    for n in range(10_000):
        if n % 10 == 0 and n:  # a copy with one word changed
            said = rows[n - 1]["messages"][1]["content"].split()
            said[chance.randrange(len(said))] = "changed"
            rows.append(talk(rows[n - 1]["messages"][0]["content"], " ".join(said)))
        else:
            rows.append(talk(f"{frame} {' '.join(chance.choices(known, k=6))}", " ".join(chance.choices(known, k=60))))
    began = time.process_time()
    found = groups(rows)
    assert time.process_time() - began < 8, "under 2 s on a quiet machine"
    assert found == [[n - 1, n] for n in range(10, 10_000, 10)]
