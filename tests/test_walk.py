"""The whole way, as an operator and strangers walk it: start, send, read, ask why, stop, start."""

from __future__ import annotations

import base64
import imaplib
import json
import re
import shlex
import signal
import smtplib
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from postroom.admin.client import Refused
from postroom.testing.corpus import messages
from postroom.testing.notify import NotifySocket
from tests.walking import (
    DOMAIN,
    HOST,
    Account,
    Walking,
    as_on_the_wire,
    eventually,
    fetched,
    is_installed,
    run,
)

README = Path(__file__).parents[1] / "README.md"

pytestmark = pytest.mark.skipif(
    not all(map(is_installed, ("swaks", "curl", "openssl"))),
    reason="swaks, curl or openssl missing",
)


@pytest.fixture(scope="module")
def notify() -> Iterator[NotifySocket]:
    with NotifySocket() as heard:
        yield heard


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, notify: NotifySocket) -> Iterator[Walking]:
    folder = tmp_path_factory.mktemp("walk")
    walking = Walking(folder, "--log-format", "json", env=notify.environment)
    try:
        seconds = walking.start()
        assert seconds < 10
        yield walking
    finally:
        walking.close()


@pytest.fixture(scope="module")
def bea(walk: Walking) -> Account:
    return walk.account("bea")


# --- the first start ------------------------------------------------------------------------------


def test_the_first_start_says_once_who_signs_in_and_tells_the_service_manager(
    walk: Walking, notify: NotifySocket
) -> None:
    admin = walk.admin()
    assert admin.address == f"admin@{DOMAIN}"
    assert len(admin.password) > 15
    assert walk.said.count(admin.password) == 1
    assert "READY=1" in notify.collect()
    aliases = {each["address"]: each["target"] for each in walk.operation("alias list")}
    assert aliases == {f"{local}@{DOMAIN}": admin.address for local in ("postmaster", "abuse")}


def test_the_commands_that_the_first_start_prints_do_what_they_say(walk: Walking) -> None:
    admin = walk.admin()
    printed = {words[0]: words for words in map(shlex.split, walk.said.splitlines()) if words}
    assert run(printed["swaks"]).code == 0
    asking = [
        w.replace(admin.address, f"{admin.address}:{admin.password}") for w in printed["curl"]
    ]
    assert b"To: admin@example.test" in run(asking).out
    (why,) = (line.strip() for line in walk.said.splitlines() if " trace " in line)
    assert why.endswith(f"--data {walk.data} trace {admin.address}")


def test_the_commands_of_the_readme_do_what_it_says(walk: Walking) -> None:
    admin = walk.admin()
    lines = README.read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith(("swaks ", "curl ", ".venv/"))]
    assert len(commands) == 3
    sent, read, why = (
        re.sub(r"\b20(025|993)\b", lambda port: str(int(port[1]) + walk.offset), command)
        for command in commands
    )
    shown = run(shlex.split(sent))
    assert re.search(r"^<-  250 .*\n.*QUIT", shown.text, re.MULTILINE)
    who = f"{admin.address}:{admin.password}"
    assert b"Received: " in run(shlex.split(read.replace(admin.address, who))).out
    command, *words = shlex.split(why)
    assert command == ".venv/bin/postroom"
    assert shown.trace_id in walk.postroom(*words).text


def test_postmaster_and_abuse_reach_the_administrator_even_without_a_domain(walk: Walking) -> None:
    with smtplib.SMTP(HOST, walk.smtp) as peer, walk.imaplib(walk.admin()) as box:
        before = _count(box, "INBOX")
        for to in ("postmaster", f"PostMaster@{DOMAIN}", f"abuse@{DOMAIN}"):
            peer.sendmail("ann@far.example", [to], b"Subject: to the office\r\n\r\nHello\r\n")
        assert _count(box, "INBOX") == before + 3


def _count(box: imaplib.IMAP4, mailbox: str) -> int:
    kind, data = box.select(mailbox)
    assert kind == "OK"
    assert data[0] is not None
    return int(data[0])


# --- octet by octet -------------------------------------------------------------------------------


def test_what_was_sent_is_read_back_octet_by_octet_by_every_client(walk: Walking) -> None:
    cora = walk.account("cora")
    sent = [next(m for m in messages(60, seed=1) if b"\r\n." in m), _eight_bit()]
    plain = walk.swaks(*walk.exactly(sent[0]), to=cora)
    over_tls = walk.swaks("--tls", *walk.exactly(sent[1]), to=cora)
    assert (plain.code, over_tls.code) == (0, 0), plain.text + over_tls.text
    with walk.imaplib(cora) as box:
        assert _count(box, "INBOX") == 2
        read = fetched(box)
    for ran, content, stored in zip((plain, over_tls), sent, read, strict=True):
        added = stored.removesuffix(content)
        assert added != stored
        names = [line.split(b":")[0] for line in added.splitlines() if line[:1] not in b" \t"]
        assert names == [
            *(b"Return-Path", b"Authentication-Results", b"Received-SPF", b"Received"),
        ]
        assert ran.trace_id.encode() in added
    assert b"with ESMTP id" in read[0]
    assert b"with ESMTPS id" in read[1]
    assert [walk.curl(cora, f"INBOX;MAILINDEX={n}").out for n in (1, 2)] == read
    if is_installed("mbsync"):
        synced = walk.mbsync(cora)
        ran = synced.run()
        assert ran.code == 0, ran.text
        assert [as_on_the_wire(file) for file in synced.files()] == read


def _eight_bit() -> bytes:
    return next(m for m in messages(60, seed=2) if not m.isascii())


# --- why ------------------------------------------------------------------------------------------


def test_the_trace_says_why_a_message_lies_where_it_lies_and_follows_a_move(
    walk: Walking, bea: Account
) -> None:
    name = "<why.1@far.example>"
    taken = walk.swaks("--header", f"Message-Id: {name}", to=bea)
    (told,) = json.loads(walk.postroom("trace", taken.trace_id, "--json").out)
    assert (told["id"], told["outcome"]) == (taken.trace_id, "accepted")
    assert told["record"]["message_id"] == name
    said = " ".join(told["sentences"])
    assert f"{HOST}, which calls itself client.example, sent it to the listener smtp" in said
    assert f"{bea.address} is the account's own address" in said
    assert "It lies in INBOX as UID 1 (no flags)." in said
    with walk.imaplib(bea) as box:
        _count(box, "INBOX")
        assert box.uid("MOVE", "1", "Archive")[0] == "OK"
    with ThreadPoolExecutor(2) as commands:
        asked = [commands.submit(walk.postroom, "trace", what) for what in (name, bea.address)]
        for each in asked:
            text = each.result().text
            assert taken.trace_id in text
            assert "It lies in Archive as UID 1 (no flags)." in text


def test_a_refusal_names_its_trace_and_the_trace_the_rule(walk: Walking) -> None:
    for to, rule, status in (
        (f"nobody@{DOMAIN}", "known", "5.1.1"),
        ("bob@elsewhere.example", "relay", "5.7.1"),
    ):
        refused = walk.swaks(to=to)
        assert refused.code == 24, refused.text  # no recipient was taken
        assert f"550 {status} " in refused.text
        told = _trace_of_refusal(walk, refused.trace_id)
        assert told["outcome"] == "refuse"
        assert told["record"]["verdicts"][-1]["rule"] == rule
        assert f"was refused by the rule {rule}" in " ".join(told["sentences"])


def _trace_of_refusal(walk: Walking, name: str) -> dict[str, Any]:
    """Traces of refusals are written in batches: within a second it is there."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        try:
            found.extend(walk.operation("trace", what=name))
        except Refused:
            return False
        return True

    eventually(there, within=5)
    return found[0]


def test_a_smaller_limit_applies_to_the_next_greeting_without_a_restart(
    walk: Walking, bea: Account
) -> None:
    content = b"Subject: too much\r\n\r\n" + b"A line that is repeated.\r\n" * 3_000
    with smtplib.SMTP(HOST, walk.smtp) as open_already:
        open_already.ehlo("client.example")
        walk.postroom("settings", "set", "smtp.max_size", "70000")
        try:
            eventually(lambda: _size_offered(walk) == 70_000, within=2)  # a hint may be under way
            with smtplib.SMTP(HOST, walk.smtp) as peer:
                peer.ehlo("client.example")
                code, said = peer.mail("ann@far.example", [f"SIZE={len(content)}"])
                assert (code, said[:5]) == (552, b"5.3.4")
            # One that does not say how large it is, in a session from before.
            open_already.mail("ann@far.example")
            open_already.rcpt(bea.address)
            code, said = open_already.data(content)
            assert (code, said[:5]) == (552, b"5.3.4")
            found = re.search(r"\((r\w+)\)", said.decode())
            assert found is not None
            told = _trace_of_refusal(walk, found[1])
            assert "the setting smtp.max_size, from server" in " ".join(told["sentences"])
        finally:
            walk.operation("settings unset", name="smtp.max_size")
        open_already.sendmail("ann@far.example", [bea.address], content)


def _size_offered(walk: Walking) -> int:
    with smtplib.SMTP(HOST, walk.smtp) as peer:
        peer.ehlo("client.example")
        return int(peer.esmtp_features["size"])


# --- sign-in --------------------------------------------------------------------------------------


@pytest.mark.rows("SMTP-01")
def test_nobody_signs_in_on_the_port_for_other_servers(walk: Walking) -> None:
    admin = walk.admin()
    for tls in ((), ("--tls",)):
        refused = walk.swaks(*tls, "--auth", "--auth-user", admin.address,
                             "--auth-password", admin.password, to=admin)  # fmt: skip
        assert refused.code == 28, refused.text  # swaks: sign-in is not offered
        assert "AUTH" not in refused.text.partition("EHLO")[2].partition("***")[0]
    with smtplib.SMTP(HOST, walk.smtp) as peer:
        peer.ehlo("client.example")
        plain = base64.b64encode(f"\0{admin.address}\0{admin.password}".encode()).decode()
        assert peer.docmd("AUTH", f"PLAIN {plain}")[0] == 500


@pytest.mark.rows("ACC-13")
def test_no_sign_in_is_offered_for_which_the_server_would_have_to_know_the_password(
    walk: Walking, bea: Account
) -> None:
    with imaplib.IMAP4_SSL("localhost", walk.imaps, ssl_context=walk.trusting()) as box:
        offered = {word for word in box.capabilities if word.startswith("AUTH=")}
        names = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
        assert offered == {f"AUTH={name}" for name in names}
        for mechanism in ("CRAM-MD5", "DIGEST-MD5", "NTLM", "APOP"):
            with pytest.raises(imaplib.IMAP4.error, match="not offered"):
                box.authenticate(mechanism, lambda _: b"")
        assert box.login(bea.address, bea.password)[0] == "OK"


@pytest.mark.rows("ACC-11")
def test_no_password_can_be_read_back_from_anything_that_the_server_keeps(walk: Walking) -> None:
    secret = "unreadable Zebra 4711"
    dora = Account(f"dora@{DOMAIN}", secret)
    walk.postroom("account", "create", dora.address, "--password-stdin", stdin=f"{secret}\n")
    with walk.imaplib(dora) as box:
        assert _count(box, "INBOX") == 0
    shown = walk.operation("account show", address=dora.address)
    forms = [secret.encode(), base64.b64encode(secret.encode()), secret.encode().hex().encode()]
    kept = {path: path.read_bytes() for path in walk.data.rglob("*") if path.is_file()}
    assert any(b"dora" in content for content in kept.values())  # what is looked through is it
    kept[Path("log")] = walk.log_text().encode()
    kept[Path("answer")] = json.dumps(shown).encode()
    for path, content in kept.items():
        assert not any(form in content for form in forms), path


@pytest.mark.rows("LOG-01", "LOG-03")
def test_a_failed_sign_in_is_one_line_and_every_line_of_a_session_has_its_id(
    walk: Walking, bea: Account
) -> None:
    context = walk.trusting()
    with imaplib.IMAP4_SSL("localhost", walk.imaps, ssl_context=context) as box:
        for login in ("mallory@far.example", bea.address):
            with pytest.raises(imaplib.IMAP4.error):
                box.login(login, "a wrong one")
        box.login(bea.address, bea.password)
        box.xatom("ID", '("name" "walker")')
    failed = [line for line in walk.log() if line["event"] == "sign-in refused"]
    mine = [line for line in failed if line["login"] == "mallory@far.example"]
    assert [(line["ip"], line["protocol"], line["reason"]) for line in mine] == [
        (HOST, "IMAP", "unknown")
    ]
    session = mine[0]["session"]
    assert [line["event"] for line in walk.log() if line.get("session") == session] == [
        "sign-in refused",
        "sign-in refused",
        "signed in",
        "client",
    ]
    about = ("login", "client")
    told = [line for line in walk.log() if any(key in line for key in about)]
    assert all(re.fullmatch(r"s[0-9a-z]{13}", line["session"]) for line in told)
    assert len({line["session"] for line in told}) > 1


# --- certificates ---------------------------------------------------------------------------------


@pytest.mark.rows("TLS-10")
def test_the_certificate_is_chosen_by_the_name_that_the_client_asks_for(
    walk: Walking, notify: NotifySocket, bea: Account
) -> None:
    before = walk.workers()
    place = Path(walk.layout.tls)
    made = run([
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "30", "-subj", "/CN=mail.second.example",
        "-addext", "subjectAltName=DNS:mail.second.example",
        "-keyout", str(place / "second.key.pem"), "-out", str(place / "second.crt.pem"),
    ])  # fmt: skip
    assert made.code == 0, made.text
    with walk.imaplib(bea) as box:
        notify.collect()
        notify.messages.clear()
        walk.reload()
        notify.wait_for("READY=1", timeout=10)
        assert "RELOADING=1" in notify.messages
        assert box.noop()[0] == "OK"  # who was there stays there
    assert walk.workers() == before
    for name, authority in (
        ("mail.second.example", place / "second.crt.pem"),
        (f"mail.{DOMAIN}", walk.certificate),
    ):
        for port, starttls in ((walk.imaps, ""), (walk.imap, "imap"), (walk.smtp, "smtp")):
            shaken = run([
                "openssl", "s_client", "-connect", f"{HOST}:{port}", "-servername", name,
                "-verify_hostname", name, "-CAfile", str(authority), "-verify_return_error",
                "-brief", *(["-starttls", starttls] if starttls else []),
            ])  # fmt: skip
            assert shaken.code == 0, shaken.text
            assert "Verification: OK" in shaken.text
            assert f"Verified peername: {name}" in shaken.text


# --- deaths and ends ------------------------------------------------------------------------------


def test_a_second_server_on_the_directory_ends_with_1_and_disturbs_nobody(
    walk: Walking, bea: Account
) -> None:
    second = walk.serve()
    with second:
        assert walk.swaks(to=bea).code == 0
        assert second.wait(15) == 1
        assert second.stdout() == ""
        assert f"Another server runs on {walk.data}" in second.stderr()
    assert set(walk.workers().values()) == {"ready"}


def test_a_killed_worker_has_a_successor_and_mail_goes_on(walk: Walking, bea: Account) -> None:
    before = walk.workers()
    victim = min(before)
    walk.server.kill_one(victim)
    assert walk.swaks(to=bea).code == 0
    eventually(lambda: victim not in walk.workers() and _serve(walk) == len(before))
    with walk.imaplib(bea) as box:
        assert _count(box, "INBOX") >= 1
    errors = [line for line in walk.log() if line["level"] == "error"]
    assert [(line["event"], line["pid"]) for line in errors] == [("worker died", victim)]


def _serve(walk: Walking) -> int:
    return list(walk.workers().values()).count("ready")


def test_sigterm_lets_finish_what_is_in_flight_and_all_is_there_after_a_restart(
    walk: Walking, bea: Account
) -> None:
    content = b"Subject: in flight\r\nMessage-ID: <flight@far.example>\r\n\r\nHalf and half.\r\n"
    with walk.imaplib(bea) as box:
        there = _count(box, "INBOX")
        peer = smtplib.SMTP(HOST, walk.smtp)
        peer.ehlo("client.example")
        peer.mail("ann@far.example")
        peer.rcpt(bea.address)
        peer.putcmd("data")
        assert peer.getreply()[0] == 354
        peer.send(content[:30])
        began = time.monotonic()
        walk.server.signal(signal.SIGTERM)
        with pytest.raises((imaplib.IMAP4.abort, ssl.SSLError, OSError)):
            _until_gone(box)
        peer.send(content[30:] + b".\r\n")
        code, said = peer.getreply()
        assert (code, said[:5]) == (250, b"2.0.0")
        peer.close()
        assert walk.stop() == 0
        assert time.monotonic() - began < 30
    # A stopped server answers too, from its stores.
    assert "It lies in INBOX" in walk.postroom("trace", "<flight@far.example>").text
    assert walk.start() < 10
    with walk.imaplib(bea) as box:
        assert _count(box, "INBOX") == there + 1
        assert fetched(box, str(there + 1))[0].endswith(content)
    assert walk.server.stdout() == ""  # the password was told once


def _until_gone(box: imaplib.IMAP4) -> None:
    while True:
        box.noop()
        time.sleep(0.05)


def test_at_the_end_everything_is_in_order(walk: Walking) -> None:
    assert "All is well." in walk.postroom("check").text
    warnings = [line for line in walk.log() if line["level"] not in ("info", "debug")]
    expected = {"serving as root, since a port offset says that this is a trial", "worker died"}
    assert {line["event"] for line in warnings} <= expected
    for line in walk.log():
        assert {"time", "level", "logger", "event"} <= line.keys()
