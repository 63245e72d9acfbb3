"""postroom.access.throttle: tallies that stop guessing and lock nobody out."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from postroom.access import throttle
from postroom.access.throttle import Throttle, is_loopback, network
from postroom.testing.clock import ManualClock

HERE = ip_address("192.0.2.1")
THERE = ip_address("192.0.2.2")


class Guarded:
    """A throttle with limits."""

    def __init__(self, clock: ManualClock, of_account: int = 3, of_address: int = 10) -> None:
        self.throttle = Throttle(clock)
        self.limits = {"of_account": of_account, "of_address": of_address}

    def fail(self, login: str, ip: throttle.Ip, *wrong: bytes) -> None:
        for password in wrong:
            self.throttle.failed(login, ip, password, **self.limits, window=900.0)

    def refuses(self, login: str, ip: throttle.Ip) -> bool:
        return self.throttle.refuses(login, ip, **self.limits, window=900.0)


def test_guesses_from_one_address_end_there_and_lock_nobody_out_elsewhere(
    clock: ManualClock,
) -> None:
    guarded = Guarded(clock)
    guarded.fail("ann", HERE, b"1", b"2")
    assert not guarded.refuses("ann", HERE)
    guarded.fail("ann", HERE, b"3")
    assert guarded.refuses("ann", HERE)
    assert not guarded.refuses("ann", THERE)
    assert not guarded.refuses("bob", HERE)


def test_a_tally_leaks_one_guess_at_a_time(clock: ManualClock) -> None:
    guarded = Guarded(clock)
    guarded.fail("ann", HERE, b"1", b"2", b"3", b"4", b"5")
    clock.advance(299)
    assert guarded.refuses("ann", HERE)
    clock.advance(2)
    assert not guarded.refuses("ann", HERE)
    guarded.fail("ann", HERE, b"6")
    assert guarded.refuses("ann", HERE)
    clock.advance(901)
    guarded.fail("ann", HERE, b"7", b"8")
    assert not guarded.refuses("ann", HERE)


def test_a_jump_of_the_wall_clock_frees_nobody(clock: ManualClock) -> None:
    guarded = Guarded(clock)
    guarded.fail("ann", HERE, b"1", b"2", b"3")
    clock.jump(86_400)
    assert guarded.refuses("ann", HERE)


def test_the_same_wrong_password_counts_once(clock: ManualClock) -> None:
    guarded = Guarded(clock)
    guarded.fail("ann", HERE, *[b"old"] * 50)
    assert not guarded.refuses("ann", HERE)
    assert guarded.throttle.was_wrong("ann", HERE, b"old")
    assert not guarded.throttle.was_wrong("ann", THERE, b"old")
    assert not guarded.throttle.was_wrong("ann", HERE, b"new")


def test_spraying_over_accounts_is_stopped_by_address(clock: ManualClock) -> None:
    guarded = Guarded(clock)
    for n in range(10):
        guarded.fail(f"user{n}", HERE, b"summer")
    assert guarded.refuses("somebody", HERE)
    assert not guarded.refuses("somebody", THERE)


def test_the_right_password_clears_the_tally(clock: ManualClock) -> None:
    guarded = Guarded(clock)
    guarded.fail("ann", HERE, b"1", b"2")
    guarded.throttle.succeeded("ann", HERE)
    guarded.fail("ann", HERE, b"3", b"4")
    assert not guarded.refuses("ann", HERE)
    assert guarded.throttle.is_familiar("ann", HERE)
    assert not guarded.throttle.is_familiar("ann", THERE)


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", None])
def test_a_loopback_peer_is_never_refused(clock: ManualClock, ip: str | None) -> None:
    peer = ip_address(ip) if ip else None
    guarded = Guarded(clock)
    guarded.fail("ann", peer, *[bytes([n]) for n in range(100)])
    assert is_loopback(peer)
    assert not guarded.refuses("ann", peer)
    assert not guarded.refuses("bob", peer)


def test_zero_never_refuses(clock: ManualClock) -> None:
    guarded = Guarded(clock, of_account=0, of_address=0)
    guarded.fail("ann", HERE, *[bytes([n]) for n in range(200)])
    assert not guarded.refuses("ann", HERE)


def test_an_ipv6_host_is_its_whole_64(clock: ManualClock) -> None:
    guarded = Guarded(clock)
    guarded.fail("ann", ip_address("2001:db8::1"), b"1", b"2")
    guarded.fail("ann", ip_address("2001:db8::ffff:2"), b"3")
    assert guarded.refuses("ann", ip_address("2001:db8::3"))
    assert not guarded.refuses("ann", ip_address("2001:db8:0:1::3"))
    assert network(ip_address("::ffff:192.0.2.1")) == network(HERE)


def test_memory_is_bounded(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MOST", 10)
    guarded = Guarded(clock)
    guarded.fail("victim", HERE, b"1", b"2", b"3")
    for n in range(50):
        guarded.fail("victim", HERE, b"3")  # touched again and again: it stays
        guarded.fail(f"user{n}", THERE, b"1")
    assert len(guarded.throttle._pairs) == 10
    assert guarded.refuses("victim", HERE)
    for n in range(100):
        guarded.fail("ann", THERE, b"%d" % n)
    assert len(guarded.throttle._pairs[("ann", str(THERE))].wrong) == throttle.WRONG_KEPT
