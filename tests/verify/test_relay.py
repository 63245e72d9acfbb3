"""The books of the relay's proof: what they must find wrong, and what they must not."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

from postroom.formats.address import parse_mailbox
from postroom.testing.mx import Received, Visit
from postroom.testing.promises import Answered, Offered
from postroom.wire.smtp import Mail, Rcpt
from tests.verify.relay import Books

CONTENT = b"Message-ID: <1@load>\r\n\r\nHello.\r\n"
OURS = "p1-one@example.test"
THEIRS = "p1@one.example"


class Host:
    """As far as the books look at one."""

    def __init__(self) -> None:
        self.ip = "127.0.3.1"
        self.messages: list[Received] = []
        self.visits: list[Visit] = []

    def takes(self, content: bytes = CONTENT, to: str = THEIRS, connection: int = 0) -> None:
        while len(self.visits) <= connection:
            self.visits.append(Visit(len(self.visits)))
        rcpts = (Rcpt(parse_mailbox(to)),)
        self.messages.append(
            Received(
                Mail(None), rcpts, b"Received: x\r\n" + content, "x", None, 0, None, connection
            )
        )

    def breaks_off(self, connection: int = 0) -> None:
        self.visits[connection].over = True


def offered(books: Books, *accounts: str) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    books.note(Offered("1@load", digest, len(CONTENT), accounts or (OURS,)))


def found(books: Books, host: Host) -> list[str]:
    hosts: Any = [host, SimpleNamespace(ip="127.0.3.2", messages=[], visits=[])]
    books.enter(hosts)
    return books.broken()


def test_what_was_taken_and_arrived_is_well() -> None:
    books, host = Books(), Host()
    offered(books)
    books.note(Answered("1@load", True))
    host.takes()
    assert found(books, host) == []
    assert (books.reached, books.twice) == (1, 0)
    assert found(books, host) == []  # it was settled


def test_what_was_taken_and_did_not_arrive_is_lost() -> None:
    books, host = Books(), Host()
    offered(books, OURS, "p2-one@example.test")
    books.note(Answered("1@load", True))
    host.takes()
    assert found(books, host) == ["1@load: lost for p2@one.example"]


def test_what_was_refused_reaches_nobody_and_what_is_open_all_or_none() -> None:
    books, host = Books(), Host()
    offered(books)
    books.note(Answered("1@load", False))
    host.takes()
    assert len(found(books, host)) == 1
    offered(books, OURS, "p2-one@example.test")
    host.takes()
    assert found(books, host) == ["1@load: reached 1 of 2 recipients"]
    offered(books)
    assert found(books, host) == []


def test_octets_that_changed_and_mail_that_nobody_sent_are_found() -> None:
    books, host = Books(), Host()
    offered(books)
    books.note(Answered("1@load", True))
    host.takes(CONTENT.replace(b"Hello", b"Jello"))
    assert len(found(books, host)) == 1
    host.takes()
    assert found(books, host) == [f"1@load to {THEIRS}: nobody sent it"]


def test_twice_is_well_only_if_the_first_was_the_last_of_a_connection_that_broke_off() -> None:
    def twice(*, after: bool, broken_off: bool) -> list[str]:
        books, host = Books(), Host()
        offered(books)
        books.note(Answered("1@load", True))
        host.takes()
        if after:
            host.takes(to="p2@one.example")
        if broken_off:
            host.breaks_off()
        host.takes(connection=1)
        problems = found(books, host)
        assert books.twice == 1
        return problems

    assert twice(after=False, broken_off=True) == []
    assert len(twice(after=True, broken_off=True)) == 1
    assert len(twice(after=False, broken_off=False)) == 1
