"""IMAP URLs of messages: read, written, and refused. RFC 5092."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.testing.scaling import grows_linearly
from postroom.wire.imap import (
    URL_LONGEST,
    FetchBody,
    MessageUrl,
    Section,
    Site,
    format_url,
    parse_url,
)
from postroom.wire.imap.cursor import NUMBER64

SITE = Site("mail.example", 143, "ann@a.example", "*")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (b"/Drafts/;UID=20", MessageUrl("Drafts", 20)),
        (b"/Drafts;UIDVALIDITY=385759045/;UID=20/;SECTION=HEADER",
         MessageUrl("Drafts", 20, 385759045, b"HEADER")),
        (b"/INBOX;uidvalidity=785799047/;uid=113330;section=1.5.9", None),
        (b"/INBOX;uidvalidity=785799047/;uid=113330/;section=1.5.9",
         MessageUrl("INBOX", 113330, 785799047, b"1.5.9")),
        (b"/a/b%20c%2Fd/;UID=1/;PARTIAL=5", MessageUrl("a/b c/d", 1, partial=(5, None))),
        (b"/x/;UID=1/;SECTION=2.MIME/;PARTIAL=0.1024",
         MessageUrl("x", 1, section=b"2.MIME", partial=(0, 1024))),
        (b"/%E2%98%83&=/;UID=4294967295", MessageUrl("\N{SNOWMAN}&=", 4294967295)),
        (b"/x/;UID=1/;SECTION=HEADER.FIELDS%20(Date%20To)",
         MessageUrl("x", 1, section=b"HEADER.FIELDS (Date To)")),
        (b";UID=20/;SECTION=TEXT", MessageUrl(None, 20, section=b"TEXT")),
        (b"imap://mail.example/x/;UID=1", MessageUrl("x", 1, site=Site("mail.example"))),
        (b"IMAP://ann%40a.example;auth=*@Mail.Example:143/x/;UID=1", MessageUrl("x", 1, site=SITE)),
    ],
)  # fmt: skip
def test_what_a_url_names(text: bytes, url: MessageUrl | None) -> None:
    if url is None:
        with pytest.raises(Malformed):
            parse_url(text)
    else:
        assert parse_url(text) == url


def test_a_section_is_what_fetch_would_ask_for() -> None:
    url = parse_url(b"/x/;UID=1/;SECTION=1.HEADER.FIELDS.NOT%20(%22To%22)/;PARTIAL=3")
    assert url.wanted() == FetchBody(
        (1,), Section.HEADER_FIELDS_NOT, (b"To",), (3, NUMBER64), peek=True
    )
    assert parse_url(b"/x/;UID=1").wanted() == FetchBody(peek=True)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"/",
        b"/;UID=1",
        b";UIDVALIDITY=1/;UID=1",
        b"x/;UID=1",
        b"/x",
        b"/x;UID=1",
        b"/x/;UID",
        b"/x/;UID=",
        b"/x/;UID=0",
        b"/x/;UID=-1",
        b"/x/;UID=4294967296",
        b"/x/;UID=" + b"9" * 40,
        b"/x/;UID=1/;UID=2",
        b"/x/;UID=1/",
        b"/x/;UID=1/;UIDVALIDITY=1",
        b"/x;UIDVALIDITY=1;UID=1",
        b"/x;UIDVALIDITY=0/;UID=1",
        b"/x/;UID=1/;PARTIAL=0.1/;SECTION=1",
        b"/x/;UID=1/;SECTION=",
        b"/x/;UID=1/;SECTION=0",
        b"/x/;UID=1/;SECTION=1.MIME.2",
        b"/x/;UID=1/;SECTION=MIME",
        b"/x/;UID=1/;SECTION=1%5D%3C0.5%3E",
        b"/x/;UID=1/;SECTION=1%5D%20BODY%5B",
        b"/x/;UID=1/;SECTION=HEADER.FIELDS",
        b"/x/;UID=1/;PARTIAL=",
        b"/x/;UID=1/;PARTIAL=1.",
        b"/x/;UID=1/;PARTIAL=1.0",
        b"/x/;UID=1/;PARTIAL=1-5",
        b"/x/;UID=1/;PARTIAL=9223372036854775808",
        b"/x/;UID=1/;PARTIAL=1.9223372036854775808",
        b"/x/;UID=1/;OTHER=1",
        b"/x/;UID=1;URLAUTH=anonymous",
        b"/../x/;UID=1",
        b"/x/%2e%2E/y/;UID=1",
        b"/./;UID=1",
        b"/a%00b/;UID=1",
        b"/a%0d%0aLOGOUT/;UID=1",
        b"/%C2%85/;UID=1",
        b"/%FF/;UID=1",
        b"/%C0%AE%C0%AE/;UID=1",
        b"/%ED%A0%80/;UID=1",
        b"/a%/;UID=1",
        b"/a%4/;UID=1",
        b"/a%zz/;UID=1",
        b"/a b/;UID=1",
        b'/a"b/;UID=1',
        b"/caf\xc3\xa9/;UID=1",
        b"/x/;UID=1\r\n",
        b"/x/;UID=1?SUBJECT%20a",
        b"/x/;UID=1#a",
        b"//host/x/;UID=1",
        b"/" + b"x" * URL_LONGEST + b"/;UID=1",
        b"http://mail.example/x/;UID=1",
        b"imap:/x/;UID=1",
        b"imap:///x/;UID=1",
        b"imap://mail.example",
        b"imap://mail.example;UID=1",
        b"imap://a@b@mail.example/x/;UID=1",
        b"imap://mail.example:999999/x/;UID=1",
        b"imap://%FF@mail.example/x/;UID=1",
        b"imap://%0A@mail.example/x/;UID=1",
    ],
)
def test_what_names_no_message_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse_url(text)


NUMBERS = st.integers(1, (1 << 32) - 1)
NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=40
).filter(lambda name: name[0] != "/" and not {".", ".."} & set(name.split("/")))
SECTIONS = st.sampled_from([b"", b"1", b"2.10.3", b"HEADER", b"TEXT", b"3.MIME",
                            b'HEADER.FIELDS (To "a]b")', b"1.HEADER.FIELDS.NOT (A B)"])  # fmt: skip
PARTIALS = st.none() | st.tuples(st.integers(0, NUMBER64), st.none() | st.integers(1, NUMBER64))
SITES = (
    st.none()
    | st.builds(
        Site,
        st.sampled_from(["a.example", "x-1.y"]),
        st.none() | st.integers(0, 65535),
        st.none() | NAMES.map(lambda name: name.replace("/", "") or "x"),
        st.none(),
    )
    | st.just(SITE)
)
URLS = st.builds(
    MessageUrl, NAMES, NUMBERS, st.none() | NUMBERS, SECTIONS, PARTIALS, SITES
) | st.builds(
    MessageUrl, st.none(), NUMBERS, st.none(), SECTIONS, PARTIALS
)  # fmt: skip


@settings(max_examples=200)
@given(URLS)
def test_what_is_written_is_read_again(url: MessageUrl) -> None:
    assert parse_url(format_url(url)) == url


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.from_regex(rb"[/;%=.0-9A-Z:@imap]{1,60}", fullmatch=True))
def test_any_octets_are_read_or_refused(text: bytes) -> None:
    try:
        url = parse_url(text)
    except Malformed:
        return
    assert parse_url(format_url(url)) == url


@pytest.mark.parametrize("piece", [b"%41", b"%", b"/", b";UID=1/", b"@", b"imap://", b"a"])
def test_reading_takes_time_in_proportion(piece: bytes) -> None:
    def read(text: bytes) -> None:
        for _ in range(20):
            try:
                parse_url(text)
            except Malformed:
                continue

    def text(size: int) -> bytes:
        return b"/" + (piece * size)[:size] + b"/;UID=1"

    assert grows_linearly(read, text(URL_LONGEST // 10), text(URL_LONGEST - 20), 10)
