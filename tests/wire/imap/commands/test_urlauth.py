"""Commands about authorized URLs: RFC 4467 §9, RFC 5524 §5, and round trips."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.imap import (
    Arguments,
    AskedUrl,
    BadSyntax,
    GenUrlAuth,
    ResetKey,
    UrlFetch,
    UrlItem,
    astring,
)
from postroom.wire.imap.commands.urlauth import URLS
from tests.wire.imap.commands.reading import read

URL = b"imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred"


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (b'GENURLAUTH "%b" INTERNAL' % URL, GenUrlAuth(((URL, b"INTERNAL"),))),
        (b"genurlauth a internal {1}\r\nb xsample",
         GenUrlAuth(((b"a", b"INTERNAL"), (b"b", b"XSAMPLE")))),
        (b"RESETKEY", ResetKey()),
        (b"RESETKEY INBOX", ResetKey("INBOX")),
        (b"resetkey &2D3eCA- internal XSAMPLE",
         ResetKey("\U0001f608", (b"INTERNAL", b"XSAMPLE"))),
        (b'URLFETCH "%b"' % URL, UrlFetch((AskedUrl(URL),))),
        (b"URLFETCH a {1}\r\nb " + URL, UrlFetch(tuple(map(AskedUrl, (b"a", b"b", URL))))),
        (b'URLFETCH (a) ("b" bodypartstructure BINARY) c (d BODY)',
         UrlFetch((AskedUrl(b"a"),
                   AskedUrl(b"b", (UrlItem.BODYPARTSTRUCTURE, UrlItem.BINARY)),
                   AskedUrl(b"c"), AskedUrl(b"d", (UrlItem.BODY,))))),
    ],
)  # fmt: skip
def test_what_a_line_asks_for(line: bytes, asked: Arguments) -> None:
    assert read(line) == asked


@pytest.mark.parametrize(
    "line",
    [
        b"GENURLAUTH",
        b"GENURLAUTH a",
        b"GENURLAUTH a ",
        b"GENURLAUTH a INTERNAL b",
        b"GENURLAUTH (a INTERNAL)",
        b"GENURLAUTH  a INTERNAL",
        b"RESETKEY ",
        b'RESETKEY ""',
        b"RESETKEY INBOX ",
        b"RESETKEY INBOX (INTERNAL)",
        b"URLFETCH",
        b"URLFETCH ",
        b"URLFETCH a  b",
        b"URLFETCH a ",
        b"URLFETCH ()",
        b"URLFETCH (a",
        b"URLFETCH (a )",
        b"URLFETCH (a b)",
        b"URLFETCH (a BODY BODY)",
        b"URLFETCH (a BINARY BODY)",
        b"URLFETCH (a BODY b BODY)",
        b'URLFETCH "a"b',
    ],
)
def test_what_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


@pytest.mark.parametrize("line", [b"URLFETCH" + b" x" * 51, b"GENURLAUTH" + b" x INTERNAL" * 51,
                                  b"RESETKEY INBOX" + b" INTERNAL" * 51])  # fmt: skip
def test_one_command_asks_for_few(line: bytes) -> None:
    with pytest.raises(BadSyntax, match="Too many"):
        read(line)
    read(line.rpartition(b" x")[0] if b" x" in line else line.rpartition(b" ")[0])


TEXT = st.binary(min_size=1, max_size=80).filter(lambda each: b"\0" not in each)


@settings(max_examples=50)
@given(st.lists(TEXT, min_size=1, max_size=URLS))
def test_urls_are_read_as_the_octets_that_they_are(texts: list[bytes]) -> None:
    said = b" ".join(map(astring, texts))
    assert read(b"URLFETCH " + said) == UrlFetch(tuple(map(AskedUrl, texts)))
    pairs = b" ".join(astring(each) + b" INTERNAL" for each in texts)
    asked = GenUrlAuth(tuple((each, b"INTERNAL") for each in texts))
    assert read(b"GENURLAUTH " + pairs) == asked
