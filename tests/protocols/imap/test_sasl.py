"""AUTHENTICATE over a real connection: each mechanism, by our client and by imaplib. Sockets."""

from __future__ import annotations

import asyncio
import base64
import gc
import imaplib
import os
import pty
import re
import select
import shutil
import ssl
import subprocess
import time
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography import x509

from postroom.access import Attempt, Outcome, Reason, SessionFacts
from postroom.net.certificates import endpoint
from postroom.protocols.imap import server
from postroom.testing.imap import ImapClient, Reply
from postroom.wire.imap import Continuation, Untagged
from postroom.wire.sasl import Client, LoginClient, PlainClient, ScramClient
from tests.protocols.imap.serving import (
    ANN,
    BOB,
    PASSWORD,
    Room,
    client_context,
)

SCRAM, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
SIGN_IN_KIND = "AUTH="


def binding_of(room: Room) -> bytes:
    """What every connection of the room can be bound by."""
    (connection, *_) = room.workers[0].connections()
    tls = connection._session.peer.tls
    assert tls is not None
    return tls.endpoint


def client_for(
    room: Room, name: str, user: str = ANN, password: str = PASSWORD, binding: bytes | None = None
) -> Client:
    if name == "PLAIN":
        return PlainClient(user, password)
    if name == "LOGIN":
        return LoginClient(user, password)
    bound = binding if binding is not None else binding_of(room) if name == PLUS else b""
    return ScramClient(name, user, password, "client-nonce", binding=bound)


async def authenticate(line: ImapClient, client: Client, *, initial: bool) -> Reply:
    """The whole exchange; with `initial` by SASL-IR (RFC 4959) where the client speaks first."""
    tag = line.tag()
    first = client.start()
    command = tag + b" AUTHENTICATE " + client.name.encode()
    if initial and first is not None:
        command += b" " + (base64.b64encode(first) or b"=")
        first = None
    line.send(command + b"\r\n")
    while True:
        heard = await line.response()
        if not isinstance(heard, Continuation):
            break
        challenge = base64.b64decode(heard.text, validate=True)
        if first is not None:
            assert challenge == b""
            answer, first = first, None
        else:
            said = client.step(challenge)
            assert said is not None
            answer = said
        line.send(base64.b64encode(answer) + b"\r\n")
    assert not isinstance(heard, Untagged), heard
    assert heard.tag == tag
    return Reply(heard, [])


async def said_yes(line: ImapClient, reply: Reply) -> bool:
    """It did, told what it can do now, and does it."""
    told = reply.code_data("CAPABILITY")
    assert told is not None
    names = [bytes(word).decode() for word in told if isinstance(word, bytes)]
    assert "IDLE" in names
    assert not [name for name in names if name.startswith(SIGN_IN_KIND) or name == "LOGINDISABLED"]
    return reply.ok and (await line.command("SELECT INBOX")).ok


# --- the ways in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("initial", [True, False], ids=["sasl-ir", "asked"])
@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", SCRAM, PLUS])
async def test_each_mechanism_signs_in(room_both: Room, name: str, initial: bool) -> None:
    line = await room_both.connect()
    client = client_for(room_both, name)
    assert await said_yes(line, await authenticate(line, client, initial=initial))
    assert client.done


async def test_the_channel_of_starttls_is_bound_too(room: Room) -> None:
    line = await room.connect("imap")
    assert (await line.command(f"AUTHENTICATE {SCRAM}")).code == "PRIVACYREQUIRED"
    assert (await line.command(f"AUTHENTICATE {PLUS} biws")).code == "PRIVACYREQUIRED"
    assert (await line.starttls(client_context())).ok
    assert (await line.command("NOOP")).ok  # now the server has seen the end of the handshake
    reply = await authenticate(line, client_for(room, PLUS), initial=True)
    assert await said_yes(line, reply)


async def test_login_by_its_name_at_once(room: Room) -> None:
    line = await room.connect()
    tag = line.tag()
    line.send(tag + b" AUTHENTICATE LOGIN " + base64.b64encode(ANN.encode()) + b"\r\n")
    assert base64.b64decode(await line.continuation()) == b"Password:"
    line.send(base64.b64encode(PASSWORD.encode()) + b"\r\n")
    assert (await line.reply(tag)).ok


async def test_a_new_password_is_proved_at_once_and_the_old_one_no_more(room_both: Room) -> None:
    await room_both.set_password(ANN, "another horse")
    line = await room_both.connect()
    old = await authenticate(line, client_for(room_both, SCRAM), initial=True)
    assert (old.kind, old.code) == ("NO", "AUTHENTICATIONFAILED")
    new = client_for(room_both, SCRAM, password="another horse")
    assert (await authenticate(line, new, initial=True)).ok


# --- refused --------------------------------------------------------------------------------------


async def test_all_refusals_are_alike(room: Room) -> None:
    await room.set_state(BOB, "frozen")
    line = await room.connect()
    clients = [
        client_for(room, SCRAM, password="wrong"),
        client_for(room, SCRAM, user="nobody@example.test"),
        client_for(room, SCRAM, user="nobody@elsewhere.example"),
        client_for(room, SCRAM, user=BOB),
        client_for(room, PLUS, binding=b"x" * 32),  # somebody is in between
        client_for(room, SCRAM, binding=b"x" * 32),  # the offer of -PLUS was taken out
        ScramClient(SCRAM, ANN, PASSWORD, "abc", authzid=BOB),
        client_for(room, "LOGIN", password="wrong"),
        client_for(room, "PLAIN", password="wrong"),
    ]
    replies = [await authenticate(line, client, initial=False) for client in clients]
    told = {(reply.kind, reply.code, reply.text) for reply in replies}
    assert told == {("NO", "AUTHENTICATIONFAILED", "Authentication credentials invalid")}
    assert (await authenticate(line, client_for(room, PLUS), initial=True)).ok


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize(
    ("line_said", "kind"), [(b"*", "BAD"), (b"not base64!", "BAD"), (b"bm9uc2Vuc2U=", "BAD")]
)
async def test_an_exchange_ends_at_any_step_and_another_begins(
    room: Room, steps: int, line_said: bytes, kind: str
) -> None:
    told: list[Outcome] = []
    room.workers[0].shared.authenticator.after.append(lambda attempt, outcome: told.append(outcome))
    line = await room.connect()
    client = client_for(room, SCRAM)
    tag = line.tag()
    line.send(tag + b" AUTHENTICATE SCRAM-SHA-256\r\n")
    answer = client.start()
    challenge = await line.continuation()
    for _ in range(steps):
        assert answer is not None
        line.send(base64.b64encode(answer) + b"\r\n")
        challenge = base64.b64decode(await line.continuation())
        answer = client.step(challenge)
    line.send(line_said + b"\r\n")
    assert (await line.reply(tag)).kind == kind
    assert [outcome.reason for outcome in told] == ([Reason.ABANDONED] if steps else [])
    assert (await authenticate(line, client_for(room, SCRAM), initial=True)).ok
    assert told[-1].reason is Reason.RIGHT


async def test_who_goes_on_cancelling_is_shown_out(room: Room) -> None:
    line = await room.connect()
    for n in range(server.BAD_COMMANDS):
        line.send(b"c%d AUTHENTICATE SCRAM-SHA-256 biws\r\n" % n)  # n,, and nothing behind it
    *replies, bye = await line.until_closed()
    assert len(replies) == server.BAD_COMMANDS
    assert isinstance(bye, Untagged)
    assert bye.name == b"BYE"
    line = await room.connect()
    for _ in range(server.BAD_COMMANDS):
        tag = line.tag()
        line.send(tag + b" AUTHENTICATE LOGIN\r\n")
        await line.continuation()
        line.send(b"*\r\n")
        assert (await line.reply(tag)).kind == "BAD"
    assert len(await line.until_closed()) == 1


async def test_a_response_may_be_long_and_not_longer(room: Room) -> None:
    line = await room.connect()
    for size, kind in ((12 * 1024 - 100, "NO"), (12 * 1024 + 1, "BAD")):
        message = b"\0ann\0" + b"x" * (size - 5)
        line.send(b"a AUTHENTICATE PLAIN\r\n")
        await line.continuation()
        line.send(base64.b64encode(message) + b"\r\n")
        assert (await line.reply(b"a")).kind == kind, size
    assert (await authenticate(line, client_for(room, SCRAM), initial=True)).ok


async def test_who_hangs_up_in_the_middle_leaves_nothing_behind(room: Room) -> None:
    told: list[tuple[Attempt, Outcome]] = []
    authenticator = room.workers[0].shared.authenticator
    authenticator.after.append(lambda attempt, outcome: told.append((attempt, outcome)))
    for steps in range(3):
        line = await room.connect()
        line.send(b"a AUTHENTICATE SCRAM-SHA-256\r\n")
        await line.continuation()
        client = client_for(room, SCRAM)
        answer = client.start()
        for _ in range(steps):
            assert answer is not None
            line.send(base64.b64encode(answer) + b"\r\n")
            answer = client.step(base64.b64decode(await line.continuation()))
        line.abort()
    await room.settled(lambda: not room.workers[0].connections())
    assert [outcome.reason for _, outcome in told] == [Reason.ABANDONED] * 2
    assert {attempt.login for attempt, _ in told} == {ANN}
    gc.collect()
    kinds = [type(each).__name__ for each in gc.get_objects()]
    assert "ScramConversation" not in kinds


async def test_connections_share_the_octets_that_they_are_bound_by(room: Room) -> None:
    for _ in range(3):
        await room.connect()
    facts = [
        SessionFacts.of(connection._session.peer, "IMAP")
        for connection in room.workers[0].connections()
    ]
    assert len({id(each.binding) for each in facts}) == 1
    assert len(facts[0].binding) == 32


# --- clients that we did not write ----------------------------------------------------------------


def _imaplib(port: int, name: str, *, tls: bool, password: str = PASSWORD) -> None:
    """Sign in, look at INBOX, leave. Raises imaplib's error if it is refused."""
    if tls:
        box: imaplib.IMAP4 = imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=client_context())
    else:
        box = imaplib.IMAP4("127.0.0.1", port)
        assert f"AUTH={name}" not in box.capabilities
        assert box.starttls(client_context())[0] == "OK"
    with box:
        assert f"AUTH={name}" in box.capabilities
        binding = b""
        if name == PLUS:
            assert isinstance(box.sock, ssl.SSLSocket)
            der = box.sock.getpeercert(binary_form=True)
            assert der is not None
            binding = endpoint(x509.load_der_x509_certificate(der))
        client = (
            ScramClient(name, ANN, password, "client-nonce", binding=binding)
            if name.startswith("SCRAM")
            else LoginClient(ANN, password)
            if name == "LOGIN"
            else PlainClient(ANN, password)
        )
        waiting = client.start()

        def answer(challenge: bytes) -> bytes | None:
            nonlocal waiting
            if waiting is not None:
                first, waiting = waiting, None
                return first
            return client.step(challenge)

        assert box.authenticate(name, answer)[0] == "OK"
        assert client.done
        assert box.select("INBOX")[0] == "OK"


@pytest.mark.parametrize("tls", [True, False], ids=["implicit", "starttls"])
@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", SCRAM, PLUS])
async def test_imaplib(room: Room, name: str, tls: bool) -> None:
    port = room.workers[0].ports["imaps" if tls else "imap"]
    await asyncio.to_thread(_imaplib, port, name, tls=tls)
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        await asyncio.to_thread(_imaplib, port, name, tls=tls, password="wrong")


def _ran(words: list[str], home: Path) -> tuple[int, bytes]:
    """A client to its end, on a terminal, which mutt wants; and what it showed there."""
    env = {**os.environ, "HOME": str(home), "TERM": "vt100", "LC_ALL": "C.UTF-8"}
    ours, theirs = pty.openpty()
    shown = b""
    with (
        os.fdopen(ours, "rb", buffering=0) as screen,
        subprocess.Popen(words, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as child,
    ):
        os.close(theirs)
        until = time.monotonic() + 20
        while child.poll() is None and time.monotonic() < until:
            if select.select([screen], [], [], 0.05)[0]:
                try:
                    shown += screen.read(4096)
                except OSError:
                    break  # it closed its end
        if time.monotonic() >= until:
            child.kill()
    return child.returncode, shown


async def _certificate(port: int, home: Path) -> Path:
    """The server's certificate in a file, as one that is trusted."""
    pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
    path = home / "certificate.pem"
    path.write_text(pem)
    return path


def _tell(room: Room) -> list[tuple[str, Reason]]:
    """Mechanism and end of each attempt from now on."""
    told: list[tuple[str, Reason]] = []
    room.workers[0].shared.authenticator.after.append(
        lambda attempt, outcome: told.append((attempt.mechanism, outcome.reason))
    )
    return told


@pytest.mark.skipif(shutil.which("mbsync") is None, reason="mbsync is not installed")
async def test_mbsync_takes_scram_of_itself(room: Room, tmp_path: Path) -> None:
    """Its SCRAM is Cyrus SASL's."""
    port = room.workers[0].ports["imaps"]
    (tmp_path / "mail").mkdir()
    config = tmp_path / "mbsyncrc"
    config.write_text(
        f"""IMAPStore far
Host localhost
Port {port}
User {ANN}
Pass "{PASSWORD}"
SSLType IMAPS
CertificateFile {await _certificate(port, tmp_path)}

MaildirStore near
Path {tmp_path}/mail/
Inbox {tmp_path}/mail/INBOX

Channel all
Far :far:
Near :near:
Create Near
SyncState *
"""
    )
    told = _tell(room)
    code, shown = await asyncio.to_thread(_ran, ["mbsync", "-c", str(config), "-a"], tmp_path)
    assert code == 0, shown
    assert told == [(SCRAM, Reason.RIGHT)]


@pytest.mark.skipif(shutil.which("mutt") is None, reason="mutt is not installed")
async def test_mutt_by_scram(room: Room, tmp_path: Path) -> None:
    """Its SCRAM is GNU SASL's, which cannot bind by tls-server-end-point."""
    port = room.workers[0].ports["imaps"]
    config = tmp_path / "muttrc"
    config.write_text(
        f"""set certificate_file="{await _certificate(port, tmp_path)}"
set imap_user="{ANN}" imap_pass="{PASSWORD}" imap_authenticators="scram-sha-256"
set folder="imaps://localhost:{port}/" spoolfile="+INBOX"
set quit=yes sleep_time=0 wait_key=no
"""
    )
    told = _tell(room)
    words = ["mutt", "-n", "-F", str(config), "-e", 'push "<exit>"']
    code, shown = await asyncio.to_thread(_ran, words, tmp_path)
    assert (code, told) == (0, [(SCRAM, Reason.RIGHT)]), shown


@lru_cache(maxsize=1)
def _curl_speaks_scram() -> bool:
    try:
        told = subprocess.run(["curl", "--version"], capture_output=True, check=False).stdout
    except FileNotFoundError:
        return False
    return re.search(rb"\bgsasl\b", told, re.IGNORECASE) is not None


@pytest.mark.skipif(not _curl_speaks_scram(), reason="no curl, or one built without GSASL")
async def test_curl_by_scram(room: Room) -> None:
    port = room.workers[0].ports["imaps"]
    command = ["curl", "-sSk", "--max-time", "10", "--login-options", f"AUTH={SCRAM}"]
    command += ["--user", f"{ANN}:{PASSWORD}", f"imaps://127.0.0.1:{port}/"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"INBOX" in done.stdout
