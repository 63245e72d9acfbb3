"""POP3 of a server as an operator starts it: its ports, and deaths in the middle of sessions."""

from __future__ import annotations

import os
import poplib
import signal
import smtplib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.walking import HOST, PATIENCE, Account, Walking, eventually


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walking]:
    walking = Walking(Path(tmp_path_factory.mktemp("pop3")), "--log-format", "json")
    try:
        walking.start()
        yield walking
    finally:
        walking.close()


def _connect(walk: Walking, who: Account) -> poplib.POP3:
    context = walk.trusting()
    port = 995 + walk.offset
    box = poplib.POP3_SSL("localhost", port, timeout=PATIENCE, context=context)
    box.user(who.address)
    try:
        box.pass_(who.password)
    except poplib.error_proto:
        box.close()
        raise
    return box


def _signs_in(walk: Walking, who: Account) -> bool:
    """Whether the maildrop is free; a session that is let in says QUIT."""
    try:
        _connect(walk, who).quit()
    except (poplib.error_proto, OSError) as error:
        assert not isinstance(error, poplib.error_proto) or b"IN-USE" in error.args[0]
        return False
    return True


def _deliver(walk: Walking, who: Account, count: int) -> None:
    with smtplib.SMTP(HOST, walk.smtp) as peer:
        for n in range(count):
            peer.sendmail("ann@far.example", [who.address], b"Subject: %d\r\n\r\nx\r\n" % n)


def test_both_doors_are_open(walk: Walking) -> None:
    who = walk.account("doors")
    _deliver(walk, who, 2)
    with closing(_connect(walk, who)) as secure:
        assert secure.stat()[0] == 2
        uidl = secure.uidl()[1]
        secure.quit()
    plain = poplib.POP3("localhost", 110 + walk.offset, timeout=PATIENCE)
    with pytest.raises(poplib.error_proto, match="Encryption"):
        plain.user(who.address)
    plain.stls(walk.trusting())
    plain.user(who.address)
    plain.pass_(who.password)
    assert plain.uidl()[1] == uidl
    plain.quit()


def test_the_settings_are_known_to_a_command(walk: Walking) -> None:
    shown = walk.postroom("settings", "list").text
    for name in ("pop3.idle_seconds", "pop3.mark_seen", "pop3.expire_days"):
        assert name in shown


def test_what_a_killed_worker_held_is_free_at_once(walk: Walking) -> None:
    who = walk.account("worker")
    _deliver(walk, who, 3)
    box = _connect(walk, who)
    box.dele(1)
    assert not _signs_in(walk, who)
    for pid in walk.workers():
        os.kill(pid, signal.SIGKILL)
    # Long before the lease would end.
    assert eventually(lambda: _signs_in(walk, who), 20) < 20
    box.close()
    with closing(_connect(walk, who)) as again:
        assert again.stat()[0] == 3
        again.quit()


def test_what_a_killed_server_held_is_free_when_it_starts_again(walk: Walking) -> None:
    who = walk.account("server")
    _deliver(walk, who, 3)
    box = _connect(walk, who)
    unique = box.uidl()[1]
    box.dele(2)
    walk.server.signal(signal.SIGKILL)
    walk.close()
    box.close()
    walk.start()
    with closing(_connect(walk, who)) as again:
        assert again.uidl()[1] == unique
        again.quit()


def test_a_server_that_stops_lets_sessions_go_and_deletes_nothing(walk: Walking) -> None:
    who = walk.account("stop")
    _deliver(walk, who, 2)
    box = _connect(walk, who)
    box.dele(1)
    assert walk.stop() == 0
    with pytest.raises((poplib.error_proto, OSError)):
        box.noop()
    box.close()
    walk.start()
    with closing(_connect(walk, who)) as again:
        assert again.stat()[0] == 2
        again.quit()
