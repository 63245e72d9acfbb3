"""What attackers do with signatures. RFC 6376 §8; the classes are those of the list of attacks."""

from __future__ import annotations

import pytest

from postroom.formats import headers
from postroom.testing.scaling import cpu_seconds, grows_linearly
from postroom.trust import dkim
from postroom.trust.dkim import sign as signing
from tests.trust.signed import DOMAIN, MESSAGE, NOW, code, key, other, ours, verify, zone

# --- pitfalls of DKIM: class 5 ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["relaxed/relaxed", "simple/simple"])
async def test_l_is_no_reason_to_pass_a_longer_body(form: str) -> None:
    """RFC 6376 §8.2."""
    size = str(len(b"Is it ready?\r\n"))
    signed = other(tags={"l": size, "c": form})
    (found,) = await verify(signed)
    assert found.code == "policy"
    assert "unsigned" in found.reason
    assert await code(signed + b"Buy this!\r\n") == "policy"


async def test_l_that_covers_all_passes_until_something_is_added() -> None:
    body = MESSAGE.partition(b"\r\n\r\n")[2]
    signed = other(tags={"l": str(len(body)), "c": "relaxed/simple"})
    assert await code(signed) == "pass"
    assert await code(signed + b"Buy this!\r\n") == "policy"
    assert await code(signed[:-5]) == "fail"


async def test_l_of_nothing_does_not_pass() -> None:
    assert await code(other(tags={"l": "0"})) == "policy"


@pytest.mark.parametrize(
    "field",
    [
        b"From: Boss <boss@bank.example>\r\n",
        b"Subject: Other\r\n",
        b"To: eve@c.example\r\n",
        b"Cc: eve@c.example\r\n",
        b"Reply-To: eve@c.example\r\n",
        b"Sender: eve@c.example\r\n",
        b"Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n",
        b"Message-ID: <x@y>\r\n",
        b"MIME-Version: 1.0\r\n",
        b"Content-Type: text/html\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"References: <x@y>\r\n",
    ],
)
async def test_a_field_added_to_what_we_signed_breaks_it(field: bytes) -> None:
    """Oversigning: RFC 6376 §8.15. At the top, and above the other fields of the message."""
    signed = ours()
    at = signed.index(b"From: Ann")
    for content in (field + signed, signed[:at] + field + signed[at:]):
        assert {each.code.value for each in await verify(content)} <= {"fail", "policy"}


async def test_every_octet_of_what_we_signed_counts() -> None:
    """Any change but of blanks that relaxed forgives."""
    signed = ours(kinds=("ed25519",))
    body = signed.index(b"\r\n\r\n")
    start = signed.index(b"From: Ann")
    for at in [*range(start + 6, body, 3), *range(body + 4, len(signed) - 2, 3)]:
        octet = signed[at : at + 1]
        if octet.strip() and octet != b":":
            changed = signed[:at] + (b"~" if octet != b"~" else b"!") + signed[at + 1 :]
            assert await code(changed) != "pass", signed[max(0, at - 10) : at + 10]


async def test_a_second_author_above_the_signed_one_does_not_pass() -> None:
    """Which From readers show, nobody knows. RFC 6376 §8.15."""
    signed = other()
    assert await code(b"From: Boss <boss@bank.example>\r\n" + signed) == "policy"
    assert await code(b"Subject: Other\r\n" + signed) == "policy"
    assert await code(b"X-Note: harmless\r\n" + signed) == "pass"


async def test_fields_are_counted_from_the_bottom() -> None:
    """RFC 6376 §5.4.2."""
    message = b"Received: two\r\nReceived: one\r\n" + MESSAGE
    signed = other(message, signed=("from", "received", "received"))
    assert await code(signed) == "pass"
    assert await code(b"Received: three\r\n" + signed) == "pass"
    swapped = signed.replace(b"two", b"???").replace(b"one", b"two").replace(b"???", b"one")
    assert await code(swapped) == "fail"


async def test_a_signature_does_not_serve_another_domain() -> None:
    signed = other().replace(b"d=a.example", b"d=b.example", 1)
    assert await code(signed, zone("b.example")) == "fail"


# --- too much: class 4 and class 25 --------------------------------------------------------------


async def test_a_thousand_signatures_ask_dns_for_few_keys() -> None:
    one = other(tags={"s": "SEL"})
    field = one[: one.index(b"From:")]
    many = b"".join(field.replace(b"s=SEL", b"s=s%d" % n) for n in range(1000))
    dns = zone()
    results = await verify(many + MESSAGE, dns)
    assert len(dns.asked) == dkim.MOST_SIGNATURES
    assert len(results) == dkim.MOST_SIGNATURES + 1
    assert (results[-1].code, results[-1].domain) == ("neutral", "")
    assert "990 more" in results[-1].reason


async def test_a_signature_over_another_body_asks_dns_nothing() -> None:
    dns = zone()
    assert await code(other() + b"more\r\n", dns) == "fail"
    assert dns.asked == []


def test_a_thousand_signatures_cost_little() -> None:
    field = b"DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=" + b"from:" * 400
    content = (field + b"from; bh=AAAA; b=AAAA\r\n") * 400 + MESSAGE

    def run() -> None:
        found = headers.scan(content)
        read = dkim.signatures(found, NOW)
        body = dkim.hasher(read)
        body.feed(content[found.end :])
        body.finish()

    assert cpu_seconds(run, enough=0.1) < 0.1


@pytest.mark.parametrize("unit", [b";", b"a=", b"=", b"v=1;", b" \r\n ", b":", b"\xff", b"b=\t"])
def test_no_list_of_tags_costs_more_than_its_length(unit: bytes) -> None:
    def run(size: int) -> None:
        content = b"DKIM-Signature: " + unit * (size // len(unit)) + b"\r\n" + MESSAGE
        dkim.signatures(headers.scan(content), NOW)

    assert grows_linearly(run, 50_000, 400_000, 8)


def test_a_header_beyond_our_caps_is_not_judged() -> None:
    content = other().partition(b"From:")[0] + b"X: y\r\n" * (headers.FIELDS_MAX + 1) + MESSAGE
    found = headers.scan(content)
    assert found.over_cap
    assert [r.result.code for r in dkim.signatures(found, NOW) if r.result] == ["neutral"]
    assert not signing.can_sign(found)


async def test_the_words_of_strangers_are_printable_in_results() -> None:
    content = (
        b"DKIM-Signature: v=1; d=\xc2\x85x; i=\xe2\x80\xa8@y; a=\xf0\x9f\x98\x80; b=\xc2\xa0\r\n"
    )
    (found,) = await verify(content + MESSAGE)
    texts = (found.domain, found.identity, found.algorithm, found.signature, found.selector)
    assert all(text.isprintable() for text in texts)


def test_what_an_administrator_names_cannot_become_another_field() -> None:
    content = b"X-Evil: 1\r\n" + MESSAGE
    found = headers.scan(content)
    body = signing.hash_body([content[found.end :]])
    names = ("X-Evil", "X:\r\nBcc: eve@c.example", "", "Grüße", "x-evil")
    made = signing.sign(found, body, [key("ed25519")], names, NOW)
    assert [each.name for each in headers.scan(made).fields] == [b"DKIM-Signature"]
    assert made.count(b"X-Evil") == 1
    assert b"Bcc" not in made


async def test_what_ends_without_a_blank_line_is_not_signed() -> None:
    """Another server would find another header."""
    assert not signing.can_sign(headers.scan(b"From: a@a.example\r\nno field\r\n\r\nText\r\n"))
    assert signing.can_sign(headers.scan(MESSAGE))
    assert DOMAIN in MESSAGE.decode()
