"""Trees, charts and live payloads are plain values that a page can be tested by."""

import json

from app import charts, live
from app.pages import run_view, unless_seen
from app.view import empty, h, link, problem, table
from storage.curves import Curves


def test_a_tree_is_plain_json() -> None:
    tree = h("div", "a", None, [h("b", "c"), "d"], class_="x", aria_label="y", title=None, on="go", data={"run": 1}, key="k")
    assert tree == {
        "t": "div",
        "a": {"class": "x", "aria-label": "y", "data": {"run": 1}},
        "c": ["a", {"t": "b", "a": {}, "c": ["c"]}, "d"],
        "on": "go",
        "k": "k",
    }
    for made in (tree, table(["a"], [["b"]]), problem("p", link("l", "/x")), empty("e")):
        assert json.loads(json.dumps(made)) == made


def test_what_is_shown_already_is_not_sent_again() -> None:
    seen: dict[str, object] = {}
    assert unless_seen(seen, "page", ["a"]) == ["a"]
    assert unless_seen(seen, "page", ["a"]) != ["a"]
    assert unless_seen(seen, "page", ["b"]) == ["b"]


def test_losses_share_the_top_panel_and_the_rest_have_one_each() -> None:
    names = ["loss", "eval_loss", "learning_rate", "tokens_per_second", "something_new"]
    assert [(line.series, line.panel) for line in charts.of_run(names, main=True)] == [("loss", 0), ("eval_loss", 0)]
    rest = charts.of_run(names, main=False)
    assert [(line.series, line.panel, line.label) for line in rest] == [
        ("learning_rate", 0, "Learning rate"),
        ("something_new", 1, "Something new"),
        ("tokens_per_second", 2, "Tokens a second"),
    ]


def test_abilities_stand_below_the_losses_and_losses_of_probes_with_the_rest() -> None:
    names = ["loss", "ability/arithmetic", "ability/my data: exact_match", "ability/my data: loss", "retention_seconds"]
    assert [(line.label, line.panel) for line in charts.of_run(names, main=True)] == [
        ("Loss", 0), ("Arithmetic", 1), ("my data: exact match", 1),
    ]  # fmt: skip
    assert [line.series for line in charts.of_run(names, main=False)] == ["ability/my data: loss", "retention_seconds"]


def test_what_is_said_of_preferences_stands_together_below_the_losses() -> None:
    names = ["rewards/chosen", "eval_rewards/chosen", "rewards/rejected", "logps/chosen", "accuracy", "ability/arithmetic"]
    assert [(line.label, line.panel) for line in charts.of_run(["loss", *names, "grad_norm"], main=True)] == [
        ("Loss", 0), ("Chosen reward", 1), ("Held-out chosen reward", 1), ("Rejected reward", 1),
        ("Accuracy", 2), ("Chosen log-probability", 3), ("Arithmetic", 4),
    ]  # fmt: skip
    assert [line.series for line in charts.of_run([*names, "grad_norm"], main=False)] == ["grad_norm"]


def test_lines_of_one_chart_differ_in_colour_and_marker() -> None:
    lines = charts.overlay([(run, "finetune") for run in range(6)], "loss")
    assert len({line.colour for line in lines}) == len({line.marker for line in lines}) == 6


def test_a_tick_carries_only_what_is_new_and_where_it_goes_on() -> None:
    told = Curves({"loss": [(3, 0.5), (4, None)]}, cursor=9)
    assert live.more(told, 7) == {"points": {"loss": [[3, 0.5], [4, None]]}, "after": 7, "cursor": 9}
    whole = live.whole(charts.of_run(told.series, main=True), live.points(told), told.cursor)
    assert whole["after"] is None
    assert json.loads(json.dumps(whole))["points"]["loss"][1] == [4, None]


def marked(before: str, after: str) -> str:
    return "".join(piece if isinstance(piece, str) else f"[{piece['c'][0]}]" for piece in run_view.marked(before, after))


def test_the_words_that_changed_are_marked() -> None:
    assert marked("The capital is Paris.", "The capital is Rome.") == "The capital is [Rome]."
    assert marked("same", "same") == "same"
    assert marked("", "new") == "[new]"
    assert marked("gone", "") == ""
