"""ESEARCH, by the grammar and the rules of RFC 7377."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import (
    All,
    BadSyntax,
    EventGroup,
    Happening,
    HasFlag,
    HeaderContains,
    MultiSearch,
    Not,
    Notify,
    Partial,
    Search,
    SearchReturn,
    Source,
    Which,
    mailbox_name,
)
from postroom.wire.imap.commands.filters import NAMES_MOST
from postroom.wire.imap.commands.multisearch import FILTERS_MOST
from tests.wire.imap.commands.reading import read
from tests.wire.imap.commands.test_mailboxes import NAME

UNSEEN = Not(HasFlag("\\Seen"))


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (b"ESEARCH UNSEEN", MultiSearch(Search(UNSEEN))),
        (
            b'ESEARCH IN (mailboxes "folder1" subtree "folder2") unseen',
            MultiSearch(
                Search(UNSEEN),
                (Source(Which.MAILBOXES, ("folder1",)), Source(Which.SUBTREE, ("folder2",))),
            ),
        ),
        (
            b"esearch in (mailboxes (inbox {3}\r\na b) subtree-one f) subject chad",
            MultiSearch(
                Search(HeaderContains("Subject", "chad")),
                (Source(Which.MAILBOXES, ("INBOX", "a b")), Source(Which.SUBTREE_ONE, ("f",))),
            ),
        ),
        (
            b"ESEARCH IN (selected) RETURN (SAVE) ALL",
            MultiSearch(Search(All(), frozenset({SearchReturn.SAVE}))),
        ),
        (
            b"ESEARCH IN (selected personal) RETURN (PARTIAL 1:5) CHARSET UTF-8 ALL",
            MultiSearch(
                Search(All(), frozenset(), Partial(1, 5)),
                (Source(Which.SELECTED), Source(Which.PERSONAL)),
            ),
        ),
        (
            b"ESEARCH IN (inboxes subscribed) RETURN () ALL",
            MultiSearch(
                Search(All(), frozenset({SearchReturn.ALL})),
                (Source(Which.INBOXES), Source(Which.SUBSCRIBED)),
            ),
        ),
    ],
)
def test_what_is_right_is_read(line: bytes, asked: MultiSearch) -> None:
    assert read(line) == asked


def test_what_lies_right_below_can_be_watched_too() -> None:
    """RFC 7377 §4 adds it to the sets of RFC 5465."""
    group = EventGroup(Which.SUBTREE_ONE, ("f",), frozenset({Happening.MAILBOX_NAME}))
    assert read(b"NOTIFY SET (subtree-one f (MailboxName))") == Notify((group,))


@pytest.mark.parametrize(
    "line",
    [
        b"ESEARCH",
        b"ESEARCH IN",
        b"ESEARCH IN ALL",
        b"ESEARCH IN () ALL",
        b"ESEARCH IN (personal)",
        b"ESEARCH IN (personal)ALL",
        b"ESEARCH IN (everything) ALL",
        b"ESEARCH IN (mailboxes) ALL",
        b"ESEARCH IN (mailboxes ()) ALL",
        b"ESEARCH IN (personal  inboxes) ALL",
        b"ESEARCH IN (personal (depth 1)) ALL",
        b"ESEARCH IN (mailboxes {1}\r\n\xff) ALL",
        b"ESEARCH RETURN (ALL) IN (personal) ALL",
        b"ESEARCH IN (personal) RETURN (EVERYTHING) ALL",
        # RFC 7377 §2.2: nothing is told later; only what is found in the open mailbox can be saved
        b"ESEARCH IN (personal) RETURN (SAVE) ALL",
        b"ESEARCH IN (selected personal) RETURN (SAVE COUNT) ALL",
        b"ESEARCH IN (selected-delayed) ALL",
    ],
)
def test_what_is_wrong_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


@pytest.mark.parametrize(
    ("line", "repeated", "most"),
    [
        (b"ESEARCH IN (personal%s) ALL", b" inboxes", FILTERS_MOST - 1),
        (b"ESEARCH IN (mailboxes (INBOX%s)) ALL", b" box%d", NAMES_MOST - 1),
    ],
)
def test_sizes_are_bounded(line: bytes, repeated: bytes, most: int) -> None:
    def times(count: int) -> bytes:
        numbered = b"%d" in repeated
        return line % b"".join(repeated % n if numbered else repeated for n in range(count))

    assert isinstance(read(times(most)), MultiSearch)
    with pytest.raises(BadSyntax):
        read(times(most + 1))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Which.MAILBOXES, Which.SUBTREE, Which.SUBTREE_ONE]),
            st.lists(NAME, min_size=1, max_size=4, unique=True),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_names_are_read_as_they_were_written(sources: list[tuple[Which, list[str]]]) -> None:
    words = b" ".join(
        b"%b (%b)" % (which.encode("ascii"), b" ".join(map(mailbox_name, names)))
        for which, names in sources
    )
    expected = tuple(Source(which, tuple(names)) for which, names in sources)
    assert read(b"ESEARCH IN (" + words + b") ALL") == MultiSearch(Search(All()), expected)
