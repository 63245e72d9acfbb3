"""Commands about mailboxes: SELECT, CREATE, LIST, STATUS, quotas and their kin.

RFC 9051 §6.3; QRESYNC and CONDSTORE: RFC 7162; CREATE-SPECIAL-USE: RFC 6154 §3;
LIST-EXTENDED: RFC 5258; LIST-STATUS: RFC 5819; LIST-MYRIGHTS: RFC 8440; LIST-METADATA: RFC 9590;
QUOTA: RFC 9208; OBJECTID: RFC 8474.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from postroom.wire.imap.commands.metadata import parse_entries
from postroom.wire.imap.cursor import BadSyntax, Cursor, unexpected
from postroom.wire.imap.sequence import SequenceSet

_PATTERNS: Final = 64
"""More mailbox patterns in one LIST than any client has a use for; others are ignored."""


@dataclass(frozen=True, slots=True)
class QResync:
    """What the client remembers of a mailbox. RFC 7162 §3.2.5."""

    uidvalidity: int
    modseq: int
    known_uids: SequenceSet | None = None
    sequence_match: tuple[SequenceSet, SequenceSet] | None = None  # message numbers, their UIDs


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT or EXAMINE."""

    mailbox: str
    condstore: bool = False
    qresync: QResync | None = None


@dataclass(frozen=True, slots=True)
class Create:
    mailbox: str
    uses: tuple[str, ...] = ()  # such as \\Sent, as given


@dataclass(frozen=True, slots=True)
class Delete:
    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    mailbox: str
    to: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    mailbox: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    mailbox: str


class ListSelect(StrEnum):
    """Which mailboxes to list. RFC 5258 §3.1, RFC 6154 §5."""

    SUBSCRIBED = "SUBSCRIBED"
    REMOTE = "REMOTE"
    RECURSIVEMATCH = "RECURSIVEMATCH"
    SPECIAL_USE = "SPECIAL-USE"


# What RECURSIVEMATCH cannot follow down. RFC 5258 §3.1.
_NO_BASE: Final = frozenset({ListSelect.RECURSIVEMATCH, ListSelect.REMOTE})


class ListReturn(StrEnum):
    """What to say of each. RFC 5258 §3.2, RFC 6154 §5."""

    SUBSCRIBED = "SUBSCRIBED"
    CHILDREN = "CHILDREN"
    SPECIAL_USE = "SPECIAL-USE"
    MYRIGHTS = "MYRIGHTS"  # RFC 8440


class StatusItem(StrEnum):
    """RFC 9051 §6.3.11; RFC 7162 §3.1.7, RFC 8438 §3, RFC 8474 §4.3, RFC 7889 §3.3."""

    MESSAGES = "MESSAGES"
    RECENT = "RECENT"
    UIDNEXT = "UIDNEXT"
    UIDVALIDITY = "UIDVALIDITY"
    UNSEEN = "UNSEEN"
    DELETED = "DELETED"
    DELETED_STORAGE = "DELETED-STORAGE"  # RFC 9208 §4.1.4
    SIZE = "SIZE"
    HIGHESTMODSEQ = "HIGHESTMODSEQ"
    APPENDLIMIT = "APPENDLIMIT"
    MAILBOXID = "MAILBOXID"


@dataclass(frozen=True, slots=True)
class List:
    """Patterns that no name can match, and too many, are left out. RFC 9051 §6.3.9."""

    reference: str
    patterns: tuple[str, ...]
    select: frozenset[ListSelect] = frozenset()
    returns: frozenset[ListReturn] = frozenset()
    status: tuple[StatusItem, ...] = ()
    extended: bool = False  # any syntax of RFC 5258 was used
    metadata: tuple[str, ...] = ()  # entries to tell of each: RFC 9590


@dataclass(frozen=True, slots=True)
class Lsub:
    reference: str
    pattern: str | None  # None: no name can match it


@dataclass(frozen=True, slots=True)
class Status:
    mailbox: str
    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True)
class GetQuota:
    root: str


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    root: str
    limits: tuple[tuple[str, int], ...]  # resource name in upper case, limit


# --- opening ---------------------------------------------------------------------------------


def parse_select(args: Cursor) -> Select:
    """RFC 9051 §6.3.2, §6.3.3 with the parameters of RFC 7162 §7."""
    mailbox = _mailbox(args)
    condstore = False
    qresync: QResync | None = None
    if args.accept(b" "):
        args.expect(b"(")
        while True:
            name = args.keyword()
            if name == b"CONDSTORE":
                condstore = True
            elif name == b"QRESYNC" and qresync is None:
                args.sp()
                qresync = _qresync(args)
            else:
                unexpected("This parameter")
            if args.accept(b")"):
                break
            args.sp()
    args.end()
    return Select(mailbox, condstore, qresync)


def _qresync(args: Cursor) -> QResync:
    """`(uidvalidity SP modseq [SP known-uids] [SP (numbers SP uids)])`. RFC 7162 §7."""
    args.expect(b"(")
    uidvalidity = args.nz_number()
    args.sp()
    modseq = args.number64()
    if modseq == 0:
        raise BadSyntax("A mod-sequence may not be 0 here")
    known: SequenceSet | None = None
    match: tuple[SequenceSet, SequenceSet] | None = None
    more = args.accept(b" ")
    if more and args.peek() != b"(":
        known = _plain_set(args)
        more = args.accept(b" ")
    if more:
        args.expect(b"(")
        numbers = _plain_set(args)
        args.sp()
        match = (numbers, _plain_set(args))
        args.expect(b")")
    args.expect(b")")
    return QResync(uidvalidity, modseq, known, match)


def _plain_set(args: Cursor) -> SequenceSet:
    """known-sequence-set, known-uids: without `*`. RFC 7162 §7."""
    known = args.sequence_set()
    if known.star is not None or known.saved:
        raise BadSyntax("Neither * nor $ may stand here")
    return known


# --- making and naming -------------------------------------------------------------------------


def parse_create(args: Cursor) -> Create:
    """RFC 9051 §6.3.4; `(USE (\\Sent))`: RFC 6154 §3."""
    mailbox = _mailbox(args)
    uses: tuple[str, ...] = ()
    if args.accept(b" "):
        args.expect(b"(")
        if args.keyword() != b"USE":
            unexpected("This parameter")
        args.sp()
        uses = args.flag_list()
        args.expect(b")")
    args.end()
    return Create(mailbox, uses)


def parse_delete(args: Cursor) -> Delete:
    """RFC 9051 §6.3.5."""
    return Delete(_only_mailbox(args))


def parse_rename(args: Cursor) -> Rename:
    """RFC 9051 §6.3.6."""
    mailbox = _mailbox(args)
    return Rename(mailbox, _only_mailbox(args))


def parse_subscribe(args: Cursor) -> Subscribe:
    """RFC 9051 §6.3.7."""
    return Subscribe(_only_mailbox(args))


def parse_unsubscribe(args: Cursor) -> Unsubscribe:
    """RFC 9051 §6.3.8."""
    return Unsubscribe(_only_mailbox(args))


# --- listing ---------------------------------------------------------------------------------


def parse_list(args: Cursor) -> List:
    """RFC 9051 §6.3.9, RFC 5258 §6."""
    args.sp()
    select: frozenset[ListSelect] = frozenset()
    returns: frozenset[ListReturn] = frozenset()
    status: tuple[StatusItem, ...] = ()
    metadata: tuple[str, ...] = ()
    extended = False
    if args.peek() == b"(":
        extended = True
        select = frozenset(args.list(_list_select, empty=True))
        if ListSelect.RECURSIVEMATCH in select and select <= _NO_BASE:
            raise BadSyntax("RECURSIVEMATCH needs another selection option")
        args.sp()
    reference = args.mailbox_pattern()
    args.sp()
    if args.peek() == b"(":
        extended = True
        found = args.list(Cursor.mailbox_pattern)[:_PATTERNS]
    else:
        found = [args.mailbox_pattern()]
    if args.accept(b" "):
        extended = True
        returns, status, metadata = _list_returns(args)
    args.end()
    patterns = tuple(each for each in found if each is not None and (each or not extended))
    if reference is None:
        reference, patterns = "", tuple(each for each in patterns if not each)
    return List(reference, patterns, select, returns, status, extended, metadata)


def _list_select(args: Cursor) -> ListSelect:
    try:
        return ListSelect(args.keyword().decode("ascii"))
    except ValueError:
        raise BadSyntax("This selection option is not known here") from None


def _list_returns(
    args: Cursor,
) -> tuple[frozenset[ListReturn], tuple[StatusItem, ...], tuple[str, ...]]:
    """`RETURN (option …)`; STATUS carries its items: RFC 5819 §2; METADATA its entries:
    RFC 9590 §5."""
    if args.keyword() != b"RETURN":
        unexpected("This word")
    args.sp()
    args.expect(b"(")
    returns: set[ListReturn] = set()
    status: tuple[StatusItem, ...] = ()
    metadata: tuple[str, ...] = ()
    while not args.accept(b")"):
        if returns or status or metadata:
            args.sp()
        word = args.keyword()
        if word == b"STATUS":
            args.sp()
            status = _status_items(args)
            continue
        if word == b"METADATA":
            args.sp()
            metadata = parse_entries(args)
            continue
        try:
            returns.add(ListReturn(word.decode("ascii")))
        except ValueError:
            raise BadSyntax("This return option is not known here") from None
    return frozenset(returns), status, metadata


def parse_lsub(args: Cursor) -> Lsub:
    """RFC 3501 §6.3.9."""
    args.sp()
    reference = args.mailbox_pattern()
    args.sp()
    pattern = args.mailbox_pattern()
    args.end()
    return Lsub("", None) if reference is None else Lsub(reference, pattern)


def parse_status(args: Cursor) -> Status:
    """RFC 9051 §6.3.11."""
    mailbox = _mailbox(args)
    args.sp()
    items = _status_items(args)
    args.end()
    return Status(mailbox, items)


def _status_items(args: Cursor) -> tuple[StatusItem, ...]:
    return tuple(dict.fromkeys(args.list(_status_item)))


def _status_item(args: Cursor) -> StatusItem:
    try:
        return StatusItem(args.keyword().decode("ascii"))
    except ValueError:
        raise BadSyntax("This status item is not known here") from None


# --- quotas ------------------------------------------------------------------------------------


def parse_getquota(args: Cursor) -> GetQuota:
    """RFC 9208 §4.1.1."""
    args.sp()
    root = args.text()
    args.end()
    return GetQuota(root)


def parse_getquotaroot(args: Cursor) -> GetQuotaRoot:
    """RFC 9208 §4.1.2."""
    return GetQuotaRoot(_only_mailbox(args))


def parse_setquota(args: Cursor) -> SetQuota:
    """RFC 9208 §4.1.3."""
    args.sp()
    root = args.text()
    args.sp()
    limits = tuple(args.list(_resource_limit, empty=True))
    args.end()
    return SetQuota(root, limits)


def _resource_limit(args: Cursor) -> tuple[str, int]:
    name = args.keyword().decode("ascii")
    args.sp()
    return name, args.number64()


def _mailbox(args: Cursor) -> str:
    args.sp()
    return args.mailbox()


def _only_mailbox(args: Cursor) -> str:
    mailbox = _mailbox(args)
    args.end()
    return mailbox
