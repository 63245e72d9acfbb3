"""swaks: what honest and careless senders do on port 25, and what they are told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.peers.checks import Checks, Plan
from tests.walking import DOMAIN, Account, Walking, fetched

OK, RCPT_REFUSED, MAIL_REFUSED, DATA_REFUSED, NO_AUTH, NO_EHLO = 0, 24, 23, 26, 28, 22


@dataclass(frozen=True, slots=True)
class Try:
    """One session: options, swaks' exit code, what it shows, how many copies it leaves."""

    what: str
    options: tuple[str, ...]
    code: int = OK
    shows: str = r"250 2\.0\.0 Message accepted as r"
    copies: int = 1
    stored: bytes = b""  # is in what was stored


def tries(who: Account, other: Account, plan: Plan) -> tuple[Try, ...]:
    """In the order in which they are done."""
    both = f"{who.address},{other.address}"
    nobody = f"nobody@{DOMAIN}"
    return (
        Try("plain", ()),
        Try("STARTTLS", ("--tls",), shows="TLS started with cipher TLSv1.3"),
        Try("TLS 1.2", ("--tls", "--tls-protocol", "tlsv1_2"), stored=b"(TLSv1.2 "),
        Try("TLS only where it is offered", ("--tls-optional",)),
        Try("HELO", ("--protocol", "SMTP"), stored=b"with SMTP id"),
        Try("a literal as a name", ("--ehlo", "[127.0.0.1]"), stored=b"from [127.0.0.1]"),
        Try("pipelined", ("--pipeline",)),
        Try("pipelined over TLS", ("--pipeline", "--tls")),
        Try("a null sender", ("--from", "<>"), stored=b"Return-Path: <>"),
        Try("8 bits", ("--body", "Grüße, 你好"), stored="Grüße, 你好".encode()),
        Try("dots", ("--body", ".\\n..\\n.x\\n."), stored=b"\r\n.\r\n..\r\n.x\r\n."),
        Try(
            "an attachment", ("--attach", "@ATTACHMENT"), stored=b"Content-Disposition: attachment"
        ),
        Try("two recipients", ("--to", both)),
        Try(
            "one good of three",
            ("--to", f"{nobody},{who.address},bob@elsewhere.example"),
            shows=r"550 5\.1\.1 .*550 5\.7\.1 .*250 2\.0\.0",
        ),
        Try("a tag", ("--to", who.address.replace("@", "+tag@")), stored=b"+tag@"),
        Try("capitals", ("--to", who.address.upper())),
        Try("one twice", ("--to", f"{who.address},{who.address}")),
        Try("nobody", ("--to", nobody), RCPT_REFUSED, r"550 5\.1\.1 .*\(r\w+\)", 0),
        Try("relay", ("--to", "bob@elsewhere.example"), RCPT_REFUSED, r"550 5\.7\.1", 0),
        Try("percent hack", ("--to", f"bob%elsewhere.example@{DOMAIN}"), RCPT_REFUSED, "550", 0),
        Try("source route", ("--to", f"@{DOMAIN}:{who.address}")),
        Try("a name of ours", ("--from", f"boss@{DOMAIN}"), MAIL_REFUSED, r"530 5\.7\.0", 0),
        Try("no address", ("--from", "not an address"), MAIL_REFUSED, r"501 5\.\d\.\d", 0),
        Try("no name", ("--ehlo", "white space"), NO_EHLO, "501", 0),
        Try(
            "sign-in",
            ("--auth", "--auth-user", who.address, "--auth-password", who.password),
            NO_AUTH,
            "did not advertise auth",
            0,
        ),
        Try("goes after RCPT", ("--quit-after", "RCPT"), OK, r"250 2\.1\.5 .*221", 0),
        Try("drops after DATA", ("--drop-after-send", "DATA"), OK, "", 0),
    )


def walk(at: Walking, checks: Checks, plan: Plan) -> None:
    who, other = at.account("swaks"), at.account("swaks-too")
    attachment = at.folder / "attachment.bin"
    attachment.write_bytes(bytes(range(256)) * (plan.large // 512))
    there = 0
    for one in tries(who, other, plan):
        options = [f"@{attachment}" if o == "@ATTACHMENT" else o for o in one.options]
        done = checks.ran(at.swaks(*options, to=who), one.what, one.code)
        shown = re.search(one.shows, done.text, re.DOTALL)
        checks.that(shown is not None, f"{one.what}: swaks shows", done.text[-600:])
        stored = _last(at, who, there)
        there += len(stored)
        checks.equal(len(stored), one.copies, f"{one.what}: copies")
        checks.that(all(one.stored in c for c in stored), f"{one.what}: stored", stored)
        checks.messages += len(stored)
        checks.octets += sum(map(len, stored))
    checks.equal(len(_last(at, other, 0)), 1, "the other recipient's copies")


def _last(at: Walking, who: Account, after: int) -> list[bytes]:
    """The messages of an INBOX beyond the first `after`."""
    with at.imaplib(who) as box:
        told = box.select("INBOX", readonly=True)[1][0]
        assert told is not None
        return fetched(box, f"{after + 1}:*") if int(told) > after else []
