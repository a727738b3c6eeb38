"""Stages and recipes are found in their folders and in installed packages, by one door that nothing outside can break."""

import subprocess
import sys

import pytest

from engine import catalogue
from engine.errors import UserError
from tests.engine.conftest import forget_catalogue


def install(folder, name, **entries):
    """An installed package whose entry points name these modules, and their text."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dianjing.stages]\n" + "".join(f"{entry} = {name}_{entry}\n" for entry in entries))
    for entry, text in entries.items():
        (folder / f"{name}_{entry}.py").write_text(text)


def test_the_files_are_found():
    assert {"import_model", "import_dataset", "mix_datasets", "finetune", "generate", "compare_answers"} <= set(catalogue.stages())
    assert "quickstart" in catalogue.recipes()
    assert not any(name.startswith("_") for name in catalogue.stages())


def test_an_extension_comes_in_by_the_same_door(extension):
    assert {"count", "join", "shout", "stubborn", "fail"} <= set(catalogue.stages())
    assert catalogue.find("chain") is catalogue.recipes()["chain"]


def test_an_extension_cannot_take_the_rest_down(tmp_path, monkeypatch, caplog):
    stage = "from engine.stage import Stage\nclass One(Stage):\n    '''One.'''\n    @classmethod\n    def name(cls): return {!r}\n"
    entries = {"broken": "import no_such_module", "taken": stage.format("generate"), "good": stage.format("good")}
    install(tmp_path, "stranger", **entries)
    monkeypatch.syspath_prepend(tmp_path)
    forget_catalogue()
    try:
        found = catalogue.stages()
    finally:
        forget_catalogue()
    assert found["generate"].__module__ == "engine.stages.generate.generate"
    assert "good" in found
    assert "stranger_broken does not load and is left out: No module named 'no_such_module'" in caplog.text
    assert "stranger_taken does not load and is left out: two files are named generate" in caplog.text


@pytest.mark.parametrize("word, hint", [
    ("finetun", "did you mean finetune?"), ("Import-Model", "did you mean import_model"), ("xyzzy", "known: audit"),
])  # fmt: skip
def test_an_unknown_name_gets_the_nearest(word, hint):
    with pytest.raises(UserError) as told:
        catalogue.find(word)
    assert hint in str(told.value)
    assert repr(word) in str(told.value)


def test_nothing_heavy_is_imported_to_know_the_catalogue():
    script = (
        "import sys; from engine import catalogue, submit, dispatcher, worker, __main__\n"
        "[f.model_json_schema() for f in (*catalogue.stages().values(), *catalogue.recipes().values())]\n"
        "print(*(m for m in ('torch', 'transformers', 'trl', 'peft', 'datasets', 'gradio', 'scipy') if m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split() == []


@pytest.mark.parametrize("name", sorted(catalogue.probes()))
def test_every_probe_has_a_card_with_the_base_rates_of_both_starters(name):
    card = catalogue.probe_card(name)
    assert card.startswith("# ")
    rates = next(part for part in card.split("\n\n") if part.startswith("**Base rates.**"))
    assert all(starter in rates for starter in ("SmolLM2-135M-Instruct", "gemma-3-270m"))


def test_an_unknown_probe_has_no_card():
    with pytest.raises(UserError, match="did you mean capitals"):
        catalogue.probe_card("capital")
