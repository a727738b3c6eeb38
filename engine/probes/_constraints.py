"""Constraints that a program can check, after IFEval (Zhou et al. 2023, 2311.07911): how each is asked for, and its check.

Speech-IFEval (2505.19037) uses most of them alike. Checks are strict: they look at the whole answer as it is; IFEval's
loose variant, which tries again without the first and last line, is left out. One rule is stricter than IFEval: an
answer of fewer than `least` words does no task. Without it a model that has come to answer everything with one word
would obey every "no commas" and "lower case". And what may still go on has no number: an answer cut at the limit is
never "exactly three".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from engine.scorers import bullet_count, upper_case
from engine.scorers.length import words

WORDS = ("garden", "silver", "morning", "window", "river", "yellow", "number", "quiet")
ENDS = ("That is all.", "Thank you for reading.", "I hope this helps.")
_END = re.compile(r"""(?:[.!?…]+["'”’)\]*_]*(?=\s|$))|[。！？]+|\n\s*\n""")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|vs|etc|(?:[A-Za-z]\.)+[A-Za-z])\.")
_NUMBERED = re.compile(r"^[ \t]*(\d+)[.)][ \t]+\S", re.MULTILINE)


@dataclass(frozen=True)
class Constraint:
    """One kind: its wordings with a place for what was drawn, what is drawn, and whether an answer obeys what was drawn."""

    kind: str
    wordings: tuple[str, ...]
    obeys: Callable[[str, str], bool]
    draw: Callable[[Random], str] = lambda rng: ""
    least: int = 5
    exact: bool = False

    def met(self, text: str, drawn: str, stopped: bool) -> bool:
        """Whether an answer obeys that stopped by itself, or was cut."""
        return len(words(text)) >= self.least and (stopped or not self.exact) and self.obeys(text, drawn)


def _any_of(*values: object) -> Callable[[Random], str]:
    return lambda rng: str(rng.choice(values))


def _sentences(text: str) -> int:
    """Sentences and headings, with one that was cut off."""
    return sum(any(map(str.isalpha, part)) for part in _END.split(_ABBREVIATION.sub("", text)))


def _paragraphs(text: str) -> int:
    return sum(any(map(str.isalnum, part)) for part in re.split(r"\n\s*\n", text))


def _has(text: str, word: str) -> bool:
    return bool(re.search(rf"(?<![^\W_]){word}(?![^\W_])", text, re.IGNORECASE))


def _quoted(text: str) -> bool:
    return text.strip()[0] in '"“' and text.strip()[-1] in '"”'


CONSTRAINTS = (
    Constraint("upper case", ("Write everything in capital letters.", "Your whole answer must be in upper case."),
               lambda text, _: upper_case.score([], text, ()) == 1),
    Constraint("lower case", ("Use lower case letters only.", "Do not use any capital letters."), lambda text, _: text.islower()),
    Constraint("bullets", ("Answer with exactly {} bullet points.", "Give exactly {} bullets, one on each line, and no more."),
               lambda text, n: bullet_count.score([], text, ()) == int(n) and not _NUMBERED.search(text),
               _any_of(2, 3, 4), least=2, exact=True),
    Constraint("at most words", ("Use at most {} words.", "Your answer must not be longer than {} words."),
               lambda text, n: len(words(text)) <= int(n), _any_of(10, 15, 20), least=3, exact=True),
    Constraint("at least words", ("Use at least {} words.", "Write no fewer than {} words."),
               lambda text, n: len(words(text)) >= int(n), _any_of(20, 25, 30)),
    Constraint("sentences", ("Answer in exactly {} short sentences.", "Write exactly {} sentences, and keep them short."),
               lambda text, n: _sentences(text) == int(n), _any_of(2, 3), exact=True),
    Constraint("with a word", ('Use the word "{}" in your answer.', 'Your answer must contain the word "{}".'), _has, _any_of(*WORDS)),
    Constraint("without a word", ('Do not use the word "{}".', 'The word "{}" must not occur in your answer.'),
               lambda text, word: not _has(text, word), _any_of("the", "and", "is")),
    Constraint("ends with", ('End your short answer with exactly this phrase: "{}"', 'Keep it short. Your last words must be: "{}"'),
               lambda text, end: text.rstrip(' \t\n"”*_').endswith(end), _any_of(*ENDS)),
    Constraint("begins with", ('Begin your answer with the word "{}".', 'The first word of your answer must be "{}".'),
               lambda text, word: bool(re.match(rf"[\W_]*{word}(?![^\W_])", text, re.IGNORECASE)),
               _any_of("Certainly", "Well", "Today", "Indeed")),
    Constraint("in quotation marks", ("Put your whole short answer in double quotation marks.",
                                      "Keep it short, and wrap your entire answer in double quotes."), lambda text, _: _quoted(text)),
    Constraint("no commas", ("Do not use any commas.", "Your answer must not contain a comma."),
               lambda text, _: not set(text) & set(",，、،")),
    Constraint("one word", ("Answer with one single word.", "Use one word only."), lambda text, _: len(words(text)) == 1, least=1),
    Constraint("title", ("Give your answer a title in double angular brackets, such as <<title>>.",
                         "Your answer must have a title wrapped in double angular brackets, such as <<my title>>."),
               lambda text, _: bool(re.search(r"<<[^<>\n]*\w[^<>\n]*>>", text))),
    Constraint("placeholders", ("Use at least {} placeholders in square brackets, such as [name].",
                                "Your answer must contain at least {} placeholders in square brackets, such as [date]."),
               lambda text, n: len(re.findall(r"\[[^\[\]\n]*\w[^\[\]\n]*\]", text)) >= int(n), _any_of(2, 3)),
    Constraint("postscript", ("Keep it short, and add a postscript that begins with P.S.",
                              "At the end of a short answer add a postscript on a line of its own, starting with P.S."),
               lambda text, _: bool(re.search(r"\n[\s*_]*P\.\s?S\.[\W_]*\w", text.strip(), re.IGNORECASE))),
    Constraint("paragraphs", ("Write exactly {} short paragraphs with an empty line between them.",
                              "Your answer must have exactly {} short paragraphs, parted by an empty line."),
               lambda text, n: _paragraphs(text) == int(n), _any_of(2, 3), exact=True),
    Constraint("numbered list", ("Answer with a numbered list of exactly {} short lines, such as 1. first.",
                                 "List exactly {} short points, numbered 1., 2. and so on."),
               lambda text, n: _NUMBERED.findall(text) == [str(place + 1) for place in range(int(n))],
               _any_of(2, 3, 4), least=2, exact=True),
)  # fmt: skip
BY_KIND = {one.kind: one for one in CONSTRAINTS}
