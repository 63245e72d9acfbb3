"""Messages made fit for a narrower line: what comes out fits, and decodes to the same."""

from __future__ import annotations

from postroom.formats.mime import scan
from postroom.formats.recode import binary_to_eight_bit, fits, to_seven_bit
from postroom.formats.transfer import decode

MIXED = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\npre\r\n--b\r\nContent-Type: text/plain\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n--b\r\n"
    b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\x1a\n\0\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n\xff\r\n--b--\r\nafter\r\n"
)
SEEDS: list[bytes] = [
    MIXED,
    b"Subject: x\r\n\r\n\xff\r\n",
    b"Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC \xff\r\n",
    MIXED.replace(b"/mixed", b"/signed"),
    MIXED.replace(b"rfc822\r\n\r\nSubject: x", b"global\r\n\r\nSubject: \xc3\xbc"),
    b"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\xff "
    b"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy--b\r\nz\r\n--b--\r\n",
]
TOKENS: list[bytes] = [
    *(b"Content-Type: ", b"Content-Transfer-Encoding: ", b"8bit", b"binary", b"quoted-printable"),
    *(b"base64", b"x-uuencode", b"multipart/mixed; boundary=b", b"multipart/signed; boundary=b"),
    *(b"\r\n--b\r\n", b"\r\n--b--\r\n", b"message/rfc822", b"message/global", b"\r\n\r\n", b"--b"),
    *(b"MIME-Version: 1.0\r\n", b"x" * 999, b"=\r\n", b"text/plain", b"From x\r\n"),
]


def one_input(data: bytes) -> None:
    """Both ways: fit, the same parts, and nothing left to do."""
    for turn, eight_bit in ((to_seven_bit, False), (binary_to_eight_bit, True)):
        made = turn(data)
        if made is None:
            continue
        assert fits(made, eight_bit=eight_bit)
        assert turn(made) is made
        if not any(part.subtype == b"global" for part in scan(data).walk()):
            assert _leaves(made) == _leaves(data)


def _leaves(raw: bytes) -> list[bytes]:
    return [
        decode(raw[part.body : part.end], (part.encoding or b"").decode("latin-1"))
        for part in scan(raw).walk()
        if not part.children
    ]
