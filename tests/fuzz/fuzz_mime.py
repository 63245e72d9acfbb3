"""Hostile messages: one tree that covers all octets, answers that IMAP's grammar allows."""

from __future__ import annotations

from postroom.formats.bodystructure import bodystructure
from postroom.formats.layout import Layout, pack
from postroom.formats.mime import scan
from postroom.formats.parsed import parse
from tests.formats import imap_grammar

SEEDS: list[bytes] = [
    b"Subject: x\r\nFrom: Ann <a@a.example>\r\n\r\nhello\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\r\n2\r\n--b--\r\n",
    b"Content-Type:multipart/d boundary=b\n--b\ne:",
    b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\nin\n--b--\n",
    b"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nTo: g:a@b;\r\n\r\nx",
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/x; boundary=bb\n"
    b"\n--bb\n\nx\n--b\n\ny\n--b--\n",
    b"Content-Type: multipart/mixed; boundary*0=b; boundary*1*=%62\n\n--bb\n\nx\n--bb--\n",
    b"Content-Type: multipart/mixed\nContent-Transfer-Encoding: base64\n\nLS1iDQo=\n",
    b"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
    b"<style>x</style><p>a=C3=BC &amp; <!-- b --></p><blockquote>c</blockquote>\n",
    b"Content-Type: image/png; name*=utf-8''%C3%BC\nContent-Disposition: attachment; filename=x\n"
    b"Content-ID: <1@a>\nContent-Language: de, en\nContent-Location: x\nContent-MD5: x\n\n\x89PNG",
    b"References: <a@b> <c\r\n @d>\r\nDate: Sun, 22 Nov 2026 15:18:00 +0000\r\n\r\n",
]
TOKENS: list[bytes] = [
    *(b"Content-Type: ", b"Content-Transfer-Encoding: ", b"Content-Disposition: ", b"boundary="),
    *(b"multipart/mixed; boundary=b", b"multipart/digest", b"message/rfc822", b"text/html"),
    *(b"\n--b\n", b"\r\n--b--\r\n", b"--", b"\n--bb\n", b"base64", b"quoted-printable"),
    *(b"\r\n\r\n", b"<script>", b"</style>", b"<!--", b"&#x", b"charset=utf-7", b"*0*=x''"),
]


def one_input(data: bytes) -> None:
    """The tree, its wire form, its layout and all that is kept."""
    root = scan(data)
    assert (root.start, root.end) == (0, len(data))
    parts = root.walk()
    for part in parts:
        last = part.body
        for child in part.children:
            assert last <= child.start <= child.body <= child.end <= part.end
            last = child.end
    wire = bodystructure(root, data)
    assert imap_grammar.body(imap_grammar.read(wire), extended=True) == len(parts)
    assert len(Layout.unpack(pack(root))) == len(parts)
    kept = parse(data)
    assert kept.bodystructure == wire
    (kept.preview + kept.subject + kept.sort_from).encode("utf-8")
