"""REPLACE up to its message; how that is streamed is in test_receiver. RFC 8508 §5."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.imap import (
    GRAMMAR,
    Append,
    AppendMessage,
    BadSyntax,
    Cursor,
    Replace,
    SequenceSet,
)
from tests.wire.imap.commands.reading import read


@pytest.mark.parametrize(
    ("line", "number", "append"),
    [
        (b"REPLACE 4 Drafts (\\Seen \\Draft) {312}", SequenceSet.of([4]),
         Append("Drafts", AppendMessage(("\\Seen", "\\Draft")))),  # RFC 8508 §3.3
        (b"REPLACE * inbox {1+}", SequenceSet.parse(b"*"), Append("INBOX", AppendMessage())),
        (b"UID REPLACE 4294967295 {1}\r\nx UTF8 (~{1}", SequenceSet.of([4294967295]),
         Append("x", AppendMessage(utf8=True))),
    ],
)  # fmt: skip
def test_which_message_and_what_is_said_of_the_new_one(
    line: bytes, number: SequenceSet, append: Append
) -> None:
    assert read(line) == Replace(number, append)


@pytest.mark.parametrize(
    "line",
    [
        b"REPLACE",
        b"REPLACE 4",
        b"REPLACE 0 x {1+}",
        b"REPLACE 4294967296 x {1+}",
        b"REPLACE 1:2 x {1+}",
        b"REPLACE 1,2 x {1+}",
        b"REPLACE *:1 x {1+}",
        b"REPLACE $ x {1+}",  # seq-number knows no saved result
        b"REPLACE x y {1+}",
        b"REPLACE 4 x (\\Seen)",
        b"REPLACE 4  x {1+}",
        b"UID REPLACE 4 {1}\r\nx message",
    ],
)
def test_what_follows_no_grammar_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


@settings(max_examples=150)
@given(st.binary(max_size=60) | st.text('0123456789*:,$ (){}"\\xSeen', max_size=60).map(str.encode))
def test_whatever_comes_is_read_or_refused(noise: bytes) -> None:
    try:
        found = GRAMMAR[b"REPLACE"](Cursor(b" " + noise, more=True))
    except BadSyntax:
        return
    assert isinstance(found, Replace)
    assert found.message.star is not None or len(found.message.ranges) == 1
