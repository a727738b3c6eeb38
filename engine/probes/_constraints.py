"""Constraints that a program can check, after IFEval (Zhou et al. 2023, 2311.07911): how each is asked for, and its check.

Checks are strict: they look at the whole answer as it is. Speech-IFEval (2505.19037) uses most of them alike.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from engine.scorers import bullet_count, upper_case
from engine.scorers.length import words

WORDS = ("garden", "silver", "morning", "window", "river", "yellow", "number", "quiet")
ENDS = ("That is all.", "Thank you for reading.", "I hope this helps.")


@dataclass(frozen=True)
class Constraint:
    """One kind: wordings with a place for what was drawn, what is drawn, and whether an answer obeys what was drawn."""

    kind: str
    wordings: tuple[str, ...]
    draw: Callable[[Random], str]
    obeys: Callable[[str, str], bool]


def _nothing(_rng: Random) -> str:
    return ""


def _sentences(text: str) -> int:
    return len(re.findall(r"[^.!?]*\w[^.!?]*[.!?]+(?=\s|$)", text.strip()))


def _paragraphs(text: str) -> int:
    return sum(bool(part.strip()) for part in re.split(r"\n\s*\n", text))


def _numbered(text: str) -> int:
    return len(re.findall(r"^\s*\d+[.)] \S", text, re.MULTILINE))


CONSTRAINTS = (
    Constraint("upper case", ("Write everything in capital letters.", "Your whole answer must be in upper case."), _nothing,
               lambda text, _: bool(upper_case.score([], text, ()) == 1)),
    Constraint("lower case", ("Use lower case letters only.", "Do not use any capital letters."), _nothing,
               lambda text, _: text == text.lower() and any(c.isalpha() for c in text)),
    Constraint("bullets", ("Answer with exactly {} bullet points.", "Give exactly {} bullets, each on a line that begins with *."),
               lambda rng: str(rng.randint(2, 4)), lambda text, n: bullet_count.score([], text, ()) == int(n)),
    Constraint("at most words", ("Use at most {} words.", "Your answer must not be longer than {} words."),
               lambda rng: str(rng.choice((10, 15, 20))), lambda text, n: 0 < len(words(text)) <= int(n)),
    Constraint("at least words", ("Use at least {} words.", "Write no fewer than {} words."),
               lambda rng: str(rng.choice((20, 25, 30))), lambda text, n: len(words(text)) >= int(n)),
    Constraint("sentences", ("Answer in exactly {} sentences.", "Write exactly {} sentences."),
               lambda rng: str(rng.randint(1, 3)), lambda text, n: _sentences(text) == int(n)),
    Constraint("with a word", ('Use the word "{}" in your answer.', 'Your answer must contain the word "{}".'),
               lambda rng: rng.choice(WORDS), lambda text, word: word in [one.casefold() for one in words(text)]),
    Constraint("without a word", ('Do not use the word "{}".', 'The word "{}" must not occur in your answer.'),
               lambda rng: rng.choice(("the", "and", "is")),
               lambda text, word: bool(words(text)) and word not in [one.casefold() for one in words(text)]),
    Constraint("ends with", ('End your answer with exactly this phrase: "{}"', 'Your last words must be: "{}"'),
               lambda rng: rng.choice(ENDS), lambda text, end: text.rstrip().rstrip('"').endswith(end)),
    Constraint("begins with", ('Begin your answer with the word "{}".', 'The first word of your answer must be "{}".'),
               lambda rng: rng.choice(("Certainly", "Well", "Today", "Indeed")),
               lambda text, word: [one.casefold() for one in words(text)[:1]] == [word.casefold()]),
    Constraint("in quotation marks", ("Put your whole answer in double quotation marks.", "Wrap your entire answer in double quotes."),
               _nothing, lambda text, _: len(text.strip()) > 2 and text.strip()[0] in '"“' and text.strip()[-1] in '"”'),
    Constraint("no commas", ("Do not use any commas.", "Your answer must not contain a comma."), _nothing,
               lambda text, _: bool(words(text)) and "," not in text),
    Constraint("one word", ("Answer with one single word.", "Use one word only."), _nothing, lambda text, _: len(words(text)) == 1),
    Constraint("title", ("Give your answer a title in double angular brackets, such as <<title>>.",
                         "Begin with a title wrapped in double angular brackets, such as <<my title>>."), _nothing,
               lambda text, _: bool(re.search(r"<<[^<>\n]*\w[^<>\n]*>>", text))),
    Constraint("placeholders", ("Use at least {} placeholders in square brackets, such as [name].",), lambda rng: str(rng.randint(1, 2)),
               lambda text, n: len(re.findall(r"\[[^\[\]\n]*\w[^\[\]\n]*\]", text)) >= int(n)),
    Constraint("postscript", ("Add a postscript that begins with P.S.", "At the end add a postscript starting with P.S."), _nothing,
               lambda text, _: bool(re.search(r"\n\s*P\.\s?S\.:?\s*\w", text))),
    Constraint("paragraphs", ("Write exactly {} paragraphs with an empty line between them.",), lambda rng: str(rng.choice((2, 3))),
               lambda text, n: _paragraphs(text) == int(n)),
    Constraint("numbered list", ("Answer with a numbered list of exactly {} lines, such as 1. first.",), lambda rng: str(rng.randint(2, 4)),
               lambda text, n: _numbered(text) == int(n)),
)  # fmt: skip
BY_KIND = {one.kind: one for one in CONSTRAINTS}
