"""IMAP URLs: what is read is written and read alike, and leads nowhere but to a mailbox's name."""

from __future__ import annotations

from postroom.core.errors import Malformed
from postroom.wire.imap import (
    URL_LONGEST,
    Access,
    format_rump,
    format_url,
    is_authorized,
    parse_authorized,
    parse_rump,
    parse_url,
    with_token,
)

SEEDS: list[bytes] = [
    b"/INBOX/;UID=1",
    b";UID=20/;SECTION=1.2/;PARTIAL=0.1024",
    b"/Drafts;UIDVALIDITY=385759045/;UID=20/;SECTION=HEADER",
    b"/%E2%98%83;uidvalidity=1/;uid=2/;section=HEADER.FIELDS%20(To%20%22a%20b%22)",
    b"imap://ann%40a.example;AUTH=*@mail.example:143/a%2Fb/c/;UID=7/;PARTIAL=9",
    b"imap://mail.example/;UID=1",
    b"/../;UID=1",
    b"/a%00b/;UID=1",
    b"/a%C0%AE/;UID=4294967296",
    b"/x/;UID=1;EXPIRE=2026-01-01T00:00:00Z;URLAUTH=anonymous:INTERNAL:00",
    b"imap://a@b/x/;UID=1;URLAUTH=authuser",
    b"imap://a@b/x/;UID=1/;SECTION=1.2/;PARTIAL=3;EXPIRE=2026-01-01T00:00:00.5+01:30"
    b";URLAUTH=user+ann%40a.example:INTERNAL:" + b"01" * 41,
    b"imap://a@b/x;UIDVALIDITY=9/;UID=1;URLAUTH=submit+b:INTERNAL:" + b"0" * 32,
]
TOKENS: list[bytes] = [
    *(b";UID=", b"/;UID=1", b";UIDVALIDITY=", b"/;SECTION=", b"/;PARTIAL=", b"imap://", b"@"),
    *(b";URLAUTH=", b"user+", b"submit+", b"anonymous", b"authuser", b":INTERNAL:", b"0" * 32),
    *(b";EXPIRE=", b"2026-01-01T00:00:00", b"Z", b"+01:00"),
    *(b"%2e%2e", b"%2F", b"%00", b"%", b"..", b"//", b"HEADER.FIELDS%20(", b"%5D", b";AUTH=*"),
]


def one_input(data: bytes) -> None:
    """Raises AssertionError where a property breaks."""
    _authorized(data)
    try:
        url = parse_url(data)
    except Malformed:
        return
    assert not is_authorized(data)
    assert len(data) <= URL_LONGEST
    assert 0 < url.uid < 1 << 32
    if url.mailbox is not None:
        assert url.mailbox.isprintable() or not any(each < " " for each in url.mailbox)
        assert not {".", ".."} & set(url.mailbox.split("/"))
    assert url.wanted().peek
    written = format_url(url)
    if len(written) <= URL_LONGEST:
        assert parse_url(written) == url


def _authorized(data: bytes) -> None:
    """A URL is a rump and a token in one way at most, and what a rump says is written again."""
    try:
        whole = parse_authorized(data)
    except Malformed:
        signed = data
    else:
        assert len(data) <= URL_LONGEST
        # The mechanism may be written in any case: RFC 4467 §9.
        assert with_token(whole.signed, whole.token).lower() == data.lower()
        assert parse_rump(whole.signed) == whole.rump
        signed = whole.signed
    try:
        rump = parse_rump(signed)
    except Malformed:
        assert signed is data
        return
    assert is_authorized(signed)
    assert rump.url.site is not None and rump.url.site.user is not None
    assert (rump.user is not None) is (rump.access in (Access.USER, Access.SUBMIT))
    assert rump.expire is None or rump.expire.utcoffset() is not None
    written = format_rump(rump)
    if len(written) <= URL_LONGEST // 2:
        assert parse_rump(written) == rump
