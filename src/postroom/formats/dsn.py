"""Delivery status notifications: composed for the sender, and read when they come to us.

RFC 3464 (the report), RFC 3461 §6 (what it says), RFC 6522 (multipart/report), RFC 6533
(addresses beyond ASCII), RFC 3834 (that nobody answers it). What stands in the report came from
strangers: `compose` makes fields of whatever it is given, and never raises for it, since a notice
that cannot be written is mail that vanished. The text for people is in `dsn_text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Final

from postroom.core.errors import Misuse, Status
from postroom.formats import compose as composing
from postroom.formats import dsn_text, headers, mime, recode, transfer, words
from postroom.formats.address import Address, format_mailbox
from postroom.formats.compose import Entity, Message, MessageId, Random
from postroom.formats.dates import format_date, parse_date
from postroom.formats.dsn_values import (
    Action,
    RecipientStatus,
    Report,
    Typed,
    host,
    line,
    mailbox,
    reply,
)
from postroom.formats.headers import Headers

__all__ = [
    "Action",
    "RecipientStatus",
    "Report",
    "Typed",
    "compose",
    "host",
    "mailbox",
    "parse",
    "reply",
]

RETURN_LIMIT: Final = 1 << 20
"""Octets of a message that is returned whole; of a larger one, its header."""
RETURNED_HEADER_MAX: Final = 64 << 10
"""Octets of a header that is returned: whole fields up to there."""
RECIPIENTS_MAX: Final = 1_000
"""How many recipients of a report are read: what one transaction may have."""
REPORT_MAX: Final = 1 << 20
"""Octets of the machine's part that are read."""

_VALUE_MAX: Final = 900  # octets of a value that we write: one line, however it is folded
_WORDS_MAX: Final = 500  # characters of a stranger's answer


# --- composing ---------------------------------------------------------------------------------


def compose(
    report: Report,
    original: bytes,
    *,
    to: Address,
    sender: Address,
    message_id: MessageId,
    date: datetime,
    random: Random,
    trace: str,
    full: bool = False,
    return_limit: int = RETURN_LIMIT,
    sender_name: str = "Mail Delivery System",
    contact: Address | None = None,
) -> bytes:
    """The notice about `original` for its sender `to`, from <>: send it with the null path.

    `full` is RET=FULL: the whole message comes back if a recipient failed (RFC 3461 §4.3) and
    it has at most `return_limit` octets; else its header. `trace` is the id by which people find
    the transit, `contact` whom the text names for questions. Lines end in CRLF and have at most
    998 octets; with 8-bit content the notice needs 8BITMIME, and SMTPUTF8 only if `to` or
    `sender` does.

    Raises Misuse for a report without recipients, ValueError for dates without a zone.
    """
    if not report.recipients:
        raise Misuse("A report needs a recipient")
    utf8 = not (to.ascii and sender.ascii)
    head = headers.scan(original)
    subject = line(words.decode_words(head.first(b"subject") or b""), 200)
    told = dsn_text.compose(report, subject=subject, trace=line(trace, 100), contact=contact)
    message = Message(message_id, date, random, utf8=utf8)
    message.header("From", format_mailbox(line(sender_name, 100), sender, utf8=utf8))
    message.header("To", format_mailbox("", to, utf8=utf8))
    message.header("Subject", told.subject)
    if about := _message_id(head):
        message.header("In-Reply-To", about).header("References", about)
    message.header("Auto-Submitted", "auto-replied")  # RFC 3834 §5
    whole = full and report.action is Action.FAILED and len(original) <= return_limit
    returned = _whole(original, head) if whole else _header_only(original, head)
    message.text(told.body)
    return message.report("delivery-status", _machine(report, trace, utf8), returned).to_bytes()


# RFC 5322 §3.6.4 as far as anything answers to it.
_MESSAGE_ID: Final = re.compile(rb"<[!-;=?-~]{1,250}>")


def _message_id(head: Headers) -> str:
    found = _MESSAGE_ID.search((head.first(b"message-id") or b"")[:2_000])
    return found[0].decode("ascii") if found else ""


def _whole(original: bytes, head: Headers) -> Entity:
    """The message as it was. One with a header in UTF-8 is message/global. RFC 6532 §3.7."""
    if _in_utf8(original[: head.end]) and recode.fits(original, eight_bit=True):
        return _entity("message/global", original)
    return composing.message(original)


def _header_only(original: bytes, head: Headers) -> Entity | None:
    """Its header block, in whole fields; nothing where there is none. RFC 6522 §4, RFC 6533 §4."""
    if not head.fields:
        return None
    start = end = head.fields[0].start
    for each in head.fields:
        if each.end - start > RETURNED_HEADER_MAX:
            break
        end = each.end
    block = original[start:end]
    if _in_utf8(block) and recode.fits(block, eight_bit=True):
        return _entity("message/global-headers", block)
    return composing.header_only(block)


def _in_utf8(block: bytes) -> bool:
    """Beyond ASCII, and valid: an internationalised header. RFC 6532 §3.2."""
    if block.isascii():
        return False
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _entity(media_type: str, body: bytes) -> Entity:
    encoding = "7bit" if body.isascii() else "8bit"
    fields = headers.field("Content-Type", media_type)
    return Entity(fields + headers.field("Content-Transfer-Encoding", encoding), body)


def _machine(report: Report, trace: str, utf8: bool) -> Entity:
    """message/delivery-status; message/global-delivery-status where UTF-8 may stand and does.

    RFC 3464 §2.1, RFC 6533 §4.
    """
    fields = _Fields(utf8)
    if report.original_envelope_id is not None:
        fields.text("Original-Envelope-Id", report.original_envelope_id)
    fields.typed("Reporting-MTA", report.reporting_mta)
    fields.typed("Received-From-MTA", report.received_from_mta)
    fields.date("Arrival-Date", report.arrival_date)
    fields.text("X-Postroom-Trace", trace)
    for each in report.recipients:
        fields.blankline()
        fields.typed("Original-Recipient", each.original_recipient)
        fields.typed("Final-Recipient", each.final_recipient)
        fields.text("Action", each.action.value)
        fields.text("Status", str(each.status))
        fields.typed("Remote-MTA", each.remote_mta)
        fields.typed("Diagnostic-Code", each.diagnostic)
        fields.date("Last-Attempt-Date", each.last_attempt)
        if each.final_log_id is not None:
            fields.text("Final-Log-ID", each.final_log_id)
        fields.date("Will-Retry-Until", each.will_retry_until)
    body = b"".join(fields.lines)
    kind = "delivery-status" if body.isascii() else "global-delivery-status"
    return _entity(f"message/{kind}", body)


_KIND: Final = re.compile(r"[A-Za-z0-9-]{1,32}")


class _Fields:
    """Fields under way, each made fit for one line of its own before it is written."""

    __slots__ = ("_utf8", "lines")

    def __init__(self, utf8: bool) -> None:
        self._utf8 = utf8
        self.lines: list[bytes] = []

    def blankline(self) -> None:
        self.lines.append(b"\r\n")

    def text(self, name: str, value: str) -> None:
        value = line(value, _WORDS_MAX)
        if not self._utf8:
            value = composing.printable(value, _WORDS_MAX)
        # What looks like an encoded word would be encoded in fields of free text.
        self._add(name, value.replace("=?", "= ?"))

    def typed(self, name: str, given: Typed | None) -> None:
        if given is None:
            return
        kind = given.kind if _KIND.fullmatch(given.kind) else "unknown"
        value = line(given.value, _WORDS_MAX)
        address = name.endswith("-Recipient")
        if address and kind == "rfc822" and not value.isascii():
            kind = "utf-8"
        if address and kind.lower() == "utf-8" and not self._utf8:
            value = _escaped(value)
        elif not self._utf8:
            value = composing.printable(value, _WORDS_MAX)
        self._add(name, f"{kind}; {value.replace('=?', '= ?')}")

    def date(self, name: str, at: datetime | None) -> None:
        if at is not None:
            self._add(name, format_date(at))

    def _add(self, name: str, value: str) -> None:
        fit = value.encode("utf-8")[:_VALUE_MAX].decode("utf-8", "ignore")
        self.lines.append(headers.field(name, fit, utf8=self._utf8))


def _escaped(address: str) -> str:
    r"""An address in ASCII, its other characters as \x{HEX}, cut between two. RFC 6533 §3."""
    out = []
    size = 0
    for character in address:
        plain = "!" <= character <= "~" and character not in "+=\\"
        unit = character if plain else f"\\x{{{ord(character):02X}}}"
        size += len(unit)
        if size > _VALUE_MAX - 10:  # the kind stands before it
            break
        out.append(unit)
    return "".join(out)


# --- reading -----------------------------------------------------------------------------------

_STATUS_TYPES: Final = frozenset({b"delivery-status", b"global-delivery-status"})
_BLANKS_ONLY: Final = re.compile(rb"(?<=\n)[ \t]++(?=\r?\n)")
_FIELD: Final = re.compile(rb"^[!-9;-~]++[ \t]*+:", re.MULTILINE)
_STATUS: Final = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_POINT: Final = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_XTEXT: Final = re.compile(r"\+(2B|3D)")
_CLASSES: Final = {2: Action.DELIVERED, 4: Action.DELAYED, 5: Action.FAILED}
_USUAL: Final = {
    Action.FAILED: Status(5, 0, 0),
    Action.DELAYED: Status(4, 0, 0),
    Action.DELIVERED: Status(2, 0, 0),
    Action.RELAYED: Status(2, 0, 0),
    Action.EXPANDED: Status(2, 0, 0),
}


def parse(content: bytes) -> Report | None:
    """The report that a notice carries; None if it is none, or names no recipient.

    Looked for in the message itself, not in messages that it encloses. Read as MTAs write them:
    names in any case, kinds left out, blank lines of blanks, recipients whose action or status
    is missing and follows from the other or from the diagnostic. Bounded; never raises.
    """
    part = _status_part(mime.scan(content))
    if part is None:
        return None
    encoding = (part.encoding or b"").decode("latin-1")
    body = transfer.decode(content[part.body : part.end], encoding, limit=REPORT_MAX)
    groups = _groups(_BLANKS_ONLY.sub(b"", body))
    message = next(groups, None)
    if message is None:
        return None
    recipients: list[RecipientStatus] = []
    # One block may be all there is, where the blank line is missing.
    for group in (message, *islice(groups, 2 * RECIPIENTS_MAX)):
        if len(recipients) == RECIPIENTS_MAX:
            break
        if recipient := _recipient(group):
            recipients.append(recipient)
    if not recipients:
        return None
    return Report(
        reporting_mta=_typed(message, b"reporting-mta", "dns") or Typed("dns", ""),
        arrival_date=_date(message, b"arrival-date"),
        recipients=tuple(recipients),
        received_from_mta=_typed(message, b"received-from-mta", "dns"),
        original_envelope_id=_without_xtext(_value(message, b"original-envelope-id")),
    )


def _status_part(root: mime.Part) -> mime.Part | None:
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.type == b"message" and part.subtype in _STATUS_TYPES:
            return part
        if part.is_multipart:
            waiting.extend(reversed(part.children))
    return None


def _groups(body: bytes) -> Iterator[Headers]:
    """Blocks of fields, one after the other; lines that are no fields are left out."""
    found = _FIELD.search(body)
    while found is not None:
        block = headers.scan(body, found.start())
        yield block
        found = _FIELD.search(body, max(block.end, found.end()))


def _recipient(group: Headers) -> RecipientStatus | None:
    original = _typed(group, b"original-recipient", "rfc822")
    final = _typed(group, b"final-recipient", "rfc822") or original
    if final is None:
        return None
    diagnostic = _typed(group, b"diagnostic-code", "smtp")
    word = (_value(group, b"action") or "").lower().split(maxsplit=1)
    action = next((each for each in Action if word and each.value == word[0].strip(";,")), None)
    status = _status(_value(group, b"status"))
    if status is None and action is None and diagnostic is not None:
        status = _status(diagnostic.value)
    if status is None and action is None:
        return None
    return RecipientStatus(
        original_recipient=original and Typed(original.kind, _without_xtext(original.value) or ""),
        final_recipient=final,
        action=action or _CLASSES[status.klass if status else 5],
        status=status or _USUAL[action or Action.FAILED],
        remote_mta=_typed(group, b"remote-mta", "dns"),
        diagnostic=diagnostic,
        last_attempt=_date(group, b"last-attempt-date"),
        will_retry_until=_date(group, b"will-retry-until"),
        final_log_id=_value(group, b"final-log-id"),
    )


def _value(group: Headers, name: bytes) -> str | None:
    raw = group.first(name)
    return None if raw is None else words.decode_words(raw).strip()


def _typed(group: Headers, name: bytes, usual: str) -> Typed | None:
    """`kind; value`; without a semicolon the usual kind. Angles around an address go."""
    text = _value(group, name)
    if text is None:
        return None
    kind, semicolon, value = text.partition(";")
    if not semicolon or " " in kind.strip():
        kind, value = usual, text
    kind, value = kind.strip().lower(), value.strip()
    if name.endswith(b"-recipient"):
        if value.startswith("<") and value.endswith(">"):
            value = value[1:-1]
        if kind == "utf-8":
            value = _POINT.sub(_character, value)
    return Typed(kind, value)


def _character(found: re.Match[str]) -> str:
    """The character behind an escape, if it can be seen; else the escape."""
    point = int(found[1], 16)
    character = chr(point) if point <= 0x10FFFF else ""
    return character if character.isprintable() and character else found[0]


def _without_xtext(text: str | None) -> str | None:
    """xtext that some MTAs forget to decode (RFC 3461 §6.3 says to), as far as it is certain.

    `+2B` and `+3D` alone: `ann+42@…` is a detail of Ann's more often than an encoded B.
    """
    return text if text is None else _XTEXT.sub(lambda found: chr(int(found[1], 16)), text)


def _status(text: str | None) -> Status | None:
    found = _STATUS.search((text or "")[:1_000])
    return Status(int(found[1]), int(found[2]), int(found[3])) if found else None


def _date(group: Headers, name: bytes) -> datetime | None:
    raw = group.first(name)
    return None if raw is None else parse_date(raw)
