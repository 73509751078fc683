"""Files that a person asked for. Each fault is one line."""

import os
from errno import EDQUOT, EFBIG, EIO, ENOSPC
from pathlib import Path

from evonas.search_space.errors import InputError, short


class DeviceError(InputError):
    """A device that takes no more. The path is not at fault."""

    exit_code = 1


def write(path: str | Path, content: str | bytes, mode: str = "w") -> None:
    """Write a file, a text in UTF-8. Raises InputError where it cannot be written, and FileExistsError with mode x."""
    data = content.encode() if isinstance(content, str) else content
    try:
        with Path(path).open(f"{mode}b") as file:
            file.write(data)
    except FileExistsError:
        raise
    except OSError as error:
        kind = DeviceError if error.errno in (ENOSPC, EDQUOT, EFBIG, EIO) else InputError
        raise kind(f"{short(str(path))}: cannot be written ({error.strerror})") from None
    except (ValueError, TypeError):
        raise InputError(f"{short(str(path))!r}: no name of a file") from None


def expect_writable(path: str | Path) -> None:
    """Raises InputError where a file cannot be written, before its content is computed. Leaves no file behind."""
    existed = isinstance(path, str | Path) and os.path.lexists(path)
    write(path, b"", "a")
    if not existed:
        Path(path).unlink()


def make_folder(path: Path) -> None:
    """Make a folder, and those above it. Raises InputError where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{short(str(path))}: cannot be made ({error.strerror})") from None


def expect_folder(path: Path) -> None:
    """Raises InputError where a folder cannot be made or written, before its files are computed. Leaves none behind."""
    absent = [each for each in (path, *path.parents) if not each.exists()]
    try:
        make_folder(path)
        expect_writable(path / "file")
    finally:
        for each in absent:
            if each.is_dir():
                each.rmdir()
