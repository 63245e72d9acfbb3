"""What the server may be called, and how that is spelt."""

from __future__ import annotations

import pytest

from postroom.core.errors import Malformed, Misuse
from postroom.core.settings import declared
from postroom.mailflow.names import parse_domain_name, parse_host_name
from postroom.mailflow.settings import ServerSettings

HOSTNAME = "server.hostname"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mail.example.org", "mail.example.org"),
        ("MAIL.Example.ORG.", "mail.example.org"),
        (" mail.example.org ", "mail.example.org"),
        ("3com.example", "3com.example"),  # RFC 1123 §2.1: a digit may come first
        ("pošta.example", "xn--pota-h6a.example"),
        ("xn--pota-h6a.example", "xn--pota-h6a.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        (f"{'a' * 63}.example", f"{'a' * 63}.example"),
    ],
)
def test_a_full_name_is_kept_in_a_labels(text: str, name: str) -> None:
    assert parse_host_name(text) == name
    assert declared(HOSTNAME).parse(text) == name
    assert declared(HOSTNAME).check(name) == name, "what is stored is taken again"
    assert parse_domain_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "mail_1.example.org",
        "-mail.example.org",
        "mail-.example.org",
        "mail..example.org",
        ".example.org",
        "mail.example.org:25",
        "mail example.org",
        "ann@example.org",
        "https://mail.example.org",
        "mail.example.org\r\nX: y",
        f"{'a' * 64}.example",
        f"{'a.' * 127}example",
        "*.example.org",
        ".",
    ],
)
def test_what_is_no_name_is_refused_with_what_is_right(text: str) -> None:
    for parse in (parse_host_name, parse_domain_name):
        with pytest.raises(Malformed, match=r"letters, digits and inner hyphens"):
            parse(text)
    with pytest.raises(Misuse, match=r"server.hostname: Write the name of a host, such as mail\."):
        declared(HOSTNAME).parse(text)


@pytest.mark.parametrize("text", ["192.0.2.1", "[192.0.2.1]", "[IPv6:2001:db8::1]", "1.2.3"])
def test_an_address_is_no_name(text: str) -> None:
    with pytest.raises(Malformed, match="This is an address"):
        parse_host_name(text)


def test_a_host_has_a_domain_and_a_domain_may_be_one_label() -> None:
    with pytest.raises(Malformed, match="mail has no domain"):
        parse_host_name("mail")
    assert parse_domain_name("intranet") == "intranet"


def test_without_a_name_the_default_stands() -> None:
    assert declared(HOSTNAME).parse("") == ServerSettings().hostname == ""
