"""Attack class 5, what is done to mail that we signed: no legal place of it may change, and what
was copied is known by its mark."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from postroom.formats import headers
from postroom.trust.dkim import sign as signing
from tests.trust.signed import MESSAGE, NOW, code, key, other, ours, verify, zone

RICH = (
    b"From: Ann <ann@a.example>\r\nTo: bob@b.example\r\nCc: cid@c.example\r\n"
    b"Subject: Dinner, and\r\n what else there is\r\nDate: Thu, 1 Jan 2026 12:00:00 +0000\r\n"
    b"Message-ID: <1@a.example>\r\nIn-Reply-To: <0@b.example>\r\nReferences: <0@b.example>\r\n"
    b"Reply-To: ann@a.example\r\nSender: ann@a.example\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"List-Id: <eaters.a.example>\r\nList-Unsubscribe: <https://a.example/u>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"
    b"Note: is it ready?\r\n\r\nI am  hungry.\r\n"
)
"""The first line of its body would be a field if the blank line were gone."""
MORE = ("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post")
SHOWN = (
    *(b"From", b"To", b"Cc", b"Subject", b"Date", b"Reply-To", b"Message-ID", b"In-Reply-To"),
    *(b"References", b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding", b"Sender"),
)
"""Fields that readers see, or that say what they see: oversigned, be they there or not."""


def signed(message: bytes = RICH, seconds: int = 0) -> bytes:
    found = headers.scan(message)
    body = signing.hash_body([message[found.end :]])
    return signing.sign(found, body, [key("ed25519")], MORE, NOW, seconds) + message


SIGNED = signed()
START = SIGNED.index(b"From: Ann")
"""Where our own field ends."""


def held(message: bytes) -> tuple[list[bytes], bytes]:
    """What relaxed/relaxed protects, read by other means than ours: RFC 6376 §3.4.2, §3.4.4."""
    head, _, body = message.partition(b"\r\n\r\n")
    fields = []
    for each in re.split(rb"\r\n(?![ \t])", head):
        name, _, value = each.partition(b":")
        value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
        fields.append(name.rstrip(b" \t").lower() + b":" + value)
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return sorted(fields), b"\r\n".join(lines)


@given(
    st.integers(START, len(SIGNED) - 1),
    st.integers(0, 3),
    st.sampled_from((b"", b"a", b"Z", b"0", b":", b";", b"<", b"\t", b" ", b"\r\n", b"\xc3\xa9")),
)
@settings(max_examples=400, deadline=None)
async def test_no_place_of_what_we_signed_may_change(at: int, cut: int, put: bytes) -> None:
    changed = SIGNED[:at] + put + SIGNED[at + cut :]
    assume(not re.search(rb"\r(?!\n)|(?<!\r)\n", changed))  # such a message is not taken
    same = held(changed[START:]) == held(RICH)
    assert (await code(changed) == "pass") <= same, changed[max(START, at - 20) : at + 20]


@pytest.mark.parametrize("name", (*SHOWN, *(each.encode() for each in MORE)), ids=bytes.decode)
async def test_no_field_that_readers_see_is_added_removed_or_changed(name: bytes) -> None:
    (there,) = headers.scan(RICH).find(name.lower())
    own = there.raw(RICH)
    another = name + b": another@b.example\r\n"
    below = SIGNED.replace(b"\r\n\r\nNote", b"\r\n" + another + b"\r\nNote")
    for changed in (
        another + SIGNED,
        own + SIGNED,
        SIGNED[:START] + another + SIGNED[START:],
        below,
        SIGNED[:START] + SIGNED[START:].replace(own, b""),
        SIGNED[:START] + SIGNED[START:].replace(own, another),
    ):
        assert changed != SIGNED
        assert await code(changed) in ("fail", "policy"), changed[:300]


@pytest.mark.parametrize("name", SHOWN[1:], ids=bytes.decode)
async def test_what_was_not_there_cannot_be_added(name: bytes) -> None:
    bare = signed(b"From: Ann <ann@a.example>\r\n\r\nReady?\r\n")
    assert await code(bare) == "pass"
    assert await code(name + b": x@b.example\r\n" + bare) == "fail"


async def test_a_list_may_put_its_own_fields_on_a_letter_that_had_none() -> None:
    """Lists that leave a letter alone but for this keep its signature whole: RFC 6376 §5.4.1."""
    letter = signed(MESSAGE)
    assert await code(b"List-Id: <eaters.b.example>\r\n" + letter) == "pass"


# --- an end ---------------------------------------------------------------------------------------


async def test_what_we_sign_for_a_time_ends_after_it() -> None:
    """RFC 6376 §3.5, x=."""
    content = signed(seconds=86_400)
    assert f"t={NOW}; x={NOW + 86_400};".encode() in content.replace(b"\r\n ", b" ")
    assert await code(content, now=NOW + 86_400 + 300) == "pass"
    (found,) = await verify(content, now=NOW + 86_400 + 301)
    assert (found.code.value, found.reason) == ("fail", "The signature has expired")
    assert b" x=" not in signed()
    assert await code(content.replace(b" x=", b" x=9")) == "fail"


# --- copies ---------------------------------------------------------------------------------------


async def marks(content: bytes) -> list[int]:
    return [each.mark for each in await verify(content, zone())]


async def test_copies_have_one_mark_whatever_is_put_around_them() -> None:
    content = other(MESSAGE)
    (mark,) = await marks(content)
    assert 0 < mark < 1 << 63
    at = content.index(b"b=", content.index(b"bh=") + 3) + 10
    refolded = content[:at] + b"\r\n\t " + content[at:]
    assert await marks(refolded) == [mark]
    assert await marks(b"Received: from x by y\r\nX-Note: 7\r\n" + content) == [mark]
    another = content.replace(b"DKIM-Signature", b"dkim-signature", 1)
    assert await marks(another) == [mark]
    beside = ours(content, ("rsa",))
    assert [each for each in await marks(beside) if each == mark] == [mark]


async def test_other_messages_have_other_marks() -> None:
    found = [*await marks(other()), *await marks(other(MESSAGE + b"more\r\n"))]
    found += await marks(other(kind="rsa"))
    found += await marks(ours())
    assert len(set(found)) == len(found) == 5 and 0 not in found


@pytest.mark.parametrize("how", ("changed", "l=", "unknown key", "expired"))
async def test_what_does_not_hold_has_none(how: str) -> None:
    content = {
        "changed": other() + b"more\r\n",
        "l=": other(tags={"l": "3"}),
        "unknown key": other(tags={"s": "nobody"}),
        "expired": other(tags={"x": str(NOW - 900)}),
    }[how]
    assert await marks(content) == [0]


@pytest.mark.parametrize(
    ("fields", "covered", "expected"),
    (
        (b"List-Id: <l.a.example>\r\n", ("from", "list-id"), True),
        (b"List-Id: <l.a.example>\r\n", ("from",), False),  # anybody may have put it there
        (b"", ("from", "list-id"), False),
    ),
)
async def test_it_is_of_a_list_if_its_signer_says_so(
    fields: bytes, covered: tuple[str, ...], expected: bool
) -> None:
    (found,) = await verify(other(fields + MESSAGE, signed=covered))
    assert (found.code.value, found.of_list) == ("pass", expected)
