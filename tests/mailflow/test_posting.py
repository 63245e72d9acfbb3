"""Mail to the address of a folder: who may post, where it lies, and what others learn of it."""

from __future__ import annotations

import pytest

from postroom.core.errors import AlreadyExists, Status
from postroom.domain.directory import aliases, people, posting
from postroom.domain.mailboxes import flags, folders, reading, rights
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.transit import Destination
from postroom.formats.address import parse_mailbox
from postroom.mailflow import planning
from postroom.store.sql import Tx
from postroom.wire.smtp import Reply
from tests.mailflow.doors import ANN, Doors
from tests.mailflow.serving import DOMAIN, Mx, message

BOB = f"bob@{DOMAIN}"
NEWS = f"news@{DOMAIN}"
FAR = "someone@far.example"
PATH = "Board/News"


async def folder(mx: Mx, letters: str, *, anybody: bool = False, to: str = "anyone") -> int:
    """A public folder with an address, and rights for somebody; its mailbox."""
    ids, now = iter([mx.house.ids.new() for _ in range(4)]), mx.house.clock.now()

    def unit(tx: Tx) -> int:
        owner = people.make_public(tx, people.lock_domain(tx, DOMAIN), next(ids), now)
        folders.create(tx, owner.id, PATH, ids, now, owner.id)
        box = folders.tree(tx, owner.id).find(PATH)
        whom = rights.subject(tx, owner, to, beyond=False)
        rights.put(tx, box.id, whom, rights.parse(letters), now, owner.id)
        posting.put(tx, parse_mailbox(NEWS), box.id, now, anybody=anybody)
        return box.id

    return await mx.house.mail.write(unit)


async def posted(mx: Mx, box: int) -> list[tuple[str, ...]]:
    """The flags of each message that lies in the folder."""

    def look(tx: Tx) -> list[tuple[str, ...]]:
        known = flags.registry(tx, folders.get(tx, box).account)
        every = ("\\Seen", "$Junk")
        rows = reading.brief(tx, box, Pick(1, 1 << 31))
        return [tuple(f for f in every if row.flags & known.known([f])) for row in rows]

    return await mx.house.mail.read(look)


async def post(doors: Doors, login: str = ANN, to: str = NEWS) -> Reply:
    written = f"From: {login}\r\nSubject: News\r\n\r\nHello.\r\n".encode()
    async with doors.signed_in(login) as client:
        return (await client.deliver(login, (to,), written)).last


async def stranger(mx: Mx, to: str = NEWS) -> Reply:
    async with mx.connect() as client:
        return (await client.deliver(FAR, (to,), message())).last


# --- who may ------------------------------------------------------------------------------------


async def test_who_has_the_right_posts(doors_both: Doors) -> None:
    mx = doors_both.mx
    box = await folder(mx, "lrp")
    reply = await post(doors_both)
    assert reply.code == 250
    assert await posted(mx, box) == [()]
    told = (await mx.traces())[-1]
    (copy,) = told["delivered"]
    assert (copy["folder"], copy["because"]) == (
        PATH,
        f"{NEWS} is the address of the folder {PATH}",
    )


async def test_who_has_not_is_told_so(doors: Doors) -> None:
    box = await folder(doors.mx, "lr")
    reply = await post(doors)
    assert (reply.code, reply.status) == (550, Status(5, 7, 1))
    (verdict,) = (await doors.mx.refusal(reply))["verdicts"]
    assert (verdict["rule"], verdict["why"]) == ("posting", f"{ANN} lacks the right p in {PATH}")
    assert await posted(doors.mx, box) == []


async def test_a_right_of_one_person_is_not_that_of_another(doors: Doors) -> None:
    await doors.person(BOB)
    box = await folder(doors.mx, "lp", to=BOB)
    assert (await post(doors, BOB)).code == 250
    assert (await post(doors, ANN)).code == 550
    assert len(await posted(doors.mx, box)) == 1


async def test_a_stranger_learns_nothing_of_a_folder(doors: Doors) -> None:
    """Attack class 16: the same words as for an address that nobody has."""
    mx = doors.mx
    box = await folder(mx, "lrp")
    closed, absent = await stranger(mx), await stranger(mx, f"nobody@{DOMAIN}")
    assert (closed.code, closed.status) == (absent.code, absent.status) == (550, Status(5, 1, 1))

    def words(reply: Reply) -> list[str]:
        return [line.rpartition(" ")[0] for line in reply.lines]

    assert words(closed) == words(absent)
    (verdict,) = (await mx.refusal(closed))["verdicts"]
    assert verdict["rule"] == "posting"
    async with doors.local() as client:  # nor does a program of this machine, which is nobody
        assert (await client.deliver(FAR, (NEWS,), message())).last.code == 550
    assert await posted(mx, box) == []


async def test_anybody_may_post_where_that_was_said(doors: Doors) -> None:
    mx = doors.mx
    box = await folder(mx, "lr", anybody=True)
    assert (await stranger(mx)).code == 250
    assert (await post(doors)).code == 250
    assert len(await posted(mx, box)) == 2


# --- where it lies ------------------------------------------------------------------------------


async def test_an_alias_leads_to_people_and_folders(doors: Doors) -> None:
    mx = doors.mx
    bob = await doors.person(BOB)
    box = await folder(mx, "lr")
    await mx.alias(f"all@{DOMAIN}", BOB)
    await mx.alias(f"all@{DOMAIN}", NEWS)
    # Ann may not post: the rest of the alias gets it all the same.
    assert (await post(doors, to=f"all@{DOMAIN}")).code == 250
    assert (await mx.count(bob), len(await posted(mx, box))) == (1, 0)


async def test_the_owner_of_a_folder_gets_a_copy_in_each_place(doors: Doors) -> None:
    mx = doors.mx
    ids, now = iter([mx.house.ids.new() for _ in range(2)]), mx.house.clock.now()
    bob = await doors.person(BOB)

    def unit(tx: Tx) -> int:
        folders.create(tx, bob, "Orders", ids, now, bob)
        box = folders.tree(tx, bob).find("Orders")
        posting.put(tx, parse_mailbox(f"orders@{DOMAIN}"), box.id, now, anybody=True)
        return box.id

    box = await mx.house.mail.write(unit)
    async with mx.connect() as client:
        reply = await client.deliver(FAR, (BOB, f"orders@{DOMAIN}"), message())
    assert reply.last.code == 250
    assert (await mx.count(bob), len(await posted(mx, box))) == (1, 1)
    (told,) = [each for each in await mx.traces() if "delivered" in each]
    assert [(c["mailbox"] == "inbox", c.get("folder")) for c in told["delivered"]] == [
        (True, None),
        (False, "Orders"),
    ]


def test_junk_that_is_posted_is_marked_there() -> None:
    at = Destination(1, parse_mailbox(NEWS), folder=5)
    assert planning._where(at, "junk", ("\\Seen",)) == (folders.place(5), ("\\Seen", "$Junk"))
    assert planning._where(at, "inbox", ()) == (folders.place(5), ())
    assert planning._where(Destination(1, parse_mailbox(ANN)), "junk", ()) == ("junk", ())


async def test_a_folder_that_is_deleted_has_no_address(doors: Doors) -> None:
    mx = doors.mx
    box = await folder(mx, "lrp", anybody=True)
    now = mx.house.clock.now()

    def unit(tx: Tx) -> None:
        owner = folders.get(tx, box).account
        folders.delete(tx, owner, PATH, now, owner)

    await mx.house.mail.write(unit)
    assert (await stranger(mx)).status == Status(5, 1, 1)
    await mx.account(NEWS)  # and the address is free


# --- whose address it is ------------------------------------------------------------------------


async def test_an_address_is_one_things(doors: Doors) -> None:
    mx = doors.mx
    box = await folder(mx, "lr")
    ids, now = [mx.house.ids.new()], mx.house.clock.now()
    with pytest.raises(AlreadyExists, match="the address of a folder"):
        await mx.account(NEWS.upper().replace(DOMAIN.upper(), DOMAIN))
    with pytest.raises(AlreadyExists, match="the address of a folder"):
        await mx.house.mail.write(aliases.create_alias, NEWS, ANN, iter(ids), now)
    await mx.alias(f"taken@{DOMAIN}", ANN)
    for taken in (ANN, f"taken@{DOMAIN}"):
        with pytest.raises(AlreadyExists):
            await mx.house.mail.write(
                lambda tx, at: posting.put(tx, parse_mailbox(at), box, now, anybody=True), taken
            )
