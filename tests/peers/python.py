"""Python's imaplib: every command that it knows and this server offers."""

from __future__ import annotations

import imaplib
from datetime import UTC, datetime
from typing import Any

from postroom.testing.corpus import messages
from tests.peers.checks import Checks, Plan
from tests.walking import PATIENCE, Account, Walking, fetched

WHEN = datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)


def walk(at: Walking, checks: Checks, plan: Plan) -> None:
    who = at.account("python")
    _signs_in(at, who, checks)
    with at.imaplib(who) as box:
        content = list(messages(25, plan.seed + 1))
        _appends(box, checks, content)
        _searches(box, checks)
        _moves(box, checks, content)
        _arranges(box, checks)


def _signs_in(at: Walking, who: Account, checks: Checks) -> None:
    """STARTTLS on 143: no password before it, every way after it."""

    def token(challenge: bytes) -> bytes:
        return f"\0{who.address}\0{who.password}".encode()

    for way in ("login", "plain"):
        with imaplib.IMAP4("localhost", at.imap, timeout=PATIENCE) as box:
            checks.that("LOGINDISABLED" in box.capabilities, "no sign-in before TLS")
            checks.that(_refused(box.login, who.address, who.password), "none is taken")
            checks.equal(box.starttls(at.trusting())[0], "OK", "STARTTLS")
            checks.that("LOGINDISABLED" not in box.capabilities, "sign-in is offered")
            if way == "login":
                checks.equal(box.login(who.address, who.password)[0], "OK", "LOGIN")
            else:
                checks.equal(box.authenticate("PLAIN", token)[0], "OK", "PLAIN")
            checks.equal(box.select("INBOX")[0], "OK", "SELECT")


def _appends(box: imaplib.IMAP4, checks: Checks, content: list[bytes]) -> None:
    for n, message in enumerate(content):
        flags = r"(\Seen)" if n % 2 else None
        answer = box.append("INBOX", flags, WHEN, message)
        checks.that(answer[0] == "OK" and b"APPENDUID" in (_first(answer)), "APPEND", answer)
    checks.equal(_first(box.select("INBOX")), str(len(content)).encode(), "EXISTS")
    checks.octet_by_octet(fetched(box), content, "what was appended")
    halves = [
        b"".join(p[1] for p in box.fetch(str(n), f"(BODY.PEEK[]<{at}>)")[1] if isinstance(p, tuple))
        for n in range(1, 4)
        for at in ("0.700", "700.99999999")
    ]
    joined = [a + b for a, b in zip(halves[::2], halves[1::2], strict=True)]
    checks.octet_by_octet(joined, content[:3], "read in pieces")
    _, told = box.fetch("1", "(INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
    checks.that(b'"29-Feb-2024 23:59:58 +0000"' in _first(("", told)), "INTERNALDATE", told)
    size = f"RFC822.SIZE {len(content[0])}".encode()
    checks.that(size in _first(("", told)), "RFC822.SIZE", told)


def _searches(box: imaplib.IMAP4, checks: Checks) -> None:
    seen = _first(box.search(None, "SEEN")).split()
    unseen = _first(box.search(None, "UNSEEN")).split()
    checks.equal((len(seen), len(unseen)), (12, 13), "SEARCH SEEN and UNSEEN")
    both = _first(box.search(None, "OR", "SEEN", "UNSEEN")).split()
    checks.equal(len(both), 25, "SEARCH OR")
    by_uid = _first(box.uid("SEARCH", "CHARSET", "UTF-8", "SENTSINCE", "1-Jan-1990")).split()
    checks.equal(len(by_uid), 25, "UID SEARCH with a charset")
    on = _first(box.search(None, "ON", "29-Feb-2024")).split()
    checks.equal(len(on), 25, "SEARCH ON")
    checks.that(_refused(box.search, "KOI8-R", "ALL"), "a charset that nobody has is refused")


def _moves(box: imaplib.IMAP4, checks: Checks, content: list[bytes]) -> None:
    copied = box.copy("1:3", "Archive")
    checks.that(b"COPYUID" in _first(copied), "COPY says the UIDs", copied)
    moved = box.uid("MOVE", "4:6", "Archive")
    checks.equal(moved[0], "OK", "UID MOVE")
    checks.equal(box.store("1", "+FLAGS", r"(\Deleted)")[0], "OK", "STORE")
    checks.equal(box.uid("EXPUNGE", "2:*")[1], [None], "UID EXPUNGE leaves the others")
    box.response("EXPUNGE")  # imaplib gathers them: those of MOVE are not of the next
    checks.equal(box.expunge()[1], [b"1"], "EXPUNGE")
    checks.octet_by_octet(fetched(box), [*content[1:3], *content[6:]], "what is left")
    box.select("Archive")
    checks.octet_by_octet(fetched(box), content[:6], "what was copied and moved")
    checks.equal(box.unselect()[0], "OK", "UNSELECT")
    gone = box.append("NoSuch", "", WHEN, b"Subject: x\r\n\r\nx\r\n")
    checks.that(gone[0] == "NO" and b"TRYCREATE" in _first(gone), "APPEND to nowhere", gone)


def _arranges(box: imaplib.IMAP4, checks: Checks) -> None:
    name = '"Receipts &- Co/2026"'
    for command, arguments in (
        (box.create, (name,)),
        (box.subscribe, (name,)),
        (box.unsubscribe, (name,)),
        (box.rename, (name, '"Bills/2026"')),
        (box.status, ('"Bills/2026"', "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN RECENT)")),
        (box.delete, ('"Bills/2026"',)),
        (box.namespace, ()),
        (box.noop, ()),
        (box.check, ()),
    ):
        if command == box.check:
            box.select("INBOX")
        answer = _ask(command, *arguments)
        checks.equal(answer[0], "OK", command.__name__.upper())
    checks.that(_refused(box.delete, "INBOX"), "INBOX stays")
    listed = b" ".join(line for line in box.list()[1] if isinstance(line, bytes))
    checks.that(b"2026" not in listed, "LIST after DELETE", listed)
    checks.equal(box.close()[0], "OK", "CLOSE")


def _ask(command: Any, *arguments: Any) -> tuple[str, list[Any]]:
    kind, data = command(*arguments)
    return kind, data


def _refused(command: Any, *arguments: Any) -> bool:
    try:
        kind, _ = command(*arguments)
    except imaplib.IMAP4.error:
        return True
    return bool(kind == "NO")


def _first(answer: Any) -> bytes:
    """The first piece of an answer's data as octets."""
    first = answer[1][0]
    return b"".join(first) if isinstance(first, tuple) else bytes(first or b"")
