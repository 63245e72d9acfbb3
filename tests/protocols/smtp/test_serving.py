"""The doors of `postroom serve` with the clients of others: LMTP's socket, 587 and 465."""

from __future__ import annotations

import os
import smtplib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.testing.smtp import trusting_context
from tests.walking import HOST, Account, Walking, eventually, fetched

SENDER = "sender@elsewhere.example"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walking]:
    walking = Walking(tmp_path_factory.mktemp("served"), "--log-format", "json")
    walking.start()
    try:
        yield walking
    finally:
        walking.stop()


def _socket(served: Walking) -> Path:
    return served.data / "run" / "lmtp.sock"


def _message(subject: str, who: str = SENDER) -> bytes:
    return f"From: <{who}>\r\nSubject: {subject}\r\n\r\nGood morning.\r\n".encode()


def _inbox(served: Walking, who: Account) -> list[bytes]:
    with served.imaplib(who) as box:
        box.select("INBOX", readonly=True)
        return fetched(box)


def test_the_socket_is_the_owner_s_alone(served: Walking) -> None:
    mode = os.stat(_socket(served)).st_mode
    assert stat.S_ISSOCK(mode) and not mode & 0o077


def test_programs_deliver_over_the_socket(served: Walking) -> None:
    ann, bob = served.account("lmtp-ann"), served.account("lmtp-bob")
    at = f"account:{bob.address}"
    served.operation("settings set", name="quota.octets", value="100", at=at)
    with smtplib.LMTP(str(_socket(served)), local_hostname="filter.example") as client:
        code, said = client.ehlo("filter.example")  # smtplib says LHLO
        assert code == 250 and b"CHUNKING" in said
        assert client.ehlo_resp is not None
        refused = client.sendmail(
            SENDER, [ann.address, f"nobody@{ann.address.partition('@')[2]}"], _message("one")
        )
        assert {to: code for to, (code, _) in refused.items()} == {"nobody@example.test": 550}
        for line in (f"MAIL FROM:<{ann.address}>", f"RCPT TO:<{bob.address}>"):
            assert client.docmd(line)[0] == 250
        assert client.docmd(f"RCPT TO:<{ann.address}>")[0] == 250
        assert client.docmd("DATA")[0] == 354
        client.send(_message("two") + b".\r\n")
        assert [client.getreply()[0] for _ in range(2)] == [452, 250]
        assert client.docmd("NOOP")[0] == 250
    stored = _inbox(served, ann)
    assert [b"Subject: one" in each for each in stored] == [True, False]
    assert b"with LMTP id" in stored[0].replace(b"\r\n ", b" ")
    assert _inbox(served, bob) == []


@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_people_submit_over_either_port(served: Walking, how: str) -> None:
    ann, bob = served.account(f"{how}-ann"), served.account(f"{how}-bob")
    if how == "implicit":
        port = 465 + served.offset
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            HOST, port, "laptop.example", context=trusting_context(), timeout=10
        )
    else:
        client = smtplib.SMTP(HOST, 587 + served.offset, "laptop.example", timeout=10)
        client.ehlo()
        assert not client.has_extn("auth")
        client.starttls(context=trusting_context())
    with client:
        client.login(ann.address, ann.password)
        mine = _message(how, ann.address).replace(b"\r\n\r\n", b"\r\nBcc: x@y.example\r\n\r\n", 1)
        assert client.sendmail(ann.address, [bob.address], mine) == {}
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            client.sendmail(bob.address, [bob.address], mine)
        assert refused.value.smtp_code == 550
    (stored,) = _inbox(served, bob)
    assert b"ESMTPSA" in stored and b"Bcc" not in stored and b"\r\nMessage-ID: <r" in stored


def test_each_message_has_its_line_in_the_log(served: Walking) -> None:
    ann = served.account("logged")
    with smtplib.LMTP(str(_socket(served)), local_hostname="filter.example") as client:
        client.sendmail(SENDER, [ann.address], _message("logged"))
        client.docmd(f"MAIL FROM:<{SENDER}>")
        code, said = client.docmd("RCPT TO:<nobody@example.test>")
        assert code == 550

    def logged(event: str) -> list[str]:
        return [
            each["id"]
            for each in served.log()
            if each["event"] == event and each["protocol"] == "LMTP"
        ]

    eventually(lambda: any(each in said.decode() for each in logged("recipient refused")))
    assert ann.address in served.postroom("trace", logged("message accepted")[-1]).text
