"""A form: identity from its file, immutable settings, groups over the stage's own defaults, references to artifacts."""

import pytest
from pydantic import BaseModel, Field, ValidationError

from engine.errors import UserError
from engine.settings import SamplingSettings, TrainingSettings
from engine.stage import Conversations, Dataset, Form, Input, Kind, Model, Prompts, Recipe, Reference, Stage, artifact_kind


class Part(BaseModel):
    dataset: Dataset
    share: float = 1.0


class Everything(Stage):
    """Hold every kind
    of field.

    And more words.
    """

    model: Model = Field(title="Model")
    others: list[Model] = Field([], title="Others")
    base: Model | None = Field(None, title="Base")
    data: Conversations | None = None
    parts: list[Part] = []
    part: Part | None = None
    training: TrainingSettings = TrainingSettings(learning_rate=5e-6, batch_size=2)
    count: int = 3


def test_a_form_has_the_name_of_its_file_and_the_first_words_of_its_docstring():
    assert (Everything.name(), Everything.title()) == ("test_stage", "Test stage")
    assert Everything.summary() == "Hold every kind of field."


@pytest.mark.parametrize("given", [{"steps": 10}, TrainingSettings(steps=10, learning_rate=5e-6, batch_size=2)])
def test_a_partly_given_group_keeps_the_stages_other_defaults(given):
    training = Everything(model=1, training=given).training
    assert (training.steps, training.learning_rate, training.batch_size) == (10, 5e-6, 2)


def test_settings_survive_json():
    one = Everything(model=1, others=[2, 3], training={"steps": 10}, parts=[{"dataset": 4}])
    assert Everything.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize("wrong", [
    {"model": 1, "modle": 2}, {"model": True}, {"model": "3"}, {"model": 0}, {"model": 1.0}, {}, {"model": 1, "others": ["2"]},
    {"model": 1, "training": {"step": 3}}, {"model": 1, "training": {"steps": 0}}, {"model": 1, "base": False},
])  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        Everything.model_validate(wrong)


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Everything(model=1).count = 4
    with pytest.raises(ValidationError, match="frozen"):
        Everything(model=1).training.steps = 4


def test_references_are_found_at_any_depth():
    form = Everything(model=1, others=[2, 3], base=4, data=5, parts=[{"dataset": 6}, {"dataset": 7}], part={"dataset": 8}, count=99)
    assert {(r.field, r.id) for r in form.references()} == {
        ("model", 1), ("others.0", 2), ("others.1", 3), ("base", 4), ("data", 5), ("parts.0.dataset", 6), ("parts.1.dataset", 7),
        ("part.dataset", 8),
    }  # fmt: skip
    assert Reference("data", Kind.DATASET, ("messages",), 5) in form.references()


def test_the_kind_of_a_field_survives_lists_and_optional():
    kinds = {name: (artifact_kind(info) or {}).get("artifact") for name, info in Everything.model_fields.items()}
    wanted = {"model": "model", "others": "model", "base": "model", "data": "dataset"}
    assert kinds == dict.fromkeys(Everything.model_fields) | wanted
    schema = Everything.model_json_schema()["properties"]
    assert schema["others"]["items"]["artifact"] == schema["model"]["artifact"] == "model"
    assert schema["data"]["anyOf"][0]["formats"] == ["messages"]
    assert artifact_kind(_field(Prompts))["formats"] == ["prompts", "messages"]


def _field(kind):
    return type("One", (Stage,), {"__annotations__": {"x": kind}, "__doc__": "."}).model_fields["x"]


def test_the_result_is_named_after_what_goes_in(tmp_path):
    inputs = {n: Input(n, Kind.MODEL, name, tmp_path) for n, name in ((1, "a"), (2, "b"), (3, "a"))}
    assert Everything(model=1, others=[2, 3]).result_name(inputs) == "a + b"
    assert type("Empty", (Stage,), {"__module__": "some.where"})().result_name({}) == "where"


def test_a_form_that_does_nothing_says_so():
    with pytest.raises(TypeError, match="does not say how it runs"):
        Everything(model=1).run(None)
    with pytest.raises(TypeError, match="does not say what it queues"):
        type("Idle", (Recipe,), {"__doc__": "."})().plan(None)
    assert issubclass(Recipe, Form)


def test_settings_that_reach_nothing_are_refused():
    with pytest.raises(ValidationError, match=r"top_p and top_k reach nothing while temperature is 0"):
        SamplingSettings(top_p=0.9)
    assert SamplingSettings(temperature=0.7, top_p=0.9).top_p == 0.9


def test_an_error_is_a_template_with_its_values_apart():
    error = UserError("{name} holds {count} rows", field="data", name="{x}", count=3)
    assert (str(error), error.field, error.message, error.values["count"]) == ("{x} holds 3 rows", "data", "{name} holds {count} rows", 3)
    assert str(UserError("braces {stay} when nothing is given")) == "braces {stay} when nothing is given"
