"""A settings class becomes components, and what was typed becomes settings or messages beside the fields."""

import json
from typing import Literal

import gradio as gr
import pytest
from pydantic import Field, ValidationError, model_validator

from app import form
from engine.catalogue import recipes, stages
from engine.errors import UserError
from engine.settings import TrainingSettings
from engine.stage import Conversations, Form, Model, Stage


class Example(Stage):
    """One of everything."""

    model: Model = Field(title="Model")
    base: Model | None = Field(None, title="Base")
    models: list[Model] = Field([], title="Models")
    data: Conversations = Field(title="Data")
    few: Literal["a", "b"] = Field("a", title="Few")
    many: Literal["a", "b", "c", "d", "e"] = Field("a", title="Many")
    flag: bool = Field(False, title="Flag")
    share: float = Field(0.1, ge=0, le=1, title="Share")
    shares: list[float] = Field([0.5, 0.5], title="Shares")
    rate: float = Field(2e-4, gt=0, le=1, title="Rate")
    count: int | None = Field(None, ge=1, title="Count")
    path: str = Field("", title="Path", json_schema_extra={"upload": [".jsonl"]})
    training: TrainingSettings = TrainingSettings(learning_rate=5e-6)

    @model_validator(mode="after")
    def _cross(self) -> "Example":
        if self.few == "b" and self.flag:
            raise ValueError("few is b but flag is on: switch flag off")
        return self


def offered(kind: str, formats: list[str]) -> list[tuple[str, int]]:
    """Two models, one dataset of conversations."""
    return [("first", 1), ("second", 2)] if kind == "model" else [("talks", 3)] if "messages" in formats else []


def draw(chosen: type[Form], **values: object) -> dict[str, form.Field]:
    with gr.Blocks():
        return {field.path: field for field in form.draw(chosen, values, offered)}


def typed(fields: dict[str, form.Field], **changed: object) -> dict[str, object]:
    """The settings when everything stays as drawn but what changed (its path with __ for a dot)."""
    changed = {path.replace("__", "."): value for path, value in changed.items()}
    return form.collect(list(fields.values()), [changed.get(path, field.component.value) for path, field in fields.items()])


def test_a_component_follows_from_its_type() -> None:
    fields = draw(Example)
    kinds = {path: type(field.component) for path, field in fields.items()}
    assert kinds["model"] is kinds["base"] is kinds["models"] is kinds["many"] is gr.Dropdown
    assert fields["models"].component.multiselect
    assert (kinds["few"], kinds["flag"], kinds["share"], kinds["path"]) == (gr.Radio, gr.Checkbox, gr.Slider, gr.Textbox)
    wide = ("rate", "training.learning_rate", "training.max_length", "training.seed")
    assert {kinds[path] for path in wide} == {gr.Number}
    assert kinds["count"] is kinds["training.steps"] is gr.Textbox  # it can be empty, and a number box cannot
    assert fields["path"].upload is not None
    assert list(fields)[-1] == "save_as"


def test_only_artifacts_that_fit_are_offered() -> None:
    fields = draw(Example)
    assert fields["data"].component.choices == [("talks", 3)]
    assert fields["model"].component.choices == [("first", 1), ("second", 2)]
    assert fields["base"].component.choices[0] == ("none", 0)


def test_what_is_drawn_is_what_the_class_says() -> None:
    settings = typed(draw(Example))
    assert Example.model_validate(settings) == Example(model=1, data=3)
    assert settings["training"]["learning_rate"] == 5e-6  # type: ignore[index]


def test_what_is_typed_is_what_comes_out() -> None:
    settings = typed(draw(Example), base=2, models=[2, 1], shares="0.25; 0.75", count=7, training__steps=9, training__warmup=0)
    made = Example.model_validate(settings)
    assert (made.base, made.models, made.shares, made.count) == (2, [2, 1], [0.25, 0.75], 7)
    assert Example.model_validate(typed(draw(Example, count=5), count=" ")).count is None
    assert (made.training.steps, made.training.warmup, made.training.learning_rate) == (9, 0, 5e-6)


def test_an_old_run_fills_the_form() -> None:
    fields = draw(Example, model=2, count=5, training={"steps": 3})
    assert (fields["model"].component.value, fields["count"].component.value, fields["training.steps"].component.value) == (2, "5", "3")


def test_an_artifact_that_is_gone_is_not_kept() -> None:
    assert draw(Example, model=99)["model"].component.value == 1
    assert draw(Example, models=[1, 99])["models"].component.value == [1]


def refusal(**changed: object) -> tuple[dict[str, object], str]:
    fields = draw(Example)
    with pytest.raises(ValidationError) as refused:
        Example.model_validate(typed(fields, **changed))
    messages, rest = form.messages(list(fields.values()), refused.value)
    return {path: message for path, message in zip(fields, messages, strict=True) if message}, rest


def test_a_message_stands_beside_its_field() -> None:
    told, rest = refusal(count="0", shares="0.5, x")
    assert set(told) == {"count", "shares"}
    assert "Must be at least 1 (given: 0)" in str(told["count"])
    assert "Must be a number (given: x)" in str(told["shares"])
    assert rest == ""


def test_an_empty_required_field_says_what_to_do() -> None:
    told, _ = refusal(model=None)
    assert "Choose or type something here" in str(told["model"])


def test_a_message_in_a_folded_group_is_also_said_beside_start() -> None:
    told, rest = refusal(training__steps=0)
    assert set(told) == {"training.steps"}
    assert rest.startswith("Steps: ")


def test_a_rule_across_fields_is_said_beside_start() -> None:
    told, rest = refusal(few="b", flag=True)
    assert not told
    assert rest.startswith("Few is b but flag is on")


def test_a_user_error_finds_its_field_even_inside_a_list() -> None:
    fields = list(draw(Example).values())
    messages, rest = form.messages(fields, UserError("{name} is gone", field="models.1", name="x"))
    assert [field.path for field, message in zip(fields, messages, strict=True) if message] == ["models"]
    assert rest == ""


def test_the_command_holds_only_what_differs() -> None:
    told = form.command(Example, typed(draw(Example), training__steps=9))
    head, body = told.split("\n", 1)
    assert head == "dianjing run test_form - <<'END'"
    assert json.loads(body.removesuffix("END")) == {"model": 1, "data": 3, "training": {"steps": 9}}


@pytest.mark.parametrize("name", [*stages(), *recipes()])
def test_every_form_can_be_drawn_and_read_back(name: str) -> None:
    chosen = {**stages(), **recipes()}[name]
    fields = draw(chosen)
    settings = typed(fields)
    assert set(settings) == set(chosen.model_fields)
    for path, field in fields.items():
        assert field.component.label, path
        default = chosen.model_fields[path.split(".")[0]].default
        if "." in path:
            assert settings[path.split(".")[0]][path.split(".")[1]] == getattr(default, path.split(".")[1]), path  # type: ignore[index]
