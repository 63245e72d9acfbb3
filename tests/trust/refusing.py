"""What a reader refuses, and because of what: the detail is for the log, not for the peer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from postroom.core.errors import MailError


@contextmanager
def refuses(kind: type[MailError], because: str) -> Iterator[None]:
    """An error of that kind is raised within, and its detail says so."""
    with pytest.raises(kind) as caught:
        yield
    assert because in (caught.value.detail or "")
