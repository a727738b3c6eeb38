"""Artifact folders appear whole, in one rename."""

import os
import time

from storage.files import Home, default_home, forget_old, fresh, put_in_place


def test_a_folder_takes_its_place_whole(home):
    aside, place = fresh(home.aside(3)), home.artifact_folder(3)
    (aside / "deep").mkdir()
    (aside / "deep" / "weights").write_bytes(b"x" * 1000)
    (aside / "card.json").write_bytes(b"{}")
    assert put_in_place(aside, place) == 1002
    assert not aside.exists()
    assert sorted(p.name for p in place.rglob("*")) == ["card.json", "deep", "weights"]


def test_what_a_dead_run_left_is_replaced(home):
    stale = fresh(home.artifact_folder(3))
    (stale / "half").write_text("x")
    aside = fresh(home.aside(3))
    (aside / "whole").write_text("x")
    put_in_place(aside, home.artifact_folder(3))
    assert [p.name for p in home.artifact_folder(3).iterdir()] == ["whole"]


def test_fresh_is_empty(tmp_path):
    folder = fresh(tmp_path / "a")
    (folder / "old").write_text("x")
    assert not list(fresh(folder).iterdir())


def test_only_what_is_old_is_forgotten(tmp_path):
    for name in ("old/rows", "new/rows", "tmp1", "tmp2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in ("old/rows", "old", "tmp1"):
        os.utime(tmp_path / name, (1000, 1000))
    forget_old(tmp_path, before=2000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "tmp2"], "a folder that just lost its file waits"
    forget_old(tmp_path, before=time.time() + 60)
    assert not list(tmp_path.iterdir())
    forget_old(tmp_path / "nowhere", before=2000)


def test_the_home_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("DIANJING_HOME", str(tmp_path / "x"))
    monkeypatch.setenv("DIANJING_DATABASE", "postgresql://somewhere")
    assert default_home().root == tmp_path / "x"
    assert Home(tmp_path).database_url == "postgresql://somewhere"
    monkeypatch.setenv("DIANJING_HOME", "")
    monkeypatch.setenv("DIANJING_DATABASE", "")
    assert default_home().root.name == ".dianjing"
    assert Home(tmp_path).database_url == f"sqlite:///{tmp_path}/dianjing.db"
