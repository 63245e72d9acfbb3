"""Tags of reverse-paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import MailError
from postroom.formats.address import Address, parse_mailbox
from postroom.trust.batv import KEY_DAYS, LIFE, LOCAL_MOST, Tagged, parse, tag, verify

SECRET = b"s" * 32
ANN = parse_mailbox("Ann.Lee@example.org")
DAYS = st.integers(0, 40_000)


def tagged(address: Address = ANN, today: int = 20_000) -> Address:
    made = tag(address, SECRET, today)
    assert made is not None
    return made


def test_a_tag_has_the_form_of_the_draft() -> None:
    made = tagged(today=20_005)
    assert made.domain == "example.org"
    head, key, rest = made.local.partition("=")
    assert (head, key) == ("prvs", "=")
    stamp, _, local = rest.partition("=")
    assert local == "Ann.Lee"
    assert (stamp[0], stamp[1:4], len(stamp)) == (str(20_005 // KEY_DAYS % 10), "019", 10)


@given(st.sampled_from(["ann", "a+b", "o'hara", "x=y", "jörg", "prvs=me", '"a b"']), DAYS)
def test_what_we_wrote_is_right_for_its_time(local: str, today: int) -> None:
    address = parse_mailbox(f"{local}@example.org")
    made = tagged(address, today)
    assert parse_mailbox(str(made)) == made  # it can be said in SMTP
    found = parse(made)
    assert found is not None and found.original == address
    for later in range(LIFE + 1):
        assert verify(found, SECRET, today + later) is Tagged.RIGHT
    assert verify(found, SECRET, today + LIFE + 1) is not Tagged.RIGHT
    assert verify(found, SECRET, today + 3 * KEY_DAYS) is Tagged.FORGED


def test_a_tag_expires() -> None:
    today = 20_010  # early in the life of its key
    found = parse(tagged(today=today))
    assert found is not None
    assert verify(found, SECRET, today + LIFE + 1) is Tagged.EXPIRED


@given(DAYS, st.integers(0, 9), st.integers(0, 999), st.integers(0, 2**24 - 1))
def test_nobody_else_can_write_one(today: int, number: int, day: int, signature: int) -> None:
    found = parse(Address(f"prvs={number}{day:03d}{signature:06x}=ann", "example.org"))
    assert found is not None
    # One in sixteen million may be right by chance; Hypothesis will not find it.
    assert verify(found, SECRET, today) is Tagged.FORGED


@pytest.mark.parametrize("change", ["PRVS={}=ann.lee", "prvs={}=ANN.LEE"])
def test_servers_may_change_its_case(change: str) -> None:
    stamp = tagged().local.split("=")[1]
    found = parse(Address(change.format(stamp.upper()), "example.org"))
    assert found is not None and verify(found, SECRET, 20_001) is Tagged.RIGHT


@pytest.mark.parametrize("other", ["Bob@example.org", "Ann.Lee@example.com"])
def test_a_tag_serves_one_address(other: str) -> None:
    stamp = tagged().local.split("=")[1]
    address = parse_mailbox(other)
    found = parse(Address(f"prvs={stamp}={address.local}", address.domain))
    assert found is not None and verify(found, SECRET, 20_001) is Tagged.FORGED


@pytest.mark.parametrize(
    "local", ["ann", "prvs=ann", "prvs=123456789=ann", "prvs=1234abcdeg=ann", "prvs=1234abcdef="]
)
def test_what_is_no_tag(local: str) -> None:
    assert parse(Address(local, "example.org")) is None


@given(st.text(min_size=1, max_size=60))
def test_whatever_stands_behind_a_tag_is_an_address_or_refused(local: str) -> None:
    try:
        found = parse(Address(f"prvs=1234abcdef={local}", "example.org"))
    except MailError:
        return
    assert found is not None and found.original.local == local


def test_who_has_no_room_gets_none() -> None:
    room = LOCAL_MOST - len("prvs=1234abcdef=")
    assert tag(Address("a" * room, "example.org"), SECRET, 1) is not None
    assert tag(Address("a" * (room + 1), "example.org"), SECRET, 1) is None
