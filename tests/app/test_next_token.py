"""The panel of next tokens: what an address names, and tokens that are shown and never read as a page."""

import json

from app.pages import Place, next_token
from engine.inference import Said
from tests.app.test_listings import texts

HOSTILE = '<img src=x onerror="alert(1)">\n'


def test_tokens_are_shown_with_their_blanks_and_chosen_as_they_are(monkeypatch, database, home, add_artifact, tmp_path):
    one = add_artifact("model", "one", tmp_path, format="full")
    two = add_artifact("model", "two", tmp_path, format="endpoint")
    other = add_artifact("dataset", "rows", tmp_path, format="text")
    asked = []

    def ask(database, home, questions, sampling):
        asked.extend(questions)
        yield Said(one, "done", json.dumps([[" Paris", 0.61], [HOSTILE, 0.0001]]), "next", 7, 0.1, "cpu, float32")
        yield Said(two, "error", "two is an endpoint, and gives no probabilities of its next token here")

    monkeypatch.setattr(next_token, "ask", ask)
    place = Place(database, home)
    assert next_token.chosen(place, f"{one},{two},{other},999,x") == {one: "one", two: "two"}
    nodes = next_token.columns(place, [one, two], "What is it?", "It is")
    shown = " ".join(texts(nodes))
    for text in ("␣Paris", "61.0%", "1e-04", "gives no probabilities"):
        assert text in shown
    assert '" Paris"' in json.dumps(nodes), "a click reads on with the token as it is"
    assert (asked[0].text, asked[0].messages[0]["content"]) == ("It is", "What is it?")
    assert "Type a text first." in " ".join(texts(next_token.columns(place, [one], "", "")))
