"""A smart host that asks who we are: over which TLS, with whose password, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from postroom.core.errors import SecretUnreadable
from postroom.core.secrets import Keyring
from postroom.core.settings import SERVER, Place, Scope, Value
from postroom.domain.policy.secrets import secret_of
from postroom.formats.address import parse_mailbox
from postroom.mailflow.nexthop import NextHop, Way, parse_host, parse_next_hop
from postroom.mailflow.relay.smarthost import smart_host
from postroom.mailflow.routing import next_hop
from postroom.net.smtp import Credentials
from postroom.net.tls import client_context
from postroom.testing.house import House
from postroom.testing.internet import Stranger
from postroom.testing.mx import mx_tls
from postroom.testing.plays import Play

ANN, BOB = "ann@a.test", "bob@far.example"
A = Place(Scope.DOMAIN, "a.test")
HUB = "hub.example"
USERS = {"postroom": "swordfish", "a": "trout", "b": "perch"}


class Hub:
    """The house of a.test, and a smart host that takes mail from who signs in."""

    def __init__(self, play: Play, house: House, host: Stranger) -> None:
        self.play = play
        self.house = house
        self.host = host

    async def set(self, at: Place = SERVER, **values: Value) -> None:
        for name, value in values.items():
            full = f"relay.smart_host_{name}" if name != "host" else "relay.smart_host"
            keys, of = self.house.flow.secrets, secret_of(at, full)
            put = keys.seal(str(value), of) if name == "password" else value
            await self.house.set(full, put, at)

    @property
    def signed_in(self) -> list[str | None]:
        """As whom each message was handed over."""
        return [got.user for got in self.host.messages]


def keyed(house: House, folder: Path, ca_file: str) -> None:
    house.flow.secrets = Keyring(str(folder / f"{house.name}.keys"))
    house.flow.secrets.make()
    for worker in house.workers:
        worker.remote._dialer.trusted = client_context(verify=True, ca_file=ca_file)


async def hub(play: Play, folder: Path, *, names: tuple[str, ...] = (HUB,), **how: Any) -> Hub:
    tls = mx_tls(folder, names)
    host = await play.town.server(name=HUB, users=USERS, tls=tls.context, **how)
    house = await play.town.house("a.test", "ann")
    keyed(house, folder, tls.ca_file)
    made = Hub(play, house, host)
    await made.set(host=HUB)
    return made


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "CRAM-MD5 PLAIN"])
async def test_who_has_a_name_signs_in_over_starttls(
    play: Play, tmp_path: Path, mechanisms: str
) -> None:
    it = await hub(play, tmp_path, mechanisms=mechanisms)
    await it.set(user="postroom", password="swordfish")
    letter = await play.submits(ANN, to=BOB)
    await letter.became(BOB, "relayed", host=HUB, verified=True)
    assert it.host.mail_for == [BOB]
    assert it.signed_in == ["postroom"]
    assert it.host.visits[0].tls
    assert not it.host.complaints


async def test_tls_comes_first_where_it_is_implicit(play: Play, tmp_path: Path) -> None:
    it = await hub(play, tmp_path, implicit=True)
    await it.set(user="postroom", password="swordfish", tls="implicit")
    await (await play.submits(ANN, to=BOB)).became(BOB, "relayed")
    assert it.signed_in == ["postroom"]
    assert "STARTTLS" not in it.host.visits[0].commands


async def test_nothing_is_said_where_there_is_no_tls(play: Play, tmp_path: Path) -> None:
    it = await hub(play, tmp_path, without=("STARTTLS",))
    it.host._host.tls = None  # it offers none
    await it.set(user="postroom", password="swordfish")
    letter = await play.submits(ANN, to=BOB)
    assert "STARTTLS" in (await letter.waits(BOB) or "")
    assert it.host.visits
    assert all("AUTH" not in each.commands for each in it.host.visits)
    assert it.host.messages == []


async def test_nothing_is_said_to_who_only_claims_to_be_the_smart_host(
    play: Play, tmp_path: Path
) -> None:
    it = await hub(play, tmp_path, names=("other.example",))
    await it.set(user="postroom", password="swordfish")
    letter = await play.submits(ANN, to=BOB)
    assert "certificate" in (await letter.waits(BOB) or "").lower()
    assert all("AUTH" not in each.commands for each in it.host.visits)
    # Who says that anybody may be believed has said so.
    await it.set(verify=False)
    await play.town.passes(hours=1)
    assert it.signed_in == ["postroom"]


async def test_a_wrong_password_lets_mail_wait_and_says_why(play: Play, tmp_path: Path) -> None:
    it = await hub(play, tmp_path)
    await it.set(user="postroom", password="swordfisk")
    with capture_logs() as logged:
        letter = await play.submits(ANN, to=BOB)
    assert await letter.waits(BOB) == f"{HUB}: sign-in: 535 5.7.8 wrong"
    (said,) = [each for each in logged if each["event"] == "nobody answers"]
    assert "sign-in: 535 5.7.8 wrong" in said["because"]
    assert "swordfisk" not in repr(logged)
    assert len(it.host.visits) == 1  # asked once in a round
    await it.set(password="swordfish")
    await play.town.passes(hours=1)
    assert await letter.waits(BOB) is None
    assert it.signed_in == ["postroom"]
    await play.receives_nothing(ANN)


@pytest.mark.parametrize(
    ("phase", "reply", "setting"),
    [
        ("AUTH", "454 4.7.0 Not now", ""),
        ("AUTH", "534 5.7.9 Too weak", "relay.smart_host_user"),
        ("STARTTLS", "454 4.7.0 Not now", ""),
        ("STARTTLS", "502 5.5.1 What", "relay.smart_host_tls"),
        ("GREETING", "421 4.3.2 Too many", ""),
    ],
)
async def test_what_ends_by_itself_is_no_word_about_a_setting(
    play: Play, tmp_path: Path, phase: str, reply: str, setting: str
) -> None:
    it = await hub(play, tmp_path)
    await it.set(user="postroom", password="swordfish")
    it.host.on(phase, reply=reply)
    with capture_logs() as logged:
        letter = await play.submits(ANN, to=BOB)
    assert (await letter.waits(BOB) or "").startswith(f"{HUB}: ")
    told = [each["setting"] for each in logged if each["log_level"] == "error"]
    assert told == ([setting] if setting else [])
    await letter.became(BOB, *(["waits"] if setting else []))


async def test_a_password_that_is_not_there_or_cannot_be_read_lets_mail_wait(
    play: Play, tmp_path: Path
) -> None:
    it = await hub(play, tmp_path)
    await it.set(user="postroom")
    letter = await play.submits(ANN, to=BOB)
    said = "relay.smart_host_user is set, and relay.smart_host_password is not"
    assert await letter.waits(BOB) == said
    moved = it.house.flow.secrets.seal("swordfish", secret_of(A, "relay.smart_host_password"))
    await it.house.set("relay.smart_host_password", moved)
    await play.town.passes(hours=1)
    assert "moved from where it was set" in (await letter.waits(BOB) or "")
    assert it.host.visits == []
    await it.set(password="swordfish")
    await play.town.passes(hours=2)
    assert it.signed_in == ["postroom"]


async def test_without_a_name_it_is_spoken_to_as_any_server(play: Play, tmp_path: Path) -> None:
    host = await play.town.server(name=HUB)
    house = await play.town.house("a.test", "ann")
    keyed(house, tmp_path, mx_tls(tmp_path, ["x.example"]).ca_file)
    await Hub(play, house, host).set(host=HUB, password="swordfish")
    await (await play.submits(ANN, to=BOB)).became(BOB, "relayed", tls="")
    assert "AUTH" not in host.visits[0].commands


async def test_domains_sign_in_each_with_their_own_and_never_share_a_connection(
    play: Play, tmp_path: Path
) -> None:
    it = await hub(play, tmp_path)
    await it.set(user="postroom", password="swordfish")
    await it.set(A, user="a", password="trout")
    await it.house.domain("b.test")
    await it.house.person("ben@b.test")
    play.town._of_domain["b.test"] = it.house
    await play.submits(ANN, to=BOB, settles=False)
    await play.submits("ben@b.test", to=BOB, settles=False)
    await play.submits(ANN, to="carl@far.example")
    by_sender = {(str(got.mail.reverse_path), got.user) for got in it.host.messages}
    assert by_sender == {(ANN, "a"), ("ben@b.test", "postroom")}
    for visit in it.host.visits:
        users = {got.user for got in it.host.messages if got.connection == visit.number}
        assert len(users) <= 1


async def test_the_servers_password_is_not_told_to_a_host_of_a_domain(
    play: Play, tmp_path: Path
) -> None:
    it = await hub(play, tmp_path)
    own = await play.town.server(name="own.example")
    await it.set(user="postroom", password="swordfish")
    await it.set(A, host="own.example")
    await (await play.submits(ANN, to=BOB)).became(BOB, "relayed", host="own.example")
    assert "AUTH" not in own.visits[0].commands
    # Half of an own sign-in is none of the server's either.
    await it.set(A, user="a")
    flow = it.house.flow
    hop = next_hop(parse_mailbox(BOB), flow.policies.latest(flow.chain("", "a.test")))
    with pytest.raises(SecretUnreadable, match="is not"):
        await smart_host(flow, hop)


async def test_nothing_is_said_to_a_smart_host_that_is_one_no_more(
    play: Play, tmp_path: Path
) -> None:
    it = await hub(play, tmp_path)
    await it.set(user="postroom", password="swordfish")
    flow = it.house.flow
    found = await smart_host(flow, parse_host(HUB))
    assert found is not None
    assert found.credentials == Credentials("postroom", "swordfish")
    assert await smart_host(flow, parse_host(f"{HUB}:2525")) is None
    assert await smart_host(flow, NextHop(Way.EXCHANGERS, HUB)) is None
    await it.set(host="new.example:465")
    assert await smart_host(flow, parse_host(HUB)) is None
    submissions = await smart_host(flow, parse_host("new.example:465"))
    assert submissions is not None
    assert (submissions.tls, submissions.implicit) == (True, True)


@pytest.mark.parametrize(
    ("wanted", "port", "user", "tls", "implicit"),
    [
        ("auto", 587, True, True, False),
        ("auto", 587, False, False, False),
        ("auto", 465, False, True, True),
        ("starttls", 465, True, True, False),
        ("starttls", 587, False, True, False),
        ("implicit", 587, False, True, True),
    ],
)
async def test_what_is_asked_of_tls(
    play: Play, tmp_path: Path, wanted: str, port: int, user: bool, tls: bool, implicit: bool
) -> None:
    house = await play.town.house("a.test")
    keyed(house, tmp_path, mx_tls(tmp_path, ["x.example"]).ca_file)
    it = Hub(play, house, Stranger("127.0.0.9", 1))
    await it.set(host=f"{HUB}:{port}", tls=wanted)
    if user:
        await it.set(user="postroom", password="swordfish")
    found = await smart_host(house.flow, parse_host(f"{HUB}:{port}"))
    assert found is not None
    assert (found.tls, found.implicit, found.verify) == (tls, implicit, True)


def test_a_next_hop_is_read_back_with_its_sender() -> None:
    for hop in (
        NextHop(Way.HOST, "192.0.2.1", 0),  # as an earlier release wrote it
        NextHop(Way.HOST, "no.host.at.all.1", 25, "a.test"),
        NextHop(Way.HOST, HUB, 587, "a.test"),
        NextHop(Way.HOST, "[192.0.2.1]", 0, "a.test"),
        NextHop(Way.HOST, "[IPv6:2001:db8::1]", 25),
        NextHop(Way.EXCHANGERS, "far.example"),
    ):
        assert parse_next_hop(str(hop)) == hop
    assert str(NextHop(Way.HOST, HUB, 587, "a.test")) == "host:hub.example:587 for a.test"
