"""The examples of RFCs that extend IMAP, played as they stand there as far as they are possible
here: RFC 4467, RFC 5464, RFC 5465, RFC 5819, RFC 7377, RFC 8508, RFC 9586, RFC 9590.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.core.secrets import Keyring
from postroom.core.settings import Place, Scope
from postroom.protocols.imap import listening
from postroom.testing.imap import ImapClient, Literal, Reply, flags_of
from postroom.wire.imap import Untagged
from tests.protocols.imap.serving import ANN, BOB, DOMAIN, SMALL, Room, message
from tests.protocols.imap.test_acl import INBOX, give
from tests.protocols.imap.test_metadata import get
from tests.protocols.imap.test_multisearch import answers
from tests.protocols.imap.test_notify import counters, until

LOOKS = 0.02
QUIET = 0.1


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "WATCH_SECONDS", LOOKS)


def refused(reply: Reply) -> tuple[str, str | None]:
    return reply.kind, reply.code


# --- RFC 5464 -------------------------------------------------------------------------------------


async def test_metadata_of_the_server(room: Room) -> None:
    """RFC 5464 §4.2, §4.4.1."""
    await room.configure("metadata.comment", "Shared comment", Place(Scope.SERVER))
    ann = await room.client(mailbox=None)
    told = {"": {"/shared/comment": b"Shared comment"}}
    assert await get(ann, '"" /shared/comment') == told


async def test_metadata_of_a_mailbox(room: Room) -> None:
    """RFC 5464 §4.2, §4.3, §4.4.1: with parentheses and, as there, without."""
    ann = await room.client(mailbox=None)
    lines = b"My new comment across\r\ntwo lines.\r\n"
    reply = await ann.command("SETMETADATA INBOX (/private/comment ", Literal(lines), ")")
    assert reply.ok and not reply.untagged
    assert await get(ann, '"INBOX" /private/comment') == {"INBOX": {"/private/comment": lines}}
    assert (await ann.command("SETMETADATA INBOX (/private/comment NIL)")).ok
    both = '(/private/comment "My new comment" /shared/comment "This one is for you!")'
    assert (await ann.command("SETMETADATA INBOX ", both)).ok
    told = {
        "INBOX": {
            "/private/comment": b"My new comment",
            "/shared/comment": b"This one is for you!",
        }
    }
    assert await get(ann, '"INBOX" (/shared/comment /private/comment)') == told
    assert await get(ann, '"INBOX" /private/comment /shared/comment') == told


async def test_metadata_of_some_size_and_depth(room: Room) -> None:
    """RFC 5464 §4.2.1, §4.2.2: the options after the mailbox, and before it as in its grammar."""
    ann = await room.client(mailbox=None)
    long = Literal(b"x" * 2199)
    some = ('SETMETADATA "INBOX" (/private/comment "My own comment" /shared/comment ', long, ")")
    assert (await ann.command(*some)).ok
    for text in (
        '"INBOX" (MAXSIZE 1024) (/shared/comment /private/comment)',
        '(maxsize 1024) "INBOX" (/shared/comment /private/comment)',
    ):
        reply = await ann.command("GETMETADATA ", text)
        assert reply.tagged.code is not None
        assert (reply.tagged.code.name, reply.tagged.code.data) == (
            b"METADATA",
            (b"LONGENTRIES", 2199),
        )
        ((mailbox, pairs),) = [each.data for each in reply["METADATA"]]
        assert (mailbox, pairs) == (b"INBOX", (b"/private/comment", b"My own comment"))
    values = "/private/filters/values"
    filters = (
        f'({values}/small "SMALLER 5000" {values}/boss "FROM \\"boss@example.com\\""'
        f' {values}/boss/old "x")'
    )
    assert (await ann.command("SETMETADATA INBOX ", filters)).ok
    assert await get(ann, f'"INBOX" (DEPTH 1) ({values})') == {
        "INBOX": {
            f"{values}/small": b"SMALLER 5000",
            f"{values}/boss": b'FROM "boss@example.com"',
        }
    }


# --- RFC 9590 -------------------------------------------------------------------------------------


async def test_list_with_metadata(room: Room) -> None:
    """RFC 9590 §4: a mailbox that is told of for what lies below it has no METADATA response."""
    await room.create("foo/below")
    ann = await room.client(mailbox=None)
    color = '"/shared/vendor/cmu/cyrus-imapd/color"'
    assert (await ann.command(f'SETMETADATA INBOX ({color} "#b71c1c")')).ok
    assert (await ann.command("UNSUBSCRIBE foo")).ok
    assert (await ann.command("SUBSCRIBE foo/below")).ok
    reply = await ann.command(f'LIST "" % RETURN (METADATA ({color}))')
    order = [(each.name, _name(each)) for each in reply.untagged]
    for name in (b"INBOX", b"foo"):
        at = order.index((b"LIST", name))
        assert order[at + 1] == (b"METADATA", name)
    told = {each.data[0]: each.data[1] for each in reply["METADATA"]}
    assert told[b"INBOX"] == (color.strip('"').encode(), b"#b71c1c")
    assert told[b"foo"] == (color.strip('"').encode(), None)
    reply = await ann.command(f'LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (METADATA ({color}))')
    assert b"foo" in {_name(each) for each in reply["LIST"]}
    assert b"foo" not in {_name(each) for each in reply["METADATA"]}
    assert b"INBOX" in {_name(each) for each in reply["METADATA"]}


async def test_list_with_status(room: Room) -> None:
    """RFC 5819 §2, §3; also of what may be looked up and not read: it is \\Noselect."""
    await room.create("foo/below")
    await give(room, "lr")
    ann, bob = await room.client(mailbox=None), await room.client(BOB, mailbox=None)
    assert (await ann.command("UNSUBSCRIBE foo")).ok
    assert (await ann.command("SUBSCRIBE foo/below")).ok
    reply = await ann.command('LIST "" % RETURN (STATUS (MESSAGES UNSEEN))')
    assert b"foo" in {each.data[0] for each in reply["STATUS"]}
    reply = await ann.command('LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (STATUS (MESSAGES))')
    assert b"foo" in {_name(each) for each in reply["LIST"]}
    assert b"foo" not in {each.data[0] for each in reply["STATUS"]}
    for letters, returns, closed in (
        ("lr", "STATUS (MESSAGES)", False),
        ("l", "STATUS (MESSAGES)", True),
        ("l", "CHILDREN", False),
    ):
        await give(room, letters)
        reply = await bob.command(f'LIST "" "{INBOX}" RETURN ({returns})')
        ((attributes, *_),) = [each.data for each in reply["LIST"]]
        assert isinstance(attributes, tuple)
        assert (b"\\Noselect" in attributes) is closed
        assert bool(reply["STATUS"]) is (letters == "lr")


def _name(each: Untagged) -> object:
    return each.data[2] if each.name == b"LIST" else each.data[0]


# --- RFC 5465 -------------------------------------------------------------------------------------


async def test_notify_of_lists_and_the_inbox(room: Room) -> None:
    """RFC 5465 §3.1; events stand in parentheses and go in pairs, as its grammar has it."""
    for path in ("Lists/Lemonade", "Lists/Im2000", "misc"):
        await room.create(path)
    await room.deliver(SMALL, path="Lists/Lemonade")
    client = await room.client(mailbox=None)
    inbox = (
        "(selected (MessageNew (uid body.peek[header.fields (from to subject)]) MessageExpunge))"
    )
    lists = "(subtree Lists (MessageNew MessageExpunge))"
    reply = await client.command(f"notify set status {inbox} {lists}")
    assert reply.ok
    told = dict(counters(each) for each in reply.untagged)
    assert told.keys() >= {"Lists/Lemonade", "Lists/Im2000"}
    assert (told["Lists/Lemonade"]["MESSAGES"], told["Lists/Im2000"]["MESSAGES"]) == (1, 0)
    assert (await client.command("select inbox")).ok
    await room.deliver(SMALL, path="Lists/Lemonade")
    path, now = counters((await until(client, 1))[0])
    assert (path, now["MESSAGES"], now["UIDNEXT"]) == ("Lists/Lemonade", 2, 3)
    await room.deliver(message("Re: good morning"))
    exists, _, fetched = await until(client, 3)
    assert (exists.name, exists.number, fetched.name, fetched.number) == (b"EXISTS", 1, b"FETCH", 1)
    (items,) = fetched.data
    assert isinstance(items, tuple)
    assert items[items.index(b"UID") + 1] == 1
    assert any(isinstance(each, bytes) and b"Re: good morning" in each for each in items)
    misc = "(mailboxes misc (MessageNew MessageExpunge))"
    reply = await client.command(f"notify set {inbox} {lists} {misc}")
    assert reply.ok and not reply["STATUS"]
    await room.deliver(SMALL, path="misc")
    assert counters((await until(client, 1))[0])[0] == "misc"


async def test_several_groups_of_events_hold_for_one_mailbox(room: Room) -> None:
    """RFC 5465 §6."""
    client = await room.client(mailbox=None)
    reply = await client.command(
        "notify set (mailboxes INBOX (Messagenew messageExpunge)) (personal (SubscriptionChange))"
    )
    assert reply.ok
    other = await room.client(mailbox=None)
    assert (await other.command("UNSUBSCRIBE INBOX")).ok
    assert (await until(client, 1))[0].name == b"LIST"
    await room.deliver(SMALL)
    assert counters((await until(client, 1))[0])[0] == "INBOX"
    await room.deliver(SMALL, path="Sent")
    assert await client.silent(QUIET)


# --- RFC 7377 -------------------------------------------------------------------------------------


async def test_two_searches_of_folders(room: Room) -> None:
    """RFC 7377 §3; no mailbox is open, and UIDs are told."""
    for path in ("folder1", "folder2/banana", "folder2/peach", "folder2/salmon/deep"):
        await room.create(path)
    for path in ("folder1", "folder2/banana", "folder2/salmon"):
        await room.deliver(message("from chad"), message("x"), path=path)
    await room.deliver(message("x"), path="folder2/peach", flags=("\\Seen",))
    await room.deliver(message("chad"), path="folder2/salmon/deep")
    client = await room.client(mailbox=None)
    first = 'ESEARCH IN (mailboxes "folder1" subtree "folder2") unseen'
    second = 'ESEARCH IN (mailboxes "folder1" subtree-one "folder2") subject "chad"'
    one, two = client.tag(), client.tag()
    client.send(b"%b %b\r\n%b %b\r\n" % (one, first.encode(), two, second.encode()))
    assert answers(await client.reply(one)) == {
        "folder1": (b"ALL", b"1:2"),
        "folder2/banana": (b"ALL", b"1:2"),
        "folder2/salmon": (b"ALL", b"1:2"),
        "folder2/salmon/deep": (b"ALL", 1),
    }
    found = ("folder1", "folder2/banana", "folder2/salmon")
    assert answers(await client.reply(two)) == dict.fromkeys(found, (b"ALL", 1))


@pytest.mark.parametrize("window", ["1:100", "101:200"])
async def test_a_window_beyond_the_mailbox_is_no_error(room: Room, window: str) -> None:
    """RFC 7377 §2."""
    await room.deliver(message("frobozz"))
    client = await room.client()
    reply = await client.command(f"ESEARCH SUBJECT frobozz {window}")
    assert reply.ok
    assert answers(reply) == ({"INBOX": (b"ALL", 1)} if window == "1:100" else {})


# --- RFC 8508 -------------------------------------------------------------------------------------


async def test_a_draft_is_replaced_twice(room: Room) -> None:
    """RFC 8508 §3.2, §3.3: APPENDUID is told before the old message goes."""
    await room.deliver(SMALL, SMALL, SMALL, SMALL, path="Drafts")
    client = await room.client(mailbox="Drafts")
    raw = message("happy new year !!")
    for command in ("REPLACE 4", "UID REPLACE 5"):
        reply = await client.command(f"{command} Drafts (\\Seen \\Draft) ", Literal(raw))
        assert reply.ok
        names = [each.name for each in reply.untagged]
        assert names.index(b"OK") < names.index(b"EXPUNGE")
        assert (reply.numbers("EXISTS"), reply.numbers("EXPUNGE")) == ([4], [4])
    stored = await room.stored("Drafts")
    assert stored == {1: set(), 2: set(), 3: set(), 6: {"\\Seen", "\\Draft"}}


async def test_a_draft_is_replaced_by_more_of_itself(room: Room) -> None:
    """RFC 8508 §4.2."""
    body = b"MIME-Version: 1.0\r\n\r\nHere is picture from the fireworks\r\n"
    await room.deliver(body, path="Drafts")
    client = await room.client(mailbox="Drafts")
    more = b"To: Mitzy <miss.mitzy@example.org>\r\nSubject: My view of the fireworks\r\n"
    reply = await client.command(
        "UID REPLACE 1 Drafts CATENATE (TEXT ", Literal(more), ' URL "/Drafts/;UID=1")'
    )
    assert reply.ok
    found = (await client.command("UID FETCH 2 (BODY.PEEK[])")).fetched()
    assert found[1]["BODY[]"] == more + body


# --- RFC 9586 -------------------------------------------------------------------------------------


async def test_a_client_that_knows_uids_alone(room: Room) -> None:
    """RFC 9586 §3 to §3.6."""
    await room.create("Archives/2023/2023-05")
    await room.deliver(SMALL, SMALL, SMALL, flags=("\\Seen",))
    client = await room.client(mailbox=None)
    reply = await client.command("ENABLE UIDONLY")
    assert reply.ok and reply["ENABLED"][0].data == (b"UIDONLY",)
    assert (await client.command("SELECT INBOX")).ok
    assert refused(await client.command("FETCH 1:3 (UID FLAGS)")) == ("BAD", "UIDREQUIRED")
    for items, told in (("FLAGS", {"FLAGS"}), ("UID FLAGS", {"UID", "FLAGS"})):
        reply = await client.command(f"UID FETCH 1:2 ({items})")
        assert [each.number for each in reply["UIDFETCH"]] == [1, 2]
        assert not reply["FETCH"]
        for each in reply["UIDFETCH"]:
            (pairs,) = each.data
            assert isinstance(pairs, tuple)
            assert {bytes(name).decode() for name in pairs[::2] if isinstance(name, bytes)} == told
            assert "\\Seen" in flags_of(pairs[pairs.index(b"FLAGS") + 1])
    assert (await client.command("UID STORE 3 +FLAGS.SILENT (\\Deleted)")).ok
    reply = await client.command("EXPUNGE")
    assert reply.ok and reply["VANISHED"][0].data == (3,) and not reply["EXPUNGE"]
    reply = await client.command('UID move 2 "Archives/2023/2023-05"')
    assert reply.ok
    (copied,) = [each for each in reply["OK"] if each.code is not None]
    assert copied.code is not None and copied.code.name == b"COPYUID"
    gone = reply["VANISHED"][0]
    assert gone.data == (2,)
    assert reply.untagged.index(copied) < reply.untagged.index(gone)


# --- RFC 4467 -------------------------------------------------------------------------------------


async def test_urls_are_authorized_as_the_examples_have_it(room: Room, tmp_path: Path) -> None:
    """RFC 4467 §7: what is BAD, and what RESETKEY says."""
    room.house.secrets = Keyring(str(tmp_path / "keys"))
    room.house.secrets.make()
    host = f"mail.{DOMAIN}"
    await room.configure("server.hostname", host)
    await room.deliver(SMALL)
    client: ImapClient = await room.client(ANN, mailbox=None)
    joe = f"ann%40{DOMAIN}@{host}"
    for url, kind in (
        (f"imap://{joe}/INBOX/;uid=1/;section=1", "BAD"),  # missing access identifier
        (f"imap://{host}/Shared/;uid=1/;section=1;urlauth=submit+fred", "BAD"),  # missing owner
        (f"imap://{joe}/INBOX;urlauth=anonymous", "BAD"),  # §3: no whole mailbox
        (f"imap://{joe}/INBOX/;uid=1/;section=1;urlauth=submit+fred%40{DOMAIN}", "OK"),
    ):
        reply = await client.command(f'GENURLAUTH "{url}" INTERNAL')
        assert reply.kind == kind, (url, reply)
    (told,) = reply["GENURLAUTH"][0].data
    assert isinstance(told, bytes)
    assert told.startswith(url.encode() + b":INTERNAL:")
    # §8: NIL for what is no message, and one response for each URL that is written as one.
    for url in (f"imap://{host}/", f"imap://{joe}/INBOX", f"imap://{joe}/INBOX?SUBJECT%20x"):
        reply = await client.command(f'URLFETCH "{url}"')
        assert reply.ok
        assert reply["URLFETCH"][0].data == (url.encode(), None)
    reply = await client.command("RESETKEY")
    assert reply.ok and reply.tagged.code is None
    reply = await client.command("RESETKEY INBOX")
    assert reply.tagged.code is not None
    assert (reply.tagged.code.name, reply.tagged.code.data) == (b"URLMECH", (b"INTERNAL",))
