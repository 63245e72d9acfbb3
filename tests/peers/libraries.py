"""IMAPClient and aioimaplib: what programs are written with. Each by its own idea of IMAP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

from aioimaplib import aioimaplib
from imapclient import IMAPClient

from postroom.testing.corpus import messages
from tests.peers.checks import Checks, Plan, deliver
from tests.walking import PATIENCE, Account, Walking, fetched

WHEN: Final = datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)
LETTER: Final = b"From: <ann@far.example>\r\nSubject: later\r\n\r\nhello\r\n"
COUNT: Final = 40


def _lying(at: Walking, who: Account, folder: str = "INBOX") -> list[bytes]:
    with at.imaplib(who) as box:
        count = box.select(folder, readonly=True)[1][0]
        return fetched(box) if count != b"0" else []


def imapclient(at: Walking, checks: Checks, plan: Plan) -> None:
    """IMAPClient parses every response; one that it cannot read is an exception."""
    who = at.account("imapclient")
    content = list(messages(COUNT, plan.seed + 5))
    with IMAPClient("localhost", at.imaps, ssl_context=at.trusting(), timeout=PATIENCE) as box:
        box.login(who.address, who.password)
        checks.that(b"IDLE" in box.capabilities(), "capabilities")
        for number, each in enumerate(content):
            box.append("INBOX", each, [b"\\Seen"] if number % 2 else [], WHEN)
        told = box.select_folder("INBOX")
        checks.equal(told[b"EXISTS"], COUNT, "EXISTS")
        uids = box.search()
        found = box.fetch(uids, ["BODY.PEEK[]", "INTERNALDATE", "FLAGS", "RFC822.SIZE"])
        checks.octet_by_octet(
            [found[uid][b"BODY[]"] for uid in sorted(found)], content, "what was appended"
        )
        checks.that(
            all(each[b"RFC822.SIZE"] == len(each[b"BODY[]"]) for each in found.values()), "sizes"
        )
        local = WHEN.astimezone().replace(tzinfo=None)  # as it tells dates
        checks.that(
            all(each[b"INTERNALDATE"] == local for each in found.values()), "internal dates"
        )
        parsed = box.fetch(uids, ["ENVELOPE", "BODYSTRUCTURE", "MODSEQ"])
        checks.equal(len(parsed), COUNT, "envelopes and structures that it can read")
        _searched(box, checks)
        _arranged(box, checks, content)
        _idled(box, at, who, checks)
    checks.octet_by_octet(_lying(at, who, "Rechnungen"), content[:3], "what was copied and moved")


def _searched(box: IMAPClient, checks: Checks) -> None:
    checks.equal(len(box.search(["SEEN"])), COUNT // 2, "SEARCH SEEN")
    checks.equal(len(box.search("ALL", "UTF-8")), COUNT, "SEARCH with a charset")
    checks.equal(
        len(box.search(["BODY", "größer als nichts"], "UTF-8")), 0, "SEARCH with a literal"
    )
    order = box.sort(["REVERSE", "SIZE"])
    sizes = box.fetch(order, ["RFC822.SIZE"])
    told = [sizes[uid][b"RFC822.SIZE"] for uid in order]
    checks.equal(told, sorted(told, reverse=True), "SORT")
    threads = box.thread("REFERENCES")
    checks.equal(len(_flat(threads)), COUNT, "THREAD")


def _flat(threads: object) -> list[int]:
    if isinstance(threads, int):
        return [threads]
    assert isinstance(threads, tuple | list)
    return [number for each in threads for number in _flat(each)]


def _arranged(box: IMAPClient, checks: Checks, content: list[bytes]) -> None:
    box.create_folder("Entwürfe/Größe")
    listed = {name: flags for flags, _, name in box.list_folders()}
    checks.that("Entwürfe/Größe" in listed, "a name beyond ASCII", sorted(listed))
    box.rename_folder("Entwürfe/Größe", "Rechnungen")
    box.subscribe_folder("Rechnungen")
    checks.that("Rechnungen" in [name for _, _, name in box.list_sub_folders()], "a subscription")
    uids = sorted(box.search())
    box.add_flags(uids[:4], [b"\\Flagged", b"$Work"])
    checks.that(
        all({b"\\Flagged", b"$Work"} <= set(flags) for flags in box.get_flags(uids[:4]).values()),
        "flags",
    )
    box.copy(uids[:2], "Rechnungen")
    box.move([uids[2]], "Rechnungen")
    box.delete_messages(uids[:2])
    box.uid_expunge(uids[:2])
    checks.equal(len(box.search()), COUNT - 3, "what is left")
    status = box.folder_status("Rechnungen", ["MESSAGES", "UNSEEN", "UIDNEXT"])
    checks.equal(status[b"MESSAGES"], 3, "STATUS")
    checks.that(bool(box.get_quota_root("INBOX")), "the quota")
    checks.that(bool(box.namespace().personal), "NAMESPACE")


def _idled(box: IMAPClient, at: Walking, who: Account, checks: Checks) -> None:
    box.idle()
    deliver(at, who, [LETTER])
    heard = box.idle_check(timeout=10)
    box.idle_done()
    checks.that((COUNT - 2, b"EXISTS") in heard, "one that idles hears of what comes", heard)


# --- aioimaplib ----------------------------------------------------------------------------------


def aio(at: Walking, checks: Checks, plan: Plan) -> None:
    """aioimaplib, on asyncio."""
    who = at.account("aioimaplib")
    content = list(messages(COUNT, plan.seed + 6))
    deliver(at, who, content)
    asyncio.run(_aio(at, who, checks, _lying(at, who)))
    checks.equal(len(_lying(at, who, "Archive")), 3, "what was moved")


async def _aio(at: Walking, who: Account, checks: Checks, lying: list[bytes]) -> None:
    box = aioimaplib.IMAP4_SSL("localhost", at.imaps, timeout=PATIENCE, ssl_context=at.trusting())
    await box.wait_hello_from_server()
    checks.equal((await box.login(who.address, who.password)).result, "OK", "LOGIN")
    checks.equal((await box.select("INBOX")).result, "OK", "SELECT")
    found = []
    for number in range(1, len(lying) + 1):
        told = await box.fetch(str(number), "(UID BODY.PEEK[])")
        assert told.result == "OK", told
        found.append(bytes(max(told.lines, key=len)))
    checks.octet_by_octet(found, lying, "what it fetches")
    by_uid = await box.uid_search("UNSEEN", charset=None)
    checks.equal(len(by_uid.lines[0].split()), COUNT, "UID SEARCH")
    waiting = await box.idle_start(timeout=20)
    await asyncio.to_thread(deliver, at, who, [LETTER])
    pushed = await box.wait_server_push()
    checks.that(f"{COUNT + 1} EXISTS".encode() in pushed, "one that idles hears of it", pushed)
    box.idle_done()
    await asyncio.wait_for(waiting, 10)
    moved = await box.uid("move", "1:3", "Archive")
    checks.equal(moved.result, "OK", "UID MOVE")
    appended = await box.append(LETTER, "INBOX", date=WHEN)
    checks.equal(appended.result, "OK", "APPEND")
    await _states(box, checks)
    checks.equal((await box.logout()).result, "OK", "LOGOUT")


async def _states(box: aioimaplib.IMAP4_SSL, checks: Checks) -> None:
    told = await box.status("INBOX", "(MESSAGES UIDNEXT)")
    checks.that(f"MESSAGES {COUNT - 1}".encode() in told.lines[0], "STATUS", told.lines)
    for name, arguments in (("create", ("Neu",)), ("rename", ("Neu", "Alt")), ("delete", ("Alt",))):
        done = await getattr(box, name)(*arguments)
        checks.equal(done.result, "OK", name.upper())
    checks.equal((await box.namespace()).result, "OK", "NAMESPACE")
    checks.equal((await box.expunge()).result, "OK", "EXPUNGE")
