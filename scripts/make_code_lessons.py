"""Writes assets/datasets/code-lessons.jsonl: small Python functions asked for in a sentence, with assertions, for `three_lessons`.

Each family is one idea with a few variants of names and numbers. A reference answer that fails its own assertions is
never written, and the same families give the same file.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

FILE = Path(__file__).parents[1] / "assets" / "datasets" / "code-lessons.jsonl"
# (description, name, argument, expression, inputs); {n} and {w} are filled with each of the variants
NUMBERS: list[tuple[str, str, str, str, str]] = [
    ("returns {a} plus {n}", "add_{n}", "{a}", "{a} + {n}", "0; 3; -4"),
    ("returns {a} minus {n}", "minus_{n}", "{a}", "{a} - {n}", "0; 9; -2"),
    ("returns {n} times {a}", "times_{n}", "{a}", "{n} * {a}", "0; 2; -3"),
    ("tells whether {a} is larger than {n}", "above_{n}", "{a}", "{a} > {n}", "0; {n}; 99"),
    ("tells whether {a} can be divided by {n}", "divides_by_{n}", "{a}", "{a} % {n} == 0", "0; {n}; 7"),
    ("returns the remainder of {a} divided by {n}", "rest_{n}", "{a}", "{a} % {n}", "0; 7; 20"),
    ("returns {a} to the power of {n}", "power_{n}", "{a}", "{a} ** {n}", "0; 2; 3"),
    ("returns the smaller one of {a} and {n}", "at_most_{n}", "{a}", "min({a}, {n})", "0; {n}; 50"),
    ("returns the larger one of {a} and {n}", "at_least_{n}", "{a}", "max({a}, {n})", "0; {n}; 50"),
    ("returns how far {a} is from {n}", "distance_to_{n}", "{a}", "abs({a} - {n})", "0; {n}; 30"),
]
TEXTS: list[tuple[str, str, str, str, str]] = [
    ("returns the text {a} with '{w}' put before it", "begin_with_{w}", "{a}", "'{w}' + {a}", "''; 'tea'; 'a b'"),
    ("returns the text {a} with '{w}' put after it", "end_with_{w}", "{a}", "{a} + '{w}'", "''; 'tea'; 'a b'"),
    ("tells whether the text {a} contains '{w}'", "has_{w}", "{a}", "'{w}' in {a}", "''; '{w}'; 'a {w} b'"),
    ("tells whether the text {a} begins with '{w}'", "starts_{w}", "{a}", "{a}.startswith('{w}')", "''; '{w}s'; 'a {w}'"),
    ("counts how often '{w}' stands in the text {a}", "count_{w}", "{a}", "{a}.count('{w}')", "''; '{w}'; '{w} {w}'"),
    ("removes every '{w}' from the text {a}", "without_{w}", "{a}", "{a}.replace('{w}', '')", "''; 'x{w}y'; '{w}{w}'"),
    ("splits the text {a} at each '{w}'", "split_at_{w}", "{a}", "{a}.split('{w}')", "'a'; 'a{w}b'; '{w}'"),
]
LISTS: list[tuple[str, str, str, str, str]] = [
    ("returns the first {n} elements of the list {a}", "first_{n}", "{a}", "{a}[:{n}]", "[]; [1,2,3,4,5,6,7,8,9]; [5]"),
    ("returns the last {n} elements of the list {a}", "last_{n}", "{a}", "{a}[-{n}:]", "[]; [1,2,3,4,5,6,7,8,9]; [5]"),
    ("returns the list {a} without its first {n} elements", "skip_{n}", "{a}", "{a}[{n}:]", "[]; [1,2,3,4,5,6,7,8,9]; [5]"),
    ("adds {n} to each number of the list {a}", "add_{n}_to_each", "{a}", "[x + {n} for x in {a}]", "[]; [1,2]; [-5,0,5]"),
    ("multiplies each number of the list {a} by {n}", "times_{n}_each", "{a}", "[x * {n} for x in {a}]", "[]; [1,2]; [-5,0,5]"),
    ("keeps the numbers of the list {a} above {n}", "keep_above_{n}", "{a}", "[x for x in {a} if x > {n}]", "[]; [1,99]; [{n}]"),
    ("counts the elements of the list {a} that equal {n}", "count_{n}", "{a}", "{a}.count({n})", "[]; [{n},{n}]; [1]"),
    ("returns every {n}. element of the list {a}, from the first on", "every_{n}", "{a}", "{a}[::{n}]", "[]; [1,2,3,4,5,6,7,8,9]; [5]"),
    ("tells whether {n} is in the list {a}", "holds_{n}", "{a}", "{n} in {a}", "[]; [{n}]; [1,50]"),
]
FORMS = ["Write a Python function {name}({a}) that {what}.", "In Python, define {name}({a}). It {what}.",
         "I need a Python function called {name} with one argument {a}. It {what}."]  # fmt: skip


def lessons() -> Iterator[dict[str, object]]:
    """Every family with every variant, each in one wording."""
    rng = Random("code lessons")
    families = [(family, str(n)) for family in NUMBERS + LISTS for n in (2, 3, 4, 5, 6, 7, 8, 12)]
    families += [(family, word) for family in TEXTS for word in ("at", "cat", "sun", "red", "key", "map", "ice", "oak", "tin", "jam")]
    for (what, name, argument, expression, inputs), variant in families:
        a = rng.choice(["xs", "items", "values", "rows"] if "list" in what else ["x", "y", "value", "item", "given"])

        def filled(text: str, a: str = a, variant: str = variant) -> str:
            return text.format(a=a, n=variant, w=variant)

        asked = rng.choice(FORMS).format(name=filled(name), a=a, what=filled(what))
        code = f"def {filled(name)}({filled(argument)}):\n    return {filled(expression)}\n"
        space: dict[str, object] = {}
        exec(code, space)
        calls = [f"{filled(name)}({given})" for given in filled(inputs).split("; ")]
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"```python\n{code}```"}]
        yield {"messages": turns, "accept": ["\n".join(f"assert {call} == {eval(call, space)!r}" for call in calls)]}  # noqa: S307  (our own)


def text() -> str:
    """The file, in an order that does not go by families."""
    rows = list(lessons())
    Random("order").shuffle(rows)
    return "".join(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    FILE.write_text(text())
