"""What every stage and recipe owes: words for people, settings that survive, defaults that are kept."""

import pytest
from pydantic import BaseModel

from engine.catalogue import recipes, stages
from engine.stage import Group, Kind, artifact_kind

FORMS = [*stages().values(), *recipes().values()]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name())


def an_example(info) -> object:
    """A value for a required field."""
    text = str(info.annotation)
    one = "x" if "str" in text and not artifact_kind(info) else 1
    least = max((getattr(told, "min_length", 1) for told in info.metadata), default=1)
    return [one] * least if "list" in text else one


def example(form, **given):
    """Valid settings: the defaults, and something in each required field."""
    required = {name: an_example(info) for name, info in form.model_fields.items() if info.is_required()}
    return form.model_validate(required | given)


def groups(form):
    return {name: info.default for name, info in form.model_fields.items() if isinstance(info.default, Group)}


@every_form
def test_it_speaks_to_people(form):
    assert form.__module__.rsplit(".", 1)[-1] == form.name()
    assert form.summary().endswith((".", "?"))
    assert len(form.summary()) < 160
    assert form.title()[0].isupper()
    places: list[tuple[str, type[BaseModel]]] = [("", form), *((f"{name}.", type(group)) for name, group in groups(form).items())]
    for prefix, model in places:
        for name, info in model.model_fields.items():
            if isinstance(info.default, Group):
                assert type(info.default).__doc__
                continue
            assert info.title, f"{prefix}{name} has no title"
            assert info.description, f"{prefix}{name} has no description"


@every_form
def test_its_settings_survive_json(form):
    one = example(form)
    assert form.model_validate_json(one.model_dump_json()) == one
    assert form.model_validate(one.model_dump(mode="json")) == one
    assert form.model_json_schema()["properties"]


@pytest.mark.parametrize("form, group", [pytest.param(f, g, id=f"{f.name()}.{g}") for f in FORMS for g in groups(f)])
def test_a_partly_given_group_keeps_its_other_defaults(form, group):
    default = groups(form)[group].model_dump()
    for name, value in default.items():
        assert getattr(example(form, **{group: {name: value}}), group).model_dump() == default
    assert getattr(example(form, **{group: {"seed": 7} if "seed" in default else {}}), group).model_dump() == default | (
        {"seed": 7} if "seed" in default else {}
    )


@pytest.mark.parametrize("stage", stages().values(), ids=lambda stage: stage.name())
def test_a_stage_makes_known_kinds_and_says_how_it_runs(stage):
    assert stage.outputs
    assert set(map(type, stage.outputs.values())) == {Kind}
    assert "run" in vars(stage)
    shown = [name for name, info in stage.model_fields.items() if not isinstance(info.default, Group)]
    assert len(shown) <= 14, "more fields than a person reads; make a group"


@pytest.mark.parametrize("recipe", recipes().values(), ids=lambda recipe: recipe.name())
def test_a_recipe_says_what_it_queues(recipe):
    queued = []

    def queue(stage):
        queued.append(stage)
        return {name: 100 + len(queued) for name in type(stage).outputs}

    example(recipe).plan(queue)
    assert Kind.REPORT in type(queued[-1]).outputs.values()
    assert not type(queued[-1]).heavy
