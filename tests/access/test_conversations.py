"""postroom.access: SASL conversations, on both engines."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from postroom.access import (
    Attempt,
    Authenticator,
    Challenge,
    Conversation,
    Identity,
    NotOffered,
    Outcome,
    Reason,
    SessionFacts,
)
from postroom.core.clock import Instant
from postroom.core.errors import (
    AuthUnavailable,
    EncryptionRequired,
    MailError,
    Malformed,
    NotAllowed,
    NotAuthenticated,
    Status,
)
from postroom.core.ids import Ids
from postroom.core.settings import Role
from postroom.domain.directory import people, tables
from postroom.domain.directory.people import NewAccount, Verifiers
from postroom.domain.policy import Policies
from postroom.formats.address import parse_mailbox
from postroom.net.connection import Peer
from postroom.net.tls import TlsFacts
from postroom.store.sql import Tx
from postroom.wire.sasl import (
    Client,
    LoginClient,
    PlainClient,
    ScramClient,
    parse_server_first,
)
from tests.access.doors import HERE, RIGHT, THERE, Door

ENDPOINT = bytes(range(32))
SCRAM, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
ANN = "ann@example.org"


def facts(ip: str = HERE, *, binding: bytes = b"", encrypted: bool = True) -> SessionFacts:
    return SessionFacts(ip_address(ip), "imaps", "imap", encrypted, binding)


def scram(password: str = RIGHT, login: str = ANN, *, authzid: str = "") -> ScramClient:
    return ScramClient(SCRAM, login, password, "client-nonce", authzid=authzid)


def bound(password: str = RIGHT, binding: bytes = ENDPOINT) -> ScramClient:
    return ScramClient(PLUS, ANN, password, "client-nonce", binding=binding)


async def converse(
    door: Door, client: Client, session: SessionFacts, *, at_once: bool = True
) -> Identity:
    """The client's side against ours, to the end; `at_once` gives an initial response."""
    conversation = door.authenticator.begin(client.name, session)
    response = client.start() if at_once else None
    said = await conversation.step(response)
    if not at_once and (late := client.start()) is not None:
        assert said == Challenge(b"")
        said = await conversation.step(late)
    while isinstance(said, Challenge):
        answer = client.step(said.data)
        assert answer is not None, client.problem
        said = await conversation.step(answer)
    assert client.done
    return said


async def enter(door: Door, client: Client, session: SessionFacts | None = None) -> Reason:
    """How it ended, and that a refusal says nothing of why."""
    before = len(door.told)
    try:
        await converse(door, client, session or facts())
    except NotAuthenticated as error:
        assert str(error) == NotAuthenticated.sentence
    assert len(door.told) == before + 1  # told once
    return door.told[-1].reason


async def challenged(
    door: Door, client: ScramClient, session: SessionFacts | None = None
) -> tuple[Conversation, bytes]:
    """A conversation up to the server's challenge, and the client's final message to it."""
    conversation = door.authenticator.begin(client.name, session or facts())
    said = await conversation.step(client.start())
    assert isinstance(said, Challenge)
    final = client.step(said.data)
    assert final is not None
    return conversation, final


async def without_scram(door: Door) -> None:
    """As if the password was set before SCRAM was there."""

    def unit(tx: Tx) -> None:
        tx.run(tables.DELETE_CREDENTIAL, principal=door.account, kind=people.SCRAM)

    await door.stores.mail.write(unit)


# --- the ways in --------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: PlainClient("ann", RIGHT),
        lambda: PlainClient(ANN, RIGHT, authzid="ANN@example.org"),
        lambda: LoginClient("Ann@example.org", RIGHT),
        scram,
        lambda: scram(login="ann", authzid=ANN),
        bound,
    ],
    ids=["plain", "plain-acting", "login", "scram", "scram-acting", "scram-plus"],
)
async def test_each_mechanism_says_who_it_is(
    door: Door, make: Callable[[], Client], at_once: bool
) -> None:
    client = make()
    binding = ENDPOINT if client.name == PLUS else b""
    who = await converse(door, client, facts(binding=binding), at_once=at_once)
    assert (who.account, str(who.address), who.epoch) == (door.account, "Ann@example.org", 2)
    assert door.told == [Outcome(Reason.RIGHT, who)]


async def test_login_takes_the_name_as_initial_response(door: Door) -> None:
    conversation = door.authenticator.begin("LOGIN", facts())
    assert await conversation.step(b"ann") == Challenge(b"Password:")
    assert isinstance(await conversation.step(RIGHT.encode()), Identity)


async def test_what_is_offered_depends_on_the_channel(door: Door) -> None:
    offer = door.authenticator.mechanisms
    assert offer(facts(encrypted=False)) == ()
    assert offer(facts()) == (SCRAM, "PLAIN", "LOGIN")
    assert offer(facts(binding=ENDPOINT)) == (PLUS, SCRAM, "PLAIN", "LOGIN")
    for mechanism in (PLUS, SCRAM, "PLAIN", "LOGIN"):
        with pytest.raises(EncryptionRequired):
            door.authenticator.begin(mechanism, facts(encrypted=False))
    for mechanism in ("CRAM-MD5", "SCRAM-SHA-1", "plain", ""):
        with pytest.raises(NotOffered):
            door.authenticator.begin(mechanism, facts(encrypted=False))
    with pytest.raises(NotOffered):
        door.authenticator.begin(PLUS, facts())
    assert NotOffered.status == Status(5, 5, 4)  # RFC 4954 §4


def test_a_sessions_facts_share_what_its_certificate_holds() -> None:
    tls = TlsFacts("TLSv1.3", "x", 256, None, "default", None, ENDPOINT)
    ip = ip_address(HERE)
    told = SessionFacts.of(Peer(ip, 1, ip, 2, "imaps", tls), "IMAP")
    assert told == SessionFacts(ip, "imaps", "IMAP", True, ENDPOINT)
    assert told.binding is ENDPOINT
    plain = SessionFacts.of(Peer(ip, 1, ip, 2, "imap"), "IMAP")
    assert (plain.encrypted, plain.binding) == (False, b"")


async def test_scram_needs_no_hashing_thread(door: Door) -> None:
    """A flood of guesses by PLAIN keeps nobody out who proves the password."""
    await door.set("access.hash_queue", 1)
    await door.authenticator.close()  # none is left
    assert await enter(door, scram()) is Reason.RIGHT


# --- refused ------------------------------------------------------------------------------------


async def test_who_does_not_know_the_password_stays_out(door: Door) -> None:
    assert await enter(door, scram("incorrect horse")) is Reason.WRONG
    assert await enter(door, bound("incorrect horse"), facts(binding=ENDPOINT)) is Reason.WRONG
    assert await enter(door, scram(RIGHT, "bob")) is Reason.UNKNOWN
    assert await enter(door, scram(RIGHT, '"; DROP TABLE credential; --')) is Reason.UNKNOWN
    assert await enter(door, LoginClient("ann", "incorrect horse")) is Reason.WRONG
    assert await enter(door, PlainClient("bob", RIGHT)) is Reason.UNKNOWN


@pytest.mark.parametrize("state", ["frozen", "disabled"])
async def test_an_account_that_is_not_active_lets_nobody_in(door: Door, state: str) -> None:
    account = await door.stores.mail.read(people.by_id, door.account)
    await door.stores.mail.write(people.set_state, account, state)
    assert await enter(door, scram()) is Reason.NOT_ACTIVE
    assert await enter(door, scram("incorrect horse")) is Reason.WRONG
    await door.stores.mail.write(people.set_state, account, "active")
    assert await enter(door, scram()) is Reason.RIGHT


async def test_nobody_acts_for_another(door: Door) -> None:
    assert await enter(door, scram(authzid="bob@example.org")) is Reason.NOT_GRANTED
    assert await enter(door, PlainClient("ann", RIGHT, authzid="bob")) is Reason.NOT_GRANTED


async def test_a_final_message_is_good_for_one_conversation(door: Door) -> None:
    conversation, final = await challenged(door, scram())
    assert isinstance(await conversation.step(final), Challenge)
    assert isinstance(await conversation.step(b""), Identity)
    again = door.authenticator.begin(SCRAM, facts())
    assert isinstance(await again.step(scram().start()), Challenge)
    with pytest.raises(NotAuthenticated):
        await again.step(final)
    assert door.told[-1].reason is Reason.WRONG


async def test_a_password_that_changes_in_between_is_the_old_one(door: Door) -> None:
    conversation, final = await challenged(door, scram())
    await door.set_password("another horse")
    with pytest.raises(NotAuthenticated):
        await conversation.step(final)
    assert await enter(door, scram()) is Reason.WRONG
    assert await enter(door, scram("another horse")) is Reason.RIGHT


async def test_an_account_that_is_frozen_in_between_stays_out(door: Door) -> None:
    conversation, final = await challenged(door, scram())
    account = await door.stores.mail.read(people.by_id, door.account)
    await door.stores.mail.write(people.set_state, account, "frozen")
    with pytest.raises(NotAuthenticated):
        await conversation.step(final)
    assert door.told[-1].reason is Reason.NOT_ACTIVE


# --- the channel --------------------------------------------------------------------------------


async def test_another_channel_is_refused_and_is_no_guess(door: Door) -> None:
    await door.set("access.wrong_passwords", 1)
    elsewhere = bound(binding=ENDPOINT[::-1])
    for _ in range(3):
        assert await enter(door, elsewhere, facts(binding=ENDPOINT)) is Reason.CHANNEL
        elsewhere = bound(binding=ENDPOINT[::-1])
    # It could bind, and somebody took the offer away. RFC 5802 §6
    stripped = ScramClient(SCRAM, ANN, RIGHT, "client-nonce", binding=ENDPOINT)
    assert await enter(door, stripped, facts(binding=ENDPOINT)) is Reason.CHANNEL
    assert await enter(door, bound(), facts(binding=ENDPOINT)) is Reason.RIGHT


async def test_channel_binding_may_be_left_out_of_the_offer(door: Door) -> None:
    await door.set("access.channel_binding", False)
    await door.enter(password="whoever reads the store next has the setting")
    assert PLUS not in door.authenticator.mechanisms(facts(binding=ENDPOINT))
    with pytest.raises(NotOffered):
        door.authenticator.begin(PLUS, facts(binding=ENDPOINT))
    # It could bind and saw no -PLUS: this time that is true.
    could = ScramClient(SCRAM, ANN, RIGHT, "client-nonce", binding=ENDPOINT)
    assert await enter(door, could, facts(binding=ENDPOINT)) is Reason.RIGHT


async def test_who_cannot_bind_signs_in_without(door: Door) -> None:
    assert await enter(door, scram(), facts(binding=ENDPOINT)) is Reason.RIGHT


# --- who exists ---------------------------------------------------------------------------------


async def shown(at: Authenticator, login: str) -> tuple[bytes, int, int]:
    """The salt and count that a stranger is shown, and the length of it all."""
    conversation = at.begin(SCRAM, facts(ip="127.0.0.1"))
    said = await conversation.step(scram(login=login).start())
    assert isinstance(said, Challenge)
    conversation.abandon()
    first = parse_server_first(said.data)
    return first.salt, first.iterations, len(said.data)


async def test_nobody_tells_by_the_challenge_who_exists(door: Door) -> None:
    """attacks.md, class 16."""
    other = Authenticator(  # of another worker, or after a restart
        door.stores.mail,
        door.clock,
        Policies(),
        Ids(door.clock, worker=1),
        default_domain=lambda: "example.org",
    )
    seen = {}
    for login in ("ann", "bob", "cat@elsewhere.example"):
        seen[login] = await shown(door.authenticator, login)
        assert await shown(door.authenticator, login) == seen[login]
        assert await shown(other, login) == seen[login]
    assert len({salt for salt, _, _ in seen.values()}) == 3
    assert len({(count, size) for _, count, size in seen.values()}) == 1
    # One account, or none, whatever way it is written.
    assert await shown(other, "BOB@Example.ORG") == seen["bob"]
    assert await shown(other, "ANN@Example.ORG") == seen["ann"]
    await other.close()


async def test_an_account_without_verifier_looks_like_one_that_is_not_there(door: Door) -> None:
    new = NewAccount(parse_mailbox("bob@example.org"), "Bob", Role.USER, None)
    before = await shown(door.authenticator, "bob")
    await door.stores.mail.write(lambda tx: people.create_account(tx, new, iter((20,)), Instant(1)))
    assert await shown(door.authenticator, "bob") == before
    assert await enter(door, scram(RIGHT, "bob")) is Reason.NO_VERIFIER


async def test_saying_the_password_makes_the_verifier_to_prove_it_by(door: Door) -> None:
    await without_scram(door)
    assert await enter(door, scram()) is Reason.NO_VERIFIER
    assert await enter(door, PlainClient("ann", "incorrect horse")) is Reason.WRONG
    assert await enter(door, scram()) is Reason.NO_VERIFIER
    assert await enter(door, PlainClient("ann", RIGHT)) is Reason.RIGHT
    assert await enter(door, scram()) is Reason.RIGHT


async def test_a_damaged_verifier_is_a_temporary_failure_until_the_password_is_said(
    door: Door,
) -> None:
    held = (await door.secrets())[people.PASSWORD]
    await door.replace(Verifiers(held, "damaged"))
    with pytest.raises(AuthUnavailable):
        await enter(door, scram())
    assert door.told == [Outcome(Reason.UNAVAILABLE)]
    assert await enter(door, PlainClient("ann", RIGHT)) is Reason.RIGHT
    assert await enter(door, scram()) is Reason.RIGHT


async def test_a_renewal_never_brings_back_the_password_that_was(door: Door) -> None:
    mail, number = door.stores.mail, 5000
    for n in range(20):
        held = (await door.secrets())[people.PASSWORD]
        late, new = Verifiers(f"old {n}", f"old {n}"), Verifiers(f"new {n}", f"new {n}")
        await asyncio.gather(
            mail.write(
                people.renew_secret, door.account, held, late, (number, number + 1), Instant(3)
            ),
            mail.write(people.set_secret, door.account, new, (number + 2, number + 3), Instant(3)),
        )
        number += 4
        assert set((await door.secrets()).values()) == {f"new {n}"}


async def test_the_clock_does_not_tell_who_exists(door: Door) -> None:
    if door.stores.engine != "sqlite":
        pytest.skip("a round trip to the database hides more than this measures")

    async def took(login: str) -> float:
        before = time.perf_counter()
        await shown(door.authenticator, login)
        return time.perf_counter() - before

    known, unknown = [], []
    for _ in range(200):
        known.append(await took("ann"))
        unknown.append(await took("bob"))
    # The quickest of many: what the machine does beside adds to the others only.
    quickest = [statistics.mean(sorted(times)[:20]) for times in (known, unknown)]
    assert max(quickest) < 1.3 * min(quickest)


# --- guessing -----------------------------------------------------------------------------------


async def test_guessing_is_throttled_there_and_not_elsewhere(door: Door) -> None:
    await door.set("access.wrong_passwords", 3)
    for n in range(3):
        assert await enter(door, scram(f"guess {n}")) is Reason.WRONG
    assert await enter(door, scram()) is Reason.THROTTLED
    assert await enter(door, PlainClient("ann", RIGHT)) is Reason.THROTTLED
    assert await enter(door, LoginClient("ann", RIGHT)) is Reason.THROTTLED
    assert await enter(door, scram(), facts(THERE)) is Reason.RIGHT
    door.clock.advance(901)
    assert await enter(door, scram()) is Reason.RIGHT


async def test_guesses_count_whatever_mechanism_they_come_by(door: Door) -> None:
    await door.set("access.wrong_passwords", 3)
    assert await enter(door, scram("guess")) is Reason.WRONG
    assert await enter(door, PlainClient("ann", "guess")) is Reason.WRONG
    assert await enter(door, LoginClient("ann", "another guess")) is Reason.WRONG
    assert await enter(door, scram()) is Reason.THROTTLED


async def test_an_unknown_account_is_throttled_alike(door: Door) -> None:
    await door.set("access.wrong_passwords", 3)
    for n in range(3):
        assert await enter(door, scram(f"guess {n}", "nobody")) is Reason.UNKNOWN
    assert await enter(door, scram(RIGHT, "nobody")) is Reason.THROTTLED


async def test_conversations_side_by_side_guess_no_more_than_others(door: Door) -> None:
    """All have their challenge before the first guess is counted."""
    await door.set("access.wrong_passwords", 3)
    guesses = [await challenged(door, scram(f"guess {n}")) for n in range(6)]
    guesses.append(await challenged(door, scram()))
    for conversation, final in guesses:
        with pytest.raises(NotAuthenticated):
            await conversation.step(final)
    reasons = [outcome.reason for outcome in door.told]
    assert reasons == [Reason.WRONG] * 3 + [Reason.THROTTLED] * 4


# --- hooks, and conversations that end early -----------------------------------------------------


@dataclass
class Heard:
    attempts: list[Attempt]

    async def before(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)


@pytest.mark.parametrize(
    "make", [scram, lambda: PlainClient(ANN, RIGHT), lambda: LoginClient(ANN, RIGHT)]
)
async def test_hooks_hear_of_each_attempt_once(door: Door, make: Callable[[], Client]) -> None:
    heard = Heard([])
    door.authenticator.before.append(heard.before)
    client = make()
    assert await enter(door, client) is Reason.RIGHT
    (attempt,) = heard.attempts
    assert (attempt.mechanism, attempt.login, attempt.listener) == (client.name, ANN, "imaps")
    assert (attempt.password is None) == (client.name == SCRAM)
    assert await enter(door, scram("wrong")) is Reason.WRONG
    assert len(heard.attempts) == 2


async def test_a_hook_may_refuse_before_a_challenge_is_shown(door: Door) -> None:
    async def refuse(attempt: Attempt) -> None:
        raise NotAllowed("not from there")

    door.authenticator.before.append(refuse)
    conversation = door.authenticator.begin(SCRAM, facts())
    with pytest.raises(NotAllowed):
        await conversation.step(scram().start())
    assert door.told == [Outcome(Reason.STOPPED)]
    conversation.abandon()
    assert len(door.told) == 1


async def test_what_is_abandoned_is_no_guess_and_is_told_once(door: Door) -> None:
    await door.set("access.wrong_passwords", 1)
    for _ in range(3):
        conversation, final = await challenged(door, scram("incorrect horse"))
        conversation.abandon()
        conversation.abandon()
        with pytest.raises(Malformed):
            await conversation.step(final)
    assert door.told == [Outcome(Reason.ABANDONED)] * 3
    conversation, final = await challenged(door, scram())
    await conversation.step(final)
    conversation.abandon()  # the client did not believe us
    assert door.told[3:] == [Outcome(Reason.ABANDONED)]
    assert await enter(door, scram()) is Reason.RIGHT
    conversation.abandon()
    assert len(door.told) == 5


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", SCRAM])
async def test_what_was_not_begun_is_not_told(door: Door, mechanism: str) -> None:
    door.authenticator.begin(mechanism, facts()).abandon()
    conversation = door.authenticator.begin(mechanism, facts())
    await conversation.step(None)
    conversation.abandon()
    for response in (None, b"", b"ann"):
        with pytest.raises(Malformed):
            await conversation.step(response)
    assert door.told == []


async def test_a_conversation_ends_with_what_it_cannot_understand(door: Door) -> None:
    for mechanism, messages in (
        ("PLAIN", [b"ann"]),
        ("LOGIN", [b"ann", b"\xff"]),
        ("LOGIN", [None, b"a\0b"]),
        (SCRAM, [b"n,,"]),
        (SCRAM, [b"n,,m=1,n=ann,r=abc"]),
    ):
        conversation = door.authenticator.begin(mechanism, facts())
        for message in messages[:-1]:
            assert isinstance(await conversation.step(message), Challenge)
        with pytest.raises(Malformed):
            await conversation.step(messages[-1])
        with pytest.raises(Malformed):
            await conversation.step(b"")
    assert door.told == []  # nobody was named
    conversation, _ = await challenged(door, scram())
    with pytest.raises(Malformed):
        await conversation.step(b"c=biws")
    conversation, final = await challenged(door, scram())
    assert isinstance(await conversation.step(final), Challenge)
    with pytest.raises(Malformed):
        await conversation.step(b"and another thing")
    assert door.told == [Outcome(Reason.ABANDONED)] * 2


async def test_a_conversation_ends_with_its_identity(door: Door) -> None:
    for mechanism, message in (("PLAIN", b"\0ann\0" + RIGHT.encode()), ("LOGIN", b"ann")):
        conversation = door.authenticator.begin(mechanism, facts())
        said = await conversation.step(message)
        if isinstance(said, Challenge):
            said = await conversation.step(RIGHT.encode())
        assert isinstance(said, Identity)
        with pytest.raises(Malformed):
            await conversation.step(message)
        conversation.abandon()
    assert len(door.told) == 2


async def test_a_store_that_fails_is_not_a_wrong_proof(door: Door) -> None:
    conversation, final = await challenged(door, scram())

    class Broken:
        async def read(self, *args: object) -> object:
            raise MailError(detail="disk on fire")

    door.authenticator._mail = Broken()  # type: ignore[assignment]  # only what is called
    with pytest.raises(AuthUnavailable):
        await conversation.step(final)
    with pytest.raises(AuthUnavailable):
        await door.authenticator.begin(SCRAM, facts()).step(scram().start())
    assert door.told == [Outcome(Reason.UNAVAILABLE)] * 2
