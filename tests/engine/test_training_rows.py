"""Rows as prompts: what is asked, and what the row says about right answers."""

from typing import Any

import pytest

from engine.training.rows import prompts_of

ASKED = [{"role": "user", "content": "2 + 2?"}]
TALK = [*ASKED, {"role": "assistant", "content": "It is 4."}]


@pytest.mark.parametrize(
    "columns, extra",
    [
        ({}, {"answer": "It is 4."}),
        ({"answer": "4"}, {"answer": "4"}),
        ({"accept": ["4", "four"], "tags": ["sum"]}, {"answer": "It is 4.", "accept": ["4", "four"], "tags": ["sum"]}),
        ({"note": "not about answers"}, {"answer": "It is 4."}),
    ],
)
def test_a_conversation_keeps_what_its_row_says_is_right(columns: dict[str, Any], extra: dict[str, Any]) -> None:
    (prompt,) = prompts_of([{"messages": TALK, **columns}])
    assert (prompt.messages, prompt.extra) == (ASKED, extra)


def test_a_conversation_without_an_answer_keeps_its_tags() -> None:
    (prompt,) = prompts_of([{"messages": ASKED, "tags": ["sum"]}])
    assert (prompt.messages, prompt.extra) == (ASKED, {"tags": ["sum"]})
