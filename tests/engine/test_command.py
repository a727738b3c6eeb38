"""Every verb of the `dianjing` command, as a shell sees it: words, JSON, exit status."""

import json
import os
import signal
import subprocess
import sys

import pytest
from sqlmodel import Session

from engine.__main__ import main
from storage.database import transaction
from storage.queries import utc_now
from storage.tables import Score
from tests.engine.conftest import eventually

WORDS = [sys.executable, "-P", "-m", "engine"]


@pytest.fixture
def dianjing(machine, tmp_path):
    """Run the command on the machine's home; the finished process."""

    def run(*words, settings=None, given=None):
        if settings is not None:
            (tmp_path / "settings.json").write_text(json.dumps(settings))
            words = (*words, str(tmp_path / "settings.json"))
        words = [*WORDS, *map(str, words), "--home", str(machine.home.root)]
        return subprocess.run(words, input=given, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def here(machine, monkeypatch, capsys):
    """The same in this process, which is faster: exit status, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["dianjing", *map(str, words), "--home", str(machine.home.root)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, *capsys.readouterr()

    return run


def last_line(done):
    return json.loads(done.stdout.splitlines()[-1])


def test_list_tells_every_form_with_its_schema(dianjing, here):
    forms = json.loads(dianjing("list", "--json").stdout)
    assert all({"name", "kind", "title", "summary", "settings"} <= set(form) for form in forms)
    told = {form["name"]: form for form in forms}
    assert (told["quickstart"]["kind"], told["count"]["kind"]) == ("recipe", "stage")
    assert told["join"]["settings"]["properties"]["parts"]["items"]["artifact"] == "dataset"
    assert told["finetune"]["settings"]["properties"]["model"]["artifact"] == "model"
    assert told["count"]["summary"] == "Count to a number."
    assert "count              Count to a number." in here("list")[1]


def test_a_stage_is_run_and_then_shown(dianjing, machine, here):
    done = dianjing("run", "count", "--json", settings={"steps": 3, "save_as": "three"})
    assert done.returncode == 0, done.stderr
    assert last_line(done) == {"run": 1, "status": "succeeded", "outputs": {"numbers": 1}, "error": None}
    piped = dianjing("run", "join", "-", "--json", given='{"parts": ["three", 1]}')
    assert last_line(piped)["outputs"] == {"joined": 2, "report": 3}

    def told(*words):
        return json.loads(here(*words, "--json")[1])

    shown = told("show", "run", 2)
    assert (shown["stage"], shown["status"], shown["inputs"], shown["outputs"]) == (
        "join", "succeeded", {"parts.0": 1, "parts.1": 1}, {"joined": 2, "report": 3},
    )  # fmt: skip
    artifact = told("show", "artifact", 1)
    assert (artifact["name"], artifact["summary"]["rows"], artifact["used_by"]) == ("three", 3, [2])
    assert "three" in here("show", "artifact", 1)[1]

    assert told("metrics", 1)["metrics"]["value"] == [[1, 1.0], [2, 2.0], [3, 3.0]]
    assert "square                   9.0 at step 3 (3 points)" in here("metrics", 1)[1]

    with transaction(machine.database) as session:
        session.add(Score(run=1, at=utc_now(), artifact=1, suite_hash="cafebabe00", probe="facts", item_key="1", value=1.0))
        session.add(Score(run=1, at=utc_now(), artifact=1, suite_hash="cafebabe00", probe="facts", item_key="2", value=0.0))
    assert [row["value"] for row in told("scores", "three")["scores"]] == [1.0, 0.0]
    assert "0.500 (n = 2, suite cafebabe)" in here("scores", 1)[1]
    assert "nothing was measured" in here("scores", 2)[1]


def test_a_recipe_is_run(dianjing):
    done = dianjing("run", "chain", "--json", settings={"steps": 2})
    told = last_line(done)
    assert done.returncode == 0
    assert (told["plan"], told["status"], [run["status"] for run in told["runs"]]) == (1, "succeeded", ["succeeded"] * 3)
    assert told["report"]["html"].endswith("report.html")
    assert dianjing("run", "count", settings={"steps": 2}).stdout.startswith("succeeded: numbers = artifact ")


@pytest.mark.parametrize("words, settings, says", [
    (["run", "cuont"], {}, "there is no stage or recipe named 'cuont'; did you mean count"),
    (["run", "count"], {"steps": 0}, "steps: Input should be greater than or equal to 1 (given: 0)"),
    (["run", "count"], {"stesp": 1}, "stesp: there is no setting 'stesp'; did you mean steps"),
    (["run", "join"], {"parts": ["nowhere"]}, "parts: there is no artifact named 'nowhere'"),
    (["run", "join"], {"parts": [5]}, "parts.0: artifact 5 does not exist: choose another dataset"),
    (["run", "join"], {"parts": []}, "parts: List should have at least 1 item"),
    (["run", "join"], {"parts": [True]}, "parts.0: Input should be a valid integer (given: True)"),
    (["run", "count"], [1], "settings are one JSON object"),
    (["run", "count", "/no/such.json"], None, "the settings /no/such.json cannot be read: No such file"),
    (["show", "run", 9], None, "there is no run 9"),
    (["show", "artifact", 9], None, "there is no artifact 9"),
    (["show", "thing", 9], None, "show takes run or artifact, and was given 'thing'"),
    (["metrics", 9], None, "there is no run 9"),
    (["scores", "m"], None, "there is no model 'm'"),
    (["export", "m", "out"], None, "there is no artifact 'm'"),
    (["export", 9, "out"], None, "there is no artifact 9"),
    (["promote", 9, "--step", 5], None, "run 9 has no whole checkpoint at step 5; there are: none"),
    (["stop", 9], None, "there is no run 9"),
    (["resume", 9], None, "there is no run 9"),
])  # fmt: skip
def test_what_cannot_be_done_says_why_with_status_2(here, tmp_path, words, settings, says):
    if settings is not None:
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        words = [*words, tmp_path / "settings.json"]
    status, _, error = here(*words)
    assert status == 2
    assert says in error


def test_settings_that_are_not_json_are_refused(dianjing):
    done = dianjing("run", "count", "-", given="{steps: 3}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), "one sentence, no traceback"
    assert "are not JSON" in done.stderr


def test_a_failed_run_has_status_1_and_can_be_resumed(dianjing):
    done = dianjing("run", "fail", "--json", settings={"how": "fixable"})
    assert done.returncode == 1
    assert last_line(done) == {"run": 1, "status": "failed", "outputs": {}, "error": "1 rows are too few: give at least 2"}
    assert dianjing("resume", 1).returncode == 1
    plain = dianjing("run", "fail", settings={"how": "kill"})
    assert plain.returncode == 1
    assert "run 2 (fail): killed (signal 9): probably out of memory, or killed by hand, last step 140 of 600" in plain.stderr


def test_a_run_whose_input_never_comes_has_not_succeeded(dianjing, machine):
    waiting = machine.submit("fail")
    done = dianjing("run", "join", "--json", settings={"parts": [waiting.outputs["nothing"]]})
    assert (done.returncode, last_line(done)["status"]) == (1, "skipped")


def follow(machine, *words):
    return subprocess.Popen([*WORDS, *words, "--home", str(machine.home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip


def test_control_c_saves_and_stops(machine):
    command = follow(machine, "run", "chain", "-", "--json")
    command.stdin.write('{"steps": 5000, "delay": 0.02}')
    command.stdin.close()
    eventually(lambda: _steps(machine) > 3)
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait(60) == 1
    told = json.loads(command.stdout.read().splitlines()[-1])
    assert told["status"] == "cancelled"
    assert [run["status"] for run in told["runs"]] == ["cancelled", "cancelled", "skipped"]
    assert "saving and stopping" in command.stderr.read()
    reached = json.loads((machine.home.run_folder(1) / "position.json").read_text())
    assert reached >= 3
    assert machine.row(1).step - reached in (0, 1)


def _steps(machine):
    with Session(machine.database) as session:
        return session.connection().exec_driver_sql("SELECT coalesce(max(step), 0) FROM run").scalar()


def test_a_run_is_stopped_from_another_terminal(machine, here):
    command = follow(machine, "run", "count", "-", "--json")
    command.stdin.write('{"steps": 5000, "delay": 0.02}')
    command.stdin.close()
    eventually(lambda: _steps(machine) > 3)
    assert "run 1 saves and stops" in here("stop", 1)[1]
    assert command.wait(60) == 1
    assert json.loads(command.stdout.read().splitlines()[-1])["status"] == "cancelled"


def test_two_commands_share_one_home(machine):
    """Both would dispatch; one does, and the other takes over when it leaves."""
    commands = [follow(machine, "run", "count", "-", "--json") for _ in range(2)]
    for command in commands:
        command.stdin.write('{"steps": 5, "delay": 0.01}')
        command.stdin.close()
    assert [command.wait(100) for command in commands] == [0, 0], [command.stderr.read() for command in commands]


def test_an_artifact_is_exported_and_a_checkpoint_promoted(dianjing, machine, here, tmp_path):
    dianjing("run", "count", settings={"save_as": "numbers"})
    assert here("export", "numbers", tmp_path / "out") == (0, f"copied to {tmp_path / 'out'}\n", "")
    assert (tmp_path / "out" / "train.jsonl").read_text().count("\n") == 5
    folder = machine.home.run_folder(1) / "checkpoints" / "checkpoint-5"
    folder.mkdir(parents=True)
    for name in ("trainer_state.json", "summary.json"):
        (folder / name).write_text("{}")
    assert here("promote", 1, "--step", 5)[1] == "artifact 2\n"


def test_a_dispatcher_leaves_when_its_companion_is_gone_and_the_work_is_done(machine):
    run = machine.start("count", steps=30, delay=0.02)
    gone = subprocess.Popen(["sleep", "60"])
    words = [*WORDS, "dispatch", "--no-spare", "--leave-with", str(gone.pid), "--home", str(machine.home.root)]
    dispatcher = subprocess.Popen(words)
    eventually(lambda: machine.row(run).status == "running")
    gone.kill()
    gone.wait()
    assert dispatcher.wait(60) == 0
    assert machine.row(run).status == "succeeded"


def test_a_dispatcher_that_is_told_to_leave_lets_go(machine):
    dispatcher = subprocess.Popen([*WORDS, "dispatch", "--no-spare", "--home", str(machine.home.root)])
    run = machine.start("count", steps=5000, delay=0.02)
    eventually(lambda: machine.row(run).status == "running")
    dispatcher.terminate()
    assert dispatcher.wait(30) == 0
    machine.dispatcher().close()
    assert machine.row(run).status == "running", "training goes on"
