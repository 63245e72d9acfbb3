"""GENURLAUTH, RESETKEY, URLFETCH over sockets, and who tries what he may not. RFC 4467."""

from __future__ import annotations

import asyncio
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from postroom.core.clock import Instant, SystemClock
from postroom.core.errors import Corrupt
from postroom.core.secrets import Keyring
from postroom.domain.mailboxes import urlkeys
from postroom.domain.mailboxes.urlkeys import UrlKey
from postroom.domain.mailboxes.urlkeys import tables as urlkey_tables
from postroom.protocols.imap import authorizing, fetching
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx
from postroom.testing.imap import ImapClient, Literal, Reply
from tests.protocols.imap.serving import ANN, BOB, DOMAIN, SMALL, Room, message
from tests.protocols.imap.test_acl import give
from tests.protocols.imap.test_catenate import ENCODED, HEAD, PICTURE, bad_url, catenate, drafts

HOST = f"mail.{DOMAIN}"
ANNS = f"imap://ann%40{DOMAIN}@{HOST}"
BOBS = f"imap://bob%40{DOMAIN}@{HOST}"
ONE = f"{ANNS}/INBOX/;UID=1"
ANY = f"{ONE};URLAUTH=anonymous"


async def arrange(room: Room, place: Path) -> None:
    """Keys to seal with, a name for the server, and a message of Ann's."""
    room.house.secrets = Keyring(str(place / "keys"))
    room.house.secrets.make()
    await room.configure("server.hostname", HOST)
    await room.deliver(PICTURE)


@pytest.fixture
async def here(room: Room, tmp_path: Path) -> Room:
    await arrange(room, tmp_path)
    return room


@pytest.fixture
async def here_both(room_both: Room, tmp_path: Path) -> Room:
    await arrange(room_both, tmp_path)
    return room_both


async def authorized(client: ImapClient, *rumps: str) -> list[str]:
    """The URLs that GENURLAUTH gives."""
    asked = " ".join(f'"{rump}" INTERNAL' for rump in rumps)
    reply = await client.command("GENURLAUTH ", asked)
    assert reply.ok, reply
    (told,) = reply["GENURLAUTH"]
    return [_text(each) for each in told.data]


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return value.decode()


async def fetched(client: ImapClient, *urls: str) -> list[object]:
    """What URLFETCH gives, NIL as None; the URLs come back as they were given."""
    reply = await client.command("URLFETCH ", " ".join(f'"{url}"' for url in urls))
    assert reply.ok, reply
    assert [_text(each.data[0]) for each in reply["URLFETCH"]] == list(urls)
    return [each.data[1] for each in reply["URLFETCH"]]


# --- what it is for -----------------------------------------------------------------------------


async def test_a_url_that_one_authorizes_another_fetches(here_both: Room) -> None:
    ann, bob = await here_both.client(), await here_both.client(BOB, mailbox=None)
    rumps = [
        ANY,
        f"{ONE}/;SECTION=1;URLAUTH=authuser",
        f"{ONE}/;SECTION=2/;PARTIAL=4.6;URLAUTH=user+bob%40{DOMAIN}",
        f"{ONE}/;SECTION=HEADER.FIELDS%20(Subject);EXPIRE=2099-01-01T00:00:00Z;URLAUTH=anonymous",
    ]
    urls = await authorized(ann, *rumps)
    for rump, url in zip(rumps, urls, strict=True):
        assert re.fullmatch(re.escape(rump) + ":INTERNAL:01[0-9a-f]{80}", url)
    content = [PICTURE, b"the text", ENCODED[4:10], b"Subject: two parts\r\n\r\n"]
    assert await fetched(bob, *urls) == content
    assert await fetched(ann, urls[0], urls[2]) == [PICTURE, None], "that one is for Bob alone"
    assert await here_both.stored() == {1: set()}, "nothing is seen by it"


async def test_the_same_rump_gives_the_same_url_and_every_mailbox_has_its_own_key(
    here: Room,
) -> None:
    await here.deliver(SMALL, path="Sent")
    ann = await here.client()
    first, sent = await authorized(ann, ANY, f"{ANNS}/Sent/;UID=1;URLAUTH=anonymous")
    assert await authorized(await here.client(worker=1), ANY) == [first]
    assert first[-80:-64] != sent[-80:-64]
    assert await fetched(ann, first, sent) == [PICTURE, SMALL]


async def test_many_mailboxes_are_authorized_at_once(here_both: Room) -> None:
    ann = await here_both.client()
    paths = [f"Box{n}" for n in range(12)]
    for path in paths:
        await here_both.create(path)
        await here_both.deliver(message(path), path=path)
    rumps = [f"{ANNS}/{path}/;UID=1;URLAUTH=anonymous" for path in (*paths, *paths)]
    urls = await authorized(ann, *rumps)
    assert urls[:12] == urls[12:]
    assert await fetched(ann, *urls[:12]) == [message(path) for path in paths]
    assert len(await here_both.house.mail.read(urlkeys.sealed)) == 12


async def test_two_who_authorize_first_at_once_share_the_key(here_both: Room) -> None:
    clients = [await here_both.client(worker=n % 2) for n in range(4)]
    made = await asyncio.gather(*(authorized(client, ANY) for client in clients))
    assert made == [made[0]] * 4
    assert await fetched(clients[0], *made[0]) == [PICTURE]


async def test_a_mailbox_that_opens_says_which_mechanisms_there_are(here: Room) -> None:
    client = await here.client(mailbox=None)
    for open_ in ("SELECT INBOX", "EXAMINE INBOX"):
        reply = await client.command(open_)
        assert reply.code_data("URLMECH") == (b"INTERNAL",)
    reply = await client.command("CAPABILITY")
    assert b"URLAUTH" in [each for line in reply["CAPABILITY"] for each in line.data]


async def test_what_may_be_read_of_anothers_mailbox_may_be_authorized_while_it_may(
    here: Room,
) -> None:
    ann, bob = await here.client(), await here.client(BOB, mailbox=None)
    await give(here, "lr")
    rump = f"{BOBS}/Shared/ann%40{DOMAIN}/INBOX/;UID=1;URLAUTH=authuser"
    (url,) = await authorized(bob, rump)
    assert await fetched(ann, url) == [PICTURE]
    await give(here, "l")
    assert await fetched(ann, url) == [None]
    assert (await bob.command(f'GENURLAUTH "{rump}" INTERNAL')).kind == "BAD"


async def test_catenate_takes_what_another_authorized(here: Room) -> None:
    ann, bob = await here.client(), await here.client(BOB)
    (url,) = await authorized(ann, f"{ONE}/;SECTION=1;URLAUTH=user+bob%40{DOMAIN}")
    reply = await catenate(bob, ["TEXT ", Literal(HEAD + b"\r\n")], f'URL "{url}"')
    assert reply.ok, reply
    assert await drafts(here, bob) == [HEAD + b"\r\nthe text"]
    forged = url[:-1] + ("0" if url[-1] != "0" else "1")
    assert bad_url(await catenate(bob, f'URL "{forged}"')) == forged


# --- what is not authorized ---------------------------------------------------------------------


NOT_TO_AUTHORIZE = [
    "/INBOX/;UID=1;URLAUTH=anonymous",
    f"imap://{HOST}/INBOX/;UID=1;URLAUTH=anonymous",
    f"{BOBS}/INBOX/;UID=1;URLAUTH=anonymous",
    f"imap://ann%40{DOMAIN}@elsewhere.example/INBOX/;UID=1;URLAUTH=anonymous",
    f"imap://ann%40{DOMAIN}@{HOST}:25/INBOX/;UID=1;URLAUTH=anonymous",
    f"{ANNS}/Nowhere/;UID=1;URLAUTH=anonymous",
    f"{ANNS}/INBOX;UIDVALIDITY=1/;UID=1;URLAUTH=anonymous",
    f"{ANNS}/Shared/bob%40{DOMAIN}/INBOX/;UID=1;URLAUTH=anonymous",
    f"{ONE};EXPIRE=2020-01-01T00:00:00Z;URLAUTH=anonymous",
    f"{ONE};EXPIRE=tomorrow;URLAUTH=anonymous",
    f"{ONE};URLAUTH=user+",
    f"{ONE};URLAUTH=user+nobody",
    f"{ONE};URLAUTH=everybody",
    f"{ONE};URLAUTH=anonymous:INTERNAL:{'0' * 82}",
    f"{ONE}",
    f"{ANNS}/INBOX;URLAUTH=anonymous",
]


async def test_what_nobody_may_authorize_is_bad_and_makes_no_key(here: Room) -> None:
    ann = await here.client()
    for n, rump in enumerate(NOT_TO_AUTHORIZE, 1):
        reply = await ann.command(f'GENURLAUTH "{ANY}" INTERNAL "{rump}" INTERNAL')
        assert (reply.kind, reply["GENURLAUTH"]) == ("BAD", []), rump
        if not n % 5:
            ann = await here.client()  # who says too much that is bad is sent away
    assert await here.house.mail.read(urlkeys.sealed) == {}


async def test_other_mechanisms_are_not_known(here: Room) -> None:
    ann = await here.client()
    assert (await ann.command(f'GENURLAUTH "{ANY}" XSAMPLE')).kind == "BAD"
    assert (await ann.command("RESETKEY INBOX XSAMPLE")).kind == "BAD"
    (url,) = await authorized(ann, ANY)
    assert await fetched(ann, url.replace("INTERNAL", "XSAMPLE")) == [None]


async def test_the_commands_want_somebody_who_signed_in(here: Room) -> None:
    client = await here.connect()
    for line in (f'GENURLAUTH "{ANY}" INTERNAL', "RESETKEY", f'URLFETCH "{ANY}"'):
        assert (await client.command(line)).kind == "BAD"


# --- attacks ------------------------------------------------------------------------------------


async def test_another_rump_under_the_same_token_gives_nothing(here: Room) -> None:
    await here.deliver(SMALL)
    await here.deliver(SMALL, path="Sent")
    ann = await here.client()
    soon = "2099-01-01T00:00:00Z"
    (url,) = await authorized(ann, f"{ONE}/;SECTION=1;EXPIRE={soon};URLAUTH=user+ann%40{DOMAIN}")
    changes = [
        ("UID=1", "UID=2"),
        ("SECTION=1", "SECTION=2"),
        ("/;SECTION=1", ""),
        ("/;SECTION=1", "/;SECTION=1/;PARTIAL=0.4"),
        (soon, "2099-01-01T00:00:01Z"),
        (f";EXPIRE={soon}", ""),
        (f"user+ann%40{DOMAIN}", "anonymous"),
        ("user+", "submit+"),
        ("/INBOX/", "/Sent/"),
        ("ann%40", "bob%40"),
        (HOST, f"{HOST}:993"),
        # The same URL to everybody else, spelt otherwise.
        ("ann%40", "a%6en%40"),
        ("INBOX", "%49NBOX"),
        ("INBOX", "inbox"),
        ("UID=1", "UID=01"),
        ("imap://", "IMAP://"),
        ("URLAUTH", "urlauth"),
        (HOST, HOST.upper()),
        ("Z;", "z;"),
        ("Z;", "+00:00;"),
    ]
    for was, is_ in changes:
        assert was in url, was
        assert await fetched(ann, url.replace(was, is_)) == [None], is_
    assert await fetched(ann, url[:-80] + url[-80:].upper()) == [None]
    # The mechanism is not part of what was signed, and has no case: RFC 4467 §9.
    assert await fetched(ann, url.replace(":INTERNAL:", ":internal:")) == [b"the text"]
    assert await fetched(ann, url) == [b"the text"]


async def test_a_guessed_token_gives_nothing(here: Room) -> None:
    ann = await here.client()
    (url,) = await authorized(ann, ANY)
    rump, _, token = url.rpartition(":")
    guesses = [
        "0" * 82,
        "f" * 82,
        token[:18] + "0" * 64,
        "01" + "0" * 16 + token[18:],
        "02" + token[2:],
        token[:-1],
        token + "0",
        token[18:],
        token[2:18] * 4,
        "é" * 41,
        "",
    ]
    asked: list[str | Literal] = []
    for guess in guesses:
        asked += [" ", Literal(f"{rump}:{guess}".encode())]
    reply = await ann.command("URLFETCH", *asked)
    assert [each.data[1] for each in reply["URLFETCH"]] == [None] * len(guesses)


async def test_a_token_of_another_mailbox_or_user_gives_nothing(here: Room) -> None:
    await here.deliver(SMALL, path="Sent")
    await here.deliver(SMALL, user=BOB)
    ann, bob = await here.client(), await here.client(BOB)
    sent = f"{ANNS}/Sent/;UID=1;URLAUTH=anonymous"
    mine, ours, his = [
        *await authorized(ann, ANY, sent),
        *await authorized(bob, f"{BOBS}/INBOX/;UID=1;URLAUTH=anonymous"),
    ]
    for rump in (ANY, sent):
        for url in (mine, ours, his):
            made = f"{rump}:INTERNAL:{url[-82:]}"
            expected = {mine: PICTURE, ours: SMALL}.get(made)
            assert await fetched(bob, made) == [expected]


async def test_who_owns_a_key_cannot_sign_for_anothers_mailbox(here: Room) -> None:
    """As if Bob had learnt his own key: what he signs with it leads to what he may read."""
    await here.deliver(SMALL, user=BOB)
    bob = await here.client(BOB)
    await authorized(bob, f"{BOBS}/INBOX/;UID=1;URLAUTH=anonymous")
    box = await here.box(user=BOB)
    keys = await here.house.mail.read(urlkeys.of_mailboxes, here.accounts[BOB], [box.id])
    key = keys[box.id]
    for rump in (
        ANY,
        f"{BOBS}/Shared/ann%40{DOMAIN}/INBOX/;UID=1;URLAUTH=anonymous",
        f"{BOBS}/Sent/;UID=1;URLAUTH=anonymous",
        f"{BOBS}/INBOX;UIDVALIDITY=1/;UID=1;URLAUTH=anonymous",
    ):
        assert await fetched(bob, signed(here, key, rump)) == [None]
    await give(here, "lr")
    theirs = f"{BOBS}/Shared/ann%40{DOMAIN}/INBOX/;UID=1;URLAUTH=anonymous"
    await authorized(bob, theirs)
    box = await here.box()
    keys = await here.house.mail.read(urlkeys.of_mailboxes, here.accounts[BOB], [box.id])
    assert await fetched(bob, signed(here, keys[box.id], theirs)) == [PICTURE]
    assert await fetched(bob, signed(here, keys[box.id], ANY)) == [None], "that is Ann's to say"


def signed(room: Room, key: UrlKey, rump: str) -> str:
    """The URL that a key makes of any rump."""
    token = authorizing.signer(room.house.secrets, key)(rump.encode())
    return f"{rump}:INTERNAL:{token.decode()}"


async def test_another_key_takes_all_back(here_both: Room) -> None:
    await here_both.deliver(SMALL, path="Sent")
    ann = await here_both.client()
    sent = f"{ANNS}/Sent/;UID=1;URLAUTH=anonymous"
    one, two = await authorized(ann, ANY, sent)
    reply = await ann.command("RESETKEY INBOX INTERNAL")
    assert (reply.ok, reply.code_data("URLMECH")) == (True, (b"INTERNAL",))
    assert await fetched(ann, one, two) == [None, SMALL]
    (three,) = await authorized(ann, ANY)
    assert three != one
    assert (await ann.command("RESETKEY")).ok
    assert await fetched(ann, one, two, three) == [None] * 3
    assert await fetched(ann, *await authorized(ann, ANY, sent)) == [PICTURE, SMALL]


async def test_keys_of_others_stay_where_one_takes_back_all(here: Room) -> None:
    ann, bob = await here.client(), await here.client(BOB)
    (url,) = await authorized(ann, ANY)
    assert (await bob.command("RESETKEY")).ok
    assert (await bob.command(f"RESETKEY Shared/{ANN}/INBOX")).kind == "NO"
    assert await fetched(bob, url) == [PICTURE]


async def test_a_mailbox_made_anew_under_the_name_is_another(here: Room) -> None:
    ann = await here.client()
    assert (await ann.command("CREATE Plans")).ok
    await here.deliver(SMALL, path="Plans")
    (url,) = await authorized(ann, f"{ANNS}/Plans/;UID=1;URLAUTH=anonymous")
    assert (await ann.command("DELETE Plans")).ok
    assert await fetched(ann, url) == [None]
    assert (await ann.command("CREATE Plans")).ok
    await here.deliver(message("another"), path="Plans")
    assert await fetched(ann, url) == [None]


async def test_a_name_that_another_mailbox_takes_over_is_not_authorized(here: Room) -> None:
    ann = await here.client()
    for path in ("Plans", "Secrets"):
        assert (await ann.command("CREATE ", path)).ok
        await here.deliver(message(path), path=path)
    (url,) = await authorized(ann, f"{ANNS}/Plans/;UID=1;URLAUTH=anonymous")
    assert (await ann.command("RENAME Plans Old")).ok
    assert (await ann.command("RENAME Secrets Plans")).ok
    assert await fetched(ann, url) == [None]


async def test_a_url_sleeps_while_its_owner_may_not_sign_in(here: Room) -> None:
    ann, bob = await here.client(), await here.client(BOB)
    (url,) = await authorized(ann, ANY)
    for state in ("frozen", "disabled"):
        await here.set_state(ANN, state)
        assert await fetched(bob, url) == [None]
    await here.set_state(ANN, "active")
    assert await fetched(bob, url) == [PICTURE]


class Ahead(SystemClock):
    """A clock that is so many milliseconds ahead."""

    ahead = 0

    def now(self) -> Instant:
        return Instant(super().now() + self.ahead)


async def test_a_url_ends_with_its_time_and_with_its_message(here: Room) -> None:
    here.house.clock = clock = Ahead()
    ann = await here.client()
    now = datetime.now(UTC)
    rumps = [
        f"{ONE};EXPIRE={(now + timedelta(minutes=minutes)).isoformat()};URLAUTH=anonymous"
        for minutes in (60, 5)
    ]
    urls = await authorized(ann, *rumps)
    assert await fetched(ann, *urls) == [PICTURE, PICTURE]
    clock.ahead = 10 * 60_000
    assert await fetched(ann, *urls) == [PICTURE, None]
    clock.ahead = 0
    await here.remove([1])
    assert await fetched(ann, *urls) == [None, None]


async def test_a_url_of_a_server_that_has_another_name_now_gives_nothing(here: Room) -> None:
    ann = await here.client()
    (url,) = await authorized(ann, ANY)
    await here.configure("server.hostname", "other.example")
    later = await here.client()  # the settings are looked at when somebody signs in
    assert await fetched(later, url) == [None]


async def test_what_is_for_a_submission_server_nobody_here_fetches(here: Room) -> None:
    ann, bob = await here.client(), await here.client(BOB)
    (url,) = await authorized(ann, f"{ONE};URLAUTH=submit+bob%40{DOMAIN}")
    assert await fetched(ann, url) == [None]
    assert await fetched(bob, url) == [None]


async def test_whether_there_is_a_user_is_not_told(here: Room) -> None:
    ann = await here.client()
    (url,) = await authorized(ann, f"{ONE};URLAUTH=user+nobody%40{DOMAIN}")
    assert await fetched(ann, url) == [None]


async def test_a_url_without_a_token_gives_nothing(here: Room) -> None:
    ann = await here.client()
    assert await fetched(ann, ONE, "/INBOX/;UID=1", ";UID=1", ANY) == [None] * 4


async def test_many_and_huge_urls_are_refused_and_cost_nothing(here: Room) -> None:
    ann = await here.client()
    for many in (51, 2_000):
        reply = await ann.command("URLFETCH", " x" * many)
        assert (reply.kind, reply["URLFETCH"]) == ("BAD", [])
    reply = await ann.command("GENURLAUTH", f' "{ANY}" INTERNAL' * 51)
    assert reply.kind == "BAD"
    huge = ANNS.encode() + b"/" + b"x" * 60_000 + b"/;UID=1;URLAUTH=anonymous"
    assert (await ann.command("GENURLAUTH ", Literal(huge), " INTERNAL")).kind == "BAD"
    reply = await ann.command("URLFETCH ", Literal(huge + b":INTERNAL:" + b"0" * 82))
    assert [each.data[1] for each in reply["URLFETCH"]] == [None]
    reply = await ann.command("URLFETCH ", Literal(b"a b\r\nc \xff"))
    assert [each.data for each in reply["URLFETCH"]] == [(b"a b\r\nc \xff", None)]
    assert (await ann.command("NOOP")).ok


async def test_ten_thousand_urls_share_one_key(here: Room) -> None:
    ann = await here.client()
    seen = set()
    for at in range(0, 10_000, 50):
        seen.update(
            await authorized(
                ann, *(f"{ONE}/;PARTIAL={n}.1;URLAUTH=anonymous" for n in range(at, at + 50))
            )
        )
    assert len(seen) == 10_000
    assert len(await here.house.mail.read(urlkeys.sealed)) == 1


# --- content ------------------------------------------------------------------------------------


async def test_a_large_message_streams(here: Room) -> None:
    body = random.Random(1).randbytes(3 * fetching.SLICE).hex().encode()
    large = SMALL + b"\r\n".join(body[n : n + 76] for n in range(0, len(body), 76))
    await here.deliver(large)
    ann = await here.client()
    url, part = await authorized(
        ann,
        f"{ANNS}/INBOX/;UID=2;URLAUTH=anonymous",
        f"{ANNS}/INBOX/;UID=2/;PARTIAL=200000.{fetching.SLICE + 1};URLAUTH=anonymous",
    )
    assert await fetched(ann, url, part) == [
        large,
        large[200_000 : 200_000 + fetching.SLICE + 1],
    ]


async def test_what_is_damaged_gives_nothing_and_the_session_lives(
    here: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await here.client()
    (url,) = await authorized(ann, ANY)

    def torn(*_: object, **__: object) -> bytes:
        raise Corrupt(detail="torn")

    with monkeypatch.context() as patched:
        patched.setattr(Blobs, "read", torn)
        assert await fetched(ann, url) == [None]
    assert await fetched(ann, url) == [PICTURE]


async def test_without_the_servers_keys_nothing_is_authorized_and_nothing_fetched(
    here: Room, tmp_path: Path
) -> None:
    ann = await here.client()
    (url,) = await authorized(ann, ANY)
    kept = here.house.secrets
    here.house.secrets = Keyring(str(tmp_path / "none"))
    assert await fetched(ann, url) == [None]
    assert (await ann.command(f'GENURLAUTH "{ANY}" INTERNAL')).kind == "NO"
    assert (await ann.command("RESETKEY INBOX")).kind == "NO"
    here.house.secrets = kept
    assert await fetched(ann, url) == [PICTURE]


async def test_a_key_that_was_moved_to_another_mailbox_is_none(here: Room) -> None:
    """Who can write to the store but has not its keys cannot lend one mailbox another's key."""
    await here.deliver(SMALL, user=BOB)
    bob = await here.client(BOB)
    await authorized(bob, f"{BOBS}/INBOX/;UID=1;URLAUTH=anonymous")
    his = (await here.box(user=BOB)).id
    keys = await here.house.mail.read(urlkeys.of_mailboxes, here.accounts[BOB], [his])
    stolen = keys[his]
    lent = UrlKey(stolen.name + 1, here.accounts[ANN], (await here.box()).id, stolen.secret)
    await here.house.mail.write(_lend, lent)
    token = signed(here, stolen, ANY)[-82:]
    named = f"01{lent.name:016x}{token[18:]}"
    assert await fetched(bob, f"{ANY}:INTERNAL:{named}") == [None]


def _lend(tx: Tx, key: UrlKey) -> None:
    tx.run(
        urlkey_tables.PUT,
        name=key.name,
        account=key.account,
        mailbox=key.mailbox,
        secret=key.secret,
    )


# --- all of it ----------------------------------------------------------------------------------


async def test_exactly_what_was_authorized_is_fetched(here: Room) -> None:
    """Whatever one octet becomes, and wherever one comes or goes, the URL is none."""
    ann = await here.client()
    (url,) = await authorized(ann, f"{ONE}/;SECTION=1;URLAUTH=authuser")
    whole = url.encode()
    chance = random.Random(7)
    spoiled: set[bytes] = set()
    for at in range(len(whole)):
        octet = chance.choice(b"0123456789abcdefINBOXUID=;:/%.+@")
        spoiled |= {
            whole[:at] + bytes((octet,)) + whole[at + 1 :],
            whole[:at] + whole[at + 1 :],
            whole[:at] + bytes((octet,)) + whole[at:],
            whole[:at] + bytes((whole[at] ^ 0x20,)) + whole[at + 1 :],
        }
    spoiled.discard(whole)
    # The mechanism alone has no case: RFC 4467 §9.
    name = re.compile(rb":internal:(?=[0-9a-f]+\Z)", re.IGNORECASE)
    spoiled = {each for each in spoiled if name.sub(b":INTERNAL:", each) != whole}
    rest = sorted(each for each in spoiled if b"\0" not in each)
    assert len(rest) > 500
    for at in range(0, len(rest), 49):
        asked: list[str | Literal] = []
        for each in (*rest[at : at + 49], whole):
            asked += [" ", Literal(each, sync=False)]
        reply: Reply = await ann.command("URLFETCH", *asked)
        *wrong, right = [each.data[1] for each in reply["URLFETCH"]]
        assert wrong == [None] * len(wrong)
        assert right == b"the text"
