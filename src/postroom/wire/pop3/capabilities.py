"""What a server says that it can do. RFC 2449 §5."""

from __future__ import annotations

from collections.abc import Iterable


def capabilities(lines: Iterable[bytes]) -> dict[str, tuple[str, ...]]:
    """The lines of CAPA: the parameters by the tag in upper case. What is no text is passed over.

    RFC 2449 §5. The first of two lines with one tag counts.
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        words = line.decode("ascii", "replace").split()
        if words:
            found.setdefault(words[0].upper(), tuple(words[1:]))
    return found
