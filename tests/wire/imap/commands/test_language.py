"""LANGUAGE: language ranges. RFC 5255 §3.5, RFC 4647 §2.1."""

from __future__ import annotations

import pytest

from postroom.testing.scaling import grows_linearly
from postroom.wire.imap import BadSyntax, ChooseLanguage, Cursor, parse_language


def read(line: bytes) -> tuple[str, ...]:
    """The ranges of a command's arguments."""
    asked = parse_language(Cursor(line))
    assert isinstance(asked, ChooseLanguage)
    return asked.ranges


@pytest.mark.parametrize(
    ("line", "ranges"),
    [
        (b"", ()),
        (b" DE", ("DE",)),
        (b' "de-CH" EN', ("de-CH", "EN")),
        (b" default", ("default",)),
        (b" i-default", ("i-default",)),
        (b' "*"', ("*",)),
        (b" x-private-8letters zh-Hant-TW", ("x-private-8letters", "zh-Hant-TW")),
    ],
)
def test_ranges(line: bytes, ranges: tuple[str, ...]) -> None:
    assert read(line) == ranges


@pytest.mark.parametrize(
    "line",
    [
        b" ",
        b"  DE",
        b" DE ",
        b' ""',
        b" (DE)",
        b" DE_CH",
        b" -DE",
        b" DE-",
        b" 1de",
        b" *",  # no astring: it has to be quoted
        b' "*-CH"',  # an extended range, RFC 4647 §2.2
        b" ninechars",
        b' "d\xc3\xa9"',
        b" de" + b"-a" * 16,
    ],
)
def test_what_is_no_range(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


def test_ranges_are_counted() -> None:
    assert len(read(b" fr" * 64)) == 64
    with pytest.raises(BadSyntax, match="Too many languages"):
        read(b" fr" * 65)


def test_reading_takes_linear_time() -> None:
    def refused(line: bytes) -> None:
        with pytest.raises(BadSyntax):
            read(line)

    for more in (b"-a", b"a", b"*", b"-"):
        assert grows_linearly(refused, b" de" + more * 1_000, b" de" + more * 20_000, times=20)
