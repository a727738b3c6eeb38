"""Scorers on hand-checked answers."""

import pytest

from engine.scorers import contains, exact_match


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "mentioned"),
    [
        ("Paris", ["Paris"], 1, 1),
        (" the  PARIS. ", ["Paris"], 1, 1),
        ("The capital of France is Paris.", ["Paris"], 0, 1),
        ("Parisian", ["Paris"], 0, 0),
        ("8", ["eight", "8"], 1, 1),
        ("18", ["8"], 0, 0),
        ("", ["Paris"], 0, 0),
        ("don’t know", ["dont know"], 1, 1),
        ("H2O!", ["H2O"], 1, 1),
    ],
)
def test_scores(answer: str, reference: list[str], exact: int, mentioned: int) -> None:
    assert exact_match.score([], answer, reference) == exact
    assert contains.score([], answer, reference) == mentioned


def test_a_reference_without_words_matches_nothing_by_accident() -> None:
    assert contains.score([], "anything", ["..."]) == 0
