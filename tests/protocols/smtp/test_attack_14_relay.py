"""Attack classes 14 and 16: nobody relays through port 25, and nobody learns who lives here."""

from __future__ import annotations

import re
import statistics
import time
from pathlib import Path

import pytest

from postroom.core.errors import Status
from postroom.domain.directory import people
from postroom.formats.address import parse_mailbox
from tests.mailflow.doors import ANN as ME
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, Mx, message, serve
from tests.stores import open_mail

BOB = f"bob@{DOMAIN}"
ANN = "ann@elsewhere.example"
FAR = "far.example"

SENDERS = [ANN, "", "postmaster@far.example", "spam@[127.0.0.1]", "spam@localhost"]

# The classic battery: each must be refused, whoever says it comes from.
RELAYS = [
    f"victim@{FAR}",
    f"victim%{FAR}@{DOMAIN}",
    f"victim%{FAR}@[127.0.0.1]",
    f'"victim@{FAR}"@{DOMAIN}',
    f'"victim%{FAR}"@{DOMAIN}',
    f"{FAR}!victim@{DOMAIN}",
    f"{DOMAIN}!victim@{FAR}",
    f"@{DOMAIN}:victim@{FAR}",
    f"@{DOMAIN},@{FAR}:victim@{FAR}",
    f"@[127.0.0.1]:victim@{FAR}",
    "victim@[127.0.0.1]",
    "victim@[IPv6:::1]",
    "victim@[IPv6:::ffff:127.0.0.1]",
    "victim@localhost",
    f"victim@mail.{DOMAIN}",  # our own host name is no domain of mail
    f"victim@sub.{DOMAIN}",
    f"victim@{DOMAIN}.{FAR}",
    f"victim@{DOMAIN}\u3002{FAR}",
    f"bob@{DOMAIN}@{FAR}",
    f"bob@{FAR}@{DOMAIN}",
    f"bob@{DOMAIN} <victim@{FAR}>",
    f'"{BOB}" <victim@{FAR}>',
    f"{BOB},victim@{FAR}",
    f"bob\\@{DOMAIN}@{FAR}",
    "victim@",
    "victim",
    "Postmaster@" + FAR,
]


@pytest.mark.parametrize("sender", SENDERS)
async def test_attack_14_no_form_of_a_foreign_address_is_relayed(mx: Mx, sender: str) -> None:
    bob = await mx.account(BOB)
    await mx.set("smtp.max_refused", 0)
    for utf8 in ("", " SMTPUTF8"):
        for to in RELAYS:
            async with mx.connect() as client:
                await client.ask(f"MAIL FROM:<{sender}>{utf8}", 250)
                refused = await client.ask(f"RCPT TO:<{to}>")
                assert refused.permanent, (to, str(refused))
                await client.ask("DATA", 554)
    assert await mx.count(bob) == 0
    assert not await mx.waiting()


async def test_attack_14_a_source_route_to_a_user_of_ours_is_dropped_not_followed(mx: Mx) -> None:
    """RFC 5321 Appendix C, F.2: the route is ignored."""
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await client.ask(f"MAIL FROM:<@a.example,@b.example:{ANN}>", 250)
        await client.ask(f"RCPT TO:<@{FAR}:{BOB}>", 250)
        await client.ask("DATA", 354)
        assert (await client.content(message())).code == 250
    assert (await mx.content(bob))[0].startswith(b"Return-Path: <ann@elsewhere.example>\r\n")


async def test_attack_14_a_sender_of_ours_has_to_sign_in(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        for sender in (BOB, f"nobody@{DOMAIN}", f"@{FAR}:{BOB}", f'"bob"@{DOMAIN.upper()}'):
            refused = await client.ask(f"MAIL FROM:<{sender}>", 530)
            assert refused.status == Status(5, 7, 0)


@pytest.mark.parametrize("host", ["::1", "::"])
async def test_attack_14_a_peer_by_ipv6_or_mapped_is_no_more_trusted(
    tmp_path: Path, host: str
) -> None:
    """On a dual-stack socket IPv4 peers come as ::ffff:127.0.0.1."""
    mail, state = open_mail("sqlite", str(tmp_path))
    try:
        async with serve(tmp_path, mail, state, host=host) as mx:
            bob = await mx.account(BOB)
            async with mx.connect(host="::1" if host == "::1" else "127.0.0.1") as client:
                for to in RELAYS[:12]:
                    await client.ask(f"MAIL FROM:<{ANN}>", 250)
                    assert (await client.ask(f"RCPT TO:<{to}>")).permanent
                    await client.ask("RSET", 250)
                assert (await client.deliver(ANN, [BOB], message())).accepted
            stored = (await mx.content(bob))[0]
            shown = b"IPv6:::1" if host == "::1" else b"[127.0.0.1]"
            assert shown in stored and b"ffff" not in stored
    finally:
        await mail.close()
        await state.close()


async def test_attack_14_at_the_door_of_submission_a_stranger_relays_nothing(doors: Doors) -> None:
    """Neither before TLS nor after it, nor by what a sign-in left half done."""
    for tls in (False, True):
        async with doors.open(tls=tls) as client:
            for sender in (*SENDERS, ME):
                assert (await client.ask(f"MAIL FROM:<{sender}>")).permanent
            await client.ask(f"RCPT TO:<victim@{FAR}>", 503)
            refused = await client.ask("AUTH PLAIN AGFubgB3cm9uZw==")
            assert refused.code == (535 if tls else 538)
            refused = await client.ask(f"MAIL FROM:<{ME}>", 530)
            assert refused.status == Status(5, 7, 0)
            await client.ask("DATA", 503)
    assert not await doors.mx.waiting()


async def test_attack_14_a_cancelled_sign_in_opens_nothing(doors: Doors) -> None:
    async with doors.open() as client:
        await client.ask("AUTH LOGIN", 334)
        await client.ask("YW5u", 334)
        await client.ask("*", 501)
        await client.ask(f"MAIL FROM:<{ME}>", 530)


async def test_attack_14_who_signed_in_sends_to_the_address_that_he_says_and_no_other(
    doors: Doors,
) -> None:
    """No form of an address is taken apart: % and ! mean nothing, a route is dropped."""
    mx = doors.mx
    await mx.set("smtp.max_refused", 0)
    gone: dict[str, list[str]] = {}
    for to in RELAYS:
        async with doors.signed_in() as client:
            await client.ask(f"MAIL FROM:<{ME}>", 250)
            if (await client.ask(f"RCPT TO:<{to}>")).positive:
                await client.ask("DATA", 354)
                assert (await client.content(b"From: <ann@example.test>\r\n\r\nx\r\n")).code == 250
                gone[to] = [row.address for row, _ in await doors.outgoing()][len(gone) :]
    route = f"@{DOMAIN}:victim@{FAR}"
    for to, addresses in gone.items():
        told = to.rpartition(":")[2] if to.startswith("@") else to
        assert addresses == [str(parse_mailbox(told))], (to, addresses)
    assert gone[f"victim@{FAR}"] and gone[route] == [f"victim@{FAR}"]
    assert f"victim%{FAR}@{DOMAIN}" not in gone
    assert f'"victim@{FAR}"@{DOMAIN}' not in gone


async def test_attack_14_the_socket_for_programs_relays_nothing(doors: Doors) -> None:
    bob = await doors.mx.account(BOB)
    await doors.mx.set("smtp.max_refused", 0)
    for sender in (*SENDERS, BOB, ME):
        async with doors.local() as client:
            await client.ask(f"MAIL FROM:<{sender}> SMTPUTF8", 250)
            for to in RELAYS:
                refused = await client.ask(f"RCPT TO:<{to}>")
                assert refused.permanent, (to, str(refused))
            await client.ask("DATA", 503)
    assert await doors.mx.count(bob) == 0
    assert not await doors.mx.waiting()


async def test_attack_14_a_sign_in_on_one_connection_is_none_on_another(doors: Doors) -> None:
    async with doors.signed_in() as client, doors.open() as other, doors.mx.connect() as mx:
        await client.ask(f"MAIL FROM:<{ME}>", 250)
        await other.ask(f"MAIL FROM:<{ME}>", 530)
        await mx.ask(f"MAIL FROM:<{ME}>", 530)


# --- attack class 16 ----------------------------------------------------------------------------

_ID = re.compile(r"r[0-9a-z]{13}")


async def test_attack_16_vrfy_and_expn_tell_nothing(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        for verb in ("VRFY", "EXPN"):
            told = {str(await client.ask(f"{verb} {who}")) for who in (BOB, "bob", "nobody", "@")}
            assert len(told) == 1


async def test_attack_16_refusals_differ_in_nothing_but_their_trace(mx: Mx) -> None:
    """Unknown, disabled, an alias that leads to neither: one and the same answer."""
    await mx.account(BOB)
    await mx.alias(f"gone@{DOMAIN}", BOB)
    found = await mx.house.mail.read(people.account, parse_mailbox(BOB))
    await mx.house.mail.write(people.set_state, found, "disabled")
    await mx.set("smtp.max_refused", 0)
    async with mx.connect() as client:
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        told = {
            _ID.sub("ID", str(await client.ask(f"RCPT TO:<{who}@{DOMAIN}>")))
            for who in ("nobody", "root", "a" * 64, "x+y", '"a b"', "bob", "gone", "bob+x")
        }
        assert told == {"550 5.1.1 No such recipient here (ID)"}
        far = {
            _ID.sub("ID", str(await client.ask(f"RCPT TO:<{who}@far.example>")))
            for who in ("nobody", "root", "bob")
        }
        assert far == {"550 5.7.1 Relaying is not allowed (ID)"}


async def test_attack_16_who_guesses_is_closed_on_and_begins_again(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        await client.send(
            f"MAIL FROM:<{ANN}>\r\n".encode()
            + b"".join(f"RCPT TO:<g{n}@{DOMAIN}>\r\n".encode() for n in range(100))
        )
        replies = await client.rest()
    assert [reply.code for reply in replies] == [250] + [550] * 20 + [421]
    assert replies[-1].status == Status(4, 7, 0)


async def test_attack_16_reset_and_tls_forgive_no_guesses(mx: Mx) -> None:
    async with mx.connect() as client:
        for n in range(20):
            await client.ask(f"MAIL FROM:<{ANN}>", 250)
            await client.ask(f"RCPT TO:<g{n}@{DOMAIN}>", 550)
            await client.ask("RSET" if n % 2 else "EHLO x", 250)
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        await client.ask(f"RCPT TO:<postmaster@{DOMAIN}>", 421)
        assert not await client.rest()


async def test_attack_16_refusing_takes_no_longer_for_one_kind_than_for_another(mx: Mx) -> None:
    """Medians within a factor of 2: an address that never was, and one with the same stem."""
    await mx.account(BOB)
    await mx.set("smtp.max_refused", 0)
    took: dict[str, list[float]] = {"nobody": [], "bo": [], "bob.": [], "zz": []}
    async with mx.connect() as client:
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        for n in range(60):
            for who, times in took.items():
                begun = time.perf_counter()
                await client.ask(f"RCPT TO:<{who.rstrip('.')}{n}@{DOMAIN}>", 550)
                times.append(time.perf_counter() - begun)
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) < 2 * min(medians)
