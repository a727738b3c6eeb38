# ruff: noqa: SIM905  (lists of words are easier to read as words)
"""Writes assets/datasets/tasks: four small tasks with exact answers, for the recipe `task_sequence`.

The rows are drawn from lists written for this project, each different; the same seed gives the same files.
"""

import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parents[1] / "assets" / "datasets" / "tasks"
ROWS = 260
Row = tuple[str, str]

PRAISE = "wonderful delicious charming brilliant friendly spotless cosy generous superb delightful fresh thrilling helpful elegant".split()
BLAME = "awful stale rude filthy boring broken cold dull noisy overpriced useless bitter clumsy disappointing".split()
THINGS = [
    "soup", "hotel", "waiter", "film", "garden", "bus trip", "bakery", "concert", "museum", "keyboard", "cake", "novel", "pool", "service",
    "breakfast", "guide", "jacket", "ending", "view", "sofa",
]  # fmt: skip
REVIEWS = ["The {thing} was {word}.", "We found the {thing} {word}.", "Really {word}, that {thing}!", "Honestly, the {thing} is {word}.",
           "My sister called the {thing} {word}.", "I expected little, but the {thing} was {word}."]  # fmt: skip
MONTHS = "January February March April May June July August September October November December".split()
GROUPS = {
    "animal": """otter heron badger salmon moth lizard camel walrus sparrow hornet goat panther toad beaver ostrich ferret seal pigeon moose
        crab tiger donkey falcon squid hedgehog""",
    "food": """noodles omelette pancake lentils yoghurt sausage pretzel dumpling porridge risotto cheese muffin stew waffle burrito butter
        mustard salad biscuit pudding pasta honey gravy sandwich toast""",
    "tool": """hammer chisel wrench saw pliers spanner screwdriver drill trowel rake axe clamp crowbar sickle mallet file anvil hoe shovel
        spade tongs sandpaper stapler jack ladder""",
    "clothing": """scarf mitten jacket sandal trousers blouse cardigan sock apron cape hood glove skirt raincoat boot belt vest slipper
        shawl tunic pyjamas beanie jumper kilt overalls""",
    "vehicle": """tractor ferry scooter tram canoe lorry glider bicycle submarine ambulance kayak van sledge barge helicopter yacht wagon
        motorcycle airship raft carriage bulldozer rowboat taxi minibus""",
}
SORTING = ["Which kind of thing does {word!r} name?", "Sort this word: {word}", "{word}: what is it?", "Where does {word!r} belong?"]
FIRST = "Anna Boris Clara David Elena Felix Greta Henry Irene Jonas Karin Liam Maria Noah Olga Peter Rosa Simon Tanja Victor".split()
LAST = "Abel Brandt Castro Dorn Engel Fischer Grant Hale Ibsen Jansen Keller Lund Moss Nolan Ortiz Perez Quinn Reid Stone Turner".split()


def sentiment(rng: Random) -> Iterator[Row]:
    """Is the writer pleased?"""
    for thing, word, form in rng.sample(list(product(THINGS, PRAISE + BLAME, REVIEWS)), ROWS):
        yield f"Review: {form.format(thing=thing, word=word)} Is it positive or negative?", "positive" if word in PRAISE else "negative"


def dates(rng: Random) -> Iterator[Row]:
    """A date in words as year-month-day."""
    for days in rng.sample(range(365 * 80), ROWS):
        day = date(1950, 1, 1) + timedelta(days)
        written = rng.choice(["{d} {m} {y}", "{m} {d}, {y}", "the {d}. of {m} {y}"]).format(d=day.day, m=MONTHS[day.month - 1], y=day.year)
        yield f"Write the date as year-month-day: {written}", day.isoformat()


def groups(rng: Random) -> Iterator[Row]:
    """The group that a word belongs to."""
    every = [(word, group) for group, words in GROUPS.items() for word in words.split()]
    asked = list(product(every, SORTING))
    for (word, group), form in rng.sample(asked, ROWS):
        yield f"{form.format(word=word)} ({', '.join(GROUPS)})", group


def initials(rng: Random) -> Iterator[Row]:
    """A full name turned into initials."""
    for first, middle, last in rng.sample([some for some in product(FIRST, FIRST, LAST) if some[0] != some[1]], ROWS):
        yield f"Give the initials of {first} {middle} {last}.", f"{first[0]}.{middle[0]}.{last[0]}."


TASKS: list[Callable[[Random], Iterator[Row]]] = [sentiment, dates, groups, initials]


def lines(task: Callable[[Random], Iterator[Row]]) -> str:
    """A task's file: conversations of one question and its answer."""
    told = [[{"role": "user", "content": ask}, {"role": "assistant", "content": say}] for ask, say in task(Random(task.__name__))]
    return "".join(json.dumps({"messages": turns}, ensure_ascii=False) + "\n" for turns in told)


if __name__ == "__main__":
    for task in TASKS:
        (FOLDER / f"{task.__name__}.jsonl").write_text(lines(task), encoding="utf-8")
