"""Delivery status notifications: read from any octets, and written about any message."""

from __future__ import annotations

from datetime import UTC, datetime

from postroom.core.errors import Status
from postroom.formats import dsn, headers
from postroom.formats.address import Address
from postroom.formats.compose import MessageId
from postroom.formats.dsn import Action, RecipientStatus, Report, Typed
from postroom.formats.mime import scan
from postroom.formats.recode import fits

NOW = datetime(2026, 11, 22, 15, 18, tzinfo=UTC)
NOTICE = (
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    b"--b\r\n\r\nSorry\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    b"Reporting-MTA: dns; mx.a.example\r\nArrival-Date: Sun, 22 Nov 2026 15:18:00 +0000\r\n\r\n"
    b"Original-Recipient: rfc822; ann+2Bx@b.example\r\n"
    b"Final-Recipient: utf-8; \\x{FC}@b.example\r\nAction: failed\r\nStatus: 5.1.1 (no)\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1 no\r\n such user\r\n"
    b"\r\nFinal-Recipient: rfc822; b@b\r\nAction: delayed\r\nWill-Retry-Until: 1 Jan 2027\r\n"
    b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: x\r\n--b--\r\n"
)
SEEDS: list[bytes] = [
    NOTICE,
    NOTICE.replace(b"\r\n", b"\n"),
    b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"UmVwb3J0aW5nLU1UQTogZG5zOyB4DQoNCkZpbmFsLVJlY2lwaWVudDogcmZjODIyOyBhQGINCkFjdGlvbjogZmFpbGVk\r\n",
    "Subject: ü\r\nMessage-ID: <a@b>\r\n\r\nbödy\r\n".encode(),
    b"550 5.1.1 <bob@b.example>: no such user\r\n.\r\n",
]
TOKENS: list[bytes] = [
    *(b"Final-Recipient: rfc822; ", b"Original-Recipient: ", b"Action: failed\r\n", b"Status: 5."),
    *(b"Diagnostic-Code: smtp; ", b"message/delivery-status", b"multipart/report", b"\\x{", b"+2B"),
    *(b"\r\n \r\n", b"Subject: ", b"Message-ID: <", b"\xe2\x80\xae", b"--=_" + b"01" * 12),
]


def one_input(data: bytes) -> None:
    """What is read can be written, and then is read as it was written."""
    _about(data, _told(data))
    found = dsn.parse(data)
    if found is None:
        return
    assert 0 < len(found.recipients) <= dsn.RECIPIENTS_MAX
    written = dsn.parse(_about(data, found))
    assert written is not None
    assert [(each.action, each.status) for each in written.recipients] == [
        (each.action, each.status) for each in found.recipients
    ]
    # What went through once is fit, and comes back alike.
    again = dsn.parse(_about(b"", written))
    assert again == dsn.parse(_about(b"", again or written))


def _told(data: bytes) -> Report:
    """A report in which everything is a stranger's word."""
    text = data.decode("utf-8", "surrogateescape")
    typed = Typed(text[:8], text)
    recipient = RecipientStatus(
        typed, Action.FAILED, Status(5, 1, 1), typed, typed, typed, NOW, NOW, text
    )
    return Report(typed, NOW, (recipient,), typed, text)


def _about(original: bytes, report: Report) -> bytes:
    raw = dsn.compose(
        report,
        original,
        to=Address("ann" if len(original) % 2 else "änn", "a.example"),
        sender=Address("mailer-daemon", "a.example"),
        message_id=MessageId("1", "a.example"),
        date=NOW,
        random=lambda size: b"\x01" * size,
        trace="t1",
        full=True,
    )
    assert fits(raw, eight_bit=True)
    assert raw.endswith(b"--\r\n")
    root = scan(raw)
    assert root.subtype == b"report"
    assert len(root.children) == (3 if headers.scan(original).fields or _whole(report) else 2)
    return raw


def _whole(report: Report) -> bool:
    return report.action is Action.FAILED
