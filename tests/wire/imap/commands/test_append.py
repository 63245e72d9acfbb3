"""APPEND up to its messages; how they are streamed is in test_receiver."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from postroom.wire.imap import (
    Append,
    AppendMessage,
    BadSyntax,
    Cursor,
    Parts,
    Then,
    parse_append_more,
    parse_parts,
)
from tests.wire.imap.commands.reading import read

DATE = datetime(1994, 2, 7, 21, 52, 25, tzinfo=timezone(timedelta(hours=-8)))


@pytest.mark.parametrize(
    ("line", "append"),
    [
        (b"APPEND saved-messages (\\Seen) {326}",
         Append("saved-messages", AppendMessage(("\\Seen",)))),  # RFC 9051 §6.3.12
        (b"APPEND x {1+}", Append("x", AppendMessage())),
        (b"APPEND x () {1+}", Append("x", AppendMessage())),
        (b'APPEND x " 7-Feb-1994 21:52:25 -0800" {1}', Append("x", AppendMessage((), DATE))),
        (b'APPEND "a b" (\\Seen $Junk) " 7-Feb-1994 21:52:25 -0800" ~{1}',
         Append("a b", AppendMessage(("\\Seen", "$Junk"), DATE))),
        (b"APPEND x (\\Seen) CATENATE (URL y)",
         Append("x", AppendMessage(("\\Seen",), catenate=True))),
        (b"APPEND x catenate (TEXT {1+}", Append("x", AppendMessage(catenate=True))),
        (b"APPEND {1}\r\nx (\\Draft) UTF8 (~{1}",
         Append("x", AppendMessage(("\\Draft",), utf8=True))),
    ],
)  # fmt: skip
def test_what_is_said_of_the_first_message(line: bytes, append: Append) -> None:
    assert read(line) == append


@pytest.mark.parametrize(
    "line",
    [
        b"APPEND",
        b"APPEND x",
        b"APPEND x ",
        b"APPEND x (\\Seen)",
        b"APPEND x (\\Seen){1+}",
        b"APPEND x (\\Seen)  {1+}",
        b'APPEND x "7-Feb-1994" {1+}',
        b'APPEND x " 7-Feb-1994 21:52:25 -0800" (\\Seen) {1+}',
        b"APPEND x UTF8 {1+}",
        b"APPEND x FOO (~{1+}",
        b"APPEND x message",
        b'APPEND x "message"',
        b"APPEND  {1+}",
    ],
)
def test_what_follows_no_grammar_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


def test_what_is_said_of_the_next_message() -> None:
    plain, inside = AppendMessage(), AppendMessage(utf8=True)
    assert parse_append_more(Cursor(b""), plain) is None
    assert parse_append_more(Cursor(b")"), inside) is None
    assert parse_append_more(Cursor(b" (\\Seen) ", more=True), plain) == AppendMessage(("\\Seen",))
    assert parse_append_more(Cursor(b") UTF8 (", more=True), inside) == inside
    for cursor, before in (
        (Cursor(b" "), plain),
        (Cursor(b")"), plain),
        (Cursor(b""), inside),
        (Cursor(b"", more=True), plain),
    ):
        with pytest.raises(BadSyntax):
            parse_append_more(cursor, before)


@pytest.mark.parametrize(
    ("line", "after", "parts"),
    [
        (b"URL x)", None, Parts((b"x",), Then.END)),
        (b'url /x/;UID=1 Url "a \\"b")', None, Parts((b"/x/;UID=1", b'a "b'), Then.END)),
        (b"TEXT ", None, Parts((), Then.TEXT)),
        (b"UTF8 (", None, Parts((), Then.UTF8)),
        (b"URL ", None, Parts((), Then.URL)),
        (b" URL x TEXT ", Then.TEXT, Parts((b"x",), Then.TEXT)),
        (b") URL x UTF8 (", Then.UTF8, Parts((b"x",), Then.UTF8)),
        (b")", Then.TEXT, Parts((), Then.END)),
        (b"))", Then.UTF8, Parts((), Then.END)),
    ],
)
def test_the_parts_of_a_catenate(line: bytes, after: Then | None, parts: Parts) -> None:
    """RFC 4469 §5; a literal ends what is read at once."""
    args = Cursor(line, more=parts.then is not Then.END)
    assert parse_parts(args, after) == parts
    assert args.at_end is (parts.then is Then.END)


@pytest.mark.parametrize("after", [None, Then.TEXT, Then.UTF8, Then.URL])
@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize(
    "line",
    [b"", b" ", b"(", b"URL", b"URL  x)", b"URL x", b"URL x ", b"TEXT", b'TEXT "x")', b"FILE x)",
     b"URL x,URL y)", b" )", b" URL x )", b"UTF8 x)", b" TEXT x)", b"TEXT {1}"],
)  # fmt: skip
def test_what_are_no_parts_is_refused(line: bytes, more: bool, after: Then | None) -> None:
    with pytest.raises(BadSyntax):
        parse_parts(Cursor(line, more=more), after)
