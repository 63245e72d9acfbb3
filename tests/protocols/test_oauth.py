"""Signing in with a provider's token at every door: our clients, curl and IMAPClient. Sockets."""

from __future__ import annotations

import asyncio
import json
import subprocess

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import LoginError
from joserfc import jwk, jwt

from postroom.core.settings import SERVER, Value, chain
from postroom.domain.policy import Assignment, change
from postroom.mailflow.house import MailHouse
from postroom.wire.sasl import OAUTHBEARER, XOAUTH2, Bearer, BearerClient
from tests.mailflow.conftest import doors, mx, stores
from tests.mailflow.doors import ANN as SENDER
from tests.mailflow.doors import Doors, sign_in
from tests.protocols.imap.serving import ANN, PASSWORD, client_context, message
from tests.protocols.imap.test_sasl import authenticate, said_yes
from tests.protocols.pop3.conftest import room
from tests.protocols.pop3.serving import Pop3Room
from tests.walking import is_installed

__all__ = ["doors", "mx", "room", "stores"]

ISSUER = "https://login.example.org"
MAIL = "urn:mail"
KEY = jwk.ECKey.generate_key("P-256", {"kid": "one"})
BOTH = pytest.mark.parametrize("mechanism", [OAUTHBEARER, XOAUTH2])
CURL = pytest.mark.skipif(not is_installed("curl"), reason="curl is not installed")


def token(house: MailHouse, email: str, **claims: object) -> str:
    now = house.clock.now() // 1000
    held = {"iss": ISSUER, "aud": MAIL, "exp": now + 300, "email": email} | claims
    return jwt.encode({"alg": "ES256", "kid": "one"}, held, KEY)


async def configure(house: MailHouse) -> None:
    keys = json.dumps({"keys": [KEY.as_dict(private=False)]})
    told: dict[str, Value] = {"oauth.issuer": ISSUER, "oauth.audience": (MAIL,)}
    told["oauth.keys"] = keys
    assigned = [Assignment(SERVER, name, value) for name, value in told.items()]
    await house.mail.write(change, assigned, house.ids.new(), house.clock.now(), 0, "test")
    # As a worker does, that follows the settings.
    await house.mail.read(house.policies.current, chain())


async def ran(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return await asyncio.to_thread(
        subprocess.run, words, capture_output=True, check=False, input=stdin, timeout=30
    )


@BOTH
@pytest.mark.parametrize("initial", [True, False], ids=["sasl-ir", "asked"])
async def test_imap(room: Pop3Room, mechanism: str, initial: bool) -> None:
    line = await room.imap.connect()
    before = await line.command("CAPABILITY")
    await configure(room.imap.house)
    after = await line.command("CAPABILITY")
    name = f"AUTH={mechanism}".encode()
    assert name not in before["CAPABILITY"][0].data and name in after["CAPABILITY"][0].data
    client = BearerClient(mechanism, Bearer(ANN, token(room.imap.house, ANN)))
    assert await said_yes(line, await authenticate(line, client, initial=initial))


@BOTH
async def test_imap_tells_why_not_and_a_password_still_does(room: Pop3Room, mechanism: str) -> None:
    await configure(room.imap.house)
    line = await room.imap.connect()
    client = BearerClient(mechanism, Bearer(ANN, token(room.imap.house, ANN, exp=1)))
    reply = await authenticate(line, client, initial=True)
    assert reply.kind == "NO" and reply.code == "AUTHENTICATIONFAILED"
    assert "401" in client.problem or "invalid_token" in client.problem
    assert (await line.login(ANN, PASSWORD)).ok


@BOTH
async def test_smtp(doors: Doors, mechanism: str) -> None:
    await configure(doors.mx.house)
    async with doors.open() as client:
        bad = BearerClient(mechanism, Bearer("", token(doors.mx.house, SENDER, aud="urn:other")))
        refused = await sign_in(client, bad)
        assert (refused.code, str(refused.status)) == (535, "5.7.8")
        good = BearerClient(mechanism, Bearer("", token(doors.mx.house, SENDER)))
        assert (await sign_in(client, good)).code == 235


@BOTH
async def test_pop3(room: Pop3Room, mechanism: str) -> None:
    await configure(room.imap.house)
    async with await room.connect() as client:
        good = BearerClient(mechanism, Bearer(ANN, token(room.imap.house, ANN)))
        assert (await client.sign_in(good)).ok
        assert await client.stat() == (0, 0)


def _imapclient(port: int, shown: str, mechanism: str) -> int:
    client = IMAPClient("127.0.0.1", port, ssl_context=client_context())
    sign_in = client.oauthbearer_login if mechanism == OAUTHBEARER else client.oauth2_login
    with pytest.raises(LoginError):
        sign_in(ANN, shown[:-8])
    sign_in(ANN, shown)
    client.select_folder("INBOX")
    found = len(client.search())
    client.logout()
    return found


@BOTH
async def test_imapclient(room: Pop3Room, mechanism: str) -> None:
    await configure(room.imap.house)
    await room.imap.deliver(message("one"))
    port = room.imap.workers[0].ports["imaps"]
    shown = token(room.imap.house, ANN)
    assert await asyncio.to_thread(_imapclient, port, shown, mechanism) == 1


@CURL
@BOTH
@pytest.mark.parametrize("protocol", ["imaps", "pop3s"])
async def test_curl_reads(room: Pop3Room, protocol: str, mechanism: str) -> None:
    await configure(room.imap.house)
    await room.imap.deliver(message("one"))
    worker = room.imap.workers[0] if protocol == "imaps" else room.workers[0]
    path = "INBOX;MAILINDEX=1" if protocol == "imaps" else "1"
    done = await ran(
        *("curl", "-sSk", "--max-time", "10", "--login-options", f"AUTH={mechanism}"),
        *("--user", f"{ANN}:", "--oauth2-bearer", token(room.imap.house, ANN)),
        f"{protocol}://127.0.0.1:{worker.ports[protocol]}/{path}",
    )
    assert done.returncode == 0, done.stderr
    assert b"one" in done.stdout


@CURL
@BOTH
async def test_curl_sends(doors: Doors, mechanism: str) -> None:
    await configure(doors.mx.house)
    done = await ran(
        *("curl", "-sSk", "--max-time", "10", "--login-options", f"AUTH={mechanism}"),
        *("--user", f"{SENDER}:", "--oauth2-bearer", token(doors.mx.house, SENDER)),
        *("--mail-from", SENDER, "--mail-rcpt", SENDER, "--upload-file", "-"),
        f"smtps://127.0.0.1:{doors.tls_port}/",
        stdin=f"From: <{SENDER}>\r\nSubject: hi\r\n\r\nhello\r\n".encode(),
    )
    assert done.returncode == 0, done.stderr
