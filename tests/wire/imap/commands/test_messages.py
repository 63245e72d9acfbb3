"""STORE, COPY, MOVE, UID EXPUNGE."""

from __future__ import annotations

import pytest

from postroom.wire.imap import (
    Arguments,
    BadSyntax,
    Copy,
    SequenceSet,
    Store,
    StoreMode,
    UidExpunge,
)
from tests.wire.imap.commands.reading import read

SET = SequenceSet.parse


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"STORE 2:4 +FLAGS (\\Deleted)", Store(SET(b"2:4"), StoreMode.ADD, ("\\Deleted",))),
        (b"UID STORE 1 -flags.silent \\seen $Junk",
         Store(SET(b"1"), StoreMode.REMOVE, ("\\Seen", "$Junk"), silent=True)),
        (b"STORE 1:* FLAGS ()", Store(SET(b"1:*"), StoreMode.REPLACE, ())),
        (b"STORE $ FLAGS.SILENT (\\Seen)", Store(SET(b"$"), StoreMode.REPLACE, ("\\Seen",), True)),
        (b"UID STORE 6,4,8 (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\\Deleted)",
         Store(SET(b"4,6,8"), StoreMode.ADD, ("\\Deleted",), True, 12121230045)),  # RFC 7162 §3.1.3
        (b"STORE 12 (UNCHANGEDSINCE 0) +FLAGS ($MDNSent)",
         Store(SET(b"12"), StoreMode.ADD, ("$MDNSent",), False, 0)),
        (b"COPY 2:4 MEETING", Copy(SET(b"2:4"), "MEETING")),  # RFC 9051 §6.4.7
        (b"UID MOVE 42:69 foo", Copy(SET(b"42:69"), "foo")),  # §6.4.8
        (b"MOVE $ inbox", Copy(SET(b"$"), "INBOX")),
        (b"UID COPY 1 {3+}\r\na b", Copy(SET(b"1"), "a b")),
        (b"UID EXPUNGE 3000:3002", UidExpunge(SET(b"3000:3002"))),  # RFC 4315 §2.1
    ],
)  # fmt: skip
def test_the_examples_of_the_rfcs(line: bytes, arguments: Arguments) -> None:
    assert read(line) == arguments


@pytest.mark.parametrize(
    "line",
    [
        b"STORE",
        b"STORE 1",
        b"STORE 1 FLAGS",
        b"STORE 1 FLAGS ",
        b"STORE x FLAGS (\\Seen)",
        b"STORE 0 FLAGS (\\Seen)",
        b"STORE 1 *FLAGS (\\Seen)",
        b"STORE 1 +FLAGS.LOUD (\\Seen)",
        b"STORE 1 FLAGS. (\\Seen)",
        b"STORE 1 FLAGS (\\Seen) x",
        b"STORE 1 (UNCHANGEDSINCE) FLAGS ()",
        b"STORE 1 (CHANGEDSINCE 1) FLAGS ()",
        b"STORE 1 () FLAGS ()",
        b"COPY 1",
        b"COPY 1 a b",
        b'COPY 1 ""',
        b"MOVE a b",
        b"UID EXPUNGE",
        b"UID EXPUNGE 1 2",
    ],
)
def test_what_follows_no_grammar_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)
