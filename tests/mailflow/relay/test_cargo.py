"""Envelope and content of a message on its way out."""

from __future__ import annotations

import tempfile

import pytest

from postroom.core.clock import Instant
from postroom.domain.queue import QueuedMessage, Recipient
from postroom.formats.address import parse_mailbox
from postroom.mailflow.relay.cargo import RECODED, Filed, Held, mail_of, rcpt_of, seven_bit
from postroom.net.smtp import NeedsDowngrade
from postroom.wire.smtp import Body, Notify, Return

PLAIN = b"Subject: Hello\r\n\r\nGood morning.\r\n"
BODY_ONLY = "Subject: Hello\r\n\r\nGrüße.\r\n".encode()
ANN = parse_mailbox("ann@a.test")
HEADER = "Subject: Grüße\r\n\r\nGood morning.\r\n".encode()


def message(
    content: bytes, *, utf8: bool = False, path: str | None = "ann@a.test"
) -> QueuedMessage:
    now = Instant(0)
    eight = not content.isascii()
    return QueuedMessage(1, 1, 1, len(content), path, "e1", "HDRS", now, now, utf8, eight)


def recipient(
    address: str = "bob@b.test", notify: tuple[str, ...] = (), orcpt: str | None = None
) -> Recipient:
    return Recipient(message(PLAIN), 0, address, None, "", (), 0, Instant(0), "", notify, orcpt)


def test_an_envelope_goes_on_as_it_came() -> None:
    mail = mail_of(message(BODY_ONLY), Held(BODY_ONLY, eight_bit=True), ANN)
    assert str(mail.reverse_path) == "ann@a.test"
    assert (mail.size, mail.body, mail.smtputf8) == (len(BODY_ONLY), Body.EIGHT_BIT, False)
    assert (mail.ret, mail.envid) == (Return.HEADERS, "e1")
    assert mail_of(message(PLAIN), Held(PLAIN, eight_bit=False), None).reverse_path is None


@pytest.mark.parametrize(
    ("content", "needed"),
    [
        (PLAIN, False),
        (BODY_ONLY, False),
        (HEADER, True),
        ("Subject: Grüße".encode(), True),  # a header without an end
        (b"Subject: x\r\n" + b"X-Long: y\r\n" * 20_000 + BODY_ONLY, False),
        (b"X-Long: y\r\n" * 20_000 + HEADER, True),
        (b"A: b\r\n" + b"C: d\r\n" * 10_921 + b"E: 3456\r\n\r\n" + "ü".encode(), False),
    ],
)
def test_smtputf8_is_said_where_the_header_needs_it(content: bytes, needed: bool) -> None:
    """However the pieces fall; RFC 6531 §3.2."""
    held = Held(content, eight_bit=not content.isascii())
    assert mail_of(message(content, utf8=True), held, ANN).smtputf8 is needed
    assert not mail_of(message(content, utf8=False), held, ANN).smtputf8
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        filed = Filed(file, len(content), not content.isascii())
        assert mail_of(message(content, utf8=True), filed, ANN).smtputf8 is needed
        assert b"".join(filed.slices()) == content


def test_what_the_sender_wants_to_hear_goes_on() -> None:
    """RFC 3461 §5.2.1: what was not said is not said on."""
    assert rcpt_of(recipient()).notify is None
    assert rcpt_of(recipient(notify=("NEVER",))).notify == Notify.NEVER
    said = rcpt_of(recipient(notify=("SUCCESS", "DELAY"), orcpt="rfc822;rob@b.test"))
    assert said.notify == Notify.SUCCESS | Notify.DELAY
    assert said.orcpt is not None
    assert (said.orcpt.kind, said.orcpt.address) == ("rfc822", "rob@b.test")


async def test_what_cannot_be_had_in_seven_bits_is_not_broken() -> None:
    """RFC 6152 §3."""
    whole = b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n" + BODY_ONLY
    made = await seven_bit(Held(whole, eight_bit=True), NeedsDowngrade.EIGHT_BIT)
    assert made is not None and not made.eight_bit
    assert b"".join(made.slices()).isascii()
    assert await seven_bit(Held(HEADER, eight_bit=True), NeedsDowngrade.EIGHT_BIT) is None
    assert await seven_bit(Held(whole, eight_bit=True), NeedsDowngrade.BINARY) is None
    large = whole + b"x\r\n" * (RECODED // 3)
    assert await seven_bit(Held(large, eight_bit=True), NeedsDowngrade.EIGHT_BIT) is None
