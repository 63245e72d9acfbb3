"""Which keys sign which mail: by author, by sender, by list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.formats import headers
from postroom.formats.address import Address, parse_mailbox
from postroom.mailflow.signing_rules import About, canonical, decides, list_id, parse

ANN = parse_mailbox("ann@news.example.org")
LINES = (
    "author=ann@news.example.org|bob@example.net sender=robots.example.org unsigned",
    "list=announce.example.org sign lists|lists-ed",
    "sender=<> sign bounces",
    "author=example.org sign main",
)


def which(
    author: Address = ANN, sender: str | None = "ann@example.org", of: str = ""
) -> int | None:
    header = headers.scan(b"List-Id: <%b>\r\n\r\n" % of.encode() if of else b"\r\n")
    about = About(author, parse_mailbox(sender) if sender is not None else None, header)
    found = decides(LINES, about)
    return found[0] if found is not None else None


def test_the_first_line_of_which_all_holds_decides() -> None:
    assert which() == 4
    assert which(sender="x@mail.robots.example.org") == 1
    assert which(sender="x@notrobots.example.org") == 4
    assert which(of="weekly.announce.example.org") == 2
    assert which(of="notannounce.example.org") == 4
    assert which(sender=None) == 3
    assert which(parse_mailbox("Ann@News.Example.org"), "x@robots.example.org") == 1
    assert which(parse_mailbox("eve@example.com")) is None


@pytest.mark.parametrize(
    ("text", "line"),
    (
        ("AUTHOR=Ann@Example.ORG  sign News", "author=ann@example.org sign news"),
        ("author=a.example|A.example unsigned", "author=a.example unsigned"),
        ("list=My-List.example.org SIGN a|b|a", "list=my-list.example.org sign a|b"),
        ("HEADER=X-Kind:A;b|list-id SIGN a", "header=x-kind:a;b|list-id sign a"),
        ("author=b\u00fccher.example unsigned", "author=xn--bcher-kva.example unsigned"),
    ),
)
def test_a_line_has_one_spelling(text: str, line: str) -> None:
    assert canonical(text) == line == canonical(line)


@pytest.mark.parametrize(
    "text",
    (
        *(
            "",
            "sign a",
            "unsigned",
            "author=a.example",
            "author=a.example sign",
            "author= unsigned",
        ),
        *("header= unsigned", "header=: unsigned", "header=x: unsigned", "header=a_b unsigned"),
        *("subject=x unsigned", "author unsigned", "author=a b sign c", "author=@ unsigned"),
        *("author=a.example sign -a", "author=a.example sign a;b", "list=a@b unsigned"),
        *("author=192.0.2.1 unsigned", "author=<> unsigned", "author=a.example sign " + "a" * 500),
        "author=" + "|".join(f"a{n}.example" for n in range(51)) + " unsigned",
    ),
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        canonical(text)


@pytest.mark.parametrize(
    ("asked", "holds"),
    (
        ("x-campaign", True),
        ("x-campaign:spring", True),
        ("x-campaign:sale", True),
        ("x-campaign:winter", False),
        ("x-campaign:winter|subject:hello", True),
        ("x-camp", False),
        ("received", False),
    ),
)
def test_a_field_of_the_header_may_be_asked_for(asked: str, holds: bool) -> None:
    header = headers.scan(
        b"Subject: Hello\r\nX-Campaign: none\r\nX-Campaign: The\r\n Spring-Sale\r\n"
        b"\r\nReceived: x\r\n"
    )
    found = decides((f"header={asked} unsigned",), About(ANN, None, header))
    assert (found is not None) is holds


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        line = canonical(text)
    except Malformed:
        return
    assert str(parse(line)) == line


@pytest.mark.parametrize(
    ("value", "found"),
    (
        (b"News of the house <News.example.org>", "news.example.org"),
        (b"<a.example> \t", "a.example"),
        (b"no brackets", ""),
        (b"<a> <b.example>", "b.example"),
        (b"<" * 100_000, ""),
        (None, ""),
    ),
)
def test_a_list_is_known_by_what_its_field_names(value: bytes | None, found: str) -> None:
    """RFC 2919 §3."""
    assert list_id(value) == found
