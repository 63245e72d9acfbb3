"""Attack class 4: whose mail was judged by DMARC is who is shown as its author, or it is refused.

A corpus of From fields of which readers disagree, each brought through the door. What is taken is
read back by IMAP's ENVELOPE, as it is answered and as others would make it of the content as it
lies there, and by three readers of Python's library. Whoever is seen was judged.
"""

from __future__ import annotations

import contextlib
import email
import email.errors
import email.policy
import re
from collections.abc import Iterator
from email.utils import getaddresses
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imapclient.response_parser import parse_fetch_response

from postroom.domain.mailboxes import folders, reading
from postroom.domain.mailboxes.picking import Pick
from postroom.formats import headers
from postroom.formats.address import BadAddress, canonical_domain
from postroom.formats.envelope import envelope
from postroom.store.sql import Tx
from postroom.trust import dmarc
from postroom.trust.dmarc import Authors
from tests.mailflow.doors import ANN as ME
from tests.mailflow.doors import Doors
from tests.mailflow.serving import Mx
from tests.mailflow.test_authentication import BOB, checking

EVIL: Final = "x@evil.example"
BOSS: Final = "boss@bank.example"
REFUSED: Final = "refused"
NOBODY: Final = "nobody"
"""It is taken, as it names nobody to whoever reads it."""
BANK: Final = "bank.example"
MINE: Final = "evil.example"
BOTH: Final = f"{BANK} {MINE}"

CASES: Final = (
    # Several fields, and what some readers take for one.
    (f"From: {EVIL}\r\nFrom: {BOSS}", REFUSED),
    (f"From: {EVIL}\r\nFrom : {BOSS}", REFUSED),
    (f"From\t: {BOSS}\r\nfrom: {EVIL}", REFUSED),
    (f"from: {EVIL}\r\nFROM: {BOSS}", REFUSED),
    (f"From : {BOSS}", BANK),
    (f"From:\r\n {EVIL}", MINE),
    (f"From:\r\n\t{BOSS}\r\n ,{EVIL}", BOTH),
    (f"From: {EVIL}\r\n From: {BOSS}", BOTH),
    (f"From: {EVIL}\r\n \r\nFrom: {BOSS}", REFUSED),
    (f"From:{BOSS}\r\n \r\n {EVIL}", BOTH),
    (f"From: \r\nFrom: {EVIL}", REFUSED),
    (f"From {BOSS}\r\nFrom: {EVIL}", MINE),
    (f">From {BOSS}\r\nFrom: {EVIL}", MINE),
    (f"Sender: {BOSS}\r\nResent-From: {BOSS}", NOBODY),
    # A line that is no field ends the header for some readers, and for others it does not.
    (f"From: {EVIL}\r\nno field\r\nFrom: {BOSS}", REFUSED),
    (f"From: {EVIL}\r\n: nothing\r\nFrom: {BOSS}", REFUSED),
    (f"From: {EVIL}\r\n: nothing\r\nX-Note: 1\r\nfrom\t: {BOSS}", REFUSED),
    (f"no field\r\nFrom: {BOSS}", REFUSED),
    (f"\u00a0From: {EVIL}\r\nFrom: {BOSS}", REFUSED),
    (f" From: {EVIL}\r\nFrom: {BOSS}", REFUSED),
    (f" Subject: x\r\nFrom: {BOSS}", REFUSED),
    (f"From: {EVIL}\r\nno field\r\nX-Note: 1", MINE),
    # Several addresses.
    (f"From: {EVIL}, {BOSS}", BOTH),
    (f"From: <{EVIL}>, , <{BOSS}>", BOTH),
    (f"From: {EVIL} {BOSS}", BOTH),
    (f"From: <{EVIL}><{BOSS}>", BOTH),
    (f"From: <{EVIL}> {BOSS}", BOTH),
    (f"From: {BOSS}; {EVIL}", BOTH),
    (f"From: <<{BOSS}>{EVIL}>", BOTH),
    (f"From: <{EVIL}>>{BOSS}", BOTH),
    (f"From: <mailto:{BOSS}> <{EVIL}>", BOTH),
    (f"From: {EVIL}/{BOSS}", REFUSED),
    (f"From: {EVIL},bank.example", MINE),
    # Quotes.
    (f'From: "{BOSS}" <{EVIL}>', MINE),
    (f'From: "{BOSS}"@evil.example', MINE),
    (f'From: <"{BOSS}"@evil.example>', MINE),
    (f'From: "{BOSS}>, <x"@evil.example', MINE),
    ('From: "x\\"@bank.example, "@evil.example', REFUSED),
    (f'From: Boss" <{BOSS}>, " <{EVIL}>', MINE),
    # Several @, and other ways to write a way.
    (f"From: {BOSS}@evil.example", REFUSED),
    (f"From: <{BOSS}@evil.example>", REFUSED),
    ("From: boss%bank.example@evil.example", MINE),
    ("From: bank.example!boss@evil.example", MINE),
    (f"From: <@bank.example:{EVIL}>", MINE),
    (f"From: <@bank.example,@c.example:{EVIL}>", MINE),
    (f"From: @bank.example:{EVIL}", REFUSED),
    (f"From: <{BOSS}:{EVIL}>", REFUSED),
    # Comments.
    (f"From: {EVIL} ({BOSS})", MINE),
    (f"From: ({BOSS}) {EVIL}", MINE),
    ("From: x@(bank.example)evil.example", MINE),
    ("From: x(@bank.example)@evil.example", MINE),
    (f"From: {EVIL} ({BOSS}", BOTH),
    (f"From: (a(b) {BOSS}) {EVIL}", MINE),
    (f"From: (a\\) <{BOSS}>) {EVIL}", MINE),
    # Groups.
    (f"From: bank: {EVIL};", MINE),
    (f"From: bank: {EVIL}, {BOSS};", BOTH),
    (f"From: a: {EVIL}; b: {BOSS};", BOTH),
    (f"From: a: b: {BOSS};, {EVIL};", BOTH),
    (f"From: a:{EVIL};, {BOSS}", BOTH),
    (f"From: bank:; {EVIL}", MINE),
    (f"From: bank: {EVIL}", MINE),
    (f'From: "{BOSS}:" {EVIL};', MINE),
    (f"From: {BOSS}: {EVIL};", REFUSED),
    (f"From: <{BOSS}: {EVIL};>", REFUSED),
    (f"From: <{BOSS}: {EVIL};>, {EVIL}", REFUSED),
    (f"From: =?utf-8?q?boss=40bank=2Eexample?=: {EVIL};", REFUSED),
    ("From: bank:;", NOBODY),
    # Encoded words.
    (f"From: =?utf-8?q?boss=40bank=2Eexample?= <{EVIL}>", MINE),
    (f"From: =?utf-8?b?PGJvc3NAYmFuay5leGFtcGxlPg==?= <{EVIL}>", MINE),
    (f"From: =?utf-8?b?PGJvc3NAYmFuay5leGFtcGxlPiw=?= {EVIL}", MINE),
    ("From: =?utf-8?q?boss=40bank=2Eexample?=@evil.example", MINE),
    ("From: =?utf-8?b?Ym9zc0BiYW5rLmV4YW1wbGU=?=", REFUSED),
    ("From: <=?utf-8?q?boss=40bank=2Eexample?=>", REFUSED),
    # Domains.
    ("From: x@b\u00e4nk.example", "xn--bnk-qla.example"),
    ("From: x@xn--bnk-qla.example", "xn--bnk-qla.example"),
    ("From: x@bank\u3002example", BANK),
    ("From: x@bank\u200b.example", BANK),
    ("From: x@ban\u00adk.example", BANK),
    ("From: x@BANK.example.", BANK),
    ("From: x@bank .example", BANK),
    ("From: x@bank. example", BANK),
    ("From: x @ bank . example", BANK),
    ("From: <x@bank .example>", BANK),
    ("From: x@\r\n bank.example", BANK),
    ("From: x@[192.0.2.1]", "[192.0.2.1]"),
    ("From: x@[bank.example]", REFUSED),
    ("From: x@bank_.example", REFUSED),
    ("From: x@bank..example", REFUSED),
    ("From: x@.bank.example", REFUSED),
    ("From: x@", REFUSED),
    ("From: x", NOBODY),
    ("From: <x>", NOBODY),
    ("From: <>", NOBODY),
    ("From:", NOBODY),
    # What never closes, and junk.
    (f"From: <{EVIL}", MINE),
    (f"From: {EVIL}>", MINE),
    (f"From: <\\{EVIL}>", MINE),
    (f"From: ,{EVIL}", MINE),
    (f"From: :{EVIL}", MINE),
    (f"From: mailto:{EVIL}", MINE),
)

NAMES: Final = (
    f"From: {BOSS} <{EVIL}>",
    f"From: '{BOSS}' <{EVIL}>",
    f'From: "{BOSS}" "<{EVIL}>',
    f'From: "{BOSS} <{EVIL}>',
    f"From: ) {BOSS} ( <{EVIL}>",
    f"From: {BOSS}\\ <{EVIL}>",
    f"From: {BOSS}\t<{EVIL}>",
    f"From: {BOSS}\x01<{EVIL}>",
    f"From: {BOSS}\x7f <{EVIL}>",
    f"From: {EVIL}(\r\n <{BOSS}>)",
)
"""An address where a name stands. Mail programs show it as one; the library takes it for the
address. It is judged as a name that misleads."""


def message(head: str) -> bytes:
    return (
        head.encode()
        + b"\r\nTo: bob@example.test\r\nMessage-ID: <1@elsewhere.example>\r\n\r\nHi\r\n"
    )


# --- readers ------------------------------------------------------------------------------------


def by_envelope(answer: bytes) -> set[str]:
    """The domains of the authors in ENVELOPE, as a client of IMAP reads it."""
    pieces: list[Any] = []
    rest = b"1 (ENVELOPE " + answer + b")"
    while literal := re.search(rb"\{([0-9]+)\}\r\n", rest):
        end = literal.end() + int(literal[1])
        pieces.append((rest[: literal.end() - 2], rest[literal.end() : end]))
        rest = rest[end:]
    found = parse_fetch_response([*pieces, rest])[1][b"ENVELOPE"].from_
    return {each.host.decode() for each in found or () if each.host and each.mailbox is not None}


def by_library(content: bytes) -> Iterator[str]:
    """The domains that three readers see; what lacks a local part is no address."""
    parsed = email.message_from_bytes(content)
    values = [str(each) for each in parsed.get_all("from", [])]
    seen = [address for _, address in getaddresses(values)]
    modern = email.message_from_bytes(content, policy=email.policy.default)
    with contextlib.suppress(AttributeError, IndexError, email.errors.HeaderParseError):
        # It raises for some of what is no address list.
        seen += [each.addr_spec for one in modern.get_all("from", []) for each in one.addresses]
    for address in seen:
        local, at, domain = address.rpartition("@")
        if local and at and domain.isascii():  # it does not know others
            yield domain


def canonical(domains: set[str]) -> set[str]:
    return {canonical_domain(each.removesuffix(".")) for each in domains}


def kept(tx: Tx, account: int) -> bytes:
    """The answer to FETCH ENVELOPE."""
    box = folders.by_role(tx, account, "inbox")
    assert box is not None
    (row,) = reading.full(tx, box.id, Pick(1, 1 << 31))
    return row.envelope


# --- the corpus ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "expected"), CASES)
async def test_attack_04_who_is_shown_was_judged(mx: Mx, head: str, expected: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        done = await client.deliver("x@evil.example", [BOB], message(head))
        if expected == REFUSED:
            assert done.end is not None and done.end.code == 550
            record = await mx.refusal(done.end)
            assert record["verdicts"][-1]["rule"] == "unclear_author"
            assert not await mx.content(world.bob)
            return
        assert done.accepted
        (record,) = await mx.traces()
        content = await world.stored()
        answered = by_envelope(await mx.house.mail.read(kept, world.bob))
    judged = set(record["facts"]["dmarc"].get("domains", ()))
    assert judged == set() if expected == NOBODY else judged == set(expected.split())
    assert canonical(answered) == judged
    assert by_envelope(envelope(headers.scan(content), content)) <= answered
    assert canonical(set(by_library(content))) <= judged


@pytest.mark.parametrize("head", NAMES)
async def test_attack_04_an_address_where_a_name_stands_is_told_as_misleading(
    mx: Mx, head: str
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        assert (await client.deliver("x@evil.example", [BOB], message(head))).accepted
        (record,) = await mx.traces()
        answered = by_envelope(await mx.house.mail.read(kept, world.bob))
    assert set(record["facts"]["dmarc"]["domains"]) == answered == {MINE}
    assert record["facts"]["from"]["result"] == "mismatch"
    assert BOSS in record["facts"]["from"]["shown"]


@pytest.mark.parametrize(
    "head",
    (
        f"From: {ME}\r\nno field\r\nFrom: {BOSS}",
        f"From: {ME}\r\n: nothing\r\nFrom: {BOSS}",
        f"From: <{BOSS}: {ME};>, {ME}",
        f"From: {ME}\r\nFrom: {BOSS}",
        f"From: {ME}, {BOSS}",
        "From: =?utf-8?b?Ym9zc0BiYW5rLmV4YW1wbGU=?=",
    ),
)
async def test_attack_04_who_signed_in_cannot_write_as_another_by_it(
    doors: Doors, head: str
) -> None:
    await doors.mx.account(BOB)
    async with doors.signed_in() as client:
        done = await client.deliver(ME, [BOB], message(head))
    assert done.end is not None and done.end.code == 550


# --- whatever somebody writes -------------------------------------------------------------------


def judged_of(content: bytes) -> Authors:
    return dmarc.authors_of(headers.scan(content))


LINES = st.lists(
    st.sampled_from(
        (
            *("From: ", "from : ", " From: ", "\tx", ": x", "no field", "", "X: y", "Sender: "),
            *(EVIL, f"<{BOSS}>", f'"{BOSS}" ', "bank: ", ", ", "; ", "(", ")", '"', "\\", "@", "<"),
            *("=?utf-8?q?boss=40bank=2Eexample?=", ">", " .example", "\r\n", "\r\n ", "\r\n"),
        )
    ),
    max_size=12,
)


@given(LINES)
@settings(max_examples=500, deadline=None)
def test_attack_04_whoever_is_shown_was_judged_whatever_is_written(parts: list[str]) -> None:
    content = message("From: " + "".join(parts))
    found = judged_of(content)
    shown = by_envelope(envelope(headers.scan(content), content))
    below = b"Received: by mail.example.test\r\n" + content
    again = by_envelope(envelope(headers.scan(below), below))
    if found.problem:
        return
    for each in shown | again:
        try:
            assert canonical_domain(each.removesuffix(".")) in found.domains
        except BadAddress:
            pytest.fail(f"{each} is shown and was not judged: {content!r}")
