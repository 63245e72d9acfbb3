"""DMARC reports of others: from a session on port 25 to what an administrator reads."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from postroom.access import Authenticator
from postroom.admin import AdminHouse, Caller, codec, perform
from postroom.admin.house import checker, named
from postroom.core.clock import Instant
from postroom.core.errors import Busy, NotAllowed, NotFound
from postroom.core.settings import Place, Role, Scope
from postroom.domain import reported
from postroom.domain.reported import DAY, UNREADABLE
from postroom.mailflow import filing, understanding
from postroom.mailflow.filing import TRIES, file_reports, forget_reports
from postroom.mailflow.rules.filing import LARGEST
from postroom.store import blobs
from postroom.store.sql import Tx
from postroom.trust.checks import Checks
from postroom.wire.smtp import Reply
from tests.mailflow.serving import DOMAIN, OTHER, Mx, message
from tests.trust.zones import Dns

REPORTS: Final = f"dmarc-reports@{DOMAIN}"
REPORTER: Final = "noreply@far.example"
VECTORS: Final = Path(__file__).parent.parent / "vectors" / "auth"
ROW: Final = """
  <record><row><source_ip>{ip}</source_ip><count>{count}</count><policy_evaluated>
  <disposition>none</disposition><dkim>{dkim}</dkim><spf>{spf}</spf></policy_evaluated></row>
  <identifiers><header_from>example.test</header_from></identifiers></record>
"""


def document(
    mx: Mx, *rows: tuple[str, int, str, str], domain: str = DOMAIN, number: str = "r1"
) -> bytes:
    """An aggregate report on yesterday."""
    now = mx.clock.now() // 1000
    made = "".join(ROW.format(ip=ip, count=n, dkim=dkim, spf=spf) for ip, n, dkim, spf in rows)
    return (
        "<?xml version='1.0'?><feedback><report_metadata><org_name>Far</org_name>"
        f"<email>{REPORTER}</email><report_id>{number}</report_id><date_range>"
        f"<begin>{now - 86_400}</begin><end>{now - 1}</end></date_range></report_metadata>"
        f"<policy_published><domain>{domain}</domain><p>none</p></policy_published>{made}"
        "</feedback>"
    ).encode()


def letter(content: bytes, kind: str = "application/gzip", name: str = "report.xml.gz") -> bytes:
    """A message with that attached, as reporters send it: beside a text, in a mixed."""
    body = base64.encodebytes(content).replace(b"\n", b"\r\n")
    return (
        (
            f"From: <{REPORTER}>\r\nTo: <{REPORTS}>\r\nSubject: Report Domain: {DOMAIN}\r\n"
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"
            "--a\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nHello.\r\n"
            f'--b--\r\n--a\r\nContent-Type: {kind}; name="{name}"\r\n'
            "Content-Transfer-Encoding: base64\r\n\r\n"
        ).encode()
        + body
        + b"--a--\r\n"
    )


def zipped(content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.xml", content)
    return made.getvalue()


async def opened(mx: Mx) -> None:
    """The address is set, and DNS vouches for the reporter."""
    await mx.set("dns.dmarc_reports", REPORTS)
    dns = Dns({"_dmarc.far.example": [("TXT", "v=DMARC1; p=reject")]})
    dns.add("far.example", "TXT", "v=spf1 ip4:127.0.0.1 -all")
    dns.add("7.113.0.203.in-addr.arpa", "PTR", "mail.example")
    dns.add("mail.example", "A", "203.0.113.7")
    mx.house.checks = Checks(dns, mx.clock)


async def send(mx: Mx, content: bytes, to: str = REPORTS, sender: str = REPORTER) -> Reply:
    async with mx.connect() as client:
        return (await client.deliver(sender, [to], content)).last


async def run(mx: Mx) -> int:
    """Run the job until nothing is left; returns how many messages it took."""
    done = 0
    while await file_reports(mx.house):
        done += 1
    return done


async def ask(mx: Mx, operation: str, caller: Caller | None = None, **asked: Any) -> Any:
    """Perform an operation over the same house."""
    flow = mx.house
    access = Authenticator(
        flow.mail, flow.clock, flow.policies, flow.ids, default_domain=lambda: DOMAIN
    )
    try:
        house = AdminHouse(flow, access, checker(flow))
        if caller is not None:
            house = AdminHouse(flow, access, checker(flow), caller=caller)
        return await perform(house, operation, codec.decode(named(operation).input, asked))
    finally:
        await access.close()


async def told(mx: Mx, reply: Reply) -> str:
    """What `trace` says of the message that was taken."""
    views = await ask(mx, "trace", what=reply.text.split()[-1])
    return "\n".join(view.told() for view in views)


ROWS: Final = (
    ("192.0.2.1", 4_000, "pass", "pass"),
    ("192.0.2.2", 12, "fail", "pass"),
    ("203.0.113.7", 300, "fail", "fail"),
)


# --- from the session to the summary --------------------------------------------------------------


async def test_a_report_is_taken_without_an_account_filed_and_summed_up(mx_both: Mx) -> None:
    mx = mx_both
    await opened(mx)
    reply = await send(mx, letter(gzip.compress(document(mx, *ROWS))))
    assert reply.code == 250
    assert "is where others send DMARC reports" in await told(mx, reply)
    assert await run(mx) == 1
    assert "it was filed as a DMARC report." in await told(mx, reply)
    found = await ask(mx, "dmarc summary", domain=DOMAIN)
    assert found.sentences == (
        "4,312 messages from 3 sources in 4 weeks, as 1 reporter told; 93 % aligned.",
        "203.0.113.7 (mail.example) sends 75 a week without a signature or an SPF pass of yours.",
        "192.0.2.2 sends 3 a week without a signature of yours; SPF alone lets them pass.",
    )
    (listed,) = await ask(mx, "dmarc report list")
    assert (listed.domain, listed.reporter, listed.vouched_by) == (DOMAIN, "Far", "far.example")
    shown = (await ask(mx, "dmarc report show", id=listed.id)).told()
    assert "4,312 messages, 93 % of them aligned." in shown
    assert "203.0.113.7: 300, dkim fail, spf fail, disposition none" in shown
    assert not await ask(mx, "dmarc report unfiled")


@pytest.mark.parametrize(
    ("pack", "kind", "name"),
    [
        (gzip.compress, "application/octet-stream", "Report.XML.GZ"),
        (zipped, "application/zip", "a.zip"),
        (zipped, "application/x-zip-compressed", "a"),
        (bytes, "text/xml", "a.xml"),
        (bytes, "application/octet-stream", "a.xml"),
    ],
)
async def test_a_report_is_found_however_it_is_attached(
    mx: Mx, pack: Callable[[bytes], bytes], kind: str, name: str
) -> None:
    await opened(mx)
    await send(mx, letter(pack(document(mx, *ROWS)), kind, name))
    await run(mx)
    assert (await ask(mx, "dmarc summary", domain=DOMAIN)).messages == 4_312


async def test_an_account_at_that_address_gets_reports_as_well(mx: Mx) -> None:
    await opened(mx)
    account = await mx.account(REPORTS)
    assert (await send(mx, letter(gzip.compress(document(mx, *ROWS))))).code == 250
    assert await mx.count(account) == 1
    assert await run(mx) == 1
    assert len(await ask(mx, "dmarc report list")) == 1


async def test_other_addresses_without_an_account_are_refused_as_before(mx: Mx) -> None:
    await opened(mx)
    content = letter(gzip.compress(document(mx, *ROWS)))
    assert (await send(mx, content, f"dmarc-report@{DOMAIN}")).code == 550
    await mx.set("reports.file", False)
    assert (await send(mx, content)).code == 550
    await mx.set("reports.file", True)
    at_other = Place(Scope.DOMAIN, OTHER)
    await mx.set("dns.dmarc_reports", f"d@{OTHER}", at_other)
    assert (await send(mx, content, f"d@{OTHER}")).code == 250
    assert (await send(mx, content, f"d@{DOMAIN}")).code == 550


async def test_who_administers_a_domain_sees_that_one(mx: Mx) -> None:
    await opened(mx)
    await send(mx, letter(gzip.compress(document(mx, *ROWS))))
    await send(mx, letter(gzip.compress(document(mx, *ROWS, domain=OTHER))))
    await run(mx)
    one = Caller(7, Role.DOMAIN_ADMIN, OTHER)
    (own,) = await ask(mx, "dmarc report list", one, domain=OTHER)
    assert own.domain == OTHER
    assert (await ask(mx, "dmarc report show", one, id=own.id, domain=OTHER)).told()
    assert (await ask(mx, "dmarc summary", one, domain=OTHER)).messages == 4_312
    (theirs,) = await ask(mx, "dmarc report list", domain=DOMAIN)
    with pytest.raises(NotFound):
        await ask(mx, "dmarc report show", one, id=theirs.id, domain=OTHER)
    for operation, asked in (
        ("dmarc report list", {}),
        ("dmarc report show", {"id": theirs.id}),
        ("dmarc report unfiled", {}),
        ("dmarc summary", {"domain": DOMAIN}),
    ):
        with pytest.raises(NotAllowed):
            await ask(mx, operation, one, **asked)


async def test_a_failure_report_is_recognised_and_shown(mx: Mx) -> None:
    await opened(mx)
    content = (VECTORS / "arf" / "003.eml").read_bytes().replace(b"\r\n", b"\n")
    content = content.replace(
        b"Reported-Domain: example.net", f"Reported-Domain: {DOMAIN}".encode()
    )
    assert (await send(mx, content.replace(b"\n", b"\r\n"))).code == 250
    await run(mx)
    (listed,) = await ask(mx, "dmarc report list", domain=DOMAIN)
    assert (listed.kind, listed.reporter) == ("auth-failure", "SomeDKIMFilter/1.0")
    shown = (await ask(mx, "dmarc report show", id=listed.id)).told()
    assert "What failed: bodyhash." in shown
    assert "The message came from: 192.0.2.1." in shown
    found = await ask(mx, "dmarc summary", domain=DOMAIN)
    assert found.sentences[-1] == "1 report of the kind auth-failure came in."


# --- killed between -------------------------------------------------------------------------------


async def test_attack_09_a_job_that_ended_before_its_unit_does_it_again(
    mx: Mx, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(mx)
    await send(mx, letter(gzip.compress(document(mx, *ROWS))))
    whole = reported.file

    def killed_before(*_: object) -> str:
        raise Busy

    def killed_after(tx: Tx, *asked: Any) -> str:
        whole(tx, *asked)
        raise Busy

    for broken in (killed_before, killed_after):
        monkeypatch.setattr(reported, "file", broken)
        with pytest.raises(Busy):
            await file_reports(mx.house)
        assert not await ask(mx, "dmarc report list")
    monkeypatch.setattr(reported, "file", whole)
    assert await run(mx) == 1
    assert await run(mx) == 0
    assert (await ask(mx, "dmarc summary", domain=DOMAIN)).messages == 4_312


async def test_what_ends_the_server_each_time_is_given_up(
    mx: Mx, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(mx)
    await send(mx, letter(gzip.compress(document(mx, *ROWS))))

    def dies(raw: bytes, now: Instant) -> object:
        raise asyncio.CancelledError

    monkeypatch.setattr(filing, "_understand", dies)
    for _ in range(TRIES):
        with pytest.raises(asyncio.CancelledError):
            await file_reports(mx.house)
    assert await run(mx) == 1
    (kept,) = await ask(mx, "dmarc report unfiled")
    assert kept.why == "the server ended each time it was looked into"


# --- strangers ------------------------------------------------------------------------------------


def bomb() -> bytes:
    """64 MiB of nothing, in 64 KiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()


async def test_attack_07_a_bomb_is_shown_as_unreadable_and_the_next_report_is_filed(mx: Mx) -> None:
    await opened(mx)
    reply = await send(mx, letter(bomb()))
    assert reply.code == 250
    await send(mx, letter(gzip.compress(document(mx, *ROWS))))
    assert await run(mx) == 2
    (kept,) = await ask(mx, "dmarc report unfiled")
    assert (kept.state, kept.message) == (UNREADABLE, reply.text.split()[-1])
    assert "a packed report that grows past" in kept.why
    assert "it was not filed as a DMARC report: a packed report that grows" in await told(mx, reply)
    assert len(await ask(mx, "dmarc report list")) == 1


async def test_a_report_on_a_domain_that_is_not_ours_is_not_kept(mx: Mx) -> None:
    await opened(mx)
    await send(mx, letter(gzip.compress(document(mx, *ROWS, domain="else.example"))))
    await run(mx)
    assert not await ask(mx, "dmarc report list")
    (kept,) = await ask(mx, "dmarc report unfiled")
    assert kept.why == "else.example is no domain of this server"


async def test_a_report_of_which_nobody_stands_behind_the_sender_does_not_count(mx: Mx) -> None:
    await opened(mx)
    content = letter(gzip.compress(document(mx, *ROWS)))
    assert mx.house.checks is not None
    await mx.set("dmarc.on_reject", "accept")
    await send(mx, content, sender="x@evil.example")
    await run(mx)
    assert (await ask(mx, "dmarc summary", domain=DOMAIN)).sentences == (
        f"Nobody who can be believed told of mail in the name of {DOMAIN} in 4 weeks.",
        "1 aggregate report did not count, as nobody vouches for who sent them.",
    )
    await send(mx, content)
    await run(mx)
    assert (await ask(mx, "dmarc summary", domain=DOMAIN)).messages == 4_312


async def test_mail_without_a_report_is_kept_with_the_reason_for_some_days(mx: Mx) -> None:
    await opened(mx)
    await send(mx, message("Buy this"), sender="x@evil.example")
    await run(mx)
    (kept,) = await ask(mx, "dmarc report unfiled")
    assert kept.why == "it has no part that may be a report"
    mx.clock.advance(15 * DAY / 1000)
    assert await forget_reports(mx.house)
    assert not await forget_reports(mx.house)
    assert not await ask(mx, "dmarc report unfiled")


async def test_only_the_first_few_parts_are_read(mx: Mx) -> None:
    part = b"--a\r\nContent-Type: text/xml\r\n\r\nno\r\n"
    head = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
    good = b"--a\r\nContent-Type: text/xml\r\n\r\n" + document(mx, *ROWS) + b"\r\n"
    now = mx.clock.now()
    most = understanding.CANDIDATES
    found = understanding.understand(head + part * (most - 1) + good, now)
    assert [each.domain for each in found.drafts] == [DOMAIN]
    found = understanding.understand(head + part * most + good, now)
    assert not found.drafts
    assert found.why == "no XML and nothing that is packed"


@pytest.mark.parametrize("days", [-3, 61])
async def test_a_report_on_another_time_is_not_counted(mx: Mx, days: int) -> None:
    content = letter(gzip.compress(document(mx, *ROWS)))
    found = understanding.understand(content, Instant(mx.clock.now() + days * DAY))
    assert found.why == "a report that is about no time of the last weeks"


async def test_a_network_and_a_day_have_a_budget(mx: Mx) -> None:
    await opened(mx)
    content = letter(gzip.compress(document(mx, *ROWS)))
    for name, most in (("reports.a_source", 1), ("reports.a_day", 2)):
        await mx.set(name, most)
        assert (await send(mx, content)).code == 250
        refused = await send(mx, content)
        assert refused.code == 451
        assert (await mx.refusal(refused))["verdicts"][-1]["setting"] == name
        await mx.set(name, None)
    mx.clock.advance(DAY / 1000)
    await mx.set("reports.a_source", 1)
    assert (await send(mx, content)).code == 250
    assert await run(mx) == 3


async def test_what_is_larger_than_any_report_is_refused(mx: Mx) -> None:
    await opened(mx)
    await mx.set("smtp.max_size", 2 * LARGEST)
    refused = await send(mx, letter(b"") + b"0123456789\r\n" * (LARGEST // 12))
    assert (refused.code, str(refused.status)) == (552, "5.3.4")
    assert (await mx.refusal(refused))["verdicts"][-1]["rule"] == "reports_size"


async def test_content_that_is_lost_stops_nobody(mx: Mx, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened(mx)
    await send(mx, letter(gzip.compress(document(mx, *ROWS))))

    def lost(*_: object) -> bytes:
        raise NotFound(detail="blob b1")

    monkeypatch.setattr(blobs.Blobs, "read", lost)
    assert await run(mx) == 1
    (kept,) = await ask(mx, "dmarc report unfiled")
    assert kept.why == "its content is lost: blob b1"
    assert kept.state == UNREADABLE
