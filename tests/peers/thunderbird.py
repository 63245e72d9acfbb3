"""Thunderbird's way of speaking: its commands in its order, over two connections at once.

A transcript, not the program: what versions 102 to 128 send to a server with these capabilities.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from postroom.testing.corpus import messages
from postroom.testing.imap import Follower, ImapClient, Literal, Reply, flags_of, numbers_of
from tests.peers.checks import Checks, Plan, deliver
from tests.walking import Account, Walking

COUNT: Final = 60
HEADERS: Final = (
    "From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups "
    "In-Reply-To Content-Type Reply-To"
)
CHUNK: Final = 12_000  # octets of a piece of a large part


def walk(at: Walking, checks: Checks, plan: Plan) -> None:
    who = at.account("thunderbird")
    content = list(messages(COUNT, plan.seed))
    deliver(at, who, content)
    asyncio.run(_talk(at, who, checks, content))


async def _talk(at: Walking, who: Account, checks: Checks, content: list[bytes]) -> None:
    async with await _connect(at) as inbox, await _connect(at) as second:
        for client in (inbox, second):
            await _enters(client, who, checks)
        await _lists(inbox, checks)
        follower = await _opens(inbox, checks)
        await _reads(inbox, checks, content)
        await _idles(at, who, inbox, second, follower, checks)
        await _moves(inbox, second, checks)
        await _saves(second, checks)
        for client in (inbox, second):
            checks.that((await client.command("close")).ok, "close")
            checks.that((await client.command("logout")).ok, "logout")


async def _connect(at: Walking) -> ImapClient:
    return await ImapClient.connect("localhost", at.imaps, tls=at.trusting())


async def _enters(client: ImapClient, who: Account, checks: Checks) -> None:
    """What it asks before it opens anything."""
    code = client.greeting.code
    told = b" ".join(bytes(word) for word in code.data if isinstance(word, bytes)) if code else b""
    checks.that(b"AUTH=PLAIN" in told and b"SASL-IR" in told, "the greeting's capabilities", told)
    checks.that((await client.plain(who.address, who.password)).ok, "authenticate PLAIN")
    reply = await client.command("CAPABILITY")
    names = {
        bytes(word) for each in reply["CAPABILITY"] for word in each.data if isinstance(word, bytes)
    }
    for name in (b"IDLE", b"NAMESPACE", b"UIDPLUS", b"MOVE", b"CONDSTORE", b"LIST-EXTENDED"):
        checks.that(name in names, f"{name.decode()} is offered", names)
    reply = await client.command('ID ("name" "Thunderbird" "version" "128.5.0")')
    checks.that(reply.ok and bool(reply["ID"]), "ID", reply)
    checks.that((await client.command("ENABLE UTF8=ACCEPT")).ok, "ENABLE of what is unknown")
    reply = await client.command("ENABLE CONDSTORE")
    checks.that(reply.ok and bool(reply["ENABLED"]), "ENABLE", reply)
    reply = await client.command("namespace")
    checks.that(reply.ok and len(reply["NAMESPACE"]) == 1, "namespace", reply)


async def _lists(client: ImapClient, checks: Checks) -> None:
    reply = await client.command('list (subscribed) "" "*" return (special-use)')
    checks.that(reply.ok, "list (subscribed)", reply)
    reply = await client.command('list "" "*" return (special-use)')
    names = {bytes(each.data[-1]) for each in reply["LIST"] if isinstance(each.data[-1], bytes)}
    wanted = {b"INBOX", b"Archive", b"Drafts", b"Junk", b"Sent", b"Trash"}
    checks.equal(names, wanted, "list return (special-use)")
    roles = {flag for each in reply["LIST"] for flag in flags_of(each.data[0])}
    uses = {rf"\{name}" for name in ("Archive", "Drafts", "Junk", "Sent", "Trash")}
    checks.that(uses <= roles, "special uses", roles)
    for old in ('lsub "" "*"', 'list "" "INBOX"', 'list "" ""', 'list "" "INBOX/%"'):
        checks.that((await client.command(old)).ok, old)


async def _opens(client: ImapClient, checks: Checks) -> Follower:
    """SELECT with CONDSTORE, all flags, then the headers that it shows."""
    follower = Follower()
    reply = await client.command('select "INBOX" (CONDSTORE)')
    follower.hear(reply.untagged)
    checks.equal(reply.numbers("EXISTS"), [COUNT], "select: EXISTS")
    for code in ("UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ", "PERMANENTFLAGS"):
        checks.that(reply.code_data(code) is not None, f"select: {code}", reply.codes())
    reply = await client.command("UID fetch 1:* (FLAGS)")
    follower.hear(reply.untagged)
    checks.equal(follower.uids(), list(range(1, COUNT + 1)), "UID fetch 1:* (FLAGS)")
    reply = await client.command(
        f"UID fetch 1:{COUNT} (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS ({HEADERS})])"
    )
    item = f"BODY[HEADER.FIELDS ({HEADERS.upper()})]"
    told = [items.get(item) for items in reply.fetched().values()]
    checks.equal(len(told), COUNT, "headers of every message")
    checks.that(all(isinstance(t, bytes) and t.endswith(b"\r\n\r\n") for t in told), "headers end")
    return follower


async def _reads(client: ImapClient, checks: Checks, content: list[bytes]) -> None:
    """Whole messages, in pieces, and part by part."""
    found = []
    for uid in range(1, COUNT + 1):
        reply = await client.command(f"UID fetch {uid} (UID RFC822.SIZE BODY.PEEK[])")
        (items,) = reply.fetched().values()
        whole = items["BODY[]"]
        assert isinstance(whole, bytes)
        checks.equal(items["RFC822.SIZE"], len(whole), "RFC822.SIZE")
        found.append(bytes(whole))
    pairs = zip(found, content, strict=True)
    checks.octet_by_octet((f[-len(c) :] for f, c in pairs), content, "BODY.PEEK[]")
    pieces = [await _in_pieces(client, uid) for uid in range(1, 11)]
    checks.octet_by_octet(pieces, found[:10], "in pieces")
    for uid in range(1, COUNT + 1):
        reply = await client.command(f"UID fetch {uid} (BODYSTRUCTURE)")
        checks.that(reply.ok and bool(reply.fetched()), "BODYSTRUCTURE", reply)
        reply = await client.command(
            f"UID fetch {uid} (BODY.PEEK[HEADER] BODY.PEEK[1.MIME] BODY.PEEK[1] BODY.PEEK[TEXT])"
        )
        (items,) = reply.fetched().values()
        head, text, first = (items[f"BODY[{name}]"] for name in ("HEADER", "TEXT", "1"))
        assert isinstance(head, bytes) and isinstance(text, bytes)
        checks.octet_by_octet([head + text], [found[uid - 1]], f"message {uid} from its parts")
        checks.that(isinstance(first, bytes) and first in text, f"message {uid}: part 1 lies in it")


async def _in_pieces(client: ImapClient, uid: int) -> bytes:
    """As it reads what is large, until a piece is short."""
    whole = b""
    while True:
        reply = await client.command(f"UID fetch {uid} (BODY.PEEK[]<{len(whole)}.{CHUNK}>)")
        (items,) = reply.fetched().values()
        (piece,) = (v for name, v in items.items() if name.startswith("BODY["))
        assert isinstance(piece, bytes)
        whole += piece
        if len(piece) < CHUNK:
            return whole


async def _idles(
    at: Walking,
    who: Account,
    inbox: ImapClient,
    second: ImapClient,
    follower: Follower,
    checks: Checks,
) -> None:
    """It idles in INBOX while mail comes and the other connection reads and marks."""
    async with inbox.idle() as idle:
        await asyncio.to_thread(deliver, at, who, [b"Subject: new\r\n\r\nnews\r\n"])
        while len(follower.messages) == COUNT:
            follower.hear([await idle.next()])
        checks.equal(len(follower.messages), COUNT + 1, "IDLE tells of the new one")
        await second.command('select "INBOX" (CONDSTORE)')
        checks.that((await second.command(r"uid store 5 +Flags (\Seen)")).ok, "uid store")
        while rb"\Seen" not in str(follower.messages[4].get("FLAGS")).encode():
            follower.hear([await idle.next()])
        checks.that("MODSEQ" in follower.messages[4], "IDLE tells of the flag with its MODSEQ")
    reply = idle.reply
    checks.that(reply is not None and reply.ok, "DONE", reply)
    reply = await inbox.command(f"UID fetch {COUNT + 1}:* (FLAGS)")
    checks.equal(list(reply.fetched()), [COUNT + 1], "what is new")
    for flags in (r"+Flags ($Junk)", r"-Flags ($NotJunk)", r"+Flags (mylabel $label1)"):
        checks.that((await inbox.command(f"uid store 7 {flags}")).ok, flags)


async def _moves(inbox: ImapClient, second: ImapClient, checks: Checks) -> None:
    """Archive, delete to Trash, and the resynchronisation of the other view."""
    reply = await second.command('select "INBOX" (CONDSTORE)')
    known = reply.code_data("HIGHESTMODSEQ")
    assert known is not None
    for command in ('uid move 10:12 "Archive"', 'uid copy 20 "Trash"', 'uid move 30 "Trash"'):
        reply = await inbox.command(command)
        data = reply.code_data("COPYUID")
        checks.that(reply.ok and data is not None, command, reply)
        if data is not None:
            asked = re.findall(r"[\d:]+", command)[0]
            checks.equal(numbers_of(data[1]), numbers_of(asked.encode()), "COPYUID")
    await inbox.command(r"uid store 9 +Flags (\Flagged)")
    reply = await second.command("noop")
    checks.equal(len(reply["EXPUNGE"]), 4, "the other view loses what was moved")
    reply = await second.command(f"UID fetch 1:* (FLAGS) (CHANGEDSINCE {known[0]!r})")
    checks.equal([f["UID"] for f in reply.fetched().values()], [9], "CHANGEDSINCE")
    checks.that((await inbox.command(r"uid store 40 +Flags (\Deleted)")).ok, "mark as deleted")
    checks.equal((await inbox.command("expunge")).numbers("EXPUNGE"), [36], "expunge")


async def _saves(client: ImapClient, checks: Checks) -> None:
    """A draft that replaces its predecessor, and a copy into Sent."""
    draft = b"From: me@example.test\r\nSubject: draft %d\r\nX-Mozilla-Draft-Info: x\r\n\r\nText\r\n"
    for n in range(2):
        appended = await _append(client, "Drafts", r"(\Seen \Draft)", draft % n)
        checks.that(appended.code_data("APPENDUID") is not None, "append a draft", appended)
    await client.command('select "Drafts" (CONDSTORE)')
    await client.command(r"uid store 1 +FLAGS (\Deleted)")
    checks.that((await client.command("uid expunge 1")).ok, "uid expunge")
    reply = await client.command('uid search undeleted HEADER Subject "draft 1"')
    checks.equal([bytes(v) if isinstance(v, bytes) else v for v in reply["SEARCH"][0].data], [2],
                 "the newer draft")  # fmt: skip
    reply = await client.command('create "Sent/2026"')
    checks.that(reply.ok, "create", reply)
    reply = await client.command('subscribe "Sent/2026"')
    checks.that(reply.ok, "subscribe", reply)
    reply = await client.command('status "Sent/2026" (UIDNEXT MESSAGES UNSEEN RECENT)')
    checks.that(reply.ok and len(reply["STATUS"]) == 1, "status", reply)


async def _append(client: ImapClient, mailbox: str, flags: str, content: bytes) -> Reply:
    return await client.command(f'append "{mailbox}" {flags} ', Literal(content, sync=False))
