"""Files are written whole or not at all."""

import errno
import os
import stat
from pathlib import Path
from typing import IO

import pytest

from ssimgen import _files
from ssimgen._files import remove_temporaries, writable_folder, write_atomically


def test_content_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"one", b"two"):
        write_atomically(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "ours", lambda file: file.write(b""))
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")}
    assert len(modes) == 1


@pytest.mark.parametrize("stage", ["write", "fsync", "replace"])
def test_failures_leave_the_old_content_and_no_litter(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write(file: IO[bytes]) -> None:
        file.write(b"new")
        if stage == "write":
            full()

    if stage == "fsync":
        monkeypatch.setattr(_files.os, "fsync", full)
    if stage == "replace":
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to the folder .*file/c: Not a directory; choose another one"):
        writable_folder(tmp_path / "file" / "c")


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    def killed(_: IO[bytes]) -> None:
        if os.fork() == 0:
            os._exit(0)  # leaves everything as it is
        os.wait()
        names.extend(file.name for file in tmp_path.iterdir())

    names: list[str] = []
    write_atomically(tmp_path / "a.txt", killed)
    (temporary,) = names
    for name in (temporary, ".a.txt.tmp", "mine.tmp", ".hidden"):
        (tmp_path / name).write_text("")
    remove_temporaries(tmp_path, "b*")
    assert (tmp_path / temporary).exists()
    remove_temporaries(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".a.txt.tmp", ".hidden", "a.txt", "mine.tmp"]


def test_trying_a_folder_leaves_no_name_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would stay if the process were killed meanwhile."""
    seen: list[str] = []
    real = _files.tempfile.TemporaryFile

    def spy(dir: Path) -> object:
        file = real(dir=dir)
        seen.extend(os.listdir(dir))
        return file

    monkeypatch.setattr(_files.tempfile, "TemporaryFile", spy)
    monkeypatch.setattr(_files.tempfile, "NamedTemporaryFile", None)
    writable_folder(tmp_path)
    assert seen == []
