"""Atomic and durable writes: a file or folder is replaced completely or not at all, and then survives a power cut.

New content is written in a workspace: a temporary folder `.lmzoo-*.tmp` beside the target, which is locked as long as
its process lives. The operating system releases the lock of a killed process, so that a later write can tell the
workspaces of killed processes from those in use, and delete them.
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lmzoo.errors import LmzooError, UsageError

_PREFIX, _SUFFIX = ".lmzoo-", ".tmp"
_HINTS = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "free some space or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_LONGEST_SHOWN = 80


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields the path of a temporary file, which replaces the file `path` at the end of the `with` block.

    The file is on the disk when the block ends. After an error the temporary file is deleted, and `path` is unchanged.
    """
    path = Path(path)
    with writing(path), _place_for(path) as new:
        yield new
        # Some libraries create private files; the final file has the permissions of the user's umask.
        new.chmod(0o666 & ~_umask())
        if new != path:
            sync(new)
            new.replace(path)
            sync(path.parent)


@contextmanager
def atomic_folder(path: str | Path, replaced: Collection[str] | None = None) -> Iterator[Path]:
    """Yields the path of a temporary folder, which replaces the folder `path` at the end of the `with` block.

    The old content of `path` is deleted, and the new content is on the disk when the block ends. If names are given in
    `replaced`, only old files and folders with these names are deleted, and all others stay. If `path` is a symbolic
    link, the folder to which it points is replaced. After an error the temporary folder is deleted, and the folder
    `path` is unchanged.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()
    with writing(path), temporary_folder(path.parent) as workspace:
        new = workspace / "new" / path.name
        new.mkdir(parents=True)
        yield new
        for content in new.rglob("*"):
            sync(content)
        if replaced is not None and path.exists():
            _keep_others(path, new, replaced)
        sync(new)
        if path.exists():
            # Two renames, because there is no portable way to swap folders; a kill between them is repaired later.
            path.replace(workspace / "old")
        new.replace(path)
        sync(path.parent)


def _keep_others(folder: Path, new: Path, replaced: Collection[str]) -> None:
    """Gives the content of a folder a second path in the folder `new`, except for what has a name in `replaced`.

    Files get hard links, so that large ones need no time and no space, and that no writing process loses its file.
    """

    def left_out(parent: str, names: list[str]) -> Collection[str]:
        return replaced if Path(parent) == folder else ()

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # some file systems have no hard links
            shutil.copy2(source, target)
            sync(Path(target))

    try:
        shutil.copytree(folder, new, symlinks=True, ignore=left_out, copy_function=link, dirs_exist_ok=True)
    except shutil.Error as error:
        source, _, reason = error.args[0][0]
        raise LmzooError(f"cannot keep {source}: {reason}; move it, or choose another folder than {folder}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Converts an OSError inside the `with` block, such as a full disk, to an LmzooError that names the file `path`."""
    try:
        yield
    except OSError as error:
        raise LmzooError(f"cannot write {describe_os_error(error, _final(path))}") from error


def temporary_files_error(
    error: OSError, what: str = "temporary files", folder: str | Path | None = None
) -> LmzooError:
    """Returns the error for temporary files that cannot be written, for example because the disk is full.

    `folder` is the folder of the files; None stands for the system's folder for temporary files.
    """
    return LmzooError(
        f"cannot write {what} to {folder or tempfile.gettempdir()}: {error.strerror}; "
        "free some space, or set the environment variable TMPDIR to a folder on a larger disk"
    )


def describe_os_error(error: OSError, path: str | Path | None) -> str:
    """Returns the message for an error of the file system at a path: the path, the reason, and what to do.

    `path` is None if the error names none. The system does so if the current folder has been deleted.
    """
    reason = error.strerror or str(error)
    if path is None:
        return "the current folder was deleted: change to another folder" if _has_no_current_folder() else reason
    path = Path(path)
    shown = Path(*(part if len(part) <= _LONGEST_SHOWN else f"{part[:_LONGEST_SHOWN]}..." for part in path.parts))
    if isinstance(error, FileExistsError | NotADirectoryError):
        blocking = next((parent for parent in path.parents if parent.is_file()), None)
        if blocking:
            return f"{shown}: {blocking} is a file, not a folder; choose another place"
    return f"{shown}: {reason}; {_HINTS.get(error.errno or errno.ENOSPC, 'choose another place')}"


def _has_no_current_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return True
    return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock on the file `path` inside the `with` block, and deletes the file afterwards.

    Missing folders are created for the file, and deleted again at the end if they are empty. If a process is killed,
    its lock is released. Raises UsageError if another process holds the lock.
    """
    with writing(path):
        new_folders = [folder for folder in path.parents if not folder.exists()]
        make_folder(path.parent)
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UsageError(f"another process holds {path}: wait until it ends, or choose another name") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows cannot delete an open file
            path.unlink()
        lock.release()
        with suppress(OSError):  # work that failed leaves no empty folders
            for folder in new_folders:
                folder.rmdir()


def remove_remains(folder: Path, *, recursive: bool = False) -> None:
    """Deletes the temporary files that killed processes left in a folder, or with `recursive` also in its subfolders.

    Files of running processes are not deleted. If a process was killed while it replaced a folder by a new one, the
    replacement is completed first.
    """
    pattern = f"{_PREFIX}*{_SUFFIX}"
    for workspace in [*(folder.rglob(pattern) if recursive else folder.glob(pattern))]:
        with suppress(OSError, Timeout, NotImplementedError), FileLock(workspace / "lock", blocking=False):
            _clear(workspace)


def is_workspace(path: Path) -> bool:
    """Returns True if a path has the name of a temporary folder that `atomic_file` and `atomic_folder` create."""
    return path.name.startswith(_PREFIX) and path.name.endswith(_SUFFIX)


def make_folder(folder: Path) -> None:
    """Creates a folder and its missing parent folders, and waits until they are on the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Waits until the content of a file, or the list of names in a folder, is on the disk."""
    if path.is_dir():
        if os.name == "nt":  # Windows cannot open folders
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems cannot do this for folders
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    else:
        mode = "rb+" if os.name == "nt" else "rb"  # Windows syncs only files that are open for writing
        with path.open(mode) as file:
            os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def private_folder() -> tuple[Path | None, bool]:
    """Returns a folder for temporary files to which no other user can write, and True if it was created by this call.

    None is returned in place of the folder if it cannot be created, or if another user owns it or may write to it. Such
    a user could put malicious code into the folder.
    """
    user = os.getuid() if sys.platform != "win32" else getpass.getuser()
    try:
        folder = Path(tempfile.gettempdir()) / f"lmzoo-{user}"
        try:
            folder.mkdir(mode=0o700)
            return folder, True
        except FileExistsError:
            found = folder.lstat()
        is_own = sys.platform == "win32" or (found.st_uid == user and not found.st_mode & 0o077)
        return (folder if stat.S_ISDIR(found.st_mode) and is_own and os.access(folder, os.W_OK) else None), False
    except OSError:
        return None, False


@contextmanager
def _place_for(path: Path) -> Iterator[Path]:
    """Yields the path to which the new content of the file `path` is written, before it is moved to `path`.

    This path lies in a new temporary folder. Only if `path` is inside a folder that is itself being written atomically,
    the content is written to `path` directly.
    """
    if any(map(is_workspace, path.parents)):
        yield path
    else:
        with temporary_folder(path.parent) as workspace:
            yield workspace / path.name


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yields a new temporary folder inside the folder `parent`, and deletes it at the end of the `with` block.

    This process locks the folder, so that other processes do not delete it as the leftover of a killed process.
    """
    make_folder(parent)
    remove_remains(parent)
    workspace = lock = None
    while lock is None:
        workspace = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX, suffix=_SUFFIX))
        with suppress(FileNotFoundError):  # before it was locked, another process took it for remains
            lock = FileLock(workspace / "lock").acquire()
    assert workspace is not None
    try:
        with lock:
            yield workspace
    finally:
        _clear(workspace)


def _final(path: Path) -> Path:
    """Returns the path that a file will have after the temporary folder that contains it has been moved.

    A path outside such folders is returned unchanged.
    """
    for parent in path.parents:
        if is_workspace(parent):
            return parent.parent / path.relative_to(parent / "new")
    return path


def _clear(workspace: Path) -> None:
    """Deletes the temporary folder `workspace`, and first completes a replacement of a folder that was interrupted.

    A folder is replaced by two renames: the old folder is moved into the temporary folder, and then the new folder
    takes its place. If the process was killed between the two, the second rename is done now. If that fails, the old
    folder is moved back.
    """
    old = workspace / "old"
    if old.exists():
        for new in (workspace / "new").iterdir():  # empty if the second rename was done
            target = workspace.parent / new.name
            if not target.exists():
                try:
                    new.replace(target)
                except OSError:
                    old.replace(target)
    for parent, names, _ in os.walk(workspace):
        for folder in (Path(parent, name) for name in names):
            if not folder.is_symlink():
                with suppress(OSError):  # it belongs to another user
                    folder.chmod(stat.S_IRWXU)  # nothing can be deleted from a read-only folder
    shutil.rmtree(workspace, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
