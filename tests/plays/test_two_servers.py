"""Two servers as operators run them, a mail client that is not ours, and DNS between them.

swaks submits with STARTTLS and AUTH; the message reaches the second Postroom; a refused
recipient comes back as a report that a mail client understands; both traces say why.
"""

from __future__ import annotations

import imaplib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest

from postroom.admin.client import Refused
from postroom.testing.dns import DnsServer, Zones
from postroom.testing.ports import free_offset
from postroom.testing.smtp import trusting_context
from tests.walking import PATIENCE, Account, Walking, eventually, fetched, is_installed, run

ANN = Account("ann@a.test", "correct horse battery staple")
BOB = Account("bob@b.test", "correct horse battery staple")
NOBODY = "nobody@b.test"
HERE, THERE, NOWHERE = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@dataclass(frozen=True)
class Pair:
    """The two servers, on the same ports of two addresses."""

    here: Walking
    there: Walking

    def submit(self, message_id: str, *to: str) -> str:
        """Ann's mail client; the trace id that it was told."""
        done = run([
            "swaks", "--server", HERE, "--port", str(587 + self.here.offset), "--tls",
            "--auth", "PLAIN", "--auth-user", ANN.address, "--auth-password", ANN.password,
            "--from", ANN.address, "--to", ",".join(to), "--helo", "laptop",
            "--header", "Subject: Across", "--header", f"Message-Id: {message_id}",
        ])  # fmt: skip
        assert done.code == 0, done.text
        return done.trace_id


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if not is_installed("swaks"):
        pytest.skip("swaks is not installed")
    zones = Zones()
    for domain, ip in (("a.test", HERE), ("b.test", THERE), ("down.test", NOWHERE)):
        zones.add(domain, "MX", f"10 mail.{domain}")
        zones.host(f"mail.{domain}", ip)
    offset = free_offset()
    with DnsServer(zones) as dns:
        made = []
        try:
            for domain, ip in (("a.test", HERE), ("b.test", THERE)):
                walking = Walking(
                    tmp_path_factory.mktemp(domain), "--bind", ip, "--domain", domain,
                    "--resolver", str(dns), "--outbound-port", str(25 + offset),
                    "--log-format", "json",
                )  # fmt: skip
                walking.offset = offset
                made.append(walking)
                walking.start()
            here, there = made
            here.operation("account create", address=ANN.address, password=ANN.password)
            there.operation("account create", address=BOB.address, password=BOB.password)
            yield Pair(here, there)
        finally:
            for walking in made:
                walking.close()


def inbox(walking: Walking, ip: str, who: Account) -> list[bytes]:
    """What a mail client finds in INBOX."""
    with imaplib.IMAP4_SSL(
        ip, 993 + walking.offset, ssl_context=trusting_context(), timeout=PATIENCE
    ) as box:
        box.login(who.address, who.password)
        kind, data = box.select("INBOX", readonly=True)
        assert kind == "OK" and data[0] is not None
        return fetched(box) if int(data[0]) else []


def trace(walking: Walking, what: str) -> dict[str, Any]:
    (view,) = walking.operation("trace", what=what)
    return dict(view)


def is_traced(walking: Walking, what: str) -> bool:
    try:
        return bool(trace(walking, what))
    except Refused:
        return False


def test_a_message_crosses_and_a_refusal_comes_back_and_both_traces_say_why(pair: Pair) -> None:
    name = "<across.1@laptop.a.test>"
    sent = pair.submit(name, BOB.address, NOBODY)
    eventually(lambda: bool(inbox(pair.there, THERE, BOB)))
    eventually(lambda: bool(inbox(pair.here, HERE, ANN)))
    (got,) = inbox(pair.there, THERE, BOB)
    (report,) = inbox(pair.here, HERE, ANN)
    assert got.startswith(b"Return-Path: <ann@a.test>\r\n")
    assert b"\r\nReceived: from mail.a.test" in got
    fields = got.replace(b"\r\n ", b" ")
    assert b"by mail.b.test with ESMTPS (" in fields
    assert b"by mail.a.test with ESMTPSA (" in fields
    reply = understood(report, name)
    # Here: what was done with each recipient, and with which reply.
    (view,) = json.loads(pair.here.postroom("trace", sent, "--json").out)
    told = " ".join(view["sentences"])
    assert f"signed in as {ANN.address}" in told
    assert f"{BOB.address} is reached by the mail exchangers of b.test" in told
    found = re.search(r"mail\.b\.test \[127\.0\.0\.2\] took it over TLSv1\.3 \S+: 250 2\.0\.0 "
                      r"Message accepted as (r\w{13})\.", told)  # fmt: skip
    assert found is not None, told
    assert f"it was given up (5.1.1). mail.b.test [127.0.0.2] said: {reply}." in told
    notice = re.search(r"The sender was told in the notice (r\w{13})\.", told)
    assert notice is not None, told
    told = " ".join(trace(pair.here, notice[1])["sentences"])
    assert "This server wrote it, as a delivery report" in told
    assert "It lies in INBOX as UID 1" in told
    # There: the same message under the id of the reply, and the refusal under the id in its.
    view = trace(pair.there, found[1])
    assert view["record"]["message_id"] == name
    told = " ".join(view["sentences"])
    assert (
        "127.0.0.1, which calls itself mail.a.test, sent it to the listener smtp over TLS" in told
    )
    assert f"{BOB.address} is the account's own address" in told
    assert f"The recipient {NOBODY} was refused by the rule known" in told
    refusal = re.search(r"\((r\w{13})\)", reply)
    assert refusal is not None
    # Traces of refusals are written in batches.
    eventually(lambda: is_traced(pair.there, refusal[1]), within=5)
    told = " ".join(trace(pair.there, refusal[1])["sentences"])
    assert "no account and no alias has this address" in told


def understood(content: bytes, about: str) -> str:
    """The report as a mail client reads it; the reply of the other server that it quotes."""
    read = BytesParser(policy=policy.default).parsebytes(content)
    assert read.get_content_type() == "multipart/report"
    assert read.get_param("report-type") == "delivery-status"
    assert (read["To"], read["In-Reply-To"]) == (ANN.address, about)
    assert read["From"].addresses[0].addr_spec == "postmaster@a.test"
    text, machine, original = read.iter_parts()
    assert isinstance(text, EmailMessage)
    assert NOBODY in text.get_content()
    whole, status = machine.iter_parts()
    assert whole["Reporting-MTA"] == "dns; mail.a.test"
    assert status["Final-Recipient"] == f"rfc822; {NOBODY}"
    assert (status["Action"], status["Status"]) == ("failed", "5.1.1")
    assert status["Remote-MTA"] == "dns; mail.b.test"
    kind, _, reply = status["Diagnostic-Code"].partition("; ")
    assert kind == "smtp" and reply.startswith("550 5.1.1 ")
    assert original.get_content()["Message-ID"] == about
    return str(reply)


def test_mail_for_a_server_that_is_down_waits_until_an_administrator_takes_it_out(
    pair: Pair,
) -> None:
    sent = pair.submit("<across.2@laptop.a.test>", "eve@down.test")

    def waits() -> bool:
        told = pair.here.operation("queue list", limit=10)
        return [(line["id"], line["attempts"]) for line in told] == [(sent, 1)]

    eventually(waits)
    told = pair.here.postroom("trace", sent).text
    assert "It waits since" in told
    assert "mail.down.test" in told
    pair.here.operation("queue delete", id=sent)
    (view,) = pair.here.operation("trace", what=sent)
    assert "An administrator has taken it out of the queue." in " ".join(view["sentences"])
