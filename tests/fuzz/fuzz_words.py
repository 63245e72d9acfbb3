"""Encoded words, charsets and transfer encodings, from any bytes."""

from __future__ import annotations

import time

from postroom.core.errors import Malformed
from postroom.formats import charsets, headers, transfer, words

SEEDS: list[bytes] = [
    b"=?utf-8?Q?caf=C3=A9?= =?utf-8?B?w6k=?= plain",
    b"=?iso-2022-jp?B?GyRCMnE1RBsoQg==?=",
    b"=?utf-8?b?w?=\r\n =?utf-8?b?6k=?= =?unknown-8bit?q?=E9?=",
    b"Andr\xe9 =?x?q?a?= =?utf-8?Q?open",
    b"aGVsbG8=aGk=\r\n*",
    b"soft=\r\nbreak =E9 =XY \r\n",
    b"begin 644 a\n#0V%T\n`\nend\n",
    b"+AOk- \x1b$B2q\x1b(B ~{<:Ky~}",
]

ENCODINGS = ("base64", "quoted-printable", "x-uuencode", "8bit")
LABELS = ("utf-8", "utf-7", "utf-16", "iso-2022-jp", "gb18030", "hz", "cp932", "no-such", None)
SECONDS_FIXED = 0.5
SECONDS_PER_BYTE = 2e-5


def one_input(data: bytes) -> None:
    """Raises AssertionError where a property breaks."""
    start = time.thread_time()
    _words(data)
    for label in LABELS:
        charsets.decode(data, label).encode("utf-8")
    for encoding in ENCODINGS:
        _transfer(data, encoding)
    taken = time.thread_time() - start
    assert taken < SECONDS_FIXED + SECONDS_PER_BYTE * len(data), f"{taken:.3f} s"


def _words(data: bytes) -> None:
    text = words.decode_words(data)
    text.encode("utf-8")
    assert not set(text) & {"\r", "\n", "\x00"}
    try:
        wire = words.encode_words(text)
        parameter = words.encode_parameter("name", text)
    except Malformed:
        return
    assert wire.isascii() and parameter.isascii()
    assert not set(wire + parameter) & {0x0D, 0x0A, 0}
    # A byte order mark in front of an encoded text says how to read it, and is no text.
    if "\t" not in text and "\ufeff" not in text:
        # More words than the reader takes stay encoded.
        assert wire.count(b"=?") > words.WORDS_MAX or words.decode_words(wire) == text
        assert headers.parameterised(b"a/b; " + parameter)[1] == {"name": text}


def _transfer(data: bytes, encoding: str) -> None:
    whole = transfer.decode(data, encoding)
    decoder = transfer.Decoder(encoding)
    middle = len(data) // 2
    pieces = decoder.feed(data[:middle]) + decoder.feed(data[middle:]) + decoder.flush()
    # A line of over 64 KiB is taken as several.
    assert pieces == whole or len(data) > 65_536
    assert transfer.decode(data, encoding, limit=10) == whole[:10] or len(data) > 65_536
    assert transfer.decode(transfer.encode_base64(data), "base64") == data
    lines = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    quoted = transfer.encode_quoted_printable(data)
    assert transfer.decode(quoted, "quoted-printable") == lines
