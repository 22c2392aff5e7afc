"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from napari_pickbias.errors import InputError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run again with --resume",
    errno.EDQUOT: "the disk quota is used up; free some space and run again with --resume",
    errno.EFBIG: "the file grew beyond the size limit of this session; raise the limit and run again with --resume",
    errno.EACCES: "writing there is not permitted; choose another folder or change its permissions",
    errno.EPERM: "writing there is not permitted; choose another folder or change its permissions",
    errno.EROFS: "that file system is read-only; choose another folder",
    errno.ENOENT: "its folder does not exist; create it first",
    errno.ENOTDIR: "part of that path is a file, not a folder; choose another folder",
}


def is_users_matter(error: OSError) -> bool:
    """Return True for a full disk, missing permission and the like: faults that the user can mend."""
    return error.errno in _REASONS


def write_fault(path: str | Path, error: OSError) -> InputError:
    """Return the user's view of a failed write: one line that names the file, the reason and the mend."""
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}; mend that and run again with --resume")
    return InputError(f"{path}: cannot be written: {reason}")


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that becomes ``target`` when the block ends well.

    The temporary file is flushed to disk before it is renamed, and removed when the block raises (also on Ctrl-C), so
    a reader sees the old file, the new file, or none: never a part of one.

    Raises
    ------
    InputError
        When the file cannot be written (disk full, no permission, read-only file system, missing folder).
    """
    target = Path(target)
    # The hidden name keeps half-written files out of globs; the process number keeps two writers apart.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            yield temporary
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, target)  # noqa: PTH105 (the atomic call, by its name)
        except OSError as error:
            raise write_fault(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(target: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all; see :func:`atomic_path`."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")
