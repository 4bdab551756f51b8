import pytest

from files.atomic import atomic_file, atomic_folder, clear_leftovers, locked


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "file") as file:
        file.write(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_folders_are_replaced_whole(tmp_path):
    for content in ("first", "second"):
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / content).write_text(content)
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder") as folder:
        (folder / "third").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["second"]


def test_leftovers_go_but_for_what_is_locked(tmp_path):
    for name in (".a.abcd1234.tmp", ".b.abcd1234.tmp", ".c.txt.abcd1234.tmp", ".d.abcd1234.old/d", "b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".b.abcd1234.tmp/part").touch()
    with locked(tmp_path / "a") as had, locked(tmp_path / "a", wait=False) as again:
        assert (had, again) == (True, False)
        assert not (tmp_path / ".a.abcd1234.tmp").exists()
        (tmp_path / ".a.wxyz1234.tmp").mkdir()
        clear_leftovers(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".a.lock", ".a.wxyz1234.tmp", "b", "d"]
    with locked(tmp_path / "a", wait=False) as had:
        assert had
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "d"]
