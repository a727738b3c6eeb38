"""Which answers meet in a ranking project, and that none of them says whose it is."""

import json

import pytest
from sqlmodel import Session

from engine.masking import MASK, masked, names_in
from engine.rankings import read, title
from engine.stages.generate.rank_answers import RankAnswers
from storage.queries import utc_now
from storage.tables import Artifact


@pytest.fixture
def made(run_stage, add_artifact, home, database):
    """The project of these answers: {prompt: {model: [texts]}}."""

    def make(said, known=(), **settings):
        id = add_artifact("responses", "answers")
        rows = [
            {"prompt_key": prompt, "prompt": [{"role": "user", "content": prompt}], "artifact": 1, "source": model, "model": model,
             "answer": text, "sample": n, "extra": {}}
            for prompt, models in said.items() for model, texts in models.items() for n, text in enumerate(texts)
        ]  # fmt: skip
        (home.artifact_folder(id) / "responses.jsonl").write_text("\n".join(map(json.dumps, rows)))
        if known:
            settings["gold"] = add_artifact("dataset", "known", format="preference", rows=len(known))
            pairs = [
                {"prompt": [{"role": "user", "content": asked}]} | {name: [{"role": "assistant", "content": text}] for name, text in told}
                for asked, *texts in known for told in [zip(("chosen", "rejected"), texts, strict=True)]
            ]
            (home.artifact_folder(settings["gold"]) / "train.jsonl").write_text("\n".join(map(json.dumps, pairs)))
        project = run_stage(RankAnswers(responses=[id], **{"care": {"everyone": 0, "repeats": 0}} | settings))["rankings"]
        with Session(database) as session:
            return read(session, project)

    return make


def test_answers_are_drawn_evenly_from_those_who_answered(made):
    found = made({"q": {"many": [f"m{n}" for n in range(20)], "few": ["f0", "f1"]}}, answers=4)
    (item,) = found.items.values()
    assert sorted(choice.by for choice in item.choices) == ["few", "few", "many", "many"]


def test_the_same_text_is_ranked_once_and_empty_ones_never(made):
    found = made({"q": {"a": ["yes", " yes ", ""], "b": ["yes", "no"]}, "alike": {"a": ["same"], "b": ["same"]}}, answers=9)
    assert [sorted(choice.text.strip() for choice in item.choices) for item in found.items.values()] == [["no", "yes"]]


def test_keys_say_nothing_of_who_answered(made):
    found = made({f"q{n}": {"a": [f"x{n}"], "b": [f"y{n}"]} for n in range(40)}, answers=2)
    firsts = {item.choices[0].by for item in found.items.values()}
    assert firsts == {"a", "b"}, "the order of the keys is not that of the models"


@pytest.mark.parametrize("how, texts", [("mask", {f"I am {MASK}!", "fine"}), ("keep", {"I am SmolLM2-135M!", "fine"})])
def test_an_answer_that_names_its_model_is_masked_or_kept(made, how, texts):
    found = made({"q": {"a": ["I am SmolLM2-135M!"], "b": ["fine"]}}, self_naming=how)
    assert {choice.text for choice in next(iter(found.items.values())).choices} == texts


def test_an_answer_that_names_its_model_can_be_left_out(made):
    found = made({"q": {"a": ["I am Gemma"], "b": ["fine", "well"]}}, self_naming="leave out")
    assert {choice.text for choice in next(iter(found.items.values())).choices} == {"fine", "well"}


@pytest.mark.parametrize(
    "answer, models, prompt, names",
    [
        ("I was trained by Google DeepMind.", ["x"], "hi", ["google", "deepmind", "google deepmind"]),
        ("I'm an assistant from Hugging Face", ["x"], "hi", ["hugging face"]),
        ("Google is a company.", ["x"], "hi", []),
        ("It is made of metal and metadata.", ["x"], "hi", []),
        ("Gemma is a jewel", ["x"], "What does Gemma mean?", []),
        ("I'm Claude", ["x"], "Are you Claude?", ["claude"]),
        ("my name is smollm2, nice to meet you", ["x"], "metal", ["smollm"]),
        ("As Zephyrus I think", ["zephyrus-7b"], "hi", ["zephyrus"]),
        ("the other is SmolLM2", ["a", "SmolLM2-135M-Instruct + Preferences"], "hi", ["smollm2", "smollm"]),
        ("my preferences are short answers", ["m + Preferences", "Short answers", "Kitchen tune"], "hi", []),
        ("A llama eats grass", ["x"], "hi", []),
        ("I'm ChatGPT, GPT-4", ["x"], "hi", ["chatgpt", "gpt-4"]),
    ],
)
def test_what_gives_a_model_away(answer, models, prompt, names):
    found = names_in(answer, models, [{"role": "user", "content": prompt}])
    assert {name.lower() for name in found} == set(names)


def test_a_title_that_tells_is_not_shown_to_raters():
    def shown(name):
        return title(Artifact(id=7, kind="rankings", name=name, folder="", summary={"by": ["SmolLM2-135M-Instruct"]}, created_at=utc_now()))

    assert shown("Kitchen questions") == "Kitchen questions"
    assert shown("SmolLM2 or tuned?") == shown("Rankings of x") == "Project 7"


def test_what_is_masked_for_raters_is_learned_as_it_was_said(made):
    found = made({"q": {"a": ["I am SmolLM2-135M!"], "b": ["fine"]}})
    assert {choice.said for choice in next(iter(found.items.values())).choices} == {"I am SmolLM2-135M!", "fine"}


def test_a_text_of_two_models_is_not_always_the_first_one_s(made):
    found = made({f"q{n}": {"first": ["same"], "second": ["same"], "third": ["other"]} for n in range(40)}, answers=3)
    owners = [choice.by for item in found.items.values() for choice in item.choices if choice.text == "same"]
    assert 5 < owners.count("first") < 35


def test_only_a_share_of_the_known_rankings_is_mixed_in(made):
    known = [(f"k{n}", "good", "bad") for n in range(50)]
    found = made({f"q{n}": {"a": ["x"], "b": ["y"]} for n in range(30)}, known, care={"known": 0.1, "everyone": 0, "repeats": 0})
    assert [item.kind for item in found.items.values()].count("gold") == 3


def test_a_version_that_hangs_on_a_name_goes_with_it():
    assert masked("It is Llama-3.1-8B, said llama.", ["Llama"]) == f"It is {MASK}, said {MASK}."


def test_known_rankings_are_practised_first_and_then_mixed_in_unmarked(made):
    known = [(f"k{n}", "good", "bad") for n in range(6)]
    care = {"practice": 2, "everyone": 0.5, "repeats": 0, "known": 1}
    found = made({f"q{n}": {"a": ["x"], "b": ["y"]} for n in range(30)}, known, care=care)
    kinds = [item.kind for item in found.items.values()]
    assert kinds[:2] == ["practice", "practice"]
    assert kinds.count("gold") == 4
    assert "gold" in kinds[2:-1]
    assert {item.wanted for item in found.items.values() if item.kind != "normal"} == {0}
    assert sum(item.wanted == 0 for item in found.items.values() if item.kind == "normal") == 15
    gold = next(item for item in found.items.values() if item.kind == "gold")
    texts = {choice.key: choice.text for choice in gold.choices}
    assert [[texts[key] for key in tier] for tier in gold.gold] == [["good"], ["bad"]]


def test_the_same_seed_draws_the_same_items(made):
    answers = {f"q{n}": {"a": [f"x{n}", f"z{n}"], "b": [f"y{n}"]} for n in range(20)}
    one, two, other = (made(answers, limit=8, answers=2, seed=seed) for seed in (1, 1, 2))
    drawn = [[(item.prompt_key, item.choices) for item in found.items.values()] for found in (one, two, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_practice_without_known_rankings_is_refused():
    with pytest.raises(ValueError, match="practice"):
        RankAnswers(responses=[1], care={"practice": 3})
