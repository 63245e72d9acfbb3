"""Hostile headers: an ENVELOPE that IMAP's grammar allows, without NUL, within its bounds."""

from __future__ import annotations

from postroom.formats.envelope import FIELD_MAX, envelope
from postroom.formats.headers import scan
from tests.formats import imap_grammar

SEEDS: list[bytes] = [
    b'From: Ann <a@a.example>\r\nTo: b@b.example, "C, c" <c@c.example>\r\nSubject: x\r\n\r\n',
    b"To: A group: a@a, b@b;, undisclosed-recipients:;\r\nCc: <@r.example:a@b.example>\r\n\r\n",
    b"Subject: =?utf-8?q?=C3=BC?=\n folded\nDate: Sun, 22 Nov 2026 15:18:00 +0000\n\n",
    b'From: \xc3\xbc "\\"" (a (b)) <"a b"@[192.0.2.1]>\r\nSender:\r\nReply-To: x\r\n\r\n',
    b'In-Reply-To: <1@a> {3}\r\nMessage-ID: "\\\r\nSubject: a\0b\r\n\r\n',
    b"To: " + b"a@b," * 1_100 + b"\r\n\r\n",
]
TOKENS: list[bytes] = [
    *(b"From: ", b"Sender: ", b"Reply-To: ", b"To: ", b"Cc: ", b"Bcc: ", b"Subject: ", b"Date: "),
    *(b"Message-ID: ", b"In-Reply-To: ", b"NIL", b"group:", b";", b'\\"', b"a@b", b"<@a:b@c>"),
]


def one_input(data: bytes) -> None:
    """Read by a strict reader of the grammar that shares no code with us."""
    wire = envelope(scan(data), data)
    assert b"\0" not in wire
    assert len(wire) <= 10 * FIELD_MAX + 1_000
    imap_grammar.envelope(imap_grammar.read(wire))
