"""NOTIFY: which changes of which mailboxes a client wants to hear of unasked. RFC 5465 §8."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from postroom.wire.imap.commands.fetch import FetchItem, parse_fetch_items
from postroom.wire.imap.commands.filters import NAMES_MOST, OPEN, Which, parse_filter
from postroom.wire.imap.cursor import BadSyntax, Cursor, unexpected

GROUPS_MOST: Final = 64
EVENTS_MOST: Final = 32


class Happening(StrEnum):
    """An event, as its name is told; read in any case. RFC 5465 §5."""

    MESSAGE_NEW = "MessageNew"
    MESSAGE_EXPUNGE = "MessageExpunge"
    FLAG_CHANGE = "FlagChange"
    ANNOTATION_CHANGE = "AnnotationChange"
    MAILBOX_NAME = "MailboxName"
    SUBSCRIPTION_CHANGE = "SubscriptionChange"
    MAILBOX_METADATA_CHANGE = "MailboxMetadataChange"
    SERVER_METADATA_CHANGE = "ServerMetadataChange"


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Mailboxes, and what of them to tell."""

    which: Which
    names: tuple[str, ...] = ()  # of those that name mailboxes, else none
    events: frozenset[Happening] = frozenset()  # empty: NONE
    unknown: bool = False  # it asks for events that no RFC we know of has
    items: tuple[FetchItem, ...] = ()  # to fetch of a new message


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY SET; without groups NOTIFY NONE."""

    groups: tuple[EventGroup, ...] = ()
    status: bool = False  # tell first how things are


_EVENTS: Final = {event.value.upper().encode("ascii"): event for event in Happening}
_ARRIVAL: Final = frozenset({Happening.MESSAGE_NEW, Happening.MESSAGE_EXPUNGE})
_CHANGE: Final = frozenset({Happening.FLAG_CHANGE, Happening.ANNOTATION_CHANGE})


def parse_notify(args: Cursor) -> Notify:
    """RFC 5465 §8, and the rules of §5 and §6.1 on what may stand together."""
    args.sp()
    word = args.keyword()
    if word == b"NONE":
        args.end()
        return Notify()
    if word != b"SET":
        unexpected("This word")
    status = args.accept_keyword(b" STATUS ")
    if not status:
        args.sp()
    groups = [_group(args)]
    while args.accept(b" "):
        groups.append(_group(args))
        if len(groups) > GROUPS_MOST:
            raise BadSyntax("Too many groups")
    args.end()
    if sum(group.which in OPEN for group in groups) > 1:
        raise BadSyntax("The open mailbox stands in more than one group")
    if sum(len(group.names) for group in groups) > NAMES_MOST:
        raise BadSyntax("Too many mailboxes")
    return Notify(tuple(groups), status)


def _group(args: Cursor) -> EventGroup:
    args.expect(b"(")
    which, names = parse_filter(args)
    args.sp()
    if args.peek() != b"(":
        if args.keyword() != b"NONE":
            unexpected("This word")
        args.expect(b")")
        return EventGroup(which, names)
    events, unknown, items = _events(args)
    args.expect(b")")
    _check(which, events, unknown, items)
    return EventGroup(which, names, events, unknown, items)


def _events(args: Cursor) -> tuple[frozenset[Happening], bool, tuple[FetchItem, ...]]:
    events: set[Happening] = set()
    unknown = False
    items: tuple[FetchItem, ...] = ()
    args.expect(b"(")
    for _ in range(EVENTS_MOST):
        event = _EVENTS.get(args.keyword())
        if event is None:
            unknown = True
        else:
            events.add(event)
        if event is Happening.MESSAGE_NEW and args.accept(b" ("):
            items = parse_fetch_items(args)
        if args.accept(b")"):
            return frozenset(events), unknown, items
        args.sp()
    raise BadSyntax("Too many events")


def _check(
    which: Which, events: frozenset[Happening], unknown: bool, items: tuple[FetchItem, ...]
) -> None:
    if len(events & _ARRIVAL) == 1:  # RFC 5465 §5
        raise BadSyntax("MessageNew and MessageExpunge go together")
    if events & _CHANGE and not events >= _ARRIVAL:
        raise BadSyntax("FlagChange needs MessageNew and MessageExpunge")
    if which in OPEN:
        if not events <= _ARRIVAL | _CHANGE:  # RFC 5465 §6.1
            raise BadSyntax("Of the open mailbox only its messages are told")
    elif items:
        raise BadSyntax("Only of the open mailbox messages are fetched")  # RFC 5465 §8
    if not events and not unknown:
        raise BadSyntax("There is no event")
