"""Atomic writes: what killed processes leave, what a power cut may take, and what error messages say."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lmzoo.errors import LmzooError, UsageError
from lmzoo.system import files
from lmzoo.system.files import atomic_file, atomic_folder, locked, remove_remains

DIES = "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL if hasattr(signal, 'SIGKILL') else signal.SIGTERM)"


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    code = "import sys\nfrom pathlib import Path\nfrom lmzoo.system.files import *\nimport lmzoo.system.files\n" + code
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    with atomic_file(path) as new:
        new.write_text("first")
        assert not path.exists()
    assert path.stat().st_mode & 0o777 == 0o666 & ~files._umask()
    with suppress(ZeroDivisionError), atomic_file(path) as new:
        new.write_text("second")
        raise ZeroDivisionError
    assert path.read_text() == "first"
    assert names(path.parent) == ["a.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in ("first", "second"):
        with atomic_folder(path) as new:
            (new / content).write_text(content)
    with suppress(ZeroDivisionError), atomic_folder(path) as new:
        (new / "third").touch()
        raise ZeroDivisionError
    assert names(path) == ["second"]
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_other_files_of_a_folder_stay(tmp_path: Path) -> None:
    path = tmp_path / "a"
    (path / "plots").mkdir(parents=True)
    for name in ("old", "large", "plots/old"):
        (path / name).write_text(name)
    (path / "large").chmod(0o400)
    (path / "link").symlink_to("nowhere")
    os.mkfifo(path / "pipe")
    path.chmod(0o700)
    number = (path / "large").stat().st_ino
    with atomic_folder(path, replaced={"old", "new"}) as new:
        (new / "new").write_text("new")
    assert names(path) == ["large", "link", "new", "pipe", "plots"]
    assert names(path / "plots") == ["old"]
    assert (path / "large").stat().st_ino == number, "it was not copied"
    assert (path / "link").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no read-only folders")
def test_a_read_only_folder_stays_and_leaves_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, elsewhere = tmp_path / "a", tmp_path / "elsewhere"
    (path / "plots" / "old").mkdir(parents=True)
    (path / "plots" / "old" / "figure").write_text("figure")
    elsewhere.mkdir(mode=0o500)
    (path / "plots" / "link").symlink_to(elsewhere)
    for folder in (path / "plots" / "old", path / "plots"):
        folder.chmod(0o500)
    for name in ("unlink", "rmdir"):  # the administrator, too, cannot delete files of a read-only folder
        monkeypatch.setattr(os, name, only_in_writable_folders(getattr(os, name)))
    with atomic_folder(path, replaced={"new"}) as new:
        (new / "new").write_text("new")
    assert names(tmp_path) == ["a", "elsewhere"]
    assert (path / "plots" / "old" / "figure").read_text() == "figure"
    modes = [folder.stat().st_mode & 0o777 for folder in (path / "plots", path / "plots" / "old", elsewhere)]
    assert modes == [0o500] * 3


def only_in_writable_folders(delete: Callable[..., None]) -> Callable[..., None]:
    def checked(path: Any, *, dir_fd: int | None = None) -> None:
        folder = os.fstat(dir_fd) if dir_fd is not None else Path(path).absolute().parent.stat()
        if not folder.st_mode & stat.S_IWUSR:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        delete(path, dir_fd=dir_fd)

    return checked


def test_a_process_that_writes_a_file_does_not_lose_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    with (path / "log").open("w") as log:
        with atomic_folder(path, replaced=()):
            pass
        log.write("written later")
    assert (path / "log").read_text() == "written later"


def test_other_files_are_copied_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.mkdir()
    (path / "notes").write_text("notes")

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    with atomic_folder(path, replaced=()):
        pass
    assert (path / "notes").read_text() == "notes"
    monkeypatch.setattr(shutil, "copy2", fail)
    with (
        pytest.raises(LmzooError, match=r"cannot keep .*notes: .*No space left on device; move it, or choose another"),
        atomic_folder(path, replaced=()),
    ):
        pass
    assert (path / "notes").read_text() == "notes"
    assert names(tmp_path) == ["a"]


def test_the_folder_behind_a_link_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "disk" / "a", tmp_path / "link"
    target.mkdir(parents=True)
    (target / "first").touch()
    link.symlink_to(target)
    with atomic_folder(link) as new:
        (new / "second").touch()
    assert link.is_symlink()
    assert names(target) == ["second"]
    assert (names(tmp_path), names(target.parent)) == (["disk", "link"], ["a"])


def test_an_interrupt_between_the_two_renames_loses_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    with atomic_folder(path) as new:
        (new / "first").touch()
    rename = Path.replace

    def interrupt(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        monkeypatch.undo()
        raise KeyboardInterrupt(moved)

    with suppress(KeyboardInterrupt), atomic_folder(path) as new:
        (new / "second").touch()
        monkeypatch.setattr(Path, "replace", interrupt)
    assert names(path) == ["second"]
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "code",
    [
        "with atomic_file(Path(sys.argv[1]) / 'x') as new:\n    new.write_text('half')",
        "with atomic_folder(Path(sys.argv[1]) / 'x') as new:\n    (new / 'half').write_text('half')",
        "with atomic_folder(Path(sys.argv[1]) / 'x') as new, atomic_file(new / 'half') as half:\n    half.touch()",
    ],
)
def test_the_next_write_removes_what_a_killed_process_left(code: str, tmp_path: Path) -> None:
    run_python(code + DIES.replace("\n", "\n    "), tmp_path)
    assert len(names(tmp_path)) == 1
    with atomic_file(tmp_path / "y") as new:
        new.touch()
    assert names(tmp_path) == ["y"]


def test_a_folder_that_was_being_replaced_is_completed(tmp_path: Path) -> None:
    """A kill between the two renames leaves no folder in its place; the next write moves the new one there."""
    path = tmp_path / "a"
    with atomic_folder(path) as new:
        (new / "first").touch()
    kill_after_first_rename = (
        "rename = Path.replace\n"
        "def dies(self, target):\n"
        "    rename(self, target)" + DIES.replace("\n", "\n    ") + "\n"
        "Path.replace = dies\n"
        "with atomic_folder(Path(sys.argv[1])) as new:\n"
        "    (new / 'second').touch()\n"
    )
    run_python(kill_after_first_rename, path)
    assert not path.exists()
    remove_remains(tmp_path)
    assert names(path) == ["second"]
    assert names(tmp_path) == ["a"]


def test_files_of_living_processes_and_of_others_are_kept(tmp_path: Path) -> None:
    others = [".a.tmp", ".results.jsonl.12345678.tmp", "lmzoo-1.tmp"]
    for name in others:
        (tmp_path / name).touch()
    with atomic_file(tmp_path / "a") as new:
        new.write_text("whole")
        assert (
            run_python("with atomic_file(Path(sys.argv[1])) as new:\n    new.touch()", tmp_path / "b").returncode == 0
        )
        remove_remains(tmp_path)
    assert (tmp_path / "a").read_text() == "whole"
    assert names(tmp_path) == sorted([*others, "a", "b"])


def test_remains_below_a_folder(tmp_path: Path) -> None:
    deep = tmp_path / "sub" / "sub"
    run_python(
        "with atomic_file(Path(sys.argv[1])) as new:\n    new.touch()" + DIES.replace("\n", "\n    "), deep / "a"
    )
    remove_remains(tmp_path)
    assert len(names(deep)) == 1
    remove_remains(tmp_path, recursive=True)
    assert names(deep) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows does not sync folders")
def test_what_is_written_is_on_the_disk_before_and_after_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content first, then the name, then the folder: at no moment can a power cut leave a name without its content."""
    told: list[str] = []
    sync, rename = os.fsync, Path.replace

    def path_of(descriptor: int) -> str:
        inode = os.fstat(descriptor).st_ino
        return next(path.name for path in [tmp_path, *tmp_path.rglob("*")] if path.stat().st_ino == inode)

    def note_sync(descriptor: int) -> None:
        told.append(path_of(descriptor))
        sync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        told.append(f"-> {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    with atomic_file(tmp_path / "file") as new:
        new.write_text("text")
    assert told == ["file", "-> file", tmp_path.name]
    told.clear()
    with atomic_folder(tmp_path / "folder") as new, atomic_file(new / "part") as part:
        part.write_text("text")
    assert told == ["part", "folder", "-> folder", tmp_path.name]
    told.clear()
    files.make_folder(tmp_path / "one" / "two")
    assert told == [tmp_path.name, "one"]


def test_errors_name_the_target(tmp_path: Path) -> None:
    (tmp_path / "afile").touch()
    message = r"cannot write .*afile/x: .*afile is a file, not a folder; choose another place"
    with pytest.raises(LmzooError, match=message), atomic_file(tmp_path / "afile" / "x") as new:
        new.touch()
    message = r"cannot write .*: File name too long; choose a shorter name"
    with pytest.raises(LmzooError, match=message) as told, atomic_file(tmp_path / ("x" * 300)) as new:
        new.touch()
    assert len(str(told.value)) < 300
    with pytest.raises(LmzooError) as told, atomic_folder(tmp_path / "run") as new, atomic_file(new / "arrays"):
        raise OSError(28, "No space left on device")
    message = f"cannot write {tmp_path / 'run' / 'arrays'}: No space left on device; free some space"
    assert str(told.value).startswith(message)
    assert ".tmp" not in str(told.value)


def test_names_of_250_characters_work(tmp_path: Path) -> None:
    for write in (atomic_file, atomic_folder):
        with write(tmp_path / (write.__name__[-4:] + "x" * 246)) as new:
            (new.touch if write is atomic_file else (new / "a").touch)()
    assert len(names(tmp_path)) == 2


def test_a_lock_is_free_after_a_kill_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "lock"
    run_python("with locked(Path(sys.argv[1])):" + DIES.replace("\n", "\n    "), path)
    assert path.exists()
    message = r"another process holds .*lock: wait until it ends"
    with locked(path), pytest.raises(UsageError, match=message), locked(path):
        raise AssertionError
    assert names(path.parent) == []
    with locked(tmp_path / "a" / "b" / "lock"), locked(tmp_path / "c" / "lock"):
        (tmp_path / "c" / "work").touch()
    assert names(tmp_path) == ["c", "sub"]
