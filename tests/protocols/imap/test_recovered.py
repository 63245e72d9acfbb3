"""What a client sees when somebody brings its deleted messages back."""

from __future__ import annotations

from postroom.access import Authenticator
from postroom.admin import AdminHouse, perform
from postroom.admin.house import checker
from postroom.admin.recover import RestoredDeleted, RestoreDeleted
from postroom.testing.imap import flags_of
from tests.protocols.imap.serving import ANN, DOMAIN, Room

RAW = b"From: bob@example.test\r\nSubject: hello\r\nMessage-ID: <1@example.test>\r\n\r\nHi.\r\n"
ITEMS = "(UID FLAGS INTERNALDATE EMAILID THREADID)"


async def restore(room: Room, asked: RestoreDeleted) -> RestoredDeleted:
    flow = room.house
    authenticator = Authenticator(
        flow.mail, flow.clock, flow.policies, flow.ids, default_domain=lambda: DOMAIN
    )
    try:
        house = AdminHouse(flow, authenticator, checker(flow))
        found = await perform(house, "recoverable restore", asked)
    finally:
        await authenticator.close()
    assert isinstance(found, RestoredDeleted)
    return found


async def test_an_expunged_message_comes_back_to_an_idling_client(room_both: Room) -> None:
    await room_both.deliver(RAW, flags=("\\Flagged", "work"))
    await room_both.deliver(RAW)
    client, other = await room_both.client(), await room_both.client(worker=1)
    assert (await client.command("ENABLE CONDSTORE")).ok
    was = (await client.command(f"FETCH 1 {ITEMS}")).fetched()[1]
    await client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert (await client.command("EXPUNGE")).numbers("EXPUNGE") == [1]
    assert (await other.command("NOOP")).numbers("EXPUNGE") == [1]
    state = (await client.command("SELECT INBOX (CONDSTORE)")).code_data("HIGHESTMODSEQ")
    assert state is not None
    since = state[0]
    assert isinstance(since, int)
    async with other.idle() as idle:
        assert (await restore(room_both, RestoreDeleted(ANN, folder="INBOX"))).messages == 1
        told = await idle.next()
        assert (told.name, told.number) == (b"EXISTS", 2)
    assert (await client.command("NOOP")).numbers("EXISTS") == [2]
    (changed,) = (await client.command(f"FETCH 1:* (UID) (CHANGEDSINCE {since})")).fetched()
    assert changed == 2, "only what came back has changed since"
    now = (await client.command(f"FETCH 2 {ITEMS}")).fetched()[2]
    for item in ("INTERNALDATE", "EMAILID", "THREADID"):
        assert now[item] == was[item], item
    for seen in (now, was):
        assert flags_of(seen["FLAGS"]) - {"\\Recent"} == {"\\Flagged", "work"}
    assert (now["UID"], was["UID"]) == (3, 1)


async def test_a_deleted_mailbox_comes_back_with_what_lay_in_it(room_both: Room) -> None:
    client = await room_both.client()
    await client.command("CREATE Work")
    await room_both.deliver(RAW, RAW, RAW, path="Work")
    assert (await client.command("DELETE Work")).ok
    assert not (await client.command("SELECT Work")).ok
    told = await restore(room_both, RestoreDeleted(ANN, folder="Work"))
    assert [(each.mailbox, each.messages) for each in told.mailboxes] == [("Work", 3)]
    assert (await client.command("SELECT Work")).numbers("EXISTS") == [3]
    assert (await client.command('LSUB "" Work'))["LSUB"]
