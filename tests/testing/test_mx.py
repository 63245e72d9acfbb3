"""The remote exchanger: takes mail, fails as told, and is strict with its client."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path

import pytest

from postroom.core.errors import ConnectionLost
from postroom.testing.mx import RemoteMx, mx_tls
from postroom.testing.smtp import ServerClosed, SmtpClient, connect, trusting_context
from postroom.wire.smtp import Body, Notify

ANN = "ann@b.example"


async def transaction(client: SmtpClient, content: bytes = b"hi\r\n", *, to: str = ANN) -> int:
    delivery = await client.deliver("sam@a.example", [to], content)
    return delivery.last.code


async def test_a_message_is_kept_with_all_that_was_said() -> None:
    async with RemoteMx() as mx, connect(mx.ip, mx.port) as client:
        await client.ask("MAIL FROM:<sam@a.example> BODY=8BITMIME SIZE=7 ENVID=x RET=HDRS", 250)
        await client.ask(f"RCPT TO:<{ANN}> NOTIFY=NEVER ORCPT=rfc822;o@c.example", 250)
        await client.ask("RCPT TO:<bob@b.example>", 250)
        await client.ask("DATA", 354)
        assert (await client.content(".é\r\n\r\n".encode())).code == 250
    (message,) = mx.messages
    assert message.recipients == [ANN, "bob@b.example"]
    assert message.content == ".é\r\n\r\n".encode()
    assert (message.mail.body, message.mail.envid) == (Body.EIGHT_BIT, "x")
    assert message.rcpts[0].notify is Notify.NEVER
    assert (message.hello, message.tls, message.chunks) == ("client.example", None, 0)
    assert mx.visits[0].said.startswith(b"EHLO client.example\r\n")
    assert mx.complaints == []


async def test_chunks_are_put_together() -> None:
    async with RemoteMx() as mx, connect(mx.ip, mx.port) as client:
        await client.ask("MAIL FROM:<>", 250)
        await client.ask(f"RCPT TO:<{ANN}>", 250)
        await client.send(b"BDAT 3\r\nab\rBDAT 3 LAST\r\n\nc\n")
        assert [reply.code for reply in await client.replies(2)] == [250, 250]
    assert mx.messages[0].content == b"ab\r\nc\n"
    assert mx.messages[0].chunks == 2
    assert mx.complaints == ["connection 0: a bare CR or LF in the message"]


async def test_faults_strike_in_their_turn() -> None:
    async with RemoteMx() as mx, connect(mx.ip, mx.port) as client:
        mx.on("RCPT", to=ANN, skip=1, times=2, reply="450 4.2.0 later")
        assert [await transaction(client) for _ in range(1)] == [250]
        codes = []
        for _ in range(3):
            await client.ask("MAIL FROM:<>", 250)
            codes.append((await client.ask(f"RCPT TO:<{ANN}>")).code)
            await client.ask("RSET", 250)
        assert codes == [450, 450, 250]
        assert await transaction(client, to="bob@b.example") == 250
    assert mx.complaints == []


@pytest.mark.parametrize(("keep", "kept"), [(True, 1), (False, 0)])
async def test_a_drop_after_the_message(keep: bool, kept: int) -> None:
    async with RemoteMx() as mx, connect(mx.ip, mx.port) as client:
        mx.on("END", drop=True, keep=keep)
        with pytest.raises(ServerClosed):
            await transaction(client)
        assert len(mx.messages) == kept


async def test_a_drop_within_the_message() -> None:
    async with RemoteMx() as mx, connect(mx.ip, mx.port) as client:
        mx.on("CONTENT", octets=10, drop=True)
        with pytest.raises((ServerClosed, OSError)):
            await transaction(client, b"x" * 40 + b"\r\n")
        assert mx.messages == []


async def test_a_refused_greeting_takes_nothing_but_quit() -> None:
    async with RemoteMx() as mx:
        mx.on("GREETING", reply="554 5.3.2 no mail")
        async with connect(mx.ip, mx.port, hello="", greeting=554) as client:
            assert (await client.ask("EHLO x")).code == 503
            assert (await client.ask("QUIT")).code == 221
        assert mx.complaints == ["connection 0: a command after a refused greeting"]


async def test_slow_and_stalled_and_endless() -> None:
    async with RemoteMx() as mx:
        mx.on("NOOP", slow=0.1, times=1)
        mx.on("NOOP", endless=True, times=1)
        mx.on("RSET", stall=True)
        async with connect(mx.ip, mx.port) as client:
            started = asyncio.get_running_loop().time()
            await client.ask("NOOP", 250)
            assert asyncio.get_running_loop().time() - started >= 0.09
            await client.send(b"RSET\r\n")
            assert await client.silent(0.1)
        async with connect(mx.ip, mx.port) as client:
            await client.send(b"NOOP\r\n")
            assert await client.silent(0.1)  # lines come, a reply never


async def test_hosts_share_a_port() -> None:
    async with RemoteMx("127.0.0.2") as first, RemoteMx("127.0.0.3", first.port) as second:
        assert first.port == second.port
        for mx in (first, second):
            async with connect(mx.ip, mx.port) as client:
                await transaction(client)
        assert len(first.messages) == len(second.messages) == 1


async def test_a_port_that_is_held_but_not_listened_on() -> None:
    async with RemoteMx(listening=False) as mx:
        with pytest.raises(ConnectionRefusedError):
            async with connect(mx.ip, mx.port):
                pass


@pytest.mark.parametrize(
    ("commands", "complaint"),
    [
        (["VRFY ann"], "unknown command VRFY"),
        (["LHLO x"], "LHLO is of another protocol"),
        (["EHLO two words"], "EHLO: That is no domain name"),
        (["STARTTLS"], "STARTTLS where it is not offered"),
        (["AUTH PLAIN"], "AUTH where it is not offered"),
        (["MAIL FROM:<> X=1"], "MAIL: Parameter not offered: X"),
        (["MAIL FROM:<> BODY=8BITMIME"], "MAIL: Parameter not offered: BODY"),
        (["MAIL FROM:<>", "MAIL FROM:<>"], "MAIL: MAIL within a transaction"),
        ([f"RCPT TO:<{ANN}>"], "RCPT outside a transaction"),
        (["MAIL FROM:<>", "RCPT TO:<ånn@b.example>"], "RCPT: Non-ASCII addresses need SMTPUTF8"),
        (["MAIL FROM:<>", "DATA"], "DATA without a recipient"),
        (["MAIL FROM:<>", "BDAT 0 LAST"], "BDAT where it cannot be"),
        (["MAIL FROM:<> SIZE=99999"], "MAIL: SIZE is beyond what was offered"),
        (["NOOP\r\nNOOP"], "NOOP was pipelined without leave"),
        (["QUIT\r\nNOOP"], "something follows QUIT before its answer"),
        (["NOOP\nNOOP"], "Lines end with CR LF: a bare LF was sent"),
        (["NOOP \0"], "Control characters are not allowed here"),
    ],
)
async def test_a_client_that_breaks_a_rule_is_noted(commands: list[str], complaint: str) -> None:
    async with RemoteMx(offers=["SIZE 1000"]) as mx, connect(mx.ip, mx.port) as client:
        for command in commands:
            await client.ask(command)
        assert mx.complaints[0] == f"connection 0: {complaint}"


@pytest.mark.parametrize(
    ("parameters", "content", "complaint"),
    [
        ("", "é\r\n".encode(), "eight bits without BODY=8BITMIME"),
        ("", b"\0\r\n", "a NUL in the message"),
        ("", b"x" * 1_100 + b"\r\n", "a line of 1102 octets"),
        ("SIZE=100", b"hi\r\n", "SIZE=100, but 4 octets came"),
        ("BODY=BINARYMIME", b"hi\r\n", "DATA where only BDAT may be"),
    ],
)
async def test_a_message_that_breaks_a_rule_is_noted(
    parameters: str, content: bytes, complaint: str
) -> None:
    async with RemoteMx() as mx, connect(mx.ip, mx.port) as client:
        await client.deliver("sam@a.example", [ANN], content, parameters=parameters)
        assert mx.complaints == [f"connection 0: {complaint}"]


async def test_limits_that_are_overstepped() -> None:
    async with RemoteMx(offers=["LIMITS MAILMAX=1 RCPTMAX=1"]) as mx:
        async with connect(mx.ip, mx.port) as client:
            await client.ask("MAIL FROM:<>", 250)
            await client.ask(f"RCPT TO:<{ANN}>", 250)
            await client.ask("RCPT TO:<bob@b.example>", 501)
            await client.ask("RSET", 250)
            await client.ask("MAIL FROM:<>", 503)
        assert mx.complaints == [
            "connection 0: RCPT: more recipients than RCPTMAX",
            "connection 0: MAIL: more transactions than MAILMAX",
        ]


async def test_data_that_is_taken_for_nobody() -> None:
    async with RemoteMx() as mx, connect(mx.ip, mx.port) as client:
        mx.on("RCPT", reply="550 no")
        mx.on("DATA", reply="354 go")
        delivery = await client.deliver("a@a.example", [ANN], b"", pipelined=True)
        assert delivery.end is not None
        assert delivery.end.code == 554
        assert mx.complaints == []
        await client.deliver("a@a.example", [ANN], b"hello\r\n", pipelined=True)
        assert mx.complaints == ["connection 0: content for nobody"]
        assert mx.messages == []


async def test_lmtp_replies_to_each() -> None:
    async with RemoteMx(lmtp=True) as mx:
        mx.on("END", to="bob@b.example", reply="452 4.2.2 full")
        async with connect(mx.ip, mx.port, hello="LHLO x") as client:
            delivery = await client.deliver("a@a.example", [ANN, "bob@b.example"], b"hi\r\n")
            assert delivery.end is not None
            assert (delivery.end.code, (await client.reply()).code) == (250, 452)
        assert mx.messages[0].recipients == [ANN]
        assert mx.complaints == []


# --- TLS and sign-in ---------------------------------------------------------------------------


async def test_starttls_and_sign_in(tmp_path: Path) -> None:
    tls = mx_tls(tmp_path, ["mx.example"])
    async with RemoteMx(tls=tls.context, users={"ann": "secret"}) as mx:
        async with connect(mx.ip, mx.port) as client:
            await client.ask("MAIL FROM:<>", 530)
            await client.starttls(trusting_context())
            assert "AUTH PLAIN LOGIN" in (await client.ask("EHLO x", 250)).lines
            await client.ask("AUTH PLAIN " + base64.b64encode(b"\0ann\0wrong").decode(), 535)
            await client.ask("AUTH PLAIN " + base64.b64encode(b"\0ann\0secret").decode(), 235)
            assert await transaction(client) == 250
        (message,) = mx.messages
        assert message.user == "ann"
        assert message.tls is not None
        assert mx.complaints == []


async def test_a_certificate_that_is_trusted_expired_or_for_another(tmp_path: Path) -> None:
    good = mx_tls(tmp_path, ["mx.example"])
    for tls, trusted in (
        (good, True),
        (mx_tls(tmp_path, ["mx.example"], expired=True), False),
        (mx_tls(tmp_path, ["other.example"]), False),
    ):
        context = ssl.create_default_context(cafile=tls.ca_file)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        async with RemoteMx(tls=tls.context) as mx, connect(mx.ip, mx.port) as client:
            if trusted:
                await client.starttls(context, "mx.example")
                continue
            with pytest.raises(ConnectionLost):
                await client.starttls(context, "mx.example")


async def test_tls_that_is_too_old_or_no_tls_at_all(tmp_path: Path) -> None:
    ancient = mx_tls(tmp_path, ["mx.example"], ancient=True)
    async with RemoteMx(tls=ancient.context) as mx:
        async with connect(mx.ip, mx.port) as client:
            with pytest.raises((ConnectionLost, ServerClosed)):
                await client.starttls(trusting_context())
        mx.on("HANDSHAKE", reply=b"what?")
        async with connect(mx.ip, mx.port) as client:
            with pytest.raises((ConnectionLost, ServerClosed)):
                await client.starttls(trusting_context())
