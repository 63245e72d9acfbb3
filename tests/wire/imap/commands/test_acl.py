"""Commands about rights, by the examples of RFC 4314 and by round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import (
    Arguments,
    BadSyntax,
    OneIdentifier,
    OneMailbox,
    RightsMode,
    SetAcl,
    astring,
    mailbox_name,
)
from tests.wire.imap.commands.reading import read
from tests.wire.imap.commands.test_mailboxes import NAME


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (b"GETACL INBOX", OneMailbox("INBOX")),
        (b"MYRIGHTS INBOX", OneMailbox("INBOX")),
        (
            b"SETACL INBOX/Drafts John lrQswicda",
            SetAcl("INBOX/Drafts", "John", RightsMode.REPLACE, "lrQswicda"),
        ),
        (b"SETACL INBOX david +x", SetAcl("INBOX", "david", RightsMode.ADD, "x")),
        (b"SETACL INBOX -Fred -x", SetAcl("INBOX", "-Fred", RightsMode.REMOVE, "x")),
        (b'SETACL INBOX fred ""', SetAcl("INBOX", "fred", RightsMode.REPLACE, "")),
        (b"SETACL INBOX fred +", SetAcl("INBOX", "fred", RightsMode.ADD, "")),
        (b"DELETEACL INBOX Fred", OneIdentifier("INBOX", "Fred")),
        (b"LISTRIGHTS INBOX anyone", OneIdentifier("INBOX", "anyone")),
    ],
)
def test_examples_are_read(line: bytes, asked: Arguments) -> None:
    assert read(line) == asked


@pytest.mark.parametrize(
    "line",
    [
        b"SETACL",
        b"SETACL INBOX",
        b"SETACL INBOX fred",
        b"SETACL INBOX fred lr more",
        b"SETACL  INBOX fred lr",
        b"SETACL INBOX (fred) lr",
        b"DELETEACL INBOX",
        b"DELETEACL INBOX fred lr",
        b"LISTRIGHTS INBOX",
        b"GETACL",
        b"GETACL INBOX fred",
        b"MYRIGHTS ",
    ],
)
def test_what_is_wrong_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


@given(NAME, WORD, st.sampled_from(RightsMode), st.text("lrswipkxteacd", max_size=13))
def test_setacl_reads_what_it_was_written_as(
    mailbox: str, identifier: str, mode: RightsMode, rights: str
) -> None:
    words = [mailbox_name(mailbox)]
    words += [astring(word.encode()) for word in (identifier, mode.value + rights)]
    assert read(b"SETACL " + b" ".join(words)) == SetAcl(mailbox, identifier, mode, rights)
