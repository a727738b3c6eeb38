"""An image cannot be built where the tests run, so the Dockerfile is read and all that it names is looked up."""

import json
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of each instruction, continuation lines joined, comments left out."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    return [(word, rest.strip()) for word, rest in (line.split(" ", 1) for line in text.splitlines() if line)]


def named(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def test_every_copied_path_exists_and_is_not_ignored():
    ignore = (ROOT / ".dockerignore").read_text().split()
    sources = [source for rest in named("COPY") for source in rest.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore, f".dockerignore hides {source}"


def test_everything_the_wheel_is_built_from_is_copied():
    copied = {source for rest in named("COPY") for source in rest.split()[:-1]}
    needed = {"pyproject.toml", *PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    needed |= {*PROJECT["project"]["license-files"], PROJECT["project"].get("readme", "pyproject.toml")}
    assert needed <= copied


def test_every_command_exists():
    """The image has Python, pip and a Debian userland; the rest must come from our own package."""
    known = {"python", "pip", "useradd", "mkdir", "chown", "export", "if", "fi", "then", "["} | set(PROJECT["project"]["scripts"])
    first_words = {json.loads(rest)[0] for rest in named("CMD")}
    for line in named("RUN"):
        first_words |= {part.split()[0] for part in re.split(r"&&|;", line)}
    health = re.search(r"CMD (\[.*\])", *named("HEALTHCHECK")).group(1)
    first_words.add(json.loads(health)[0])
    assert first_words <= known
    compile(json.loads(health)[2], "healthcheck", "exec")
    for target in PROJECT["project"]["scripts"].values():
        module, function = target.split(":")
        assert f"def {function}(" in (ROOT / (module.replace(".", "/") + ".py")).read_text()


def test_the_command_of_the_image_is_understood():
    from typer.testing import CliRunner

    from engine.__main__ import app

    arguments = json.loads(*named("CMD"))[1:]
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output


def test_python_and_user_and_home():
    version = re.fullmatch(r"python:(\d+\.\d+)-slim", *named("FROM")).group(1)
    assert version in ("3.11", "3.12", "3.13")
    assert named("USER") == ["dianjing"]
    assert instructions().index(("USER", "dianjing")) > max(i for i, (word, _) in enumerate(instructions()) if word == "RUN")
    assert f"DIANJING_HOME={named('VOLUME')[0]}" in named("ENV")[0]


def test_the_first_owner_of_a_container_comes_by_the_environment():
    assert "DIANJING_CONTAINER=1" in named("ENV")[0].split()
    assert "--host 0.0.0.0" in " ".join(json.loads(*named("CMD")))
    assert "/health" in named("HEALTHCHECK")[0]


def test_compose_publishes_on_this_machine_only_and_keeps_the_data():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    service = compose["services"]["dianjing"]
    assert service["ports"] == [f"127.0.0.1:7860:{named('EXPOSE')[0]}"]
    assert service["volumes"] == [f"data:{named('VOLUME')[0]}"]
    assert "data" in compose["volumes"]
    assert "network_mode" not in service, "it would publish everything that listens inside"
    assert set(service["build"]["args"]) == {rest.split("=")[0] for rest in named("ARG")}
    assert service["environment"]["DIANJING_OWNER_PASSWORD"] == "${DIANJING_OWNER_PASSWORD:-}", "never a password in a file"


def test_the_build_argument_chooses_the_index_that_the_installer_uses():
    import importlib.util

    spec = importlib.util.spec_from_file_location("installer", ROOT / "scripts" / "setup.py")
    installer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(installer)
    assert named("ARG") == ["TORCH=cpu"]
    assert installer.CPU_INDEX in named("RUN")[0]
