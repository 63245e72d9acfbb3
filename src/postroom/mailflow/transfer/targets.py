"""Where an export goes: an empty place, and files that nobody had."""

from __future__ import annotations

import os
from typing import BinaryIO

from postroom.core.errors import AlreadyExists, Misuse
from postroom.mailflow.transfer.items import process_user, why


def make_directory(path: str) -> None:
    """Make a directory, or take one that is empty. Raises AlreadyExists, Misuse. Blocks."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        try:
            names = os.listdir(path)
        except OSError as error:
            raise _refused(path, error) from error
        if names:
            raise AlreadyExists(f"{path} is not empty, and nothing is overwritten") from None
    except OSError as error:
        raise _refused(path, error) from error


def make_folder(path: str) -> None:
    """Make a directory if it is not there, and those above it. Raises Misuse. Blocks."""
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from error


def make_file(path: str) -> BinaryIO:
    """A new file. Raises AlreadyExists, Misuse. Blocks."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o600), "wb", buffering=1 << 20)
    except FileExistsError:
        raise AlreadyExists(f"{path} is there, and nothing is overwritten") from None
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: str, error: OSError) -> Misuse:
    return Misuse(
        f"{path} cannot be written: {why(error)}. It is written as {process_user()}, the user of "
        "the server's data, on the server's machine"
    )
