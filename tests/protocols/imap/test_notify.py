"""NOTIFY: told of all mailboxes on one connection, at any time between commands. RFC 5465."""

from __future__ import annotations

import pytest

from postroom.protocols.imap import listening, server, watching
from postroom.testing.imap import ImapClient, Literal, flags_of
from postroom.wire.imap import Response, Tagged, Untagged
from tests.protocols.imap.serving import ANN, BOB, SMALL, Room, codes_of, message

ARRIVALS = "MessageNew MessageExpunge"
EVERYTHING = f"personal ({ARRIVALS} FlagChange MailboxName SubscriptionChange)"
LOOKS = 0.02  # seconds between two looks, here
QUIET = 0.1  # seconds: longer than any look is put off


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "WATCH_SECONDS", LOOKS)


async def until(client: ImapClient, count: int, patience: float = 5) -> list[Untagged]:
    """The next responses, so many of them."""
    found: list[Untagged] = []
    while len(found) < count:
        each = await client.response(patience)
        assert isinstance(each, Untagged), each
        found.append(each)
    return found


def counters(each: Response) -> tuple[str, dict[str, int]]:
    """What a STATUS says."""
    assert isinstance(each, Untagged)
    assert each.name == b"STATUS", each
    path, items = each.data
    assert isinstance(path, bytes)
    assert isinstance(items, tuple)
    pairs = zip(items[::2], items[1::2], strict=True)
    told = {bytes(k).decode(): v for k, v in pairs if isinstance(k, bytes) and isinstance(v, int)}
    return path.decode(), told


def listed(each: Response) -> tuple[str, set[str], str]:
    """Of a LIST the path, the attributes and the old name."""
    assert isinstance(each, Untagged)
    assert each.name == b"LIST", each
    attributes, _, path, *more = each.data
    assert isinstance(attributes, tuple)
    assert isinstance(path, bytes)
    old = ""
    for each_more in more:
        assert isinstance(each_more, tuple)
        assert each_more[0] == b"OLDNAME"
        assert isinstance(each_more[1], tuple)
        assert isinstance(each_more[1][0], bytes)
        old = each_more[1][0].decode()
    names = {bytes(word).decode() for word in attributes if isinstance(word, bytes)}
    return path.decode(), names, old


async def watching_client(
    room: Room, groups: str, *, mailbox: str | None = None, user: str = ANN, first: str = ""
) -> ImapClient:
    client = await room.client(user, mailbox)
    if first:
        assert (await client.command(first)).ok
    reply = await client.command(f"NOTIFY SET ({groups})")
    assert reply.ok, reply
    return client


# --- other mailboxes ------------------------------------------------------------------------------


async def test_messages_of_other_mailboxes_are_told_between_commands(room_both: Room) -> None:
    client = await watching_client(room_both, f"personal ({ARRIVALS} FlagChange)")
    stored = await room_both.deliver(SMALL, SMALL, path="Sent")
    path, told = counters((await until(client, 1))[0])
    assert path == "Sent"
    assert told.items() >= {"MESSAGES": 2, "UIDNEXT": 3, "UNSEEN": 2}.items()
    assert "UIDVALIDITY" in told
    assert "HIGHESTMODSEQ" not in told
    await room_both.flag([stored[0].uid], add=("\\Seen",), path="Sent")
    assert counters((await until(client, 1))[0])[1]["UNSEEN"] == 1
    await room_both.remove([stored[0].uid], path="Sent")
    assert counters((await until(client, 1))[0])[1]["MESSAGES"] == 1
    assert await client.silent(QUIET)


async def test_who_did_not_ask_for_flags_hears_none(room: Room) -> None:
    (stored,) = await room.deliver(SMALL, path="Sent")
    client = await watching_client(room, f"personal ({ARRIVALS})")
    await room.flag([stored.uid], add=("\\Seen",), path="Sent")
    assert await client.silent(QUIET)
    await room.deliver(SMALL, path="Sent")
    assert counters((await until(client, 1))[0])[1].keys() == {"MESSAGES", "UIDNEXT", "UIDVALIDITY"}


async def test_with_condstore_the_modseq_is_told(room: Room) -> None:
    client = await watching_client(room, f"inboxes ({ARRIVALS})", first="ENABLE CONDSTORE")
    await room.deliver(SMALL)
    _, told = counters((await until(client, 1))[0])
    assert told["HIGHESTMODSEQ"] == (await room.box()).modseq


async def test_status_tells_first_how_things_are(room: Room) -> None:
    await room.deliver(SMALL, path="Sent")
    client = await room.client(mailbox="INBOX")
    reply = await client.command(
        f"NOTIFY SET STATUS (selected ({ARRIVALS})) (mailboxes (Sent Junk INBOX) ({ARRIVALS}))"
        " (personal (MailboxName))"
    )
    assert reply.ok
    told = dict(counters(each) for each in reply.untagged)
    assert told.keys() == {"Sent", "Junk"}  # not of the one that is open
    assert (told["Sent"]["MESSAGES"], told["Junk"]["MESSAGES"]) == (1, 0)


@pytest.mark.parametrize("events", [ARRIVALS, f"{ARRIVALS} FlagChange"])
async def test_status_has_the_modseq_of_what_is_watched_for_flags(room: Room, events: str) -> None:
    """RFC 5465 §3.1: whether or not the client enabled CONDSTORE, since the server has it."""
    await room.deliver(SMALL, path="Sent")
    client = await room.client(mailbox=None)
    reply = await client.command(f"NOTIFY SET STATUS (mailboxes Sent ({events}))")
    ((path, told),) = [counters(each) for each in reply.untagged]
    assert path == "Sent"
    assert told.keys() >= {"MESSAGES", "UIDNEXT", "UIDVALIDITY"}
    if "FlagChange" in events:
        assert told["HIGHESTMODSEQ"] == (await room.box("Sent")).modseq
    else:
        assert "HIGHESTMODSEQ" not in told


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ("personal", {"INBOX", "Lists", "Lists/a", "Sent"}),
        ("inboxes", {"INBOX", "Lists", "Lists/a", "Sent"}),
        ("subscribed", {"INBOX", "Sent"}),
        ("subtree Lists", {"Lists", "Lists/a"}),
        ("mailboxes (Lists Nowhere)", {"Lists"}),
        ("selected", set()),
    ],
)
async def test_which_mailboxes_are_told_of(room: Room, group: str, told: set[str]) -> None:
    for path in ("Lists", "Lists/a"):
        await room.create(path)
    client = await watching_client(room, f"{group} ({ARRIVALS})")
    for path in ("INBOX", "Lists", "Lists/a", "Sent"):
        await room.deliver(SMALL, path=path)
    assert {counters(each)[0] for each in await until(client, len(told))} == told
    assert await client.silent(QUIET)


async def test_names_and_subscriptions(room: Room) -> None:
    client = await watching_client(room, EVERYTHING)
    other = await room.client(mailbox=None)

    async def after(command: str, made: int = 0) -> list[tuple[str, set[str], str]]:
        assert (await other.command(command)).ok
        told = await until(client, 1 + made)
        return [listed(each) for each in told if each.name == b"LIST"]

    leaf, parent = {"\\HasNoChildren"}, {"\\HasChildren"}
    assert await after("CREATE Work", 1) == [("Work", leaf, "")]
    assert await after("CREATE Work/In", 2) == [("Work/In", leaf, ""), ("Work", parent, "")]
    assert await after("RENAME Work Job") == [("Job", parent, "Work")]
    assert await after("SUBSCRIBE Job/In") == [("Job/In", leaf | {"\\Subscribed"}, "")]
    assert await after("UNSUBSCRIBE Job/In") == [("Job/In", leaf, "")]
    assert await after("DELETE Job/In", 1) == [("Job/In", {"\\NonExistent"}, ""), ("Job", leaf, "")]
    assert await after("DELETE Job") == [("Job", {"\\NonExistent"}, "")]


@pytest.mark.parametrize(
    "commands",
    [
        ("CREATE Work/In/deep",),
        ("CREATE Work", "CREATE Work/In", "RENAME Work Job", "RENAME Job/In Other/Out"),
        ("CREATE Work", "SUBSCRIBE Work", "UNSUBSCRIBE Work", "UNSUBSCRIBE inbox"),
        ("CREATE Work/In", "DELETE Work/In", "DELETE Work"),
        ("RENAME INBOX Old",),
    ],
)
async def test_what_the_client_does_to_names_itself_is_not_told(
    room: Room, commands: tuple[str, ...]
) -> None:
    """RFC 5465 §5; what others do meanwhile is."""
    client = await watching_client(room, EVERYTHING)
    for command in commands:
        reply = await client.command(command)
        assert reply.ok
        assert not reply["LIST"]
    assert await client.silent(QUIET)
    await room.create("theirs")
    told = await until(client, 2)
    assert [listed(each)[0] for each in told if each.name == b"LIST"] == ["theirs"]


async def test_names_are_told_as_the_client_reads_them(room: Room) -> None:
    client = await watching_client(room, "personal (MailboxName)", first="ENABLE IMAP4rev2")
    await room.create("Grüße")
    assert listed((await until(client, 1))[0])[0] == "Grüße"


# --- the mailbox that is open ---------------------------------------------------------------------


async def test_what_comes_to_the_open_mailbox_is_fetched_and_not_seen_by_it(room: Room) -> None:
    items = "(body[header.fields (subject)] flags)"
    client = await watching_client(
        room, f"selected (MessageNew {items} MessageExpunge FlagChange)", mailbox="INBOX"
    )
    await room.deliver(message("One"), message("Two"))
    exists, recent, *fetched = await until(client, 4)
    assert (exists.name, exists.number, recent.name) == (b"EXISTS", 2, b"RECENT")
    for n, (each, subject) in enumerate(zip(fetched, (b"One", b"Two"), strict=True), 1):
        assert (each.name, each.number) == (b"FETCH", n)
        (told,) = each.data
        assert isinstance(told, tuple)
        assert told[told.index(b"UID") + 1] == n
        assert b"Subject: %b\r\n\r\n" % subject in told
        assert "\\Seen" not in flags_of(told[told.index(b"FLAGS") + 1])
    assert await room.stored() == {1: set(), 2: set()}
    assert await client.silent(QUIET)


async def test_what_the_client_places_itself_is_not_fetched_for_it(room: Room) -> None:
    """RFC 5465 §5.2: it knows the message; what comes beside it is fetched."""
    await room.deliver(SMALL)
    asked = "selected (MessageNew (uid) MessageExpunge)"
    client = await watching_client(room, asked, mailbox="INBOX")
    reply = await client.command("APPEND INBOX ", Literal(SMALL))
    assert reply.ok and reply.numbers("EXISTS") == [2]
    reply = await client.command("COPY 1 INBOX")
    assert reply.ok and reply.numbers("EXISTS") == [3]
    assert await client.silent(QUIET)
    await room.deliver(SMALL)
    told = await until(client, 3)
    assert [(each.name, each.number) for each in told] == [
        *((b"EXISTS", 4), (b"RECENT", 4), (b"FETCH", 4)),
    ]
    assert await client.silent(QUIET)


async def test_changed_flags_are_told_with_the_uid(room: Room) -> None:
    """RFC 5465 §5.1: who is told of removals at any time cannot go by numbers."""
    stored = await room.deliver(SMALL, SMALL)
    client = await watching_client(room, f"selected ({ARRIVALS} FlagChange)", mailbox="INBOX")
    await room.flag([stored[1].uid], add=("\\Flagged",))
    (flagged,) = await until(client, 1)
    (told,) = flagged.data
    assert isinstance(told, tuple)
    assert (flagged.number, told[told.index(b"UID") + 1]) == (2, stored[1].uid)


async def test_all_that_happened_to_the_open_mailbox_is_told_first(room: Room) -> None:
    """RFC 5465 §3.1: NOTIFY SET is a NOOP, whatever it asks for."""
    stored = await room.deliver(SMALL, SMALL)
    client = await room.client()
    await room.remove([stored[0].uid])
    await room.deliver(SMALL)
    reply = await client.command(f"NOTIFY SET (mailboxes Sent ({ARRIVALS}))")
    assert reply.ok
    assert (reply.numbers("EXPUNGE"), reply.numbers("EXISTS")) == ([1], [2])


async def test_removals_are_told_at_once(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL, SMALL)
    client = await watching_client(room, f"selected ({ARRIVALS} FlagChange)", mailbox="INBOX")
    await room.flag([stored[2].uid], add=("\\Flagged",))
    (flagged,) = await until(client, 1)
    assert (flagged.name, flagged.number) == (b"FETCH", 3)
    await room.remove([stored[0].uid, stored[1].uid])
    assert [(each.name, each.number) for each in await until(client, 2)] == [
        (b"EXPUNGE", 2),
        (b"EXPUNGE", 1),
    ]


@pytest.mark.parametrize("enable", ["ENABLE QRESYNC", "ENABLE UIDONLY"])
async def test_removals_by_uid(room: Room, enable: str) -> None:
    stored = await room.deliver(SMALL, SMALL)
    client = await room.client(mailbox=None)
    for command in (enable, "SELECT INBOX", f"NOTIFY SET (selected ({ARRIVALS}))"):
        assert (await client.command(command)).ok
    await room.remove([stored[0].uid])
    (gone,) = await until(client, 1)
    assert (gone.name, gone.data) == (b"VANISHED", (1,))


async def test_delayed_removals_wait_for_a_command_and_new_messages_do_not(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL)
    client = await watching_client(room, f"selected-delayed ({ARRIVALS})", mailbox="INBOX")
    await room.remove([stored[0].uid])
    assert await client.silent(QUIET)
    await room.deliver(message("Third"))
    exists, _ = await until(client, 2)
    assert (exists.name, exists.number) == (b"EXISTS", 3)
    assert await client.silent(QUIET)
    # Numbers mean what they meant; what has gone is told by a command that may.
    reply = await client.command("FETCH 3 (UID FLAGS)")
    assert reply.fetched()[3]["UID"] == 3
    assert not reply["EXPUNGE"]
    reply = await client.command("NOOP")
    assert [each.number for each in reply["EXPUNGE"]] == [1]
    reply = await client.command("FETCH 1:* (UID)")
    assert {n: items["UID"] for n, items in reply.fetched().items()} == {1: 2, 2: 3}


async def test_delayed_removals_are_told_in_idle(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL)
    client = await watching_client(room, f"selected-delayed ({ARRIVALS})", mailbox="INBOX")
    async with client.idle() as idle:
        await room.remove([stored[0].uid])
        assert ((await idle.next()).name) == b"EXPUNGE"
        await room.deliver(SMALL)
        assert ((await idle.next()).name) == b"EXISTS"


async def test_flags_that_were_not_asked_for_are_told_by_the_next_command(room: Room) -> None:
    stored = await room.deliver(SMALL)
    client = await watching_client(room, f"selected ({ARRIVALS})", mailbox="INBOX")
    await room.flag([stored[0].uid], add=("\\Flagged",))
    await room.deliver(SMALL)
    assert [each.name for each in await until(client, 2)] == [b"EXISTS", b"RECENT"]
    reply = await client.command("NOOP")
    assert flags_of(reply.fetched()[1]["FLAGS"]) >= {"\\Flagged"}
    assert await client.silent(QUIET)


@pytest.mark.parametrize("asked", ["NONE", "SET (selected NONE)", "SET (personal (MailboxName))"])
async def test_of_the_open_mailbox_commands_alone_tell(room: Room, asked: str) -> None:
    client = await room.client()
    assert (await client.command(f"NOTIFY {asked}")).ok
    await room.deliver(SMALL)
    assert await client.silent(QUIET)
    async with client.idle() as idle:
        assert [each.name for each in idle.before] == [b"EXISTS", b"RECENT"]
        await room.deliver(SMALL)
        with pytest.raises(TimeoutError):
            await idle.next(QUIET)
    assert b"EXISTS" in [each.name for each in idle.after]


async def test_all_is_told_in_idle_too_and_after_it(room: Room) -> None:
    client = await watching_client(room, EVERYTHING)
    async with client.idle() as idle:
        await room.deliver(SMALL, path="Sent")
        assert counters(await idle.next())[0] == "Sent"
    await room.deliver(SMALL, path="Junk")
    assert counters((await until(client, 1))[0])[0] == "Junk"


async def test_the_open_mailbox_is_another_after_select(room: Room) -> None:
    groups = f"selected ({ARRIVALS})) (personal ({ARRIVALS})"
    client = await watching_client(room, groups, mailbox="INBOX")
    assert (await client.command("SELECT Sent")).ok
    await room.deliver(SMALL, path="Sent")
    await room.deliver(SMALL)
    told = await until(client, 3)
    assert [each.name for each in told if each.name != b"STATUS"] == [b"EXISTS", b"RECENT"]
    assert {counters(each)[0] for each in told if each.name == b"STATUS"} == {"INBOX"}


@pytest.mark.parametrize("asked", ["", f"selected-delayed ({ARRIVALS})) ("])
async def test_what_was_not_told_of_the_open_mailbox_is_told_once_another_is_open(
    room: Room, asked: str
) -> None:
    stored = await room.deliver(SMALL, SMALL)
    client = await watching_client(room, f"{asked}personal ({ARRIVALS})", mailbox="INBOX")
    await room.remove([stored[0].uid])
    assert await client.silent(QUIET)
    assert (await client.command("SELECT Junk")).ok
    await room.deliver(SMALL, path="Sent")
    told = dict(counters(each) for each in await until(client, 2))
    assert (told["INBOX"]["MESSAGES"], told["Sent"]["MESSAGES"]) == (1, 1)
    await room.deliver(SMALL, path="Sent")
    assert counters((await until(client, 1))[0])[0] == "Sent"
    assert await client.silent(QUIET)


# --- mailboxes of others --------------------------------------------------------------------------


async def test_a_shared_mailbox_appears_changes_and_vanishes(room_both: Room) -> None:
    shared = f"Shared/{ANN}/INBOX"
    client = await watching_client(room_both, f"subtree Shared ({ARRIVALS} MailboxName)", user=BOB)
    ann = await room_both.client(mailbox=None)
    assert (await ann.command(f"SETACL INBOX {BOB} lr")).ok
    named, counted = await until(client, 2)
    assert listed(named)[0] == counters(counted)[0] == shared
    await room_both.deliver(SMALL)
    path, told = counters((await until(client, 1))[0])
    assert (path, told["MESSAGES"]) == (shared, 1)
    assert (await ann.command(f"SETACL INBOX {BOB} -r")).ok
    assert listed((await until(client, 1))[0])[:2] == (shared, {"\\NoAccess"})
    await room_both.deliver(SMALL)
    assert await client.silent(QUIET)
    assert (await ann.command(f"DELETEACL INBOX {BOB}")).ok
    assert listed((await until(client, 1))[0])[:2] == (shared, {"\\NonExistent"})


async def test_what_was_named_and_may_not_be_read_is_told_at_once(room: Room) -> None:
    ann = await room.client(mailbox=None)
    assert (await ann.command(f"SETACL INBOX {BOB} l")).ok
    bob = await room.client(BOB, mailbox=None)
    shared = f"Shared/{ANN}/INBOX"
    reply = await bob.command(f"NOTIFY SET STATUS (mailboxes ({shared} Nowhere) ({ARRIVALS}))")
    assert reply.ok
    assert [listed(each)[:2] for each in reply.untagged] == [(shared, {"\\NoAccess"})]


# --- annotations ----------------------------------------------------------------------------------


def noted(found: list[Untagged]) -> list[tuple[str, list[str]]]:
    """Of responses, all METADATA, the mailbox and the entries. RFC 5464 §4.4.2."""
    told: list[tuple[str, list[str]]] = []
    for each in found:
        assert each.name == b"METADATA", each
        path, *names = each.data
        assert isinstance(path, bytes)
        told.append((path.decode(), [bytes(n).decode() for n in names if isinstance(n, bytes)]))
        assert len(told[-1][1]) == len(names) > 0
    return told


async def test_annotations_are_told_by_name_as_they_are_set_and_removed(room: Room) -> None:
    client = await watching_client(
        room, "personal (MailboxMetadataChange)", mailbox="INBOX", user=ANN
    )
    other = await room.client(mailbox=None)

    async def after(command: str) -> list[tuple[str, list[str]]]:
        assert (await other.command(command)).ok
        return noted(await until(client, 1))

    both = ["/private/c", "/shared/comment"]
    assert await after('SETMETADATA INBOX (/shared/comment "x" /private/C "y")') == [
        ("INBOX", both)
    ]
    assert await after('SETMETADATA Sent (/private/c "z")') == [("Sent", both[:1])]
    assert await after('SETMETADATA INBOX (/private/c "y")') == [("INBOX", both[:1])]
    assert await after("SETMETADATA INBOX (/private/c NIL)") == [("INBOX", both[:1])]
    assert await after('SETMETADATA Junk (/private/specialuse "")') == [
        ("Junk", ["/private/specialuse"])
    ]
    assert (await other.command("SETMETADATA INBOX (/private/none NIL)")).ok
    assert (await other.command('SETMETADATA "" (/private/c "server")')).ok
    await room.deliver(SMALL, path="Sent")
    assert await client.silent(QUIET)
    reply = await client.command("GETMETADATA INBOX (/private/c /shared/comment)")
    assert len(reply["METADATA"]) == 1


async def test_many_annotations_are_told_in_lines_of_some(room: Room) -> None:
    client = await watching_client(room, "personal (MailboxMetadataChange)")
    names = sorted(f"/private/n{n}" for n in range(60))
    values = " ".join(f'{name} "x"' for name in names)
    other = await room.client(mailbox=None)
    assert (await other.command(f"SETMETADATA Sent ({values})")).ok
    told = noted(await until(client, 3))
    assert [path for path, _ in told] == ["Sent"] * 3
    assert [name for _, some in told for name in some] == names


async def test_annotations_of_the_server_are_told(room: Room) -> None:
    client = await watching_client(room, "mailboxes Nowhere (ServerMetadataChange)")
    other = await room.client(mailbox=None)
    for value in ('"x"', '"x"', "NIL"):
        assert (await other.command(f'SETMETADATA "" (/private/c {value})')).ok
        assert noted(await until(client, 1)) == [("", ["/private/c"])]
    bob = await room.client(BOB, mailbox=None)
    assert (await bob.command('SETMETADATA "" (/private/c "bob\'s")')).ok
    assert (await other.command('SETMETADATA INBOX (/private/c "x")')).ok
    assert await client.silent(QUIET)


async def test_what_the_administrator_says_is_told_at_the_next_compare(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "COMPARE_SECONDS", 0.1)
    client = await watching_client(room, "personal (ServerMetadataChange)")
    await room.configure("metadata.comment", "Tonight we are closed")
    assert noted(await until(client, 1)) == [("", ["/shared/comment"])]


async def test_who_annotates_is_not_told_of_it_but_of_what_others_did(room: Room) -> None:
    client = await watching_client(room, "personal (MailboxMetadataChange ServerMetadataChange)")
    other = await room.client(mailbox=None)
    for path in ("INBOX", '""'):
        assert (await client.command(f'SETMETADATA {path} (/private/mine "1")')).ok
        assert await client.silent(QUIET)
        assert (await other.command(f'SETMETADATA {path} (/private/theirs "2")')).ok
        reply = await client.command(f"SETMETADATA {path} (/private/mine NIL)")
        assert reply.ok
        told = noted([*reply.untagged] or await until(client, 1))
        assert told == [(path.strip('"'), ["/private/theirs"])]
        assert await client.silent(QUIET)


async def test_of_a_shared_mailbox_what_all_share_is_told_to_who_may_read_it(
    room_both: Room,
) -> None:
    room, shared = room_both, f"Shared/{ANN}/INBOX"
    ann = await room.client(mailbox=None)
    assert (await ann.command(f"SETACL INBOX {BOB} lr")).ok
    bob = await watching_client(room, "subtree Shared (MailboxMetadataChange)", user=BOB)
    assert (await ann.command('SETMETADATA INBOX (/private/c "ann\'s" /shared/c "all")')).ok
    assert noted(await until(bob, 1)) == [(shared, ["/shared/c"])]
    other = await room.client(BOB, mailbox=None)
    assert (await other.command(f'SETMETADATA {shared} (/private/c "bob\'s")')).ok
    assert noted(await until(bob, 1)) == [(shared, ["/private/c"])]
    assert (await ann.command(f"SETACL INBOX {BOB} l")).ok  # it may be seen, and no more
    assert (await ann.command('SETMETADATA INBOX (/shared/c "secret")')).ok
    assert await bob.silent(QUIET)


async def test_too_many_annotations(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await watching_client(room, "personal (MailboxMetadataChange MailboxName)")
    monkeypatch.setattr(watching, "ANNOTATIONS_MOST", 10)
    other = await room.client(mailbox=None)
    values = " ".join(f'/private/n{n} "x"' for n in range(11))
    assert (await other.command(f"SETMETADATA Sent ({values})")).ok
    (told,) = await until(client, 1)
    assert told.code is not None
    assert (told.name, told.code.name) == (b"OK", b"NOTIFICATIONOVERFLOW")
    reply = await client.command("NOTIFY SET (personal (MailboxMetadataChange))")
    assert (reply.kind, codes_of(reply)) == ("NO", [b"NOTIFICATIONOVERFLOW"])
    assert (await client.command("NOTIFY SET (personal (MailboxName))")).ok


# --- what is refused, and what ends it ------------------------------------------------------------


@pytest.mark.parametrize("event", ["AnnotationChange MessageNew MessageExpunge", "X-Other"])
async def test_unsupported_events_are_refused_by_name(room: Room, event: str) -> None:
    client = await watching_client(room, EVERYTHING)
    reply = await client.command(f"NOTIFY SET (personal ({event}))")
    assert reply.kind == "NO"
    (code,) = reply.codes()
    assert code.name == b"BADEVENT"
    assert code.data == (tuple(event.encode() for event in watching.SUPPORTED),)
    await room.deliver(SMALL)  # what was asked before still holds
    assert counters((await until(client, 1))[0])[0] == "INBOX"


async def test_too_many_mailboxes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await watching_client(room, EVERYTHING)
    monkeypatch.setattr(watching, "WATCHED_MOST", 6)
    await room.create("One more")
    (told,) = await until(client, 1)
    assert told.code is not None
    assert (told.name, told.code.name) == (b"OK", b"NOTIFICATIONOVERFLOW")
    await room.deliver(SMALL)
    assert await client.silent(QUIET)
    reply = await client.command(f"NOTIFY SET ({EVERYTHING})")
    assert (reply.kind, codes_of(reply)) == ("NO", [b"NOTIFICATIONOVERFLOW"])
    # Whatever there is, the open mailbox can be watched.
    assert (await client.command("SELECT INBOX")).ok
    assert (await client.command(f"NOTIFY SET (selected ({ARRIVALS}))")).ok
    await room.deliver(SMALL)
    assert (await until(client, 1))[0].name == b"EXISTS"


async def test_none_and_unauthenticate_end_it(room: Room) -> None:
    for command in ("NOTIFY NONE", "UNAUTHENTICATE"):
        client = await watching_client(room, EVERYTHING)
        assert room.bus._watchers
        assert (await client.command(command)).ok
        assert not room.bus._watchers
        await room.deliver(SMALL)
        assert await client.silent(QUIET)


# --- costs ----------------------------------------------------------------------------------------


async def test_a_burst_is_told_as_few(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "WATCH_SECONDS", 0.2)
    client = await watching_client(room, f"personal ({ARRIVALS})")
    for _ in range(100):
        await room.deliver(*[SMALL] * 10, path="Sent")
    told: list[int] = []
    while not told or told[-1] < 1000:
        told.append(counters((await until(client, 1))[0])[1]["MESSAGES"])
    assert told == sorted(told)
    assert len(told) < 50  # by the clock at most one in 0.2 seconds, whatever the machine does


async def test_a_lost_hint_is_healed_by_the_compare(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "COMPARE_SECONDS", 0.3)
    client = await watching_client(room, EVERYTHING)
    monkeypatch.setattr(room.bus, "tell_here", lambda _: None)
    await room.deliver(SMALL, path="Sent")
    assert counters((await until(client, 1))[0])[0] == "Sent"


async def test_who_watches_and_says_nothing_is_shown_out_in_time(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "COMPARE_SECONDS", 0.1)
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.5)
    client = await watching_client(room, EVERYTHING)
    (bye,) = await client.until_closed()
    assert isinstance(bye, Untagged)
    assert bye.name == b"BYE"


async def test_a_watching_session_has_neither_task_nor_timer(room: Room) -> None:
    client = await watching_client(room, EVERYTHING, mailbox="INBOX")
    await room.deliver(SMALL, path="Sent")
    await until(client, 1)
    (connection,) = room.workers[0].connections()
    await room.settled(lambda: connection._task is None)
    assert not connection._listening.puts_off
    client.abort()
    await room.settled(lambda: not room.workers[0].connections())
    assert not room.bus._watchers
    assert not room.bus._doubters


async def test_nothing_is_told_within_an_append(room: Room) -> None:
    client = await watching_client(room, EVERYTHING)
    client.send(b"a APPEND INBOX {10}\r\n")
    await client.continuation()
    await room.deliver(SMALL, path="Sent")
    assert await client.silent(QUIET)
    client.send(b"a: b\r\n\r\nab\r\n")
    found: list[Response] = []
    while len(found) < 3:
        found.append(await client.response())
    assert isinstance(found[0], Tagged)
    assert {counters(each)[0] for each in found[1:]} == {"INBOX", "Sent"}
