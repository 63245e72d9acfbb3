"""UPDATE of SEARCH and SORT, and CANCELUPDATE, over sockets. RFC 5267 §4, RFC 5465 §7."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import pytest

from postroom.protocols.imap.commands import context, search, sort
from postroom.protocols.imap.selected import Unasked
from postroom.protocols.imap.text import Found, look
from postroom.testing.imap import Followed, Follower, ImapClient, Reply, fetches, numbers_of
from postroom.wire.imap import FetchAttribute, FetchBody, SortCriterion, SortKey, Untagged
from tests.protocols.imap.serving import SMALL, Room, codes_of, message


async def followed(client: ImapClient, command: str) -> Followed:
    reply, result = await client.follow(command)
    assert reply.ok, reply
    assert not result.ended, reply
    return result


def updates(reply: Reply) -> list[tuple[object, ...]]:
    """What ESEARCH responses tell, without their tags."""
    return [each.data[1:] for each in reply["ESEARCH"]]


def names(responses: Sequence[Untagged]) -> list[bytes]:
    return [each.name for each in responses]


async def heard_until(client: ImapClient, results: int) -> list[Untagged]:
    """What is told unasked, up to so many changes of results."""
    heard: list[Untagged] = []
    while names(heard).count(b"ESEARCH") < results:
        each = await client.response(5)
        assert isinstance(each, Untagged)
        heard.append(each)
    return heard


# --- what is told ---------------------------------------------------------------------------------


async def test_what_others_change_is_told_at_the_next_command(room_both: Room) -> None:
    await room_both.deliver(*[SMALL] * 5)
    client = await room_both.client()
    result = await followed(client, "UID SEARCH RETURN (UPDATE ALL COUNT) UNSEEN")
    assert result.numbers == [1, 2, 3, 4, 5]
    await room_both.flag([2, 3], add=("\\Seen",))
    reply = await client.command("NOOP")
    assert updates(reply) == [(b"UID", b"REMOVEFROM", (0, b"2:3"))]
    assert names(reply.untagged) == [b"FETCH", b"FETCH", b"ESEARCH"]  # RFC 5465 §5.1
    await room_both.flag([2], remove=("\\Seen",))
    await room_both.deliver(SMALL)
    await room_both.deliver(SMALL, flags=("\\Seen",))
    reply = await client.command("NOOP")
    assert updates(reply) == [(b"UID", b"ADDTO", (0, b"2,6"))]
    await room_both.remove([3, 4])
    reply = await client.command("NOOP")
    assert updates(reply) == [(b"UID", b"REMOVEFROM", (0, 4))]
    assert names(reply.untagged) == [b"ESEARCH", b"EXPUNGE", b"EXPUNGE"]  # RFC 5267 §4.3.4
    assert (await client.command("NOOP")).untagged == []


async def test_what_the_client_does_itself_is_told_too(room: Room) -> None:
    await room.deliver(*[message("one"), message("two"), message("three")])
    client = await room.client()
    result = await followed(client, "SEARCH RETURN (ALL UPDATE) UNSEEN")
    for command, told in (
        ("STORE 1:2 +FLAGS (\\Seen)", [(b"REMOVEFROM", (0, b"1:2"))]),
        ("STORE 1:2 +FLAGS (\\Seen)", []),
        ("STORE 2 -FLAGS.SILENT (\\Seen)", [(b"ADDTO", (0, 2))]),
        ("FETCH 3 BODY[]", [(b"REMOVEFROM", (0, 3))]),
        ("STORE 2 +FLAGS.SILENT (\\Deleted)", []),
        ("EXPUNGE", [(b"REMOVEFROM", (0, 2))]),
        ("COPY 1 INBOX", []),
    ):
        reply = await client.command(command)
        assert reply.ok, reply
        assert updates(reply) == told, command
        result.hear(reply.untagged)
    reply = await client.append("INBOX", SMALL)
    assert updates(reply) == [(b"ADDTO", (0, 4))]  # after EXISTS: RFC 5267 §4.3.3
    assert names(reply.untagged).index(b"EXISTS") < names(reply.untagged).index(b"ESEARCH")
    result.hear(reply.untagged)
    assert result.numbers == [4]


async def test_in_idle_it_is_told_at_once(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    result = await followed(client, "UID SEARCH RETURN (UPDATE ALL) UNFLAGGED")
    async with client.idle() as idle:
        await room.deliver(SMALL)
        heard = [await idle.next(), await idle.next(), await idle.next()]
        assert names(heard) == [b"EXISTS", b"RECENT", b"ESEARCH"]
        result.hear(heard)
        await room.flag([1], add=("\\Flagged",))
        result.hear([await idle.next(), await idle.next()])
    assert result.numbers == [2]


async def test_places_of_a_sort(room_both: Room) -> None:
    for subject in ("delta", "bravo", "golf"):
        await room_both.deliver(message(subject))
    client = await room_both.client()
    result = await followed(client, "UID SORT RETURN (UPDATE ALL) (SUBJECT) UTF-8 UNSEEN")
    assert result.numbers == [2, 1, 3]
    for subjects, told in (
        (["echo", "foxtrot", "alpha"], (1, 6, 4, b"4:5")),
        (["hotel"], (7, 7)),
        (["bravo"], (3, 8)),  # of equals what came later comes behind
    ):
        await room_both.deliver(*[message(subject) for subject in subjects])
        reply = await client.command("NOOP")
        assert updates(reply) == [(b"UID", b"ADDTO", told)]
        result.hear(reply.untagged)
    assert result.numbers == [6, 2, 8, 1, 4, 5, 3, 7]
    await room_both.flag([2, 8, 5, 7], add=("\\Seen",))
    reply = await client.command("NOOP")
    assert updates(reply) == [(b"UID", b"REMOVEFROM", (2, b"2,8", 4, 5, 5, 7))]
    await room_both.remove([1])
    reply = await client.command("NOOP")
    assert updates(reply) == [(b"UID", b"REMOVEFROM", (2, 1))]
    await room_both.flag([8], remove=("\\Seen",))
    reply = await client.command("NOOP")
    assert updates(reply) == [(b"UID", b"ADDTO", (2, 8))]


async def test_removals_wait_for_a_command_that_may_tell_them(room: Room) -> None:
    await room.deliver(*[SMALL] * 4)
    client = await room.client()
    await followed(client, "SEARCH RETURN (UPDATE ALL) UNSEEN")
    await room.remove([2])
    await room.flag([3], add=("\\Seen",))
    assert updates(await client.command("FETCH 1 (FLAGS)")) == []
    reply = await client.command("NOOP")
    # By its number before the EXPUNGE, and behind it by the new one.
    assert updates(reply) == [(b"REMOVEFROM", (0, 2)), (b"REMOVEFROM", (0, 2))]
    assert names(reply.untagged) == [b"ESEARCH", b"EXPUNGE", b"FETCH", b"ESEARCH"]


async def test_by_vanished_too(room: Room) -> None:
    await room.deliver(*[SMALL] * 4)
    client = await room.client(mailbox=None)
    await client.command("ENABLE QRESYNC")
    await client.command("SELECT INBOX")
    await followed(client, "UID SEARCH RETURN (UPDATE COUNT) ALL")
    await room.remove([2, 3])
    reply = await client.command("NOOP")
    assert names(reply.untagged) == [b"ESEARCH", b"VANISHED"]
    assert updates(reply) == [(b"UID", b"REMOVEFROM", (0, b"2:3"))]


async def test_between_commands_what_notify_asked_for(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await room.client()
    await client.command("NOTIFY SET (SELECTED (MessageNew MessageExpunge))")
    result = await followed(client, "UID SEARCH RETURN (UPDATE ALL) UNSEEN")
    await room.flag([1], add=("\\Seen",))
    await room.deliver(SMALL)
    heard = [await client.response(5) for _ in range(3)]
    result.hear(heard)
    assert result.numbers == [1, 2, 3]  # no flags are to be told
    await room.remove([2])
    result.hear([await client.response(5), await client.response(5)])
    assert result.numbers == [1, 3]
    reply = await client.command("NOOP")
    assert updates(reply) == [(b"UID", b"REMOVEFROM", (0, 1))]


async def test_all_of_a_result_is_followed_whatever_is_asked_of_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PIECE", 2)
    await room.deliver(*[SMALL] * 6)
    client = await room.client()
    reply = await client.command("UID SEARCH RETURN (UPDATE MIN) UNSEEN")
    assert updates(reply) == [(b"UID", b"MIN", 1)]
    reply = await client.command("STORE 5 +FLAGS (\\Seen)")
    assert updates(reply) == [(b"UID", b"REMOVEFROM", (0, 5))]


# --- what a search means for as long as it is followed --------------------------------------------


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("1:3", [1, 2, 3], [2, 3]),
        ("1:*", [1, 2, 3, 4], [2, 3, 4]),
        ("NOT 2:3", [1, 4], [4, 5]),
        ("UID 1:*", [1, 2, 3, 4], [2, 3, 4, 5]),
        ("UID 9:*", [4], [4]),
        ("UID *", [4], [4]),
        ("UID 2,3:*", [2, 3, 4], [2, 3, 4, 5]),
        ("$", [2, 4], [2, 4]),
        ("UID $", [2, 4], [2, 4]),
    ],
)
async def test_sets_mean_what_they_meant(
    room: Room, key: str, before: list[int], after: list[int]
) -> None:
    await room.deliver(*[SMALL] * 4)
    client = await room.client()
    await client.command("SEARCH RETURN (SAVE) 2,4")
    result = await followed(client, f"UID SEARCH RETURN (UPDATE ALL SAVE) {key}")
    assert result.numbers == before
    await client.command("SEARCH RETURN (SAVE) 1")
    await room.deliver(SMALL)
    await room.remove([1])
    result.hear((await client.command("NOOP")).untagged)
    await room.flag([2, 3, 4], add=("\\Seen",))
    result.hear((await client.command("NOOP")).untagged)
    assert result.numbers == after


async def test_content_is_looked_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.deliver(message(body=b"needle\r\n"), message(), message())
    client = await room.client()
    result = await followed(client, "UID SEARCH RETURN (UPDATE ALL) BODY needle")
    looked: list[bytes] = []

    def looking(raw: bytes, in_header: Collection[str], in_body: Collection[str]) -> Found:
        looked.append(raw)
        return look(raw, in_header, in_body)

    monkeypatch.setattr(search, "look", looking)
    await client.command("STORE 1:3 +FLAGS (\\Seen)")
    assert not looked
    await room.deliver(message(body=b"a needle\r\n"))
    result.hear((await client.command("NOOP")).untagged)
    assert result.numbers == [1, 4]
    assert len(looked) == 1


async def test_a_keyword_that_nobody_had_set(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await room.client()
    result = await followed(client, "UID SEARCH RETURN (UPDATE ALL) KEYWORD later")
    await room.flag([2], add=("later",))
    result.hear((await client.command("NOOP")).untagged)
    assert result.numbers == [2]


# --- what else it may be asked for ----------------------------------------------------------------


async def test_it_stands_beside_all_other_options(room: Room) -> None:
    await room.deliver(*[SMALL] * 4)
    client = await room.client()
    reply = await client.command("UID SEARCH RETURN (UPDATE CONTEXT MIN) ALL")
    assert updates(reply) == [(b"UID", b"MIN", 1)]
    reply = await client.command("SEARCH RETURN (CONTEXT PARTIAL 1:2 UPDATE) ALL")
    assert updates(reply) == [(b"PARTIAL", (b"1:2", b"1:2"))]
    reply = await client.command("SEARCH RETURN (UPDATE) ALL")
    assert updates(reply) == [()]
    reply = await client.command("SEARCH RETURN (CONTEXT COUNT) ALL")
    assert updates(reply) == [(b"COUNT", 4)]
    reply = await client.command("SORT RETURN (SAVE UPDATE) (ARRIVAL) UTF-8 ALL")
    assert updates(reply) == []
    await room.remove([2])
    reply = await client.command("NOOP")
    assert updates(reply) == [
        (b"UID", b"REMOVEFROM", (0, 2)),
        (b"REMOVEFROM", (0, 2)),
        (b"REMOVEFROM", (0, 2)),
        (b"REMOVEFROM", (2, 2)),
    ]


async def test_what_is_new_in_it_is_fetched(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await room.client()
    command = "SEARCH RETURN (UPDATE (BODY[HEADER.FIELDS (SUBJECT)]) ALL) UNFLAGGED"
    result = await followed(client, command)
    await room.deliver(message("wanted"))
    await room.deliver(message("not wanted"), flags=("\\Flagged",))
    reply = await client.command("NOOP")
    assert names(reply.untagged) == [b"EXISTS", b"RECENT", b"FETCH", b"ESEARCH"]  # RFC 5465 §7
    fetched = reply.fetched()[3]
    assert fetched["UID"] == 3
    assert fetched["BODY[HEADER.FIELDS (SUBJECT)]"] == b"Subject: wanted\r\n\r\n"
    await room.flag([4], remove=("\\Flagged",))
    reply = await client.command("NOOP")
    assert [set(items) for items in reply.fetched().values()] == [{"FLAGS"}]
    result.hear(reply.untagged)
    assert "\\Seen" not in (await room.stored())[3]


async def test_with_notify_what_it_fetches_comes_first(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    await client.command("NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge FlagChange))")
    result = await followed(client, "UID SEARCH RETURN (UPDATE ALL) UNFLAGGED")
    await room.deliver(SMALL)
    heard: list[Untagged] = []
    while b"ESEARCH" not in names(heard):
        each = await client.response(5)
        assert isinstance(each, Untagged)
        heard.append(each)
    assert names(heard) == [b"EXISTS", b"RECENT", b"FETCH", b"ESEARCH"]  # RFC 5465 §5.2
    result.hear(heard)
    await room.flag([1], add=("\\Flagged",))
    result.hear([await client.response(5), await client.response(5)])
    assert result.numbers == [2]


async def test_so_it_does_where_a_command_told_of_it(room: Room) -> None:
    client = await room.client()
    await client.command("NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge FlagChange))")
    result = await followed(client, "UID SEARCH RETURN (UPDATE ALL) UNFLAGGED")
    for uids in ([1], [1, 2]):  # the second comes before there is another look unasked
        await room.deliver(SMALL)
        heard = (await client.command("NOOP")).untagged
        while b"ESEARCH" not in names(heard):
            each = await client.response(5)
            assert isinstance(each, Untagged)
            heard.append(each)
        assert names(heard) == [b"EXISTS", b"RECENT", b"FETCH", b"ESEARCH"]
        result.hear(heard)
        assert result.numbers == uids


async def test_what_notify_and_updates_ask_for_is_one_response(room: Room) -> None:
    """RFC 5465 §5.2: combined into a single FETCH, and nothing is sent twice."""
    client = await room.client()
    items = "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
    await client.command(f"NOTIFY SET (SELECTED (MessageNew {items} MessageExpunge FlagChange))")
    asked = "RETURN (UPDATE (BODY[HEADER.FIELDS (SUBJECT)] RFC822.SIZE) ALL)"
    wanted = await followed(client, f"UID SEARCH {asked} UNFLAGGED")
    every = await followed(client, "UID SEARCH RETURN (UPDATE (RFC822.SIZE EMAILID) ALL) ALL")
    in_order = await followed(client, "UID SORT RETURN (UPDATE ALL) (REVERSE SIZE) UTF-8 ALL")
    await room.deliver(message("wanted"))
    heard = await heard_until(client, 3)
    assert names(heard) == [b"EXISTS", b"RECENT", b"FETCH", b"ESEARCH", b"ESEARCH", b"ESEARCH"]
    subject = "BODY[HEADER.FIELDS (SUBJECT)]"
    (told,) = fetches(heard)
    assert told[0] == 1
    assert list(told[1]) == ["UID", "FLAGS", "RFC822.SIZE", "EMAILID", subject]
    (listed,) = heard[2].data
    assert isinstance(listed, tuple)
    assert len(listed) == 10  # each item once
    for result in (wanted, every, in_order):
        result.hear(heard)
        assert result.numbers == [1]
    await room.deliver(message("not wanted"), flags=("\\Flagged",))
    heard = await heard_until(client, 2)
    (told,) = fetches(heard)
    assert list(told[1]) == ["UID", "FLAGS", "RFC822.SIZE", "EMAILID", subject]
    for result in (wanted, every, in_order):
        result.hear(heard)
    assert (wanted.numbers, every.numbers, in_order.numbers) == ([1], [1, 2], [2, 1])
    assert not any("\\Seen" in each for each in (await room.stored()).values())


async def test_what_the_client_placed_itself_is_fetched_for_updates_alone(room: Room) -> None:
    """RFC 5465 §5.2 and §7: NOTIFY does not fetch it, the result that it comes into does."""
    client = await room.client()
    await client.command("NOTIFY SET (SELECTED (MessageNew (ENVELOPE) MessageExpunge))")
    result = await followed(client, "UID SEARCH RETURN (UPDATE (RFC822.SIZE) ALL) ALL")
    reply = await client.append("INBOX", SMALL)
    heard = [*reply.untagged]
    if b"ESEARCH" not in names(heard):
        heard += await heard_until(client, 1)
    (told,) = fetches(heard)
    assert list(told[1]) == ["UID", "RFC822.SIZE"]
    result.hear(heard)
    assert result.numbers == [1]


def test_what_several_ask_of_a_message_is_joined() -> None:
    uid, size, flags = FetchAttribute.UID, FetchAttribute.RFC822_SIZE, FetchAttribute.FLAGS
    body, peek = FetchBody(), FetchBody(peek=True)
    asked = [
        Unasked((uid, body), [1, 2, 4]),
        Unasked((flags, uid, peek), [2, 3]),
        Unasked((size,), [3, 5]),
        Unasked((size, peek, flags), []),
    ]
    assert [(set(each.items), [*each.uids]) for each in context.combined(asked)] == [
        ({uid, peek}, [1, 4]),
        ({uid, peek, flags}, [2]),
        ({uid, peek, flags, size}, [3]),
        ({size}, [5]),
    ]
    assert all(len({*each.items}) == len(each.items) for each in context.combined(asked))
    assert context.combined(asked[:1]) == asked[:1]


# --- ends, and refusals ---------------------------------------------------------------------------


async def test_cancelupdate(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    one = await followed(client, "SEARCH RETURN (UPDATE COUNT) UNSEEN")
    other = await followed(client, "SEARCH RETURN (UPDATE COUNT) UNSEEN")
    third = await followed(client, "SEARCH RETURN (UPDATE COUNT) UNSEEN")
    assert (await client.command(f'CANCELUPDATE "{one.tag.decode()}"')).ok
    reply = await client.command("STORE 1 +FLAGS (\\Seen)")
    tags = [each.data[0] for each in reply["ESEARCH"]]
    assert tags == [(b"TAG", other.tag), (b"TAG", third.tag)]
    reply = await client.command(f'CANCELUPDATE "{one.tag.decode()}" "{other.tag.decode()}"')
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    reply = await client.command("STORE 1 -FLAGS (\\Seen)")
    assert [each.data[0] for each in reply["ESEARCH"]] == [(b"TAG", third.tag)]
    assert (await client.command("CANCELUPDATE")).kind == "BAD"


async def test_it_ends_with_the_mailbox(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    result = await followed(client, "SEARCH RETURN (UPDATE COUNT) UNSEEN")
    await client.command("SELECT INBOX")
    assert updates(await client.command("STORE 1 +FLAGS (\\Seen)")) == []
    reply = await client.command(f'CANCELUPDATE "{result.tag.decode()}"')
    assert reply.code == "NONEXISTENT"
    await client.command("UNSELECT")
    assert (await client.command('CANCELUPDATE "x"')).kind == "BAD"


async def test_a_tag_that_is_followed_is_not_taken_again(room: Room) -> None:
    client = await room.client()
    client.send(b"x SEARCH RETURN (UPDATE ALL) UNSEEN\r\n")
    assert (await client.reply(b"x")).ok
    client.send(b"x SEARCH RETURN (UPDATE ALL) SEEN\r\n")
    assert (await client.reply(b"x")).kind == "BAD"  # RFC 5267 §4.3
    client.send(b"x SEARCH RETURN (ALL) SEEN\r\n")
    assert (await client.reply(b"x")).ok


async def test_more_than_so_many_are_refused_and_answered(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    for _ in range(context.CONTEXTS_MOST):
        last = await followed(client, "UID SEARCH RETURN (UPDATE COUNT) ALL")
    reply, result = await client.follow("UID SEARCH RETURN (UPDATE COUNT) ALL")
    assert reply.ok
    assert result.ended
    assert codes_of(reply) == [b"NOUPDATE"]
    assert updates(reply) == [(b"UID", b"COUNT", 1)]  # RFC 5267 §4.3.1
    await client.command(f'CANCELUPDATE "{last.tag.decode()}"')
    await followed(client, "UID SEARCH RETURN (UPDATE COUNT) ALL")


@pytest.mark.parametrize(
    "command",
    [
        "SEARCH RETURN (UPDATE ALL) OLDER 5",
        "SEARCH RETURN (UPDATE ALL) OR SEEN NOT YOUNGER 5",
        "UID SORT RETURN (UPDATE ALL) (DATE) UTF-8 YOUNGER 5",
        "ESEARCH IN (selected) RETURN (UPDATE ALL) UNSEEN",
        "UID SEARCH RETURN (UPDATE ALL) UID " + ",".join(str(2 * n + 1) for n in range(1_100)),
    ],
)
async def test_what_is_not_followed(room: Room, command: str) -> None:
    client = await room.client()
    reply = await client.command(command)
    assert reply.ok
    assert codes_of(reply) == [b"NOUPDATE"]
    assert reply.code_data("NOUPDATE") == (reply.tagged.tag,)


async def test_what_grows_too_large_is_followed_no_longer(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "MEMBERS_MOST", 5)
    monkeypatch.setattr(context, "SORTED_MOST", 2)
    await room.deliver(SMALL, SMALL)
    client = await room.client()
    result = await followed(client, "UID SEARCH RETURN (UPDATE ALL) ALL")
    in_order = await followed(client, "UID SORT RETURN (UPDATE ALL) (DATE) UTF-8 ALL")
    reply, none = await client.follow("UID SEARCH RETURN (UPDATE ALL) ALL")
    assert none.ended
    assert none.numbers == [1, 2]
    await room.deliver(SMALL)
    for each in (result, in_order):
        each.hear(reply.untagged)
    reply = await client.command("NOOP")
    for each in (result, in_order):
        each.hear(reply.untagged)
    assert (result.ended, in_order.ended) == (False, True)
    assert result.numbers == [1, 2, 3]
    await room.deliver(SMALL, SMALL, SMALL)
    result.hear((await client.command("NOOP")).untagged)
    assert result.ended


async def test_numbers_end_with_uidonly(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    by_number = await followed(client, "SEARCH RETURN (UPDATE ALL) ALL")
    by_uid = await followed(client, "UID SEARCH RETURN (UPDATE ALL) ALL")
    await client.command("ENABLE UIDONLY")
    await room.deliver(SMALL)
    reply = await client.command("NOOP")
    assert codes_of(reply) == [b"NOUPDATE"]
    by_number.hear(reply.untagged)
    by_uid.hear(reply.untagged)
    assert by_number.ended
    assert by_uid.numbers == [1, 2]


async def test_nothing_is_told_of_a_mailbox_that_is_gone(room: Room) -> None:
    await room.create("Work")
    await room.deliver(SMALL, path="Work")
    client = await room.client(mailbox="Work")
    await followed(client, "SEARCH RETURN (UPDATE ALL) ALL")
    other = await room.client()
    await other.command("DELETE Work")
    reply = await client.command("NOOP")
    assert updates(reply) == []


# --- what is gone, and the client is yet to be told -----------------------------------------------


@pytest.mark.parametrize("few", [0, 100])
async def test_what_is_gone_does_not_mislead(
    room: Room, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(sort, "FEW", few)
    subjects = [f"s{n:02}" for n in range(60)]
    random.Random(5).shuffle(subjects)
    await room.deliver(*[message(subject) for subject in subjects])
    await room.client()
    (connection,) = room.workers[0].connections()
    session = connection._session
    by_subject = SortCriterion(SortKey.SUBJECT, reverse=True)
    order = sorted(range(1, 61), key=lambda uid: subjects[uid - 1], reverse=True)
    new = [uid for uid in range(1, 61) if uid % 9 == 0]
    held = [uid for uid in order if uid not in new]
    gone = [*held[:6], *held[20:45], new[0]]
    await room.remove(sorted(gone))
    found = await sort.Order(session, [by_subject]).places(held, new)
    assert [uid for _, uid in found] == [uid for uid in order if uid in new and uid not in gone]
    merged = list(held)
    for place, uid in reversed(found):
        merged.insert(place, uid)
    there = [uid for uid in order if uid not in gone]
    assert [uid for uid in merged if uid not in gone] == there


# --- many at once ---------------------------------------------------------------------------------


async def test_many_at_once_come_in_pieces(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "PIECE", 100)
    await room.fill(500)
    client = await room.client()
    results = [
        await followed(client, "UID SEARCH RETURN (UPDATE ALL) UNSEEN"),
        await followed(client, "SEARCH RETURN (UPDATE ALL) UNSEEN UNFLAGGED"),
        await followed(client, "UID SORT RETURN (UPDATE ALL) (REVERSE ARRIVAL) UTF-8 UNSEEN"),
    ]
    rng = random.Random(3)
    for _ in range(3):
        some = rng.sample(range(1, 501), 300)
        for uids, add, remove in ((some, ("\\Seen",), ()), (some[::2], (), ("\\Seen",))):
            await room.flag(uids, add=add, remove=remove)
            reply = await client.command("NOOP")
            for result in results:
                result.hear(reply.untagged)
            await _compare(client, results)
    await room.remove(rng.sample(range(1, 501), 350))
    reply = await client.command("NOOP")
    for result in results:
        result.hear(reply.untagged)
    await _compare(client, results)


async def _compare(client: ImapClient, results: Sequence[Followed]) -> None:
    for result, command in zip(
        results,
        (
            "UID SEARCH RETURN (ALL) UNSEEN",
            "SEARCH RETURN (ALL) UNSEEN UNFLAGGED",
            "UID SORT RETURN (ALL) (REVERSE ARRIVAL) UTF-8 UNSEEN",
        ),
        strict=True,
    ):
        assert result.numbers == await _found(client, command)


async def _found(client: ImapClient, command: str) -> list[int]:
    reply = await client.command(command)
    assert reply.ok, (command, reply)
    data = reply["ESEARCH"][0].data
    return numbers_of(data[data.index(b"ALL") + 1]) if b"ALL" in data else []


# --- whatever happens, what is followed is what a search finds ------------------------------------

FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "work")
QUESTIONS = (
    "UID SEARCH RETURN ({}) UNSEEN",
    "SEARCH RETURN ({}) UNSEEN",
    "SEARCH RETURN ({}) ALL",
    "SEARCH RETURN ({}) OR FLAGGED NOT KEYWORD work",
    "UID SEARCH RETURN ({}) SUBJECT b UNDELETED",
    "UID SEARCH RETURN ({}) UID 4:* TEXT good",
    "UID SORT RETURN ({}) (REVERSE SUBJECT SIZE) UTF-8 UNSEEN",
    "SORT RETURN ({}) (SUBJECT REVERSE ARRIVAL) UTF-8 OR SEEN FLAGGED",
    "SORT RETURN ({}) (DISPLAYFROM DATE) UTF-8 ALL",
)


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_followed_is_what_a_search_finds(
    room: Room, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "ONE_BY_ONE", 2)
    monkeypatch.setattr(sort, "FEW", 4)
    rng = random.Random(seed)
    await room.deliver(*[_some(rng) for _ in range(12)])
    client = await room.client()
    other = await room.client(worker=1)
    view, results = Follower(), list[Followed]()
    for question in QUESTIONS:
        results.append(await followed(client, question.format("ALL UPDATE")))
    view.hear([Untagged(b"EXISTS", number=12)])
    for _ in range(30):
        for who in rng.choices((client, other), k=rng.randint(1, 4)):
            reply = await _act(who, rng)
            if who is client:
                view.hear(reply.untagged)
                for result in results:
                    result.hear(reply.untagged)
        for _ in range(2):  # others may have removed what the first look was about
            reply = await client.command("NOOP")
            view.hear(reply.untagged)
            for result in results:
                result.hear(reply.untagged)
        assert reply.untagged == []
        for result, question in zip(results, QUESTIONS, strict=True):
            assert result.numbers == await _found(client, question.format("ALL")), question


def _some(rng: random.Random) -> bytes:
    raw = message(rng.choice("abc") * rng.randint(1, 2), b"x" * rng.randint(0, 9) + b"\r\n")
    return raw.replace(b"Zoe", rng.choice((b"Ada", b"Bob", b"Zoe")))


async def _act(client: ImapClient, rng: random.Random) -> Reply:
    """One change of some kind; what does not exist is no harm."""
    first = rng.randint(1, 40)
    some = f"{first}:{first + rng.choice((0, 0, 1, 5, 30))}"
    flags = " ".join(rng.sample(FLAGS, rng.randint(1, 2)))
    silent = rng.choice(("", ".SILENT"))
    match rng.randint(0, 7):
        case 0 | 1:
            return await client.append("INBOX", *[_some(rng) for _ in range(rng.randint(1, 3))])
        case 2 | 3 | 4:
            sign = rng.choice(("+", "-", ""))
            return await client.command(f"UID STORE {some} {sign}FLAGS{silent} ({flags})")
        case 5:
            return await client.command("EXPUNGE")
        case 6:
            return await client.command(f"UID COPY {some} INBOX")
        case _:
            return await client.command(f"UID FETCH {some} (BODY[TEXT])")
