"""Commands about annotations: the examples of RFC 5464 and RFC 9590, and round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import (
    Arguments,
    BadSyntax,
    GetMetadata,
    List,
    SetMetadata,
    astring,
    literal8,
    mailbox_name,
    nstring,
)
from postroom.wire.imap.commands.metadata import ENTRIES
from tests.wire.imap.commands.reading import read
from tests.wire.imap.commands.test_mailboxes import NAME


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (b'GETMETADATA "" /shared/comment', GetMetadata("", ("/shared/comment",))),
        (b'GETMETADATA "INBOX" /private/comment', GetMetadata("INBOX", ("/private/comment",))),
        (
            b'GETMETADATA "INBOX" (/shared/comment "/private/comment")',
            GetMetadata("INBOX", ("/shared/comment", "/private/comment")),
        ),
        (
            b"GETMETADATA (MAXSIZE 1024) INBOX (/shared/comment)",
            GetMetadata("INBOX", ("/shared/comment",), maxsize=1024),
        ),
        (
            b'GETMETADATA "INBOX" (MAXSIZE 1024) (/shared/comment /private/comment)',
            GetMetadata("INBOX", ("/shared/comment", "/private/comment"), maxsize=1024),
        ),
        (
            b'GETMETADATA (DEPTH 1) "INBOX" (/private/filters/values)',
            GetMetadata("INBOX", ("/private/filters/values",), depth=1),
        ),
        (
            b'getmetadata (depth Infinity maxsize 0) "" /private',
            GetMetadata("", ("/private",), maxsize=0, depth=None),
        ),
        (
            b'GETMETADATA "INBOX" /private/comment /shared/comment',
            GetMetadata("INBOX", ("/private/comment", "/shared/comment")),
        ),
        (b"GETMETADATA (DEPTH 0) x /shared/a", GetMetadata("x", ("/shared/a",))),
        (b"GETMETADATA inbox {9+}\r\n/shared/a", GetMetadata("INBOX", ("/shared/a",))),
        (
            b"SETMETADATA INBOX (/private/comment {33}\r\nMy new comment across\r\ntwo lines.)",
            SetMetadata("INBOX", (("/private/comment", b"My new comment across\r\ntwo lines."),)),
        ),
        (
            b'SETMETADATA INBOX (/private/comment NIL "/shared/x" "")',
            SetMetadata("INBOX", (("/private/comment", None), ("/shared/x", b""))),
        ),
        (
            b'SETMETADATA "" (/private/a ~{3+}\r\n\0\r\n /private/b ~{1}\r\n\xff)',
            SetMetadata("", (("/private/a", b"\0\r\n"), ("/private/b", b"\xff"))),
        ),
        (
            b'LIST "" % RETURN (METADATA ("/shared/vendor/a/color") CHILDREN)',
            List(
                "",
                ("%",),
                returns=frozenset({"CHILDREN"}),  # type: ignore[arg-type]  # StrEnum equals it
                extended=True,
                metadata=("/shared/vendor/a/color",),
            ),
        ),
        (
            b'LIST "" % RETURN (METADATA /private/comment)',
            List("", ("%",), extended=True, metadata=("/private/comment",)),
        ),
    ],
)
def test_examples_are_read(line: bytes, asked: Arguments) -> None:
    if b"{33}" in line:
        line = line.replace(b"{33}", b"{%d}" % len(b"My new comment across\r\ntwo lines."))
    assert read(line) == asked


@pytest.mark.parametrize(
    "line",
    [
        b"GETMETADATA",
        b"GETMETADATA INBOX",
        b"GETMETADATA INBOX ()",
        b"GETMETADATA () INBOX /shared/a",
        b"GETMETADATA (DEPTH 2) INBOX /shared/a",
        b"GETMETADATA (DEPTH) INBOX /shared/a",
        b"GETMETADATA (MAXSIZE -1) INBOX /shared/a",
        b"GETMETADATA (MAXSIZE 1 MAXSIZE 2) INBOX /shared/a",
        b"GETMETADATA (SHALLOW 1) INBOX /shared/a",
        b"GETMETADATA (DEPTH 1) INBOX (DEPTH 1) /shared/a",
        b"GETMETADATA INBOX (/shared/a) /shared/b",
        b"GETMETADATA INBOX /shared/a (/shared/b)",
        b"GETMETADATA INBOX /shared/a ",
        b"GETMETADATA INBOX (/shared/a  /shared/b)",
        b"GETMETADATA INBOX {3+}\r\n\xff\xff\xff",
        b"GETMETADATA INBOX ~{3+}\r\n/sh",
        b"SETMETADATA INBOX",
        b"SETMETADATA INBOX ()",
        b"SETMETADATA INBOX (/shared/a)",
        b"SETMETADATA INBOX /shared/a x",
        b"SETMETADATA INBOX (/shared/a x)",
        b'SETMETADATA INBOX (/shared/a "x" /shared/b)',
        b"SETMETADATA INBOX (/shared/a {1+}\r\n\0)",
        b"SETMETADATA INBOX (~{3+}\r\n/sh NIL)",
        b'LIST "" % RETURN (METADATA)',
        b'LIST "" % RETURN (METADATA ())',
    ],
)
def test_what_the_grammar_does_not_know_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


def test_no_more_entries_than_anybody_needs() -> None:
    names = b" ".join(b"/shared/%d" % n for n in range(ENTRIES))
    asked = read(b"GETMETADATA x (" + names + b")")
    assert isinstance(asked, GetMetadata)
    assert len(asked.entries) == ENTRIES
    for line in (b"GETMETADATA x (%b /shared/z)", b'LIST "" x RETURN (METADATA (%b /shared/z))'):
        with pytest.raises(BadSyntax):
            read(line % names)


ENTRY = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20)


@given(NAME, st.lists(st.tuples(ENTRY, st.none() | st.binary(max_size=40)), min_size=1, max_size=5))
def test_what_is_rendered_is_read_back(
    mailbox: str, values: list[tuple[str, bytes | None]]
) -> None:
    pairs = [
        astring(name.encode()) + b" " + (literal8(v) if v and b"\0" in v else nstring(v))
        for name, v in values
    ]
    line = b"SETMETADATA " + mailbox_name(mailbox) + b" (" + b" ".join(pairs) + b")"
    assert read(line) == SetMetadata(mailbox, tuple(values))
