"""Web addresses: one reading, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import MailError, Malformed, NotAllowed
from postroom.net.url import parse_url


@pytest.mark.parametrize(
    ("text", "authority", "target"),
    [
        ("https://a.example", "a.example", "/"),
        ("HTTPS://A.Example./x?y=1#frag", "a.example", "/x?y=1"),
        ("https://a.example?q", "a.example", "/?q"),
        ("https://a.example:443/", "a.example", "/"),
        ("https://a.example:8443/%2e%2e/", "a.example:8443", "/%2e%2e/"),
        ("http://a.example:80/", "a.example", "/"),
        ("https://192.0.2.1/", "192.0.2.1", "/"),
        ("https://[2001:DB8::0:1]:8443/", "[2001:db8::1]:8443", "/"),
        ("https://bücher.example/", "xn--bcher-kva.example", "/"),
        ("https://a_b.example.1a/", "", ""),
    ],
)
def test_a_web_address_has_one_form(text: str, authority: str, target: str) -> None:
    if not authority:
        with pytest.raises(Malformed):
            parse_url(text)
        return
    url = parse_url(text)
    assert (url.authority, url.target) == (authority, target)
    assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "", "https://", "https:///x", "https:a.example", "//a.example/", "a.example", "/x",
        "https://a example/", "https://a.example/ x", "https://a.example/\r\nX: y",
        "https://a.example/\\b", "https://a%2eexample/",
        "https://a.example:/", "https://a.example:x/", "https://a.example:0/",
        "https://a.example:65536/", "https://a.example:443:443/", "https://[::1/", "https://::1/",
        "https://[fe80::1%25eth0]/", "https://[v1.x]/", "https://[127.0.0.1]/",
        "https://a..example/", "https://" + "a" * 300 + "/", "https://a.example/" + "x" * 5000,
        "https://a.example/ä", "https://a.example/<x>",
    ],
)  # fmt: skip
def test_what_has_no_reading_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_url(text)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "017700000001", "0x7f000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1",
        "127.0.0.01", "0x7f.0x0.0x0.0x1", "1.2.3.4.5", "256.1.1.1", "a.example.1", "0x", "0",
        "１２７.1", "2130706433.",
    ],
)  # fmt: skip
def test_an_address_in_disguise_is_malformed(host: str) -> None:
    with pytest.raises(Malformed):
        parse_url(f"https://{host}/")


def test_digits_of_other_scripts_are_the_address_that_they_mean() -> None:
    assert str(parse_url("https://１２７.０.０.１/").ip) == "127.0.0.1"


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd", "ftp://a.example/", "gopher://a.example/", "data:,x",
        "javascript:alert(1)", "HTTPS+unix://x/",
        "https://user@a.example/", "https://user:pass@a.example/", "https://a.example@b.example/",
        "https://@a.example/", "https://a.example\\@b.example/",
        "https://a.example:25/", "https://a.example:80/", "http://a.example:443/",
        "https://a.example:1023/",
    ],
)  # fmt: skip
def test_what_is_not_for_us_is_not_allowed(text: str) -> None:
    with pytest.raises(NotAllowed):
        parse_url(text)


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        ("/b", "https://a.example/b"),
        ("b", "https://a.example/x/b"),
        ("../b?c", "https://a.example/b?c"),
        ("//b.example/", "https://b.example/"),
        ("https://a.example:8443/", "https://a.example:8443/"),
        ("", "https://a.example/x/y"),
    ],
)
def test_references_are_joined(reference: str, there: str) -> None:
    assert str(parse_url("https://a.example/x/y").joined(reference)) == there


@pytest.mark.parametrize("reference", ["https://[::1", "//[x]/", "\\\\b.example", "x" * 9_000])
def test_broken_references_are_malformed(reference: str) -> None:
    with pytest.raises(Malformed):
        parse_url("https://a.example/x").joined(reference)


@given(st.text(st.sampled_from("htps:/@[].0x1a?#%\\ \n-ä"), max_size=60))
def test_any_text_is_an_address_or_an_error_of_ours(text: str) -> None:
    for each in (text, f"https://{text}"):
        try:
            url = parse_url(each)
        except MailError:
            continue
        assert parse_url(str(url)) == url
        assert not set(str(url)) & set(" \r\n\\#")
        assert "@" not in url.authority
