"""Pages of SEARCH, SORT and UID FETCH over sockets. RFC 9394."""

from __future__ import annotations

import pytest

from postroom.protocols.imap.commands import search
from postroom.testing.imap import ImapClient, Reply
from postroom.wire.imap import Value
from tests.protocols.imap.serving import SMALL, Room, message


async def fill(room: Room) -> ImapClient:
    """UIDs 1 and 3 are gone; of 2 and 4 to 10, the even ones are flagged."""
    await room.deliver(*[SMALL] * 10)
    await room.flag([2, 4, 6, 8, 10], add=("\\Flagged",))
    await room.remove([1, 3])
    return await room.client()


def told(reply: Reply) -> dict[str, Value]:
    """What the ESEARCH response says, by name."""
    assert reply.ok, reply
    (each,) = reply["ESEARCH"]
    data = [value for value in each.data[1:] if value != b"UID"]
    pairs = zip(data[::2], data[1::2], strict=True)
    return {bytes(name).decode("ascii"): value for name, value in pairs if isinstance(name, bytes)}


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ("1:2", (b"1:2", b"2,4")),
        ("2:4", (b"2:4", b"4,6,8")),
        ("4:2", (b"4:2", b"4,6,8")),
        ("-1:-2", (b"-1:-2", b"8,10")),
        ("-2:-1", (b"-2:-1", b"8,10")),
        ("-5:-9", (b"-5:-9", 2)),
        ("5:9", (b"5:9", 10)),
        ("6:9", (b"6:9", None)),
        ("-6:-9", (b"-6:-9", None)),
        ("1:4294967295", (b"1:4294967295", b"2,4,6,8,10")),
    ],
)
async def test_a_page_of_a_search(room: Room, asked: str, page: tuple[bytes, Value]) -> None:
    client = await fill(room)
    reply = await client.command(f"UID SEARCH RETURN (PARTIAL {asked}) FLAGGED")
    assert told(reply) == {"PARTIAL": page}
    reply = await client.command(f"UID SEARCH RETURN (PARTIAL {asked}) LARGER 9999999")
    assert told(reply) == {"PARTIAL": (page[0], None)}


async def test_numbers_and_counts(room: Room) -> None:
    client = await fill(room)
    reply = await client.command("SEARCH RETURN (PARTIAL -1:-2 COUNT MIN MAX) FLAGGED")
    assert told(reply) == {"PARTIAL": (b"-1:-2", b"6,8"), "COUNT": 5, "MIN": 1, "MAX": 8}
    reply = await client.command("SEARCH RETURN (PARTIAL 1:2) ALL")
    assert told(reply) == {"PARTIAL": (b"1:2", b"1:2")}
    assert (await client.command("SEARCH RETURN (PARTIAL 1:2 ALL) ALL")).kind == "BAD"


@pytest.mark.parametrize(
    ("asked", "saved"),
    [  # RFC 9394 §3.2, table 1
        ("PARTIAL 2:3", [4, 6]),
        ("PARTIAL 2:3 MIN", [2, 4, 6]),
        ("PARTIAL -3:-2 MAX", [6, 8, 10]),
        ("PARTIAL 2:2 MIN MAX", [2, 4, 10]),
        ("PARTIAL 2:3 COUNT", [2, 4, 6, 8, 10]),
        ("PARTIAL 1:1 COUNT MIN", [2, 4, 6, 8, 10]),
        ("PARTIAL 9:9", []),
        ("PARTIAL 9:9 MAX", [10]),
    ],
)
async def test_what_is_saved_with_a_page(room: Room, asked: str, saved: list[int]) -> None:
    client = await fill(room)
    for command in ("UID SEARCH", "SEARCH", "UID SORT"):
        criteria = "(ARRIVAL) UTF-8 " if "SORT" in command else ""
        reply = await client.command(f"{command} RETURN (SAVE {asked}) {criteria}FLAGGED")
        assert "PARTIAL" in told(reply)
        (answer,) = (await client.command("UID SEARCH $"))["SEARCH"]
        assert list(answer.data) == saved, command


async def test_the_modseq_is_that_of_what_is_told(room: Room) -> None:
    client = await fill(room)
    await room.flag([2], add=("\\Seen",))
    modseqs = await room.modseqs()
    for asked, uids in (
        ("PARTIAL 1:2", [2, 4]),
        ("PARTIAL 2:3", [4, 6]),
        ("PARTIAL 2:3 MAX", [10]),
    ):
        reply = await client.command(f"UID SEARCH RETURN ({asked}) MODSEQ 1 FLAGGED")
        assert told(reply)["MODSEQ"] == max(modseqs[uid] for uid in uids)
    reply = await client.command("UID SEARCH RETURN (PARTIAL 7:8) MODSEQ 1 FLAGGED")
    assert told(reply) == {"PARTIAL": (b"7:8", None)}


async def test_a_page_of_a_sort_keeps_the_order(room: Room) -> None:
    await room.deliver(*(message(subject=subject) for subject in "dbeac"))
    client = await room.client()
    reply = await client.command("UID SORT RETURN (PARTIAL 1:3) (SUBJECT) UTF-8 ALL")
    assert told(reply) == {"PARTIAL": (b"1:3", b"4,2,5")}
    reply = await client.command("SORT RETURN (PARTIAL -1:-2 COUNT) (REVERSE SUBJECT) UTF-8 ALL")
    assert told(reply) == {"PARTIAL": (b"-1:-2", b"2,4"), "COUNT": 5}


async def test_a_page_from_the_first_does_not_look_at_all(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await fill(room)
    monkeypatch.setattr(search, "PIECE", 2)
    looked: list[int] = []
    whole = search._piece

    async def piece(*args: object) -> object:
        looked.append(1)
        return await whole(*args)  # type: ignore[arg-type]  # whatever it takes

    monkeypatch.setattr(search, "_piece", piece)
    reply = await client.command("UID SEARCH RETURN (PARTIAL 1:2) FLAGGED")
    assert told(reply) == {"PARTIAL": (b"1:2", b"2,4")}
    assert len(looked) == 1
    await client.command("UID SEARCH RETURN (PARTIAL 1:2 COUNT) FLAGGED")
    assert len(looked) == 1 + 4


# --- UID FETCH -----------------------------------------------------------------------------------


async def fetched(client: ImapClient, line: str) -> list[Value]:
    reply = await client.command(line)
    assert reply.ok, (line, reply)
    return [items["UID"] for items in reply.fetched().values()]


async def test_a_page_of_a_fetch(room: Room) -> None:
    client = await fill(room)  # 2 4 5 6 7 8 9 10
    for asked, uids in (
        ("PARTIAL 1:3", [2, 4, 5]),
        ("PARTIAL -1:-3", [8, 9, 10]),
        ("PARTIAL 3:2", [4, 5]),
        ("PARTIAL 7:99", [9, 10]),
        ("PARTIAL 9:99", []),
        ("PARTIAL -9:-99", []),
    ):
        for items in ("(FLAGS)", "(UID ENVELOPE)", "(BODY.PEEK[TEXT])"):
            assert await fetched(client, f"UID FETCH 1:* {items} ({asked})") == uids, asked
    assert await fetched(client, "UID FETCH 1:2,5,7:8 FLAGS (PARTIAL 2:3)") == [5, 7]
    assert await fetched(client, "UID FETCH 1:2,5,7:8 FLAGS (PARTIAL -4:-2)") == [2, 5, 7]
    assert (await client.command("FETCH 1:* FLAGS (PARTIAL 1:2)")).kind == "BAD"


async def test_the_page_is_chosen_before_what_changed(room: Room) -> None:
    client = await fill(room)
    since = max((await room.modseqs()).values())
    await room.flag([4, 9], add=("\\Seen",))
    await client.command("NOOP")  # else they are told as others' doing
    for asked in (f"PARTIAL -1:-3 CHANGEDSINCE {since}", f"CHANGEDSINCE {since} PARTIAL -1:-3"):
        assert await fetched(client, f"UID FETCH 1:* FLAGS ({asked})") == [9]
