"""What was found is remembered as long as DNS lets it, and never for somebody else."""

from __future__ import annotations

from ipaddress import ip_address

from postroom.formats.address import parse_mailbox
from postroom.net.dns import Answer, Kind, Record
from postroom.testing.clock import ManualClock
from postroom.trust.checks import Checks
from postroom.trust.dmarc import Identifier
from postroom.trust.spf import Client, Identity
from tests.trust.zones import Dns

CLIENT = Client(ip_address("192.0.2.1"), "mail.a.example")
OTHER = Client(ip_address("192.0.2.2"), "mail.a.example")
ANN, BOB = parse_mailbox("ann@a.example"), parse_mailbox("bob@a.example")


class Timed(Dns):
    """Answers hold for so many seconds of a clock."""

    def __init__(self, clock: ManualClock, ttl: dict[str, float]) -> None:
        super().__init__()
        self.clock = clock
        self.ttl = ttl

    async def query(self, name: str, kind: Kind) -> Answer[Record]:
        found = await super().query(name, kind)
        seconds = self.ttl.get(name, 300)
        expires = self.clock.monotonic() + seconds
        return Answer(found.records, found.exists, False, name, int(seconds), expires)


def world(record: str, **ttl: float) -> tuple[Timed, Checks, ManualClock]:
    clock = ManualClock()
    dns = Timed(clock, {f"{name}.example": seconds for name, seconds in ttl.items()})
    dns.add("a.example", "TXT", record)
    dns.add("b.example", "TXT", "v=spf1 ip4:192.0.2.1 -all")
    return dns, Checks(dns, clock), clock


async def test_one_domain_and_one_address_are_asked_about_once() -> None:
    dns, checks, _ = world("v=spf1 include:b.example -all")
    assert checks.known_mail_from(CLIENT, ANN) is None
    first = await checks.mail_from(CLIENT, ANN)
    asked = len(dns.asked)
    assert await checks.mail_from(CLIENT, BOB) == first == checks.known_mail_from(CLIENT, BOB)
    assert len(dns.asked) == asked
    assert (await checks.mail_from(OTHER, ANN)).result == "fail"
    assert checks.known_mail_from(CLIENT, ANN) == first


async def test_the_first_answer_to_expire_ends_it() -> None:
    _, checks, clock = world("v=spf1 include:b.example -all", b=5)
    await checks.mail_from(CLIENT, ANN)
    clock.advance(4)
    assert checks.known_mail_from(CLIENT, ANN) is not None
    clock.advance(1.5)
    assert checks.known_mail_from(CLIENT, ANN) is None


async def test_what_concerned_one_sender_alone_is_not_told_of_another() -> None:
    dns, checks, _ = world("v=spf1 exists:%{l}.b.example -all")
    dns.add("ann.b.example", "A", "127.0.0.2")
    assert (await checks.mail_from(CLIENT, ANN)).result == "pass"
    assert checks.known_mail_from(CLIENT, ANN) is None
    assert (await checks.mail_from(CLIENT, BOB)).result == "fail"


async def test_an_explanation_for_one_sender_is_not_told_to_another() -> None:
    dns, checks, _ = world("v=spf1 -all exp=x.example")
    dns.add("x.example", "TXT", "%{s} must not")
    assert (await checks.mail_from(CLIENT, ANN)).explanation == "ann@a.example must not"
    assert (await checks.mail_from(CLIENT, BOB)).explanation == "bob@a.example must not"


async def test_failures_and_what_leaned_on_them_are_not_remembered() -> None:
    dns, checks, _ = world("v=spf1 ptr -all")
    dns.fail("1.2.0.192.in-addr.arpa")
    assert (await checks.mail_from(CLIENT, ANN)).result == "fail"  # as §5.5 has it
    assert checks.known_mail_from(CLIENT, ANN) is None
    assert (await checks.reverse(CLIENT.ip)).result == "temperror"
    assert checks.known_reverse(CLIENT.ip) is None
    dns.fail("a.example")
    assert (await checks.mail_from(CLIENT, ANN)).result == "temperror"
    assert checks.known_mail_from(CLIENT, ANN) is None


async def test_identities_share_what_is_known_and_keep_their_names() -> None:
    dns, checks, _ = world("v=spf1 ip4:192.0.2.1 -all")
    dns.add("mail.a.example", "TXT", "v=spf1 ip4:192.0.2.1 -all")
    assert (await checks.helo(CLIENT)).identity is Identity.HELO
    asked = len(dns.asked)
    assert (await checks.mail_from(CLIENT, None)).identity is Identity.MAIL_FROM
    assert len(dns.asked) == asked
    known = checks.known_helo(CLIENT)
    assert known is not None and known.identity is Identity.HELO


async def test_the_names_of_an_address_are_remembered() -> None:
    dns, checks, clock = world("v=spf1 -all")
    dns.add("1.2.0.192.in-addr.arpa", "PTR", "h.example")
    dns.add("h.example", "A", "192.0.2.1")
    found = await checks.reverse(CLIENT.ip)
    assert checks.known_reverse(CLIENT.ip) == found
    clock.advance(301)
    assert checks.known_reverse(CLIENT.ip) is None


async def test_what_is_remembered_is_bounded() -> None:
    _, checks, _ = world("v=spf1 -all")
    for number in range(300):
        await checks.helo(Client(CLIENT.ip, f"{number}.{'x' * 60}.example"))
    assert len(checks._known) == 300
    assert checks._known.octets < 300 * 2000


# --- DMARC ----------------------------------------------------------------------------------


def policies(**ttl: float) -> tuple[Timed, Checks, ManualClock]:
    clock = ManualClock()
    dns = Timed(clock, {f"_dmarc.{name}.example": seconds for name, seconds in ttl.items()})
    dns.add("_dmarc.a.example", "TXT", "v=DMARC1; p=reject")
    return dns, Checks(dns, clock), clock


async def code(checks: Checks, domain: str, spf: str = "a.example") -> str:
    (found,) = await checks.dmarc([domain], [Identifier("spf", spf, "pass")], 5.0)
    return found.code.value


async def test_the_policy_of_a_domain_is_asked_for_once() -> None:
    dns, checks, clock = policies()
    await checks.ask_policy("a.example", 5.0)
    asked = len(dns.asked)
    assert checks.knows_policy("a.example")
    assert await code(checks, "a.example") == "pass"
    assert len(dns.asked) == asked
    assert await code(checks, "b.example") == "none"  # which nobody had asked for ahead
    assert checks.knows_policy("b.example")
    clock.advance(301)
    assert not checks.knows_policy("a.example")


async def test_messages_do_not_prolong_what_is_known_of_a_policy() -> None:
    dns, checks, clock = policies(a=5)
    assert await code(checks, "mail.a.example") == "pass"  # aligned: the organisation was asked for
    clock.advance(4)
    dns.ttl.clear()
    assert await code(checks, "mail.a.example", "www.a.example") == "pass"
    clock.advance(1.5)
    assert not checks.knows_policy("mail.a.example")


async def test_a_policy_that_dns_did_not_tell_is_asked_for_again() -> None:
    dns, checks, _ = policies()
    dns.fail("_dmarc.a.example")
    await checks.ask_policy("a.example", 5.0)
    assert await code(checks, "a.example") == "temperror"
    assert not checks.knows_policy("a.example")
    dns.failing.clear()
    assert await code(checks, "a.example", "evil.example") == "fail"
