"""URLs that carry an authorization: read, written, and refused. RFC 4467 §9, RFC 5092 §11."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.testing.scaling import grows_linearly
from postroom.wire.imap import (
    URL_LONGEST,
    Access,
    Authorized,
    MessageUrl,
    Rump,
    Site,
    format_rump,
    is_authorized,
    parse_authorized,
    parse_rump,
    with_token,
)
from postroom.wire.imap.urlauth import RUMP_LONGEST, TOKEN_LONGEST
from tests.wire.imap.test_url import URLS

JOE = Site("example.com", None, "joe")
PART = MessageUrl("INBOX", 20, section=b"1.2", site=JOE)
URL = b"imap://joe@example.com/INBOX/;uid=20/;section=1.2"
TOKEN = b"91354a473744909de610943775f92038"


@pytest.mark.parametrize(
    ("text", "rump"),
    [
        (b";urlauth=anonymous", Rump(PART, Access.ANONYMOUS)),
        (b";URLAUTH=authuser", Rump(PART, Access.AUTHUSER)),
        (b";urlauth=submit+fred", Rump(PART, Access.SUBMIT, "fred")),
        (b";urlauth=User+fred%40a.example", Rump(PART, Access.USER, "fred@a.example")),
        (b";urlauth=user+%C3%A9=&a", Rump(PART, Access.USER, "\u00e9=&a")),
        (b";expire=2007-02-03T04:05:06Z;urlauth=anonymous",
         Rump(PART, Access.ANONYMOUS, None, datetime(2007, 2, 3, 4, 5, 6, tzinfo=UTC))),
        (b";EXPIRE=2007-02-03t04:05:06.25-01:30;urlauth=user+x",
         Rump(PART, Access.USER, "x", datetime(
             2007, 2, 3, 4, 5, 6, 250_000, timezone(-timedelta(hours=1, minutes=30))))),
    ],
)  # fmt: skip
def test_what_a_rump_says(text: bytes, rump: Rump) -> None:
    assert parse_rump(URL + text) == rump
    assert is_authorized(URL + text)
    assert parse_authorized(URL + text + b":INTERNAL:" + TOKEN) == Authorized(
        rump, URL + text, TOKEN
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b";urlauth=",
        b";urlauth=anyone",
        b";urlauth=user+",
        b";urlauth=user",
        b";urlauth=user+%zz",
        b";urlauth=user+%ff",
        b";urlauth=user+a%0Ab",
        b";urlauth=user+a@b",
        b";urlauth=anonymous;urlauth=anonymous",
        b";urlauth=anonymous;expire=2007-02-03T04:05:06Z",
        b"/;urlauth=anonymous",
        b";urlauth=anonymous/",
        b";urlauth=anonymous ",
        b";expire=;urlauth=anonymous",
        b";expire=2007-02-03;urlauth=anonymous",
        b";expire=2007-02-03T04:05:06;urlauth=anonymous",
        b";expire=2007-02-30T04:05:06Z;urlauth=anonymous",
        b";expire=2007-02-03T04:05:60Z;urlauth=anonymous",
        b";expire=2007-02-03T04:05:06+99:00;urlauth=anonymous",
        b";expire=20070203T040506Z;urlauth=anonymous",
        b";expire=2007-02-03T04:05:06Z;expire=2007-02-03T04:05:06Z;urlauth=anonymous",
        b";urlauth=anonymous:INTERNAL:" + TOKEN,
        b";urlauth=user+" + b"x" * 1_025,
    ],
)
def test_what_is_no_rump(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse_rump(URL + text)
    with pytest.raises(Malformed):
        parse_authorized(with_token(URL + text, TOKEN))


@pytest.mark.parametrize(
    "url",
    [
        b"/INBOX/;UID=20",
        b";UID=20",
        b"imap://example.com/INBOX/;UID=20",
        b"imap://;AUTH=*@example.com/INBOX/;UID=20",
        b"imap://joe@example.com/INBOX",
        b"imap://joe@example.com/",
        b"imap://joe@example.com/;UID=20",
        b"https://joe@example.com/INBOX/;UID=20",
    ],
)
def test_a_rump_names_a_message_its_server_and_a_user(url: bytes) -> None:
    with pytest.raises(Malformed):
        parse_rump(url + b";URLAUTH=anonymous")


@pytest.mark.parametrize(
    "end",
    [
        b"",
        b":INTERNAL:",
        b":INTERNAL:" + TOKEN[:-1],
        b":INTERNAL:" + b"g" * 32,
        b":INTERNAL:" + b"0" * (TOKEN_LONGEST + 1),
        b":XSAMPLE:" + TOKEN,
        b":INTERNAL:" + TOKEN + b" ",
        b"INTERNAL:" + TOKEN,
    ],
)
def test_what_is_no_token(end: bytes) -> None:
    with pytest.raises(Malformed):
        parse_authorized(URL + b";URLAUTH=anonymous" + end)


@pytest.mark.parametrize("name", [b"INTERNAL", b"internal", b"Internal"])
def test_the_mechanism_is_written_in_any_case(name: bytes) -> None:
    """RFC 4467 §9; its examples have it in lower case. What was signed is as it stands."""
    rump = URL + b";urlauth=anonymous"
    found = parse_authorized(rump + b":" + name + b":" + TOKEN)
    assert (found.signed, found.token) == (rump, TOKEN)


def test_a_whole_url_is_never_longer_than_a_url_may_be() -> None:
    before, after = b"imap://joe@example.com/", b"/;UID=1;URLAUTH=anonymous"
    rump = before + b"x" * (RUMP_LONGEST - len(before) - len(after)) + after
    whole = with_token(rump, b"0" * TOKEN_LONGEST)
    assert len(whole) == URL_LONGEST
    assert parse_authorized(whole).signed == rump
    with pytest.raises(Malformed):
        parse_rump(rump.replace(b"/x", b"/xx"))


DATES = st.integers(-30_000_000_000, 250_000_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))


@settings(max_examples=100)
@given(
    URLS,
    st.sampled_from(Access),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20),
    st.none() | DATES,
)
def test_what_is_written_is_read(
    url: MessageUrl, access: Access, user: str, expire: datetime | None
) -> None:
    of = user if access in (Access.SUBMIT, Access.USER) else None
    site = Site("mail.example", None, "ann@a.example")
    rump = Rump(
        MessageUrl(url.mailbox or "x", url.uid, url.uidvalidity, url.section, url.partial, site),
        access,
        of,
        expire,
    )
    written = format_rump(rump)
    assert parse_rump(written) == rump
    assert parse_authorized(with_token(written, TOKEN)) == Authorized(rump, written, TOKEN)


@pytest.mark.parametrize(
    "piece", [b";EXPIRE=1", b";URLAUTH=user+", b";URLAUTH=user+a", b":INTERNAL:", b"%41", b";"]
)
def test_reading_takes_time_in_proportion(piece: bytes) -> None:
    def read(text: bytes) -> None:
        for _ in range(20):
            for parse in (parse_rump, parse_authorized, is_authorized):
                try:
                    parse(text)
                except Malformed:
                    continue

    def text(size: int) -> bytes:
        return URL + (piece * size)[:size] + b":INTERNAL:" + TOKEN

    assert grows_linearly(read, text(800), text(8_000), 10)
