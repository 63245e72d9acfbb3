"""The client over real sockets: waits, lost lines, TLS, sign-in, reuse, LMTP."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest

from postroom.core.errors import (
    CertificateRefused,
    ConnectFailed,
    ConnectionLost,
    Misuse,
    Status,
    TlsFailed,
)
from postroom.net.connection import Connection
from postroom.net.smtp import (
    Credentials,
    Fate,
    LocalTarget,
    NeedsDowngrade,
    OpenFailed,
    Phase,
    SmtpChannel,
    Target,
    TlsMode,
    TlsWish,
)
from postroom.net.tls import client_context
from postroom.testing.mx import RemoteMx, mx_tls
from postroom.wire.smtp import Body, Mail

from .sending import HELLO, SENDER, SHORT, Octets, channel_to, codes, fates, rcpts, wheel

D, T, P = Fate.DELIVERED, Fate.TEMPORARY, Fate.PERMANENT
QUICK = replace(SHORT, greeting=0.2, hello=0.2, mail=0.2, rcpt=0.2, data=0.2, block=0.4, end=0.2)
LARGE = Octets((b"x" * 98 + b"\r\n") * 80_000)
BELIEVING = client_context(verify=False)


def may(name: str = "mx.example") -> TlsWish:
    return TlsWish(TlsMode.MAY, BELIEVING, name)


def must(name: str = "mx.example") -> TlsWish:
    return TlsWish(TlsMode.MUST, BELIEVING, name)


def verified(ca_file: str, name: str = "mx.example") -> TlsWish:
    return TlsWish(TlsMode.VERIFY, client_context(verify=True, ca_file=ca_file), name)


async def failing(mx: RemoteMx, **how: object) -> OpenFailed:
    with pytest.raises(OpenFailed) as failed:
        async with channel_to(mx, **how):  # type: ignore[arg-type]  # as channel_to takes them
            pass
    assert failed.value.facts is not None
    return failed.value


# --- mail goes out ---------------------------------------------------------------------------


@pytest.mark.parametrize("ip", ["127.0.0.2", "::1"])
async def test_a_message_arrives_as_it_is(ip: str) -> None:
    content = Octets(b"From: a\r\n\r\n.\r\n..\r\n" + "grüße\r\n".encode())
    async with RemoteMx(ip) as mx, channel_to(mx) as channel:
        result = await channel.send(SENDER, rcpts("ann", "bob"), content)
        await channel.quit()
    assert list(fates(result).values()) == [D, D]
    (message,) = mx.messages
    assert message.content == content.octets
    assert message.recipients == ["ann@b.example", "bob@b.example"]
    assert (message.hello, message.chunks, message.mail.body) == (HELLO, 1, Body.EIGHT_BIT)
    assert mx.visits[0].quit
    assert mx.complaints == []
    facts = channel.facts
    assert (facts.host, facts.ip, facts.port) == ("mx.example", ip_address(ip), mx.port)
    assert facts.banner == "mx.example ESMTP"
    assert set(facts.times) == {Phase.CONNECT, Phase.GREETING, Phase.HELLO}
    assert {Phase.MAIL, Phase.RCPT, Phase.CONTENT, Phase.END} <= set(result.times)


@pytest.mark.parametrize("without", [(), ("CHUNKING",), ("CHUNKING", "PIPELINING")])
async def test_a_large_message_arrives_whole(without: tuple[str, ...]) -> None:
    async with RemoteMx("127.0.0.2", without=without) as mx, channel_to(mx) as channel:
        result = await channel.send(SENDER, rcpts("ann"), LARGE)
    assert fates(result) == {"ann@b.example": D}
    assert mx.messages[0].content == LARGE.octets
    assert mx.complaints == []


async def test_a_server_without_ehlo_is_spoken_to_plainly() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("EHLO", reply="500 what")
        async with channel_to(mx, tls=may()) as channel:
            result = await channel.send(SENDER, rcpts("ann"), Octets())
        assert fates(result) == {"ann@b.example": D}
        assert mx.visits[0].commands[:2] == ["EHLO", "HELO"]
        assert mx.messages[0].chunks == 0
        assert mx.complaints == []


async def test_replies_to_each_recipient() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("RCPT", to="bob@b.example", reply="550 5.1.1 no bob")
        mx.on("RCPT", to="eve@b.example", reply="450 4.2.0 later", times=1)
        async with channel_to(mx) as channel:
            result = await channel.send(SENDER, rcpts("ann", "bob", "eve"), Octets())
            again = await channel.send(SENDER, rcpts("eve"), Octets())
        assert codes(result) == [250, 550, 450]
        assert fates(again) == {"eve@b.example": D}
        assert [message.recipients for message in mx.messages] == [
            ["ann@b.example"],
            ["eve@b.example"],
        ]
        assert mx.complaints == []


async def test_nobody_is_accepted_and_the_connection_goes_on() -> None:
    for without in ((), ("CHUNKING",), ("CHUNKING", "PIPELINING")):
        async with RemoteMx("127.0.0.2", without=without) as mx:
            mx.on("RCPT", reply="550 5.1.1 no", times=2)
            mx.on("DATA", reply="354 go", times=1)  # where it is pipelined
            async with channel_to(mx) as channel:
                refused = await channel.send(SENDER, rcpts("ann", "bob"), Octets())
                assert channel.is_usable
                taken = await channel.send(SENDER, rcpts("eve"), Octets())
            assert list(fates(refused).values()) == [P, P]
            assert fates(taken) == {"eve@b.example": D}
            assert mx.complaints == []
            assert len(mx.messages) == 1


async def test_limits_are_kept_by_sending_the_rest_again() -> None:
    """RFC 9422"""
    async with RemoteMx("127.0.0.2", offers=["LIMITS MAILMAX=2 RCPTMAX=2", "PIPELINING"]) as mx:
        left, sent = rcpts("a", "b", "c", "d", "e"), 0
        while left:
            async with channel_to(mx) as channel:
                while left and channel.is_usable:
                    result = await channel.send(SENDER, left, Octets())
                    assert set(fates(result).values()) == {D}
                    left, sent = list(result.untried), sent + 1
        assert sent == 3
        assert len(mx.visits) == 2
        told = [name for message in mx.messages for name in message.recipients]
        assert told == [f"{name}@b.example" for name in "abcde"]
        assert mx.complaints == []


async def test_lmtp_over_a_local_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp.sock")
    async with RemoteMx(path=path, lmtp=True) as mx:
        mx.on("END", to="bob@b.example", reply="452 4.2.2 full")
        async with channel_to(mx) as channel:
            result = await channel.send(SENDER, rcpts("ann", "bob"), Octets())
            assert list(fates(result).values()) == [D, T]
            assert channel.facts.ip is None
            await channel.quit()
        assert mx.messages[0].recipients == ["ann@b.example"]
        assert mx.complaints == []


# --- another form ----------------------------------------------------------------------------


async def test_another_form_is_asked_for_before_mail() -> None:
    asked: list[NeedsDowngrade] = []

    async def recode(need: NeedsDowngrade) -> Octets:
        asked.append(need)
        return Octets(b"=C3=A9\r\n")

    async with RemoteMx("127.0.0.2", without=("8BITMIME",)) as mx, channel_to(mx) as channel:
        result = await channel.send(
            SENDER, rcpts("ann"), Octets("é\r\n".encode()), downgrade=recode
        )
        assert fates(result) == {"ann@b.example": D}
        assert asked == [NeedsDowngrade.EIGHT_BIT]
        assert mx.messages[0].content == b"=C3=A9\r\n"
        assert mx.messages[0].mail.size == 8
        assert mx.complaints == []


async def test_no_other_form_fails_for_good() -> None:
    async def recode(need: NeedsDowngrade) -> None:
        return None

    async with RemoteMx("127.0.0.2", without=("BINARYMIME",)) as mx, channel_to(mx) as channel:
        result = await channel.send(
            SENDER, rcpts("ann"), Octets(b"\0", binary=True), downgrade=recode
        )
        assert fates(result) == {"ann@b.example": P}
        assert str(result.outcomes[0].answer.status) == "5.6.3"
        assert channel.is_usable


# --- lines that break --------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    async with RemoteMx("127.0.0.2", listening=False) as mx:
        failed = await failing(mx)
    assert (failed.phase, failed.fate) == (Phase.CONNECT, T)
    assert isinstance(failed.reason, ConnectFailed)
    assert failed.answer.status == Status(4, 4, 1)
    assert failed.facts is not None
    assert failed.facts.ip == ip_address("127.0.0.2")


@pytest.mark.parametrize(
    ("fault", "phase", "fate", "code"),
    [
        ({"phase": "CONNECT", "drop": True}, Phase.GREETING, T, None),
        ({"phase": "CONNECT", "reset": True}, Phase.GREETING, T, None),
        ({"phase": "GREETING", "reply": "554 5.3.2 no mail"}, Phase.GREETING, P, 554),
        ({"phase": "GREETING", "reply": "421 4.3.2 busy", "drop": True}, Phase.GREETING, T, 421),
        ({"phase": "GREETING", "reply": b"\xff\xfe\0 what\r\n"}, Phase.GREETING, T, None),
        ({"phase": "GREETING", "stall": True}, Phase.GREETING, T, None),
        ({"phase": "GREETING", "endless": True}, Phase.GREETING, T, None),
        ({"phase": "EHLO", "drop": True}, Phase.HELLO, T, None),
        ({"phase": "EHLO", "reply": "550 5.7.1 no"}, Phase.HELLO, P, 550),
        ({"phase": "EHLO", "slow": 9}, Phase.HELLO, T, None),
        ({"phase": "EHLO", "endless": True}, Phase.HELLO, T, None),
    ],
)
async def test_a_host_that_cannot_be_opened(
    fault: dict[str, object], phase: Phase, fate: Fate, code: int | None
) -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on(**fault)  # type: ignore[arg-type]  # as the table has them
        failed = await failing(mx, timeouts=QUICK)
        assert (failed.phase, failed.fate, failed.answer.code) == (phase, fate, code)
        assert mx.complaints == []


async def test_a_host_that_refuses_is_told_goodbye() -> None:
    """RFC 5321 §3.1"""
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("GREETING", reply="554 5.3.2 no mail")
        await failing(mx)
        async with asyncio.timeout(2):
            while not mx.visits[0].quit:
                await asyncio.sleep(0.01)
        assert mx.complaints == []


@pytest.mark.parametrize("how", ["drop", "reset", "stall"])
@pytest.mark.parametrize(
    ("phase", "without"),
    [
        *[(phase, ()) for phase in ("MAIL", "RCPT", "CONTENT", "END")],
        *[(phase, ("CHUNKING",)) for phase in ("MAIL", "RCPT", "DATA", "CONTENT", "END")],
        *[(phase, ("CHUNKING", "PIPELINING")) for phase in ("RCPT", "DATA", "END")],
    ],
)
async def test_a_line_that_breaks_is_temporary(
    phase: str, how: str, without: tuple[str, ...]
) -> None:
    async with RemoteMx("127.0.0.2", without=without) as mx:
        mx.on(phase, drop=how == "drop", reset=how == "reset", stall=how == "stall")
        async with channel_to(mx, timeouts=QUICK) as channel:
            result = await channel.send(SENDER, rcpts("ann"), Octets())
            assert not channel.is_usable
        (outcome,) = result.outcomes
        assert (outcome.fate, outcome.answer.code) == (T, None)
        assert outcome.in_doubt == (phase in ("CONTENT", "END"))
        assert mx.messages == []
        assert mx.complaints == []


async def test_a_reply_lost_after_the_message_was_kept_is_in_doubt() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("END", drop=True, keep=True)
        async with channel_to(mx) as channel:
            result = await channel.send(SENDER, rcpts("ann"), Octets())
        assert result.outcomes[0].in_doubt
        assert len(mx.messages) == 1


@pytest.mark.parametrize("without", [(), ("CHUNKING",)])
async def test_a_server_that_takes_no_more_is_cut_off(without: tuple[str, ...]) -> None:
    async with RemoteMx("127.0.0.2", without=without, receive_buffer=4_096) as mx:
        mx.on("CONTENT", octets=10_000, stall=True)
        async with channel_to(mx, timeouts=QUICK) as channel:
            started = asyncio.get_running_loop().time()
            async with asyncio.timeout(5):
                result = await channel.send(SENDER, rcpts("ann"), LARGE)
            took = asyncio.get_running_loop().time() - started
        (outcome,) = result.outcomes
        assert (outcome.fate, outcome.phase, outcome.in_doubt) == (T, Phase.CONTENT, False)
        assert QUICK.block <= took + 0.1
        assert not channel.is_usable
        assert mx.messages == []


@pytest.mark.parametrize(("code", "fate"), [(552, P), (451, T), (421, T)])
async def test_a_refusal_in_the_middle_of_the_message_is_heard(code: int, fate: Fate) -> None:
    async with RemoteMx("127.0.0.2", without=("CHUNKING",), receive_buffer=4_096) as mx:
        mx.on("CONTENT", octets=10_000, reply=f"{code} enough", times=1)
        mx.on("CONTENT", octets=20_000, stall=True)
        async with channel_to(mx, timeouts=SHORT) as channel:
            result = await channel.send(SENDER, rcpts("ann"), LARGE)
        assert (fates(result), codes(result)) == ({"ann@b.example": fate}, [code])
        assert result.outcomes[0].phase is Phase.CONTENT
        assert result.octets < LARGE.size


async def test_an_endless_reply_is_bounded() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("END", endless=True)
        async with channel_to(mx, timeouts=SHORT) as channel:
            async with asyncio.timeout(5):
                result = await channel.send(SENDER, rcpts("ann"), Octets())
        (outcome,) = result.outcomes
        assert (outcome.fate, outcome.in_doubt) == (T, True)


async def test_a_flood_of_replies_is_held_back() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("MAIL", reply=b"250 ok\r\n" * 500_000, stall=False)
        async with channel_to(mx, timeouts=SHORT) as channel:
            result = await channel.send(SENDER, rcpts("ann"), Octets())
            assert fates(result) == {"ann@b.example": T}
            assert not channel.is_usable
        assert mx.messages == []


class Held:
    """A connection that notes whether it is held back."""

    is_closing = False
    paused = False

    def pause(self) -> None:
        self.paused = True


async def test_what_a_server_says_unasked_is_not_piled_up() -> None:
    async with wheel() as turning:
        channel = SmtpChannel(Target("mx.example", ip_address("::1")), HELLO, turning, SHORT)
        held = Held()
        channel.on_connected(cast("Connection", held))
        channel.on_bytes(b"250-more\r\n" * 1_000)
        assert not held.paused
        channel.on_bytes(b"250-more\r\n" * 10_000)
        assert held.paused


class Cut(Held):
    """A connection that brings last words and is gone as soon as something is written."""

    def __init__(self, channel: SmtpChannel, words: bytes) -> None:
        self.channel = channel
        self.words = words

    def write(self, data: bytes) -> None: ...

    def set_timeout(self, seconds: float | None) -> None: ...

    def abort(self) -> None: ...

    async def drain(self) -> None:
        if self.words:
            self.channel.on_bytes(self.words)
        self.channel.on_lost(None)
        raise ConnectionLost


@pytest.mark.parametrize(("words", "fate"), [(b"550 5.7.1 no\r\n", P), (b"55", T), (b"", T)])
async def test_last_words_of_a_server_that_is_gone_are_heard(words: bytes, fate: Fate) -> None:
    async with RemoteMx("127.0.0.2") as mx, channel_to(mx) as channel:
        channel.on_connected(cast("Connection", Cut(channel, words)))
        result = await channel.send(SENDER, rcpts("ann"), Octets())
        assert fates(result) == {"ann@b.example": fate}
        assert not channel.is_usable


async def test_a_slow_server_is_waited_for() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("MAIL", slow=0.2)
        mx.on("END", slow=0.2)
        async with channel_to(mx) as channel:
            result = await channel.send(SENDER, rcpts("ann"), Octets())
        assert fates(result) == {"ann@b.example": D}
        assert result.times[Phase.MAIL] >= 0.19
        assert result.times[Phase.END] >= 0.19


# --- one after the other ---------------------------------------------------------------------


async def test_a_connection_that_was_closed_in_between_is_not_usable() -> None:
    async with RemoteMx("127.0.0.2") as mx, channel_to(mx) as channel:
        await channel.send(SENDER, rcpts("ann"), Octets())
        usable = [channel.is_usable]
        await mx.stop()
        async with asyncio.timeout(2):
            while usable[-1]:
                await asyncio.sleep(0.01)
                usable.append(channel.is_usable)
        assert usable[0]
        result = await channel.send(SENDER, rcpts("ann"), Octets())
        assert result.stale
        channel.abort()
        with pytest.raises(Misuse):
            await channel.send(SENDER, rcpts("ann"), Octets())


async def test_a_goodbye_in_between_is_noticed() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("END", reply=b"250 2.0.0 taken\r\n421 4.4.2 and now go\r\n", times=1)
        async with channel_to(mx) as channel:
            result = await channel.send(SENDER, rcpts("ann"), Octets())
            assert fates(result) == {"ann@b.example": D}
            assert not channel.is_usable
            again = await channel.send(SENDER, rcpts("bob"), Octets())
            assert again.stale
            assert codes(again) == [421]


@pytest.mark.parametrize("fault", [{"drop": True}, {"reply": "421 4.4.2 idle", "drop": True}])
async def test_a_used_connection_that_fails_at_mail_is_told_apart(
    fault: dict[str, object],
) -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("MAIL", skip=1, **fault)  # type: ignore[arg-type]  # as the table has them
        async with channel_to(mx) as channel:
            await channel.send(SENDER, rcpts("ann"), Octets())
            result = await channel.send(SENDER, rcpts("bob"), Octets())
            assert result.stale
            assert not result.outcomes[0].in_doubt
            assert not channel.is_usable


async def test_a_fresh_connection_that_fails_at_mail_is_not_stale() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("MAIL", drop=True)
        async with channel_to(mx) as channel:
            assert not (await channel.send(SENDER, rcpts("bob"), Octets())).stale


async def test_reset_shows_whether_it_lives() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("RSET", skip=1, drop=True)
        async with channel_to(mx) as channel:
            assert await channel.reset()
            assert not await channel.reset()
            assert not channel.is_usable


async def test_a_cancelled_reset_ends_the_connection() -> None:
    """Its reply would be taken for the next one."""
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("RSET", slow=5)
        async with channel_to(mx) as channel:
            resetting = asyncio.ensure_future(channel.reset())
            await asyncio.sleep(0.05)
            resetting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await resetting
            assert not channel.is_usable


async def test_only_one_message_at_a_time() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("MAIL", slow=0.1)
        async with channel_to(mx) as channel:
            first = asyncio.ensure_future(channel.send(SENDER, rcpts("ann"), Octets()))
            await asyncio.sleep(0)
            for attempt in (
                channel.send(SENDER, rcpts("bob"), Octets()),
                channel.reset(),
                channel.quit(),
            ):
                with pytest.raises(Misuse):
                    await attempt
            assert fates(await first) == {"ann@b.example": D}
            with pytest.raises(Misuse):
                await channel.send(SENDER, [], Octets())


async def test_a_cancelled_message_ends_the_connection() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        mx.on("END", slow=5)
        async with channel_to(mx) as channel:
            sending = asyncio.ensure_future(channel.send(SENDER, rcpts("ann"), Octets()))
            await asyncio.sleep(0.1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert not channel.is_usable


class Broken(Octets):
    """Raises what nobody expects."""

    def slices(self) -> Iterator[bytes]:
        raise ZeroDivisionError


async def test_an_unforeseen_error_of_the_content_comes_out_and_ends_the_connection() -> None:
    async with RemoteMx("127.0.0.2") as mx, channel_to(mx) as channel:
        with pytest.raises(ZeroDivisionError):
            await channel.send(SENDER, rcpts("ann"), Broken())
        assert not channel.is_usable
        assert mx.messages == []


# --- TLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["may", "must", "verify", "implicit"])
async def test_mail_over_tls(how: str, tmp_path: Path) -> None:
    tls = mx_tls(tmp_path, ["mx.example"])
    wish = {"may": may(), "must": must(), "verify": verified(tls.ca_file)}.get(
        how, replace(verified(tls.ca_file), implicit=True)
    )
    async with RemoteMx("127.0.0.2", tls=tls.context, implicit=how == "implicit") as mx:
        async with channel_to(mx, tls=wish) as channel:
            result = await channel.send(SENDER, rcpts("ann"), LARGE)
            await channel.quit()
        assert fates(result) == {"ann@b.example": D}
        facts = channel.facts
        assert facts.tls is not None
        assert facts.tls.version == "TLSv1.3"
        assert facts.verified == (how in ("verify", "implicit"))
        assert "STARTTLS" not in facts.offers
        assert mx.messages[0].tls is not None
        assert mx.messages[0].tls.version == "TLSv1.3"
        assert mx.messages[0].content == LARGE.octets
        assert mx.complaints == []


async def test_without_starttls_may_goes_on_and_must_does_not() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        async with channel_to(mx, tls=may()) as channel:
            assert channel.facts.tls is None
            assert fates(await channel.send(SENDER, rcpts("ann"), Octets())) == {"ann@b.example": D}
        failed = await failing(mx, tls=must())
        assert (failed.phase, failed.fate) == (Phase.STARTTLS, T)
        assert failed.answer.status == Status(4, 7, 4)
        assert not failed.plain_may_help


@pytest.mark.parametrize("code", ["454 4.7.0", "501 5.5.4"])
async def test_a_refused_starttls_likewise(code: str, tmp_path: Path) -> None:
    async with RemoteMx("127.0.0.2", tls=mx_tls(tmp_path, ["mx.example"]).context) as mx:
        mx.on("STARTTLS", reply=f"{code} not now")
        async with channel_to(mx, tls=may()) as channel:
            result = await channel.send(SENDER, rcpts("ann"), Octets())
            assert fates(result) == {"ann@b.example": D}
        failed = await failing(mx, tls=must())
        assert (failed.phase, failed.fate) == (Phase.STARTTLS, T)
        assert mx.complaints == []


@pytest.mark.parametrize("broken", ["garbage", "drop", "ancient", "stall"])
async def test_a_broken_handshake_says_that_plaintext_may_do(broken: str, tmp_path: Path) -> None:
    tls = mx_tls(tmp_path, ["mx.example"], ancient=broken == "ancient")
    async with RemoteMx("127.0.0.2", tls=tls.context) as mx:
        if broken == "garbage":
            mx.on("HANDSHAKE", reply=b"500 what is this?\r\n" * 9)
        if broken == "stall":
            mx.on("HANDSHAKE", stall=True)
        if broken == "drop":
            mx.on("HANDSHAKE", drop=True)
        quick = replace(SHORT, tls=0.3)
        failed = await failing(mx, tls=may(), timeouts=quick)
        assert (failed.phase, failed.fate) == (Phase.TLS, T)
        assert failed.answer.status == Status(4, 7, 5)
        assert failed.plain_may_help
        assert not (await failing(mx, tls=must(), timeouts=quick)).plain_may_help
        assert mx.messages == []


@pytest.mark.parametrize(
    ("wrong", "result"),
    [
        ("name", "certificate-host-mismatch"),
        ("expired", "certificate-expired"),
        ("stranger", "certificate-not-trusted"),
    ],
)
async def test_a_certificate_that_does_not_hold(wrong: str, result: str, tmp_path: Path) -> None:
    names = ["other.example"] if wrong == "name" else ["mx.example"]
    tls = mx_tls(tmp_path, names, expired=wrong == "expired")
    trusted = mx_tls(tmp_path, ["mx.example"]) if wrong == "stranger" else tls
    async with RemoteMx("127.0.0.2", tls=tls.context) as mx:
        failed = await failing(mx, tls=verified(trusted.ca_file))
        assert isinstance(failed.reason, CertificateRefused)
        assert failed.reason.result == result
        assert (failed.fate, failed.plain_may_help) == (T, False)
        assert failed.answer.status == Status(4, 7, 5)
        async with channel_to(mx, tls=may()) as channel:
            assert channel.facts.tls is not None
            assert not channel.facts.verified


@pytest.mark.parametrize("implicit", [False, True])
async def test_a_check_of_our_own_has_the_last_word(implicit: bool, tmp_path: Path) -> None:
    """As DANE will: RFC 7672."""
    seen: list[Sequence[bytes]] = []

    def like(chain: Sequence[bytes]) -> None:
        seen.append(chain)

    def dislike(chain: Sequence[bytes]) -> None:
        raise CertificateRefused(result="validation-failure")

    tls = mx_tls(tmp_path, ["whatever.example"])
    leaf = ssl.PEM_cert_to_DER_cert(Path(tls.ca_file).read_text())
    async with RemoteMx("127.0.0.2", tls=tls.context, implicit=implicit) as mx:
        wish = replace(must(), check=like, implicit=implicit)
        async with channel_to(mx, tls=wish) as channel:
            assert channel.facts.verified
        assert seen == [(leaf,)]
        failed = await failing(mx, tls=replace(wish, check=dislike))
        assert isinstance(failed.reason, TlsFailed)
        assert failed.phase is Phase.TLS
        assert failed.facts is not None
        assert failed.facts.tls is not None
        assert mx.visits[1].commands in (["EHLO", "STARTTLS"], [])


async def test_capabilities_are_those_under_tls(tmp_path: Path) -> None:
    async with RemoteMx(
        "127.0.0.2",
        tls=mx_tls(tmp_path, ["mx.example"]).context,
        offers=["REQUIRETLS", "SIZE 1000"],
    ) as mx:
        async with channel_to(mx, tls=must()) as channel:
            assert "REQUIRETLS" in channel.facts.offers
            mail = replace(SENDER, requiretls=True)
            assert fates(await channel.send(mail, rcpts("ann"), Octets())) == {"ann@b.example": D}
        assert mx.messages[0].mail.requiretls
        async with channel_to(mx) as channel:
            result = await channel.send(mail, rcpts("ann"), Octets())
            assert str(result.outcomes[0].answer.status) == "5.7.10"


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN"])
async def test_signing_in_at_a_smart_host(mechanisms: str, tmp_path: Path) -> None:
    tls = mx_tls(tmp_path, ["mx.example"])
    ann = Credentials("ann", "sécret")
    async with RemoteMx(
        "127.0.0.2",
        tls=tls.context,
        implicit=True,
        users={"ann": "sécret"},
        mechanisms=mechanisms,
    ) as mx:
        wish = replace(verified(tls.ca_file), implicit=True)
        async with channel_to(mx, tls=wish, credentials=ann) as channel:
            result = await channel.send(SENDER, rcpts("bob"), Octets())
            assert fates(result) == {"bob@b.example": D}
            assert channel.facts.signed_in == mechanisms.split(maxsplit=1)[0]
        assert mx.messages[0].user == "ann"
        failed = await failing(mx, tls=wish, credentials=Credentials("ann", "wrong"))
        assert (failed.phase, failed.fate, failed.answer.code) == (Phase.AUTH, T, 535)
        async with channel_to(mx, tls=wish) as channel:
            result = await channel.send(SENDER, rcpts("bob"), Octets())
            assert codes(result) == [530]
        assert mx.complaints == []


async def test_a_password_never_goes_in_plaintext(tmp_path: Path) -> None:
    async with RemoteMx("127.0.0.2", offers=["AUTH PLAIN"], users={"ann": "secret"}) as mx:
        failed = await failing(mx, credentials=Credentials("ann", "secret"), tls=may())
        assert failed.phase is Phase.AUTH
        assert b"AUTH" not in mx.visits[0].said


def test_wishes_that_contradict_themselves() -> None:
    strict = client_context(verify=True)
    wishes: list[Callable[[], TlsWish]] = [
        lambda: TlsWish(TlsMode.MAY),
        lambda: TlsWish(TlsMode.NONE, BELIEVING),
        lambda: TlsWish(TlsMode.NONE, implicit=True),
        lambda: TlsWish(TlsMode.VERIFY, BELIEVING, "mx.example"),
        lambda: TlsWish(TlsMode.VERIFY, strict),
        lambda: TlsWish(TlsMode.MAY, BELIEVING, check=lambda chain: None),
    ]
    for make in wishes:
        with pytest.raises(Misuse):
            make()


# --- opening ---------------------------------------------------------------------------------


async def test_a_local_socket_that_is_not_there(tmp_path: Path) -> None:
    async with wheel() as turning:
        with pytest.raises(OpenFailed) as failed:
            await SmtpChannel.open(
                LocalTarget("lmtp.example", str(tmp_path / "none")), hello=HELLO, wheel=turning
            )
    assert failed.value.phase is Phase.CONNECT


async def test_from_an_address_of_our_choice() -> None:
    async with RemoteMx("127.0.0.2") as mx, wheel() as turning:
        target = Target(
            "mx.example", ip_address("127.0.0.2"), mx.port, source=ip_address("127.0.0.9")
        )
        channel = await SmtpChannel.open(target, hello=HELLO, wheel=turning, timeouts=SHORT)
        result = await channel.send(Mail(None), rcpts("ann"), Octets())
        assert fates(result) == {"ann@b.example": D}
        await channel.quit()
        await channel.quit()  # twice does no harm


async def test_a_cancelled_opening_leaves_nothing_behind() -> None:
    async with RemoteMx("127.0.0.2") as mx, wheel() as turning:
        mx.on("GREETING", slow=9)
        target = Target("mx.example", ip_address("127.0.0.2"), mx.port)
        opening = asyncio.ensure_future(
            SmtpChannel.open(target, hello=HELLO, wheel=turning, timeouts=SHORT)
        )
        await asyncio.sleep(0.1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
