"""Commands about mailboxes, by the examples of their RFCs and by round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import (
    Arguments,
    BadSyntax,
    Create,
    Delete,
    GetQuota,
    GetQuotaRoot,
    List,
    ListReturn,
    ListSelect,
    Lsub,
    QResync,
    Rename,
    Select,
    SequenceSet,
    SetQuota,
    Status,
    StatusItem,
    Subscribe,
    Unsubscribe,
    mailbox_name,
    parenthesised,
)
from tests.wire.imap.commands.reading import read

NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), min_size=1
).filter(lambda name: name.upper() != "INBOX")
SUBSCRIBED, SPECIAL = ListSelect.SUBSCRIBED, ListSelect.SPECIAL_USE


def numbers(text: bytes) -> SequenceSet:
    return SequenceSet.parse(text)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"SELECT INBOX", Select("INBOX")),  # RFC 9051 §6.3.2
        (b"EXAMINE blurdybloop", Select("blurdybloop")),  # §6.3.3
        (b"SELECT INBOX (CONDSTORE)", Select("INBOX", condstore=True)),  # RFC 7162 §3.1.8
        (
            b"SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))",
            Select("INBOX", qresync=QResync(
                67890007, 20050715194045000, numbers(b"41,43:211,214:541")
            )),
        ),  # RFC 7162 §3.2.5.1
        (
            b"SELECT INBOX (QRESYNC (67890007 90060115194045000 41:211,214:541) CONDSTORE)",
            Select("INBOX", True, QResync(67890007, 90060115194045000, numbers(b"41:211,214:541"))),
        ),
        (
            b"SELECT INBOX (QRESYNC (67890007 90060115205545359 1:2000 (1,2,3 4:6)))",
            Select("INBOX", qresync=QResync(
                67890007, 90060115205545359, numbers(b"1:2000"), (numbers(b"1:3"), numbers(b"4:6")),
            )),
        ),
        (
            b"SELECT INBOX (QRESYNC (1 2 (5 9)))",
            Select("INBOX", qresync=QResync(1, 2, None, (numbers(b"5"), numbers(b"9")))),
        ),
        (b"CREATE owatagusiam/", Create("owatagusiam/")),  # RFC 9051 §6.3.4
        (b"CREATE MySent (USE (\\Sent))", Create("MySent", ("\\Sent",))),  # RFC 6154 §5.2
        (b"CREATE Everything (USE (\\All \\Junk))", Create("Everything", ("\\All", "\\Junk"))),
        (b"DELETE blurdybloop", Delete("blurdybloop")),  # RFC 9051 §6.3.5
        (b"RENAME zowie/bar zip", Rename("zowie/bar", "zip")),  # §6.3.6
        (b"SUBSCRIBE #news.comp.mail.mime", Subscribe("#news.comp.mail.mime")),  # §6.3.7
        (b"UNSUBSCRIBE #news.comp.mail.mime", Unsubscribe("#news.comp.mail.mime")),  # §6.3.8
        (b'LIST "" ""', List("", ("",))),  # §6.3.9.8
        (b"LIST #news.comp.mail.misc \"\"", List("#news.comp.mail.misc", ("",))),
        (b"LIST ~/Mail/ %", List("~/Mail/", ("%",))),
        (b'LIST "" *', List("", ("*",))),
        (b'LIST () "" "*"', List("", ("*",), extended=True)),
        (b'LIST (SUBSCRIBED) "" "*"', List("", ("*",), frozenset({SUBSCRIBED}), extended=True)),
        (b'LIST "" % RETURN (CHILDREN)',
         List("", ("%",), returns=frozenset({ListReturn.CHILDREN}), extended=True)),
        (b'LIST "" % RETURN ()', List("", ("%",), extended=True)),
        (b'LIST (remote) "" % return (subscribed)',
         List("", ("%",), frozenset({ListSelect.REMOTE}), frozenset({ListReturn.SUBSCRIBED}),
              extended=True)),
        (b'LIST "" (INBOX Drafts Sent/%)', List("", ("INBOX", "Drafts", "Sent/%"), extended=True)),
        (b'LIST (SUBSCRIBED RECURSIVEMATCH) "" *',
         List("", ("*",), frozenset({SUBSCRIBED, ListSelect.RECURSIVEMATCH}), extended=True)),
        (b'LIST (SPECIAL-USE) "" *', List("", ("*",), frozenset({SPECIAL}), extended=True)),
        (b'LIST "" % RETURN (SPECIAL-USE STATUS (MESSAGES UNSEEN) CHILDREN)',
         List("", ("%",), returns=frozenset({ListReturn.SPECIAL_USE, ListReturn.CHILDREN}),
              status=(StatusItem.MESSAGES, StatusItem.UNSEEN), extended=True)),  # RFC 5819 §2
        (b'LIST "" % RETURN (STATUS (SIZE) SUBSCRIBED)',
         List("", ("%",), returns=frozenset({ListReturn.SUBSCRIBED}), status=(StatusItem.SIZE,),
              extended=True)),
        (b'LSUB "#news." "comp.mail.*"', Lsub("#news.", "comp.mail.*")),  # RFC 3501 §6.3.9
        (b'LSUB "" "%"', Lsub("", "%")),
        (b"STATUS blurdybloop (UIDNEXT MESSAGES)",
         Status("blurdybloop", (StatusItem.UIDNEXT, StatusItem.MESSAGES))),  # RFC 9051 §6.3.11
        (b"STATUS x (highestmodseq size deleted mailboxid deleted-storage appendlimit SIZE)",
         Status("x", (StatusItem.HIGHESTMODSEQ, StatusItem.SIZE, StatusItem.DELETED,
                      StatusItem.MAILBOXID, StatusItem.DELETED_STORAGE, StatusItem.APPENDLIMIT))),
        (b'GETQUOTA "!partition/sda4"', GetQuota("!partition/sda4")),  # RFC 9208 §4.1.1
        (b'GETQUOTA ""', GetQuota("")),
        (b"GETQUOTAROOT INBOX", GetQuotaRoot("INBOX")),  # §4.1.2
        (b'SETQUOTA "" (STORAGE 512 message 4)',
         SetQuota("", (("STORAGE", 512), ("MESSAGE", 4)))),  # §4.1.3
        (b'SETQUOTA x ()', SetQuota("x", ())),
    ],
)  # fmt: skip
def test_the_examples_of_the_rfcs(line: bytes, arguments: Arguments) -> None:
    assert read(line) == arguments


@pytest.mark.parametrize(
    "line",
    [
        b"SELECT",
        b"SELECT ",
        b'SELECT ""',
        b"SELECT a b",
        b"SELECT a ()",
        b"SELECT a (FOO)",
        b"SELECT a (CONDSTORE",
        b"SELECT a (CONDSTORE )",
        b"SELECT a (QRESYNC)",
        b"SELECT a (QRESYNC (0 1))",
        b"SELECT a (QRESYNC (1 0))",
        b"SELECT a (QRESYNC (1))",
        b"SELECT a (QRESYNC (1 9223372036854775808))",
        b"SELECT a (QRESYNC (1 2 1:*))",
        b"SELECT a (QRESYNC (1 2 $))",
        b"SELECT a (QRESYNC (1 2 3 (4)))",
        b"SELECT a (QRESYNC (1 2 3 4))",
        b"SELECT a (QRESYNC (1 2) QRESYNC (1 2))",
        b"CREATE a (USE)",
        b"CREATE a (USE \\Sent)",
        b"CREATE a (FOO (\\Sent))",
        b"CREATE &AOR-",
        b"CREATE %",
        b"DELETE a b",
        b"RENAME a",
        b"RENAME a b c",
        b"LIST",
        b'LIST ""',
        b'LIST "" ()',
        b'LIST (FOO) "" *',
        b'LIST (RECURSIVEMATCH) "" *',
        b'LIST (RECURSIVEMATCH REMOTE) "" *',
        b'LIST "" * RETURN',
        b'LIST "" * RETURN (FOO)',
        b'LIST "" * RETURN (CHILDREN',
        b'LIST "" * RETURN (CHILDREN  SUBSCRIBED)',
        b'LIST "" * RETURN (STATUS)',
        b'LIST "" * RETURN (STATUS ())',
        b'LIST "" * FOO (CHILDREN)',
        b'LIST "" * RETURN (CHILDREN) x',
        b"LSUB",
        b'LSUB "" (a)',
        b"STATUS a",
        b"STATUS a ()",
        b"STATUS a (FOO)",
        b"STATUS a MESSAGES",
        b"GETQUOTA",
        b"GETQUOTA a b",
        b"GETQUOTAROOT",
        b"SETQUOTA a (STORAGE)",
        b"SETQUOTA a (STORAGE x)",
    ],
)
def test_what_follows_no_grammar_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


@given(NAME, NAME, st.booleans())
def test_names_round_trip_in_any_script(name: str, other: str, utf8: bool) -> None:
    one, two = mailbox_name(name, utf8), mailbox_name(other, utf8)
    assert read(b"SELECT " + one + b" (CONDSTORE)", utf8=utf8) == Select(name, True)
    assert read(b"RENAME " + one + b" " + two, utf8=utf8) == Rename(name, other)
    assert read(b"LIST " + one + b" (" + two + b" " + one + b")", utf8=utf8) == List(
        name, (other, name), extended=True
    )


@given(NAME, st.lists(st.sampled_from(StatusItem), min_size=1, unique=True))
def test_status_round_trips(name: str, items: list[StatusItem]) -> None:
    line = b"STATUS " + mailbox_name(name) + b" " + parenthesised(i.encode() for i in items)
    assert read(line) == Status(name, tuple(items))
