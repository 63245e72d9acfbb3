"""CREATE, DELETE, RENAME, SUBSCRIBE, LIST, LSUB, NAMESPACE, STATUS. RFC 3501 §6.3, RFC 5258."""

from __future__ import annotations

import pytest

from postroom.core.ids import MAILBOX, external
from postroom.testing.imap import Reply
from postroom.wire.imap import Value
from tests.protocols.imap.serving import SMALL, Room

FIRST = ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]


def listed(reply: Reply, kind: str = "LIST") -> dict[str, set[str]]:
    """Attributes by name, in the order told."""
    assert reply.ok, reply
    found: dict[str, set[str]] = {}
    for each in reply[kind]:
        attributes, separator, name, *_ = each.data
        assert separator == b"/"
        assert isinstance(attributes, tuple)
        assert isinstance(name, bytes)
        assert name.decode() not in found
        found[name.decode()] = {bytes(a).decode() for a in attributes if isinstance(a, bytes)}
    return found


def statuses(reply: Reply) -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Value]] = {}
    for each in reply["STATUS"]:
        name, items = each.data
        assert isinstance(name, bytes)
        assert isinstance(items, tuple)
        words = [bytes(word).decode() for word in items[::2] if isinstance(word, bytes)]
        found[name.decode()] = dict(zip(words, items[1::2], strict=True))
    return found


async def test_a_new_account_has_its_folders_with_their_uses(room_both: Room) -> None:
    client = await room_both.client(mailbox=None)
    found = listed(await client.command('LIST "" *'))
    assert list(found) == FIRST
    assert found["Sent"] == {"\\HasNoChildren", "\\Sent"}
    assert found["INBOX"] == {"\\HasNoChildren"}
    special = listed(await client.command('LIST (SPECIAL-USE) "" *'))
    assert list(special) == FIRST[1:]
    reply = await client.command("NAMESPACE")
    assert reply["NAMESPACE"][0].data == (
        ((b"", b"/"),),
        ((b"Shared/", b"/"),),
        ((b"Public/", b"/"),),
    )
    reply = await client.command('LIST "" ""')
    assert [each.data for each in reply["LIST"]] == [((b"\\Noselect",), b"/", b"")]


async def test_a_mailbox_is_made_with_those_above_it(room_both: Room) -> None:
    """LIST tells which mailboxes have others below them: RFC 3348 §3."""
    client = await room_both.client(mailbox=None)
    reply = await client.command("CREATE A/B/C")
    assert reply.ok
    box = await room_both.box("A/B/C")
    assert reply.code_data("MAILBOXID") == ((external(MAILBOX, box.id).encode(),),)
    found = listed(await client.command('LIST "" A*'))
    assert found == {
        "Archive": {"\\HasNoChildren", "\\Archive"},
        "A": {"\\HasChildren"},
        "A/B": {"\\HasChildren"},
        "A/B/C": {"\\HasNoChildren"},
    }
    assert list(listed(await client.command('LIST "" %'))) == ["INBOX", "A", *FIRST[1:]]
    assert list(listed(await client.command("LIST A/ %"))) == ["A/B"]
    reply = await client.command("CREATE A/B")
    assert (reply.kind, reply.code) == ("NO", "ALREADYEXISTS")
    assert (await client.command("CREATE D/")).ok  # RFC 3501 §6.3.3: mailboxes will lie below
    assert "D" in listed(await client.command('LIST "" D'))
    for name in ("inbox", "INBOX", '"Inbox"'):
        assert (await client.command("CREATE ", name)).kind == "NO"


@pytest.mark.parametrize("name", ['"a//b"', '"/a"', '" a"', '"a "', '""', '"a\tb"', "x" * 300])
async def test_names_that_cannot_be_are_refused(room: Room, name: str) -> None:
    client = await room.client(mailbox=None)
    before = listed(await client.command('LIST "" *'))
    assert (await client.command("CREATE ", name)).kind in ("NO", "BAD")
    assert listed(await client.command('LIST "" *')) == before


async def test_special_uses_are_given_once(room: Room) -> None:
    client = await room.client(mailbox=None)
    assert (await client.command("CREATE Urgent (USE (\\Important))")).ok
    assert listed(await client.command('LIST (SPECIAL-USE) "" Urgent')) == {
        "Urgent": {"\\HasNoChildren", "\\Important"}
    }
    for use in ("\\Sent", "\\Important", "\\All", "\\Nonsense", "\\Junk \\Trash"):
        reply = await client.command(f"CREATE Another (USE ({use}))")
        assert (reply.kind, reply.code) == ("NO", "USEATTR"), use
    assert "Another" not in listed(await client.command('LIST "" *'))


async def test_a_mailbox_is_deleted_if_nothing_lies_below_it(room: Room) -> None:
    client = await room.client(mailbox=None)
    await client.command("CREATE A/B")
    await room.deliver(SMALL, path="A/B")
    first = await room.box("A/B")
    reply = await client.command("DELETE A")
    assert (reply.kind, reply.code) == ("NO", "HASCHILDREN")
    assert (await client.command("DELETE A/B")).ok
    assert (await client.command("DELETE A")).ok
    assert list(listed(await client.command('LIST "" *'))) == FIRST
    reply = await client.command("DELETE A")
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    reply = await client.command("DELETE INBOX")
    assert (reply.kind, reply.code) == ("NO", "CANNOT")
    # RFC 3501 §2.3.1.1: the same name again, and another validity.
    assert (await client.command("CREATE A/B")).ok
    again = await room.box("A/B")
    assert again.uidvalidity > first.uidvalidity
    assert (await client.command("SELECT A/B")).numbers("EXISTS") == [0]


async def test_the_open_mailbox_closes_when_its_own_session_deletes_it(room: Room) -> None:
    await room.create("Mine")
    client = await room.client(mailbox="Mine")
    reply = await client.command("DELETE Mine")
    assert reply.ok
    assert reply.code_data("CLOSED") == ()
    assert (await client.command("FETCH 1:* FLAGS")).kind == "BAD"
    assert (await client.command("NOOP")).ok


async def test_renaming_takes_along_what_lies_below(room_both: Room) -> None:
    client = await room_both.client(mailbox=None)
    await client.command("CREATE A/B/C")
    stored = await room_both.deliver(SMALL, path="A/B/C")
    before = await room_both.box("A/B/C")
    assert (await client.command("RENAME A/B X/Y")).ok
    names = list(listed(await client.command('LIST "" *')))
    assert sorted(names) == sorted([*FIRST, "A", "X", "X/Y", "X/Y/C"])
    after = await room_both.box("X/Y/C")
    assert (after.id, after.uidvalidity) == (before.id, before.uidvalidity)
    assert list(await room_both.stored("X/Y/C")) == [stored[0].uid]
    for line, code in (
        ("RENAME Nowhere There", "NONEXISTENT"),
        ("RENAME X Sent", "ALREADYEXISTS"),
        ("RENAME X X/Y/Z", "CANNOT"),
        ("RENAME Sent INBOX", "ALREADYEXISTS"),
        ('RENAME Sent "a//b"', "CANNOT"),
    ):
        reply = await client.command(line)
        assert (reply.kind, reply.code) == ("NO", code), line


async def test_a_session_keeps_its_mailbox_when_another_renames_it(room: Room) -> None:
    await room.create("Old")
    await room.deliver(SMALL, path="Old")
    client, other = await room.client(mailbox="Old"), await room.client(mailbox=None)
    assert (await other.command("RENAME Old New")).ok
    assert (await client.command("FETCH 1 (UID)")).ok
    await room.deliver(SMALL, path="New")
    assert (await client.command("NOOP")).numbers("EXISTS") == [2]


async def test_renaming_inbox_moves_its_messages(room: Room) -> None:
    await room.deliver(SMALL, SMALL, flags=("\\Flagged",))
    client = await room.client()
    reply = await client.command("RENAME INBOX Old/Mail")
    assert reply.ok
    assert reply.numbers("EXPUNGE") == [2, 1]
    assert list((await room.stored("Old/Mail")).values()) == [{"\\Flagged"}] * 2
    assert (await room.box()).total == 0
    assert (await client.command("SELECT INBOX")).ok


async def test_subscriptions(room: Room) -> None:
    client = await room.client(mailbox=None)
    await client.command("CREATE A/B")
    assert (await client.command("SUBSCRIBE A/B")).ok
    assert (await client.command("UNSUBSCRIBE Junk")).ok
    wanted = [name for name in FIRST if name != "Junk"]
    assert sorted(listed(await client.command('LSUB "" *'), "LSUB")) == sorted([*wanted, "A/B"])
    # RFC 3501 §6.3.9: the level at which % ends.
    levels = listed(await client.command('LSUB "" %'), "LSUB")
    assert levels["A"] == {"\\Noselect"}
    chosen = listed(await client.command('LIST (SUBSCRIBED) "" *'))
    assert sorted(chosen) == sorted([*wanted, "A/B"])
    assert all("\\Subscribed" in attributes for attributes in chosen.values())
    reply = await client.command('LIST (SUBSCRIBED RECURSIVEMATCH) "" %')
    found = {str(bytes(each.data[2]), "ascii"): each.data for each in reply["LIST"]}  # type: ignore[arg-type]  # a name
    assert found["A"][3] == (b"CHILDINFO", (b"SUBSCRIBED",))  # RFC 5258 §3.5
    reply = await client.command("SUBSCRIBE Nowhere")
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")


async def test_a_subscription_outlives_its_mailbox(room: Room) -> None:
    """RFC 3501 §6.3.6: a server MUST NOT end it by itself. RFC 5258 §3: \\NonExistent."""
    client = await room.client(mailbox=None)
    for line in ("CREATE A/B", "SUBSCRIBE A/B", "SUBSCRIBE A", "DELETE A/B", "DELETE A"):
        assert (await client.command(line)).ok, line
    every = listed(await client.command('LIST "" *'))
    assert "A" not in every and "A/B" not in every
    every = listed(await client.command('LIST "" (A A/%) RETURN (SUBSCRIBED STATUS (MESSAGES))'))
    assert every == {}
    chosen = listed(await client.command('LIST (SUBSCRIBED) "" (A A/% Junk)'))
    gone = {"\\NonExistent", "\\Noselect", "\\HasNoChildren", "\\Subscribed"}
    assert chosen == {"A": gone, "A/B": gone, "Junk": chosen["Junk"]}
    assert {"A", "A/B"} < set(listed(await client.command('LSUB "" *'), "LSUB"))
    assert (await client.command("SELECT A")).code == "NONEXISTENT"
    assert (await client.command("SUBSCRIBE A/B")).ok, "it is so already"
    assert (await client.command("UNSUBSCRIBE A")).ok
    chosen = listed(await client.command('LIST (SUBSCRIBED) "" (A A/%)'))
    assert chosen == {"A/B": gone}
    reply = await client.command('LIST (SUBSCRIBED RECURSIVEMATCH) "" %')
    above = {str(bytes(each.data[2]), "ascii"): each.data for each in reply["LIST"]}  # type: ignore[arg-type]  # a name
    assert above["A"][3] == (b"CHILDINFO", (b"SUBSCRIBED",))
    assert (await client.command("CREATE A/B")).ok
    chosen = listed(await client.command('LIST (SUBSCRIBED) "" *'))
    assert chosen["A/B"] == {"\\HasNoChildren", "\\Subscribed"}
    assert "A" not in chosen
    assert (await client.command("UNSUBSCRIBE A/B")).ok
    assert (await client.command("DELETE A/B")).ok
    assert "A/B" not in listed(await client.command('LIST (SUBSCRIBED) "" *'))


async def test_a_name_that_is_subscribed_to_alone_is_nobodys_child(room: Room) -> None:
    client = await room.client(mailbox=None)
    for line in ("CREATE A/B", "SUBSCRIBE A/B", "DELETE A/B", "ENABLE IMAP4rev2"):
        assert (await client.command(line)).ok, line
    assert listed(await client.command('LIST "" (A A/%)')) == {"A": {"\\HasNoChildren"}}
    reply = await client.command("SELECT A")
    assert listed(reply).get("A", {"\\HasNoChildren"}) == {"\\HasNoChildren"}


async def test_what_is_not_subscribed_is_unsubscribed_with_success(room: Room) -> None:
    """RFC 9051 §6.3.8; clients do so after DELETE and RENAME."""
    client = await room.client(mailbox=None)
    assert (await client.command("UNSUBSCRIBE Junk")).ok
    assert (await client.command("UNSUBSCRIBE Junk")).ok
    assert (await client.command("DELETE Junk")).ok
    for name in ("Junk", "Nowhere/Below", "Shared/nobody@example.test/Mail", "Public/None"):
        reply = await client.command(f"UNSUBSCRIBE {name}")
        assert (reply.kind, reply.text) == ("OK", "Unsubscribed"), name


@pytest.mark.parametrize("enabled", ["", "IMAP4rev2"])
async def test_patterns_that_no_name_can_match_are_ignored(room: Room, enabled: str) -> None:
    """RFC 9051 §6.3.9: no response, and a tagged OK."""
    client = await room.client(mailbox=None)
    if enabled:
        await client.command(f"ENABLE {enabled}")
    odd = "&bogus" if not enabled else "x"
    long = "*" + "x" * 9000
    for line in (
        f'LIST "" "{odd}*"',
        f'LIST "{odd}" *',
        'LIST "" "a\x01*"',
        f'LIST "" "{long}"',
        f'LIST "{odd}/" (% *)',
        f'LSUB "" "{odd}%"',
        f'LSUB "{odd}" *',
        f'LSUB "" "{long}"',
    ):
        reply = await client.command(line)
        assert reply.ok, line
        assert not reply.untagged, line
    assert list(listed(await client.command(f'LIST "" ("{odd}*" Sent "{long}" Junk)'))) == [
        "Junk",
        "Sent",
    ]


async def test_of_many_patterns_the_first_are_looked_at(room: Room) -> None:
    """RFC 9051 §6.3.9: what a server does not accept it ignores."""
    client = await room.client(mailbox=None)
    none = " ".join(f"none{n}" for n in range(100))
    assert list(listed(await client.command(f'LIST "" (INBOX {none} Sent)'))) == ["INBOX"]


async def test_empty_patterns_of_the_extended_form_are_ignored(room: Room) -> None:
    """RFC 9051 §6.3.9, RFC 5258 §3."""
    client = await room.client(mailbox=None)
    for line in ('LIST "INBOX" ("")', 'LIST () INBOX ""', 'LIST INBOX "" RETURN (CHILDREN)'):
        reply = await client.command(line)
        assert reply.ok
        assert not reply["LIST"], line
    assert list(listed(await client.command('LIST "" ("" INBOX)'))) == ["INBOX"]
    (root,) = (await client.command('LIST INBOX ""'))["LIST"]
    assert root.data[0] == (b"\\Noselect",)


async def test_extended_lists(room: Room) -> None:
    client = await room.client(mailbox=None)
    await room.deliver(SMALL, SMALL)
    reply = await client.command(
        'LIST "" (INBOX "S%") RETURN (SUBSCRIBED CHILDREN STATUS (MESSAGES UNSEEN))'
    )
    assert list(listed(reply)) == ["INBOX", "Sent"]
    assert statuses(reply) == {
        "INBOX": {"MESSAGES": 2, "UNSEEN": 2},
        "Sent": {"MESSAGES": 0, "UNSEEN": 0},
    }
    for line in (
        'LIST (RECURSIVEMATCH) "" *',
        'LIST (NONSENSE) "" *',
        'LIST "" * RETURN (NONSENSE)',
        'LIST "" ()',
        'LIST ""',
    ):
        assert (await client.command(line)).kind == "BAD", line


async def test_status_counts_what_the_mailbox_holds(room_both: Room) -> None:
    """RFC 3501 §6.3.10, RFC 8438 §2."""
    stored = await room_both.deliver(*[SMALL] * 4)
    await room_both.flag([stored[0].uid], add=("\\Seen", "\\Deleted"))
    box = await room_both.box()
    client = await room_both.client(mailbox=None)
    reply = await client.command(
        "STATUS inbox (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ "
        "MAILBOXID APPENDLIMIT)"
    )
    ((items),) = statuses(reply).values()
    assert items == {
        "MESSAGES": 4,
        "RECENT": 4,
        "UIDNEXT": box.uidnext,
        "UIDVALIDITY": box.uidvalidity,
        "UNSEEN": 3,
        "DELETED": 1,
        "SIZE": 4 * len(SMALL),
        "HIGHESTMODSEQ": box.modseq,
        "MAILBOXID": (external(MAILBOX, box.id).encode(),),
        "APPENDLIMIT": 50 * 1024 * 1024,
    }
    reply = await client.command("STATUS Nowhere (MESSAGES)")
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    assert (await client.command("STATUS INBOX ()")).kind == "BAD"
    assert (await client.command("STATUS INBOX (NONSENSE)")).kind == "BAD"


async def test_status_follows_what_sessions_do(room: Room) -> None:
    await room.fill(50)
    client, other = await room.client(), await room.client(mailbox=None, worker=1)
    asked = "STATUS INBOX (MESSAGES UNSEEN DELETED)"
    await client.command("STORE 1:10 +FLAGS.SILENT (\\Seen \\Deleted)")
    assert statuses(await other.command(asked))["INBOX"] == {
        "MESSAGES": 50,
        "UNSEEN": 40,
        "DELETED": 10,
    }
    await client.command("EXPUNGE")
    await client.command("MOVE 1:5 Archive")
    await client.command("COPY 1:3 INBOX")
    await client.command("FETCH 1 BODY[]")
    assert statuses(await other.command(asked))["INBOX"] == {
        "MESSAGES": 38,
        "UNSEEN": 37,
        "DELETED": 0,
    }


async def test_names_come_back_as_they_were_made(room: Room) -> None:
    client = await room.client(mailbox=None)
    names = ["Entw&APw-rfe", "&ZeVnLIqe-", "R&-D", "two words", 'q"uote', "[Gmail]", "NIL"]
    for name in names:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        assert (await client.command(f'CREATE "{quoted}"')).ok, name
    found = listed(await client.command('LIST "" *'))
    assert set(names) < set(found)
    for name in names:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        assert (await client.command(f'SELECT "{quoted}"')).ok
        assert list(listed(await client.command(f'LIST "" "{quoted}"'))) == [name]


async def test_a_thousand_mailboxes_are_listed_quickly(room: Room) -> None:
    client = await room.client(mailbox=None)
    for n in range(60):
        await room.create("/".join(f"level {n} {depth}" for depth in range(16)))
    found = listed(await client.command('LIST "" *', patience=10))
    assert len(found) == 960 + len(FIRST)
    assert len(listed(await client.command('LIST "" "%/%/%"'))) == 60
