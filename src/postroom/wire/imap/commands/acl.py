"""Commands about the rights in a mailbox. RFC 4314 §3, §7."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from postroom.wire.imap.cursor import Cursor


class RightsMode(Enum):
    """How SETACL changes an entry. RFC 4314 §3.1."""

    REPLACE = ""
    ADD = "+"
    REMOVE = "-"


@dataclass(frozen=True, slots=True)
class SetAcl:
    mailbox: str
    identifier: str
    mode: RightsMode
    rights: str  # the letters as given


@dataclass(frozen=True, slots=True)
class OneIdentifier:
    """DELETEACL or LISTRIGHTS."""

    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class OneMailbox:
    """GETACL or MYRIGHTS."""

    mailbox: str


def parse_setacl(args: Cursor) -> SetAcl:
    """RFC 4314 §3.1."""
    mailbox, identifier = _of_identifier(args)
    args.sp()
    rights = args.text()
    args.end()
    mode = RightsMode(rights[:1] if rights[:1] in ("+", "-") else "")
    return SetAcl(mailbox, identifier, mode, rights.removeprefix(mode.value))


def parse_identifier(args: Cursor) -> OneIdentifier:
    """RFC 4314 §3.2, §3.4."""
    mailbox, identifier = _of_identifier(args)
    args.end()
    return OneIdentifier(mailbox, identifier)


def parse_acl_mailbox(args: Cursor) -> OneMailbox:
    """RFC 4314 §3.3, §3.5."""
    args.sp()
    mailbox = args.mailbox()
    args.end()
    return OneMailbox(mailbox)


def _of_identifier(args: Cursor) -> tuple[str, str]:
    args.sp()
    mailbox = args.mailbox()
    args.sp()
    return mailbox, args.text()
