"""NOTIFY, by the grammar and the rules of RFC 5465."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import (
    BadSyntax,
    EventGroup,
    FetchAttribute,
    FetchBody,
    Happening,
    Notify,
    Section,
    Which,
    mailbox_name,
)
from postroom.wire.imap.commands.filters import NAMES_MOST
from postroom.wire.imap.commands.notify import EVENTS_MOST, GROUPS_MOST
from tests.wire.imap.commands.reading import read
from tests.wire.imap.commands.test_mailboxes import NAME

ARRIVAL = frozenset({Happening.MESSAGE_NEW, Happening.MESSAGE_EXPUNGE})
FLAGS = ARRIVAL | {Happening.FLAG_CHANGE}
SUBJECT = FetchBody(section=Section.HEADER_FIELDS, fields=(b"Subject",), peek=True)


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (b"NOTIFY NONE", Notify()),
        (b"notify none", Notify()),
        (
            b"NOTIFY SET (selected (MessageNew MessageExpunge))",
            Notify((EventGroup(Which.SELECTED, (), ARRIVAL),)),
        ),
        (
            b"NOTIFY SET STATUS (personal (MailboxName SubscriptionChange))",
            Notify(
                (
                    EventGroup(
                        Which.PERSONAL,
                        (),
                        frozenset({Happening.MAILBOX_NAME, Happening.SUBSCRIPTION_CHANGE}),
                    ),
                ),
                status=True,
            ),
        ),
        (
            b"NOTIFY SET (SELECTED-DELAYED (messagenew (UID body.peek[header.fields (Subject)])"
            b" MESSAGEEXPUNGE FlagChange)) (inboxes NONE)",
            Notify(
                (
                    EventGroup(
                        Which.SELECTED_DELAYED, (), FLAGS, items=(FetchAttribute.UID, SUBJECT)
                    ),
                    EventGroup(Which.INBOXES),
                )
            ),
        ),
        (
            b"NOTIFY SET (subtree Lists (MailboxName)) (mailboxes (inbox {1}\r\nx Sent) NONE)",
            Notify(
                (
                    EventGroup(Which.SUBTREE, ("Lists",), frozenset({Happening.MAILBOX_NAME})),
                    EventGroup(Which.MAILBOXES, ("INBOX", "x", "Sent")),
                )
            ),
        ),
        (
            b"NOTIFY SET (subscribed (X-NEW AnnotationChange MessageNew MessageExpunge))",
            Notify(
                (
                    EventGroup(
                        Which.SUBSCRIBED, (), ARRIVAL | {Happening.ANNOTATION_CHANGE}, unknown=True
                    ),
                )
            ),
        ),
    ],
)
def test_what_is_right_is_read(line: bytes, asked: Notify) -> None:
    assert read(line) == asked


@pytest.mark.parametrize(
    "line",
    [
        b"NOTIFY",
        b"NOTIFY NONE NONE",
        b"NOTIFY SET",
        b"NOTIFY SET STATUS",
        b"NOTIFY SET ()",
        b"NOTIFY SET (personal)",
        b"NOTIFY SET (personal ())",
        b"NOTIFY SET (personal ALL)",
        b"NOTIFY SET (everything NONE)",
        b"NOTIFY SET (personal NONE)(inboxes NONE)",
        b"NOTIFY SET (mailboxes (MailboxName))",
        b"NOTIFY SET (mailboxes NONE)",
        b"NOTIFY SET (mailboxes () NONE)",
        b"NOTIFY SET (mailboxes {1}\r\n\xff NONE)",
        # RFC 5465 §5: what has to stand together
        b"NOTIFY SET (personal (MessageNew))",
        b"NOTIFY SET (personal (MessageExpunge))",
        b"NOTIFY SET (personal (FlagChange))",
        b"NOTIFY SET (personal (AnnotationChange MailboxName))",
        # RFC 5465 §5.2: messages are fetched from the open mailbox alone
        b"NOTIFY SET (personal (MessageNew (UID) MessageExpunge))",
        b"NOTIFY SET (selected (MessageExpunge (UID) MessageNew))",
        b"NOTIFY SET (selected (MessageNew () MessageExpunge))",
        b"NOTIFY SET (selected (MessageNew (ALL) MessageExpunge))",
        # RFC 5465 §6.1: of the open mailbox its messages alone, and once
        b"NOTIFY SET (selected (MailboxName))",
        b"NOTIFY SET (selected NONE) (selected-delayed NONE)",
        b"NOTIFY SET (selected NONE) (selected NONE)",
    ],
)
def test_what_is_wrong_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


@pytest.mark.parametrize(
    ("line", "repeated", "most"),
    [
        (b"NOTIFY SET%s", b" (personal NONE)", GROUPS_MOST),
        (b"NOTIFY SET (mailboxes (INBOX%s) NONE)", b" box%d", NAMES_MOST - 1),
        (b"NOTIFY SET (personal (MailboxName%s))", b" MailboxName", EVENTS_MOST - 1),
    ],
)
def test_sizes_are_bounded(line: bytes, repeated: bytes, most: int) -> None:
    def times(count: int) -> bytes:
        numbered = b"%d" in repeated
        return line % b"".join(repeated % n if numbered else repeated for n in range(count))

    assert isinstance(read(times(most)), Notify)
    with pytest.raises(BadSyntax):
        read(times(most + 1))


@given(st.lists(NAME, min_size=1, max_size=8, unique=True), st.booleans(), st.booleans())
def test_names_are_read_as_they_were_written(names: list[str], status: bool, below: bool) -> None:
    which = Which.SUBTREE if below else Which.MAILBOXES
    words = b" ".join(mailbox_name(name) for name in names)
    head = b"NOTIFY SET " + b"STATUS " * status
    line = head + b"(%b (%b) (MailboxName))" % (which.encode("ascii"), words)
    group = EventGroup(which, tuple(names), frozenset({Happening.MAILBOX_NAME}))
    assert read(line) == Notify((group,), status)
