"""FETCH and UID FETCH: every item against the message's own octets. RFC 3501 §6.4.5, RFC 7162."""

from __future__ import annotations

import asyncio
import random

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt
from postroom.core.ids import MESSAGE, THREAD, external
from postroom.protocols.imap import fetching
from postroom.store import blobs
from postroom.store.blobs import Blobs, Form
from postroom.store.sql import Statement, Tx
from postroom.testing.corpus import messages as corpus
from postroom.testing.imap import Fetched, ImapClient, flags_of
from postroom.testing.scripted import ClosedError
from tests.protocols.imap.serving import SMALL, Room, codes_of, message

PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n\r\nFirst part\r\n"
HTML = b"Content-Type: text/html\r\nContent-ID: <h@x>\r\n\r\n<b>Second</b>\r\n"
INNER_HEAD = b"Subject: inside\r\nFrom: in@side.example\r\nX-Odd: 1\r\n folded\r\n"
INNER = (
    INNER_HEAD + b'Content-Type: multipart/mixed; boundary="in"\r\n\r\n'
    b"preamble\r\n--in\r\n\r\ninner one\r\n--in\r\nContent-Type: image/png\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--in--\r\nepilogue\r\n"
)
NESTED = (
    b"Subject: =?utf-8?q?caf=C3=A9?=\r\nFrom: Zoe <zoe@elsewhere.example>\r\nTo: a@b.example\r\n"
    b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <n@x>\r\nReceived: one\r\n"
    b"Received: two\r\n\tfolded\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="out"\r\n\r\n'
    b'--out\r\nContent-Type: multipart/alternative; boundary="alt"\r\n\r\n'
    b"--alt\r\n" + PLAIN + b"\r\n--alt\r\n" + HTML + b"\r\n--alt--\r\n"
    b"\r\n--out\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n--out--\r\n"
)


def cut(raw: bytes, start: bytes, end: bytes) -> bytes:
    """What lies between two marks, the first of which is at its beginning."""
    at = raw.index(start)
    return raw[at : raw.index(end, at)]


HEADER = NESTED[: NESTED.index(b"\r\n\r\n") + 4]
TEXT = NESTED[len(HEADER) :]
INNER_HEADER = INNER[: INNER.index(b"\r\n\r\n") + 4]

SECTIONS = {
    "": NESTED,
    "HEADER": HEADER,
    "TEXT": TEXT,
    "1": cut(NESTED, b"--alt\r\n", b"\r\n--out\r\n"),
    "1.MIME": b'Content-Type: multipart/alternative; boundary="alt"\r\n\r\n',
    "1.1": b"First part\r\n",
    "1.1.MIME": PLAIN[: PLAIN.index(b"First")],
    "1.2": b"<b>Second</b>\r\n",
    "1.2.MIME": HTML[: HTML.index(b"<b>")],
    "2": INNER,
    "2.MIME": b"Content-Type: message/rfc822\r\n\r\n",
    "2.HEADER": INNER_HEADER,
    "2.TEXT": INNER[len(INNER_HEADER) :],
    "2.1": b"inner one",
    "2.1.MIME": b"\r\n",
    "2.2": b"iVBORw0KGgo=",
    "2.2.MIME": b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n",
    "HEADER.FIELDS (SUBJECT)": b"Subject: =?utf-8?q?caf=C3=A9?=\r\n\r\n",
    "HEADER.FIELDS (received To)": (
        b"To: a@b.example\r\nReceived: one\r\nReceived: two\r\n\tfolded\r\n\r\n"
    ),
    "HEADER.FIELDS (NOWHERE)": b"\r\n",
    "HEADER.FIELDS.NOT (SUBJECT FROM TO DATE MESSAGE-ID RECEIVED MIME-VERSION)": (
        b'Content-Type: multipart/mixed; boundary="out"\r\n\r\n'
    ),
    "2.HEADER.FIELDS (X-ODD)": b"X-Odd: 1\r\n folded\r\n\r\n",
    "2.HEADER.FIELDS.NOT (SUBJECT FROM CONTENT-TYPE)": b"X-Odd: 1\r\n folded\r\n\r\n",
    # what is not there
    "3": None,
    "1.3": None,
    "1.1.1": None,
    "2.3": None,
    "1.HEADER": None,
    "1.1.TEXT": None,
    "1.HEADER.FIELDS (SUBJECT)": None,
    "9.9.9.MIME": None,
}


async def only(client: ImapClient, line: str) -> Fetched:
    """The one message that is told of."""
    reply = await client.command(line)
    assert reply.ok, reply
    (items,) = reply.fetched().values()
    return items


def the_body(items: Fetched) -> object:
    ((_, value),) = [(k, v) for k, v in items.items() if k.startswith("BODY[")]
    return value


async def test_every_section_is_its_octets(room_both: Room) -> None:
    await room_both.deliver(NESTED)
    client = await room_both.client()
    for section, octets in SECTIONS.items():
        items = await only(client, f"FETCH 1 BODY.PEEK[{section}]")
        assert the_body(items) == octets, section
    asked = " ".join(f"BODY.PEEK[{section}]" for section in SECTIONS)
    items = await only(client, f"FETCH 1 ({asked})")
    assert list(items.values()) == list(SECTIONS.values())
    assert await room_both.stored() == {1: set()}  # PEEK changes nothing


@pytest.mark.parametrize("section", ["", "HEADER", "TEXT", "1.2", "2.HEADER.FIELDS (X-ODD)", "3"])
async def test_a_part_of_a_section_is_cut_from_it(room: Room, section: str) -> None:
    await room.deliver(NESTED)
    client = await room.client()
    whole = SECTIONS[section]
    size = len(whole) if whole is not None else 50
    spans = [(0, 1), (0, size), (3, 5), (size - 1, 10), (size, 1), (size + 1000, 7), (0, 1 << 31)]
    for first, most in spans:
        items = await only(client, f"FETCH 1 BODY.PEEK[{section}]<{first}.{most}>")
        name = next(iter(items))
        assert name.endswith(f"]<{first}>")
        assert items[name] == (None if whole is None else whole[first : first + most])
    assert (await client.command(f"FETCH 1 BODY.PEEK[{section}]<0.0>")).kind == "BAD"


async def test_a_message_that_is_no_multipart_has_a_part_one(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    items = await only(client, "FETCH 1 (BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[2])")
    head = SMALL[: SMALL.index(b"\r\n\r\n") + 4]
    assert items == {"BODY[1]": SMALL[len(head) :], "BODY[1.MIME]": head, "BODY[2]": None}


@pytest.mark.parametrize(
    "raw", [b"no header at all", b"", b"Subject: no body", b"Subject: x\r\n\r\n", b"\r\n\r\nbody"]
)
async def test_odd_messages_are_fetched_whole(room: Room, raw: bytes) -> None:
    await room.deliver(raw)
    client = await room.client()
    named = "RFC822 RFC822.HEADER RFC822.TEXT RFC822.SIZE BODY ENVELOPE"
    items = await only(client, f"FETCH 1 ({named})")
    assert items["RFC822"] == raw
    assert items["RFC822.SIZE"] == len(raw)
    head, text = items["RFC822.HEADER"], items["RFC822.TEXT"]
    assert isinstance(head, bytes)
    assert isinstance(text, bytes)
    assert head + text == raw


async def test_metadata_is_what_the_store_holds(room_both: Room) -> None:
    at = Instant(1_767_225_661_234)
    (stored,) = await room_both.deliver(NESTED, flags=("\\Flagged", "$Work"), at=at)
    client = await room_both.client()
    items = await only(
        client,
        "FETCH 1 (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE MODSEQ EMAILID "
        "THREADID SAVEDATE PREVIEW)",
    )
    assert items["UID"] == stored.uid
    assert flags_of(items["FLAGS"]) == {"\\Flagged", "$Work", "\\Recent"}
    assert items["INTERNALDATE"] == b" 1-Jan-2026 00:01:01 +0000"
    assert items["RFC822.SIZE"] == len(NESTED)
    envelope = items["ENVELOPE"]
    assert isinstance(envelope, tuple)
    assert len(envelope) == 10
    assert envelope[1] == b"=?utf-8?q?caf=C3=A9?="
    assert envelope[2] == ((b"Zoe", None, b"zoe", b"elsewhere.example"),)
    assert envelope[9] == b"<n@x>"
    plain, extended = items["BODY"], items["BODYSTRUCTURE"]
    assert isinstance(plain, tuple)
    assert isinstance(extended, tuple)
    assert len(plain) == 3  # two parts and the subtype; extension data in the other alone
    assert plain[2] == extended[2]
    assert extended[3] == (b"boundary", b"out")
    modseqs = await room_both.modseqs()
    assert items["MODSEQ"] == (modseqs[stored.uid],)
    assert items["EMAILID"] == (external(MESSAGE, stored.message).encode(),)
    assert items["THREADID"] == (external(THREAD, stored.thread).encode(),)
    assert isinstance(items["SAVEDATE"], bytes)
    preview = items["PREVIEW"]
    assert isinstance(preview, bytes)
    assert preview.startswith(b"First part")
    assert (await only(client, "FETCH 1 (PREVIEW (LAZY))"))["PREVIEW"] == preview


async def test_macros_and_single_items(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    fast = {"FLAGS", "INTERNALDATE", "RFC822.SIZE"}
    assert (await only(client, "FETCH 1 FAST")).keys() == fast
    assert (await only(client, "FETCH 1 ALL")).keys() == fast | {"ENVELOPE"}
    assert (await only(client, "FETCH 1 FULL")).keys() == fast | {"ENVELOPE", "BODY"}
    assert (await only(client, "FETCH 1 fast")).keys() == fast
    assert (await only(client, "FETCH 1 flags")).keys() == {"FLAGS"}
    assert (await only(client, "UID FETCH 1 (FLAGS)")).keys() == {"UID", "FLAGS"}
    assert (await only(client, "UID FETCH 1 FAST")).keys() == fast | {"UID"}
    assert (await only(client, "UID FETCH 1 (BODY.PEEK[])")).keys() == {"UID", "BODY[]"}


NO_FETCH = [
    "FETCH 1",
    "FETCH 1 ()",
    "FETCH 1 (NONSENSE)",
    "FETCH 1 (FLAGS ALL)",
    "FETCH 0 FLAGS",
    "FETCH 1:0 FLAGS",
    "FETCH 1: FLAGS",
    "FETCH a FLAGS",
    "FETCH 4294967296 FLAGS",
    "FETCH 1 BODY[",
    "FETCH 1 BODY[MIME]",
    "FETCH 1 BODY[0]",
    "FETCH 1 BODY[1.]",
    "FETCH 1 BODY[HEADER.FIELDS ()]",
    "FETCH 1 BODY[HEADER.FIELDS (a:b)]",
    "FETCH 1 BINARY[1.HEADER]",
    "FETCH 1 BINARY.PEEK[TEXT]",
    "FETCH 1 BINARY.SIZE[1]<0.1>",
    "FETCH 1 (FLAGS) (CHANGEDSINCE)",
    "FETCH 1 (FLAGS) (CHANGEDSINCE 9223372036854775808)",
    "FETCH 1 (FLAGS) (CHANGEDSINCE 1 VANISHED)",
    "UID FETCH 1 (FLAGS) (CHANGEDSINCE 1 VANISHED)",
    "FETCH 1  FLAGS",
    "FETCH 1 FLAGS ",
]


async def test_what_cannot_be_fetched_is_bad_and_changes_nothing(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    for n, line in enumerate(NO_FETCH):
        if n % 15 == 14:
            assert (await client.command("NOOP")).ok  # or these would be too many in a row
        reply = await client.command(line)
        assert (reply.kind, reply.untagged) == ("BAD", []), line
    assert await room.stored() == {1: set()}


# --- which messages ------------------------------------------------------------------------------


async def test_sets_of_numbers_and_of_uids(room: Room) -> None:
    stored = await room.deliver(*[SMALL] * 8)
    uids = [each.uid for each in stored]
    await room.remove([uids[1], uids[4]])
    left = [uid for n, uid in enumerate(uids) if n not in (1, 4)]
    client = await room.client()
    sets = {
        "1": [1],
        "*": [6],
        "1:*": [1, 2, 3, 4, 5, 6],
        "*:1": [1, 2, 3, 4, 5, 6],
        "4:2": [2, 3, 4],
        "1,3,5": [1, 3, 5],
        "5,1,3:2,1": [1, 2, 3, 5],
        "6:*": [6],
    }
    for text, numbers in sets.items():
        reply = await client.command(f"FETCH {text} (UID)")
        assert reply.ok
        told = {n: items["UID"] for n, items in reply.fetched().items()}
        assert told == {n: left[n - 1] for n in numbers}, text
    for text in ("7", "1:7", "7:*", "1,9", "4294967295"):
        reply = await client.command(f"FETCH {text} (UID)")
        assert (reply.kind, reply.untagged) == ("BAD", []), text  # RFC 3501 §9
    by_uid = {
        "1:*": left,
        f"{uids[1]}": [],
        f"{uids[1]}:{uids[4]}": [uids[2], uids[3]],
        "*": [left[-1]],
        "4000:*": [left[-1]],
        "4000:5000": [],
        f"{uids[0]},{uids[1]},{uids[5]},4294967295": [uids[0], uids[5]],
    }
    for text, expected in by_uid.items():
        reply = await client.command(f"UID FETCH {text} (FLAGS)")
        assert reply.ok
        assert [items["UID"] for items in reply.fetched().values()] == expected, text


async def test_many_scattered_messages_are_told_once_each_in_order(room: Room) -> None:
    await room.fill(3000)
    client = await room.client()
    rng = random.Random(5)
    chosen = sorted(rng.sample(range(1, 3001), 900))
    text = ",".join(map(str, chosen))
    reply = await client.command(f"FETCH {text} (UID FLAGS)")
    assert reply.numbers("FETCH") == chosen
    reply = await client.command("FETCH 1:* (UID)")
    assert reply.numbers("FETCH") == list(range(1, 3001))


# --- \Seen ---------------------------------------------------------------------------------------


MARKS = {
    "BODY[]": True,
    "BODY[HEADER]": True,
    "BODY[1]": True,
    "BODY[TEXT]<0.5>": True,
    "RFC822": True,
    "RFC822.TEXT": True,
    "RFC822.HEADER": False,
    "BODY.PEEK[]": False,
    "BODY.PEEK[HEADER.FIELDS (TO)]": False,
    "BODY": False,
    "BODYSTRUCTURE": False,
    "ENVELOPE": False,
    "(FLAGS RFC822.SIZE)": False,
}


async def test_reading_marks_as_seen_and_says_so(room: Room) -> None:
    await room.deliver(*[SMALL] * len(MARKS))
    client, other = await room.client(), await room.client(worker=1)
    for number, (item, sets) in enumerate(MARKS.items(), 1):
        items = await only(client, f"FETCH {number} {item}")
        if sets:
            assert "\\Seen" in flags_of(items["FLAGS"]), item
        assert ("\\Seen" in (await room.stored())[number]) is sets, item
        assert (await client.command("NOOP")).untagged == [], item  # told already
        told = (await other.command("NOOP")).fetched()
        assert {n: flags_of(i["FLAGS"]) - {"\\Recent"} for n, i in told.items()} == (
            {number: {"\\Seen"}} if sets else {}
        ), item
        again = await only(client, f"FETCH {number} {item}")
        assert ("FLAGS" in again) is ("FLAGS" in item)  # it was seen already


async def test_flags_asked_for_with_the_body_are_those_after_it_was_read(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    items = await only(client, "FETCH 1 (FLAGS BODY[])")
    assert flags_of(items["FLAGS"]) == {"\\Seen", "\\Recent"}


async def test_a_keyword_that_another_session_made_is_announced_before_it_is_told(
    room: Room,
) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    await room.flag([1], add=("$Fresh",))
    reply = await client.command("FETCH 1 (BODY[])")
    names = [each.name for each in reply.untagged]
    assert names.index(b"FLAGS") < names.index(b"FETCH")
    assert flags_of(reply.fetched()[1]["FLAGS"]) == {"\\Seen", "\\Recent", "$Fresh"}


# --- CONDSTORE -----------------------------------------------------------------------------------


async def test_changedsince_tells_only_what_changed_after(room_both: Room) -> None:
    stored = await room_both.deliver(*[SMALL] * 6)
    uids = [each.uid for each in stored]
    since = (await room_both.box()).modseq
    await room_both.flag([uids[1], uids[4]], add=("\\Flagged",))
    client = await room_both.client()
    modseqs = await room_both.modseqs()
    for line, numbers in (
        (f"FETCH 1:* (FLAGS) (CHANGEDSINCE {since})", [2, 5]),
        (f"FETCH 1:3 (FLAGS) (CHANGEDSINCE {since})", [2]),
        (f"FETCH 3,5:6 (FLAGS) (CHANGEDSINCE {since})", [5]),
        (f"UID FETCH 1:* (UID) (CHANGEDSINCE {since})", [2, 5]),
        (f"FETCH 1:* (UID) (CHANGEDSINCE {max(modseqs.values())})", []),
        ("FETCH 1:* (UID) (CHANGEDSINCE 0)", [1, 2, 3, 4, 5, 6]),
        ("FETCH 1:* (UID) (CHANGEDSINCE 9223372036854775807)", []),
    ):
        reply = await client.command(line)
        assert reply.ok, line
        found = reply.fetched()
        assert list(found) == numbers, line
        for number, items in found.items():
            assert items["MODSEQ"] == (modseqs[uids[number - 1]],)


async def test_reading_what_changed_marks_nothing_else_as_seen(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL, SMALL)
    since = (await room.box()).modseq
    await room.flag([stored[1].uid], add=("\\Flagged",))
    client = await room.client()
    reply = await client.command(f"FETCH 1:* (BODY[]) (CHANGEDSINCE {since})")
    assert list(reply.fetched()) == [2]
    flags = await room.stored()
    assert [uid for uid in flags if "\\Seen" in flags[uid]] == [stored[1].uid]


async def test_a_condstore_client_hears_modseqs_with_every_change(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL)
    client = await room.client()
    await room.flag([stored[0].uid], add=("\\Flagged",))
    (items,) = (await client.command("NOOP")).fetched().values()
    assert items.keys() == {"FLAGS"}
    assert (await client.command("FETCH 1 (MODSEQ)")).ok  # a CONDSTORE enabling command
    await room.flag([stored[0].uid], remove=("\\Flagged",))
    (items,) = (await client.command("NOOP")).fetched().values()
    assert items.keys() == {"UID", "FLAGS", "MODSEQ"}
    items = await only(client, "FETCH 2 (BODY[])")  # RFC 7162 §3.1: \Seen comes with a MODSEQ
    assert items["MODSEQ"] == ((await room.modseqs())[stored[1].uid],)


# --- large and damaged ---------------------------------------------------------------------------


async def _rope(room: Room, body: bytes) -> bytes:
    """A message as a rope of its header and a file, as SMTP stores large ones."""
    spool = room.house.blobs.spool()
    for start in range(0, len(body), 65_536):
        spool.write(body[start : start + 65_536])
    prefix = b"Received: by mail.example.test\r\n"
    parts = (await room.house.blobs.finish(spool, [Form(prefix)])).stored
    assert len(parts) == 3
    whole = prefix + body

    def place(tx: Tx) -> None:
        for part in parts[:-1]:
            blobs.insert(tx, part, room.house.clock.now())

    await room.house.mail.write(place)
    await room.append_blob(parts[-1], whole)
    return whole


@pytest.mark.parametrize("rope", [False, True], ids=["file", "rope"])
async def test_large_messages_come_octet_for_octet(room_both: Room, rope: bool) -> None:
    body = message(body=random.Random(3).randbytes(3_000_000).hex().encode()[:3_145_728])
    if rope:
        body = await _rope(room_both, body)
    else:
        await room_both.deliver(body)
    client = await room_both.client()
    items = await only(client, "FETCH 1 (UID BODY.PEEK[] RFC822.SIZE)")
    assert items["BODY[]"] == body
    assert items["RFC822.SIZE"] == len(body)
    for first, most in ((0, 200_000), (131_071, 131_074), (len(body) - 300_000, 1 << 30)):
        items = await only(client, f"FETCH 1 BODY.PEEK[]<{first}.{most}>")
        assert items[f"BODY[]<{first}>"] == body[first : first + most]
    head = body.index(b"\r\n\r\n") + 4
    items = await only(client, "FETCH 1 (BODY.PEEK[TEXT] BODY.PEEK[HEADER] FLAGS)")
    assert items["BODY[TEXT]"] == body[head:]
    assert items["BODY[HEADER]"] == body[:head]


async def test_a_mixed_mailbox_comes_octet_for_octet(room: Room) -> None:
    raws = list(corpus(300, seed=11))
    for start in range(0, len(raws), 50):
        await room.deliver(*raws[start : start + 50])
    client = await room.client()
    reply = await client.command("UID FETCH 1:* (RFC822.SIZE BODY.PEEK[])")
    told = [items["BODY[]"] for items in reply.fetched().values()]
    assert told == raws


async def test_a_damaged_message_costs_only_itself(room: Room) -> None:
    stored = await room.deliver(*(message(subject=f"n{n}") for n in range(5)))
    rows = await room.rows()
    shorter = Statement("UPDATE blob SET data = substr(data, 1, 10) WHERE id = :id")
    await room.house.mail.write(lambda tx: tx.run(shorter, id=rows[2].blob))
    client = await room.client()
    for item in ("BODY.PEEK[]", "BODY", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"):
        reply = await client.command(f"FETCH 1:* (UID {item})")
        assert (reply.kind, reply.code) == ("NO", "CORRUPTION")
        assert [items["UID"] for items in reply.fetched().values()] == [
            each.uid for each in stored if each.uid != stored[2].uid
        ]
    assert (await client.command("FETCH 1:* (UID FLAGS ENVELOPE)")).ok


async def test_a_message_that_breaks_off_ends_the_connection(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was announced cannot be sent, and nothing else may stand in its place."""
    await room.deliver(message(body=b"x" * 1_000_000))
    whole = Blobs.read

    def read(self: Blobs, tx: Tx, blob: int, start: int = 0, length: int | None = None) -> bytes:
        if start >= fetching.SLICE:
            raise Corrupt(detail="shorter than its row says")
        return whole(self, tx, blob, start, length)

    monkeypatch.setattr(Blobs, "read", read)
    client = await room.client()
    with pytest.raises(ClosedError) as caught:
        await client.command("FETCH 1 BODY.PEEK[]")
    assert caught.value.heard == []
    assert (await (await room.client()).command("NOOP")).ok


# --- others, meanwhile ---------------------------------------------------------------------------


async def test_what_others_expunged_keeps_its_number_until_it_may_be_told(room: Room) -> None:
    stored = await room.deliver(*[SMALL] * 4)
    client = await room.client()
    await room.remove([stored[1].uid])
    (new,) = await room.deliver(SMALL)
    told = []
    for line in ("FETCH 3 (UID)", "STORE 3 +FLAGS (\\Flagged)", "SEARCH UID 1:*"):
        reply = await client.command(line)
        assert reply.numbers("EXPUNGE") == [], line  # RFC 3501 §7.4.1
        told += reply.numbers("EXISTS")
    assert told == [5]  # once, with what was removed: RFC 3501 §5.2
    assert (await only(client, "FETCH 3 (UID)"))["UID"] == stored[2].uid
    reply = await client.command("FETCH 1:* (UID)")
    assert (reply.kind, reply.code) == ("NO", "EXPUNGEISSUED")  # RFC 5530 §3
    assert {n: items["UID"] for n, items in reply.fetched().items()} == {
        1: stored[0].uid,
        3: stored[2].uid,
        4: stored[3].uid,
        5: new.uid,
    }
    reply = await client.command("UID FETCH 1:* (FLAGS)")
    assert reply.ok
    assert reply.numbers("EXPUNGE") == [2]
    assert reply.numbers("EXISTS") == []


async def test_many_changes_by_others_are_told_in_order(room: Room) -> None:
    await room.fill(5000)
    client = await room.client()
    await room.remove(range(1, 4000, 2))
    await room.flag(range(2, 5000, 2), add=("\\Answered",))
    reply = await client.command("NOOP", patience=20)
    assert reply.numbers("EXPUNGE") == list(range(3999, 0, -2))
    left = sorted({*range(1, 5001)} - {*range(1, 4000, 2)})
    assert reply.numbers("FETCH") == [
        n for n, uid in enumerate(left, 1) if uid % 2 == 0 and uid < 5000
    ]


async def test_a_fetch_that_is_not_read_holds_little(room: Room) -> None:
    """Class 9: two thousand bodies of 10 KB for a client that does not read one."""
    raw = message(body=b"y" * 10_000)
    for _ in range(8):
        await room.deliver(*[raw] * 250)
    client = await room.client()
    (session,) = room.workers[0].connections()
    connection = next(iter(room.workers[0].acceptors["imaps"].connections))
    client.send(b"a FETCH 1:* BODY.PEEK[]\r\n")
    transport = connection._transport
    assert transport is not None
    most = 0
    for _ in range(60):
        await asyncio.sleep(0.01)
        most = max(most, transport.get_write_buffer_size())
    assert 0 < most < 256 * 1024
    assert session is not None
    reply = await client.reply(b"a", patience=20)
    assert reply.ok
    assert codes_of(reply) == []
    assert [items["BODY[]"] for items in reply.fetched().values()] == [raw] * 2000
