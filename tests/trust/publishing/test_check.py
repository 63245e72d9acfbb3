"""One fault in DNS yields the one right sentence; DNS that is in order yields none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from postroom.testing.dns import Fault, What
from postroom.trust.publishing import Severity
from tests.trust.publishing.town import DOMAIN, HOST, Town, key_record, town

Seed = Callable[[Town], None]
FAULTS: dict[str, Seed] = {}
"""By the code of the finding, with a variant behind a colon where there are several."""

REVERSE = "1.2.0.192.in-addr.arpa"
RSA, ED = f"r._domainkey.{DOMAIN}", f"e._domainkey.{DOMAIN}"
DMARC, SPF = f"_dmarc.{DOMAIN}", f"v=spf1 a:{HOST} -all"


def fault(name: str, seed: Seed) -> None:
    assert name not in FAULTS
    FAULTS[name] = seed


def spf(*texts: str) -> Seed:
    return lambda t: t.text(DOMAIN, *texts)


def dmarc(*texts: str) -> Seed:
    return lambda t: t.text(DMARC, *texts)


def key(change: Callable[[str], str]) -> Seed:
    return lambda t: t.text(RSA, change(key_record("rsa")))


def breaks(name: str, kind: str | None, what: What) -> Seed:
    return lambda t: t.zones.fault(name, kind, Fault(what))


def all_of(*seeds: Seed) -> Seed:
    def seed(t: Town) -> None:
        for each in seeds:
            each(t)

    return seed


def records(name: str, kind: str, *data: str, ttl: int = 300) -> Seed:
    return lambda t: t.both(name, kind, *data, ttl=ttl)


# --- the host name
fault("host-unqualified", lambda t: t.host(name="mail"))
fault("host-reserved", lambda t: t.host(name="mail.example.test"))
fault("host-address", all_of(records(HOST, "A"), records(HOST, "AAAA")))
fault("host-a", records(HOST, "A"))
fault("host-aaaa", records(HOST, "AAAA"))
fault("host-elsewhere", records(HOST, "A", "192.0.2.9"))
fault("host-private", all_of(lambda t: t.host(addresses=()), records(HOST, "A", "10.0.0.1")))
fault(
    "host-cname",
    all_of(
        lambda t: t.both(HOST, "A"),
        lambda t: t.both(HOST, "AAAA"),
        lambda t: t.both(HOST, "TXT"),
        lambda t: t.both(HOST, "CAA"),
        records(HOST, "CNAME", "box.example.org."),
        records("box.example.org", "A", "192.0.2.1"),
        records("box.example.org", "AAAA", "2001:db8::1"),
    ),
)
fault(
    "host-alias",
    all_of(
        lambda t: t.both(HOST, "A"),
        lambda t: t.both(HOST, "AAAA"),
        lambda t: t.both(HOST, "TXT"),
        lambda t: t.both(HOST, "CAA"),
        records(HOST, "CNAME", "gone.example.org."),
    ),
)
fault("ptr-missing", records(REVERSE, "PTR"))
fault("ptr-unconfirmed", records(REVERSE, "PTR", "pool-1.isp.example."))
fault(
    "ptr-other",
    all_of(
        records(REVERSE, "PTR", "pool-1.isp.example."),
        records("pool-1.isp.example", "A", "192.0.2.1"),
    ),
)
fault("ptr-unanswered", breaks(REVERSE, "PTR", What.SERVFAIL))
fault("helo-spf-missing", lambda t: t.text(HOST))
fault("helo-spf", lambda t: t.text(HOST, "v=spf1 -all"))
fault("caa-forbids", records(HOST, "CAA", '0 issue "other.example"'))
fault("caa-forbids:above", all_of(records(HOST, "CAA"), records(DOMAIN, "CAA", '0 issue ";"')))
fault(
    "caa-critical",
    records(HOST, "CAA", '0 issue "ca.example"', '128 strange "x"'),
)
fault("tlsa-mismatch", records(f"_25._tcp.{HOST}", "TLSA", f"3 1 1 {'ab' * 32}"))
fault(
    "tlsa-unsigned",
    lambda t: t.zones.zone(HOST, secure=False),
)

# --- the zone
fault("domain-missing", lambda t: setattr(t, "facts", replace(t.facts, name="gone.example.org")))
fault("dns-servfail", breaks(DOMAIN, None, What.SERVFAIL))
fault("dns-bogus", breaks(DOMAIN, None, What.BOGUS))
fault("dns-lame", breaks(DOMAIN, None, What.LAME))
fault("dns-refused", breaks(DOMAIN, None, What.REFUSED))
fault("dns-timeout", breaks(DOMAIN, None, What.SILENT))
fault("dns-servfail:one name", breaks(DMARC, "TXT", What.SERVFAIL))
fault("ns-lame", lambda t: t.second.fault(DOMAIN, None, Fault(What.REFUSED)))
fault(
    "ns-stale",
    lambda t: t.second.load(
        "@ IN SOA ns1.example.net. hostmaster.example.org. 6 7200 900 1209600 300", DOMAIN
    ),
)
fault("ns-no-address", records("ns2.example.net", "A"))
fault("ttl-long", records(DOMAIN, "MX", f"10 {HOST}.", ttl=604_800))

# --- MX
fault("mx-missing", records(DOMAIN, "MX"))
fault("mx-null", records(DOMAIN, "MX", "0 ."))
fault(
    "mx-cname",
    all_of(
        records(DOMAIN, "MX", "10 mx.example.org."),
        records("mx.example.org", "CNAME", f"{HOST}."),
    ),
)
fault("mx-no-address", records(DOMAIN, "MX", "10 gone.example.org."))
fault("mx-no-address:second", records(DOMAIN, "MX", f"10 {HOST}.", "20 gone.example.org."))
fault("mx-elsewhere", records(DOMAIN, "MX", "10 ns1.example.net."))
fault("mx-address", records(DOMAIN, "MX", "10 192.0.2.1."))
fault(
    "mx-unanswered",
    all_of(
        records(DOMAIN, "MX", f"10 {HOST}.", "20 far.example.net."),
        breaks("far.example.net", None, What.SERVFAIL),
    ),
)
fault("mx-behind", records(DOMAIN, "MX", "5 ns1.example.net.", f"10 {HOST}."))
fault("mx-missing:named by SPF", all_of(records(DOMAIN, "MX"), spf("v=spf1 mx -all")))

# --- SPF
fault("spf-missing", spf())
fault("spf-missing:others", spf("site-verification=1"))
fault("spf-several", spf(SPF, "v=spf1 mx -all"))
fault("spf-version", spf(f"v=spf1;a:{HOST} -all"))
fault("spf-syntax", spf("v=spf1 ipv4:192.0.2.1 -all"))
fault("spf-include", spf(f"v=spf1 a:{HOST} include:none.example.net -all"))
fault(
    "spf-include:wrong",
    all_of(
        spf(f"v=spf1 a:{HOST} include:bad.example.net -all"),
        lambda t: t.text("bad.example.net", "v=spf1 what -all"),
    ),
)
fault(
    "spf-include:no answer",
    all_of(
        spf(f"v=spf1 a:{HOST} include:far.example.net -all"),
        breaks("far.example.net", None, What.SERVFAIL),
    ),
)
fault(
    "spf-include:a host without an answer",
    all_of(
        spf(f"v=spf1 a:{HOST} a:far.example.net -all"),
        breaks("far.example.net", None, What.SERVFAIL),
    ),
)
fault("spf-lookups", spf("v=spf1 " + f"a:{HOST} " * 11 + "-all"))
fault("spf-void", spf(f"v=spf1 a:{HOST} a:x.example.net a:y.example.net a:z.example.net -all"))
fault("spf-open", spf(f"v=spf1 a:{HOST} +all"))
fault("spf-neutral", spf(f"v=spf1 a:{HOST} ?all"))
fault("spf-neutral:no all", spf(f"v=spf1 a:{HOST}"))
fault("spf-ptr", spf(f"v=spf1 a:{HOST} ptr -all"))
fault("spf-without-us", spf("v=spf1 ip4:192.0.2.77 -all"))
fault("spf-without-us:IPv6", spf("v=spf1 ip4:192.0.2.1 -all"))

# --- DKIM
fault("dkim-none", lambda t: setattr(t, "facts", replace(t.facts, keys=())))
fault("dkim-missing", lambda t: t.text(RSA))
fault("dkim-missing:retired", lambda t: t.text(ED))
fault("dkim-several", lambda t: t.text(RSA, key_record("rsa"), key_record("ed25519")))
fault("dkim-other", lambda t: t.text(ED, "v=DKIM1; k=ed25519; p=" + "A" * 43 + "="))
fault("dkim-revoked", key(lambda record: record.partition("p=")[0] + "p="))
fault("dkim-truncated", key(lambda record: record[:255]))
fault("dkim-testing", key(lambda record: record.replace("k=rsa", "k=rsa; t=y")))
fault("dkim-kind", key(lambda record: record.replace("k=rsa", "k=ed25519")))
fault("dkim-hash", key(lambda record: record.replace("h=sha256", "h=sha1")))
fault("dkim-service", key(lambda record: record.replace("k=rsa", "k=rsa; s=other")))
fault("dkim-unreadable", key(lambda record: record.replace("; ", " ")))
fault("dkim-unreadable:version", key(lambda record: record.replace("v=DKIM1", "v=DKIM2")))
fault(
    "dkim-wildcard",
    all_of(
        lambda t: t.text(RSA),
        lambda t: t.text(f"*._domainkey.{DOMAIN}", "parked"),
    ),
)
fault(
    "dkim-cname",
    all_of(lambda t: t.text(RSA), records(RSA, "CNAME", "key.gone.example.")),
)

# --- DMARC
fault("dmarc-missing", dmarc())
fault("dmarc-several", dmarc("v=DMARC1; p=reject", "v=DMARC1; p=none"))
fault("dmarc-version", dmarc("v=DMARC2; p=reject"))
fault("dmarc-syntax", dmarc("v=DMARC1; p=rejected"))
fault("dmarc-syntax:no p", dmarc("v=DMARC1; rua=mailto:dmarc@example.org"))
fault("dmarc-none", dmarc("v=DMARC1; p=none"))
fault("dmarc-sp", dmarc("v=DMARC1; p=reject; sp=none"))
fault("dmarc-pct", dmarc("v=DMARC1; p=reject; pct=20"))
fault("dmarc-testing", dmarc("v=DMARC1; p=reject; t=y"))
fault("dmarc-rua", dmarc("v=DMARC1; p=reject; rua=dmarc@example.org"))
fault("dmarc-rua-foreign", dmarc("v=DMARC1; p=reject; rua=mailto:a@reports.example.net"))
fault(
    "dmarc-rua-unanswered",
    all_of(
        dmarc("v=DMARC1; p=reject; rua=mailto:a@reports.example.net"),
        breaks(f"{DOMAIN}._report._dmarc.reports.example.net", "TXT", What.SERVFAIL),
    ),
)
fault("dmarc-misplaced", all_of(dmarc(), spf(SPF, "v=DMARC1; p=reject")))
fault(
    "dmarc-misplaced:twice the domain",
    all_of(dmarc(), lambda t: t.text(f"{DMARC}.{DOMAIN}", "v=DMARC1; p=reject")),
)
fault(
    "dmarc-inherited",
    all_of(dmarc(), lambda t: t.text("_dmarc.org", "v=DMARC1; p=reject")),
)

# --- TLS-RPT, MTA-STS, SRV
fault("tlsrpt-missing", lambda t: t.text(f"_smtp._tls.{DOMAIN}"))
fault("tlsrpt-syntax", lambda t: t.text(f"_smtp._tls.{DOMAIN}", "v=TLSRPTv1; tls@example.org"))
fault(
    "tlsrpt-several",
    lambda t: t.text(
        f"_smtp._tls.{DOMAIN}",
        "v=TLSRPTv1; rua=mailto:a@x.example",
        "v=TLSRPTv1; rua=mailto:b@x.example",
    ),
)
fault("sts-syntax", lambda t: t.text(f"_mta-sts.{DOMAIN}", "v=STSv1; id=2026-01-01"))
fault("sts-no-host", lambda t: t.text(f"_mta-sts.{DOMAIN}", "v=STSv1; id=1"))
fault("srv-missing", records(f"_imaps._tcp.{DOMAIN}", "SRV"))
fault("srv-port", records(f"_imaps._tcp.{DOMAIN}", "SRV", f"0 1 143 {HOST}."))
fault("srv-elsewhere", records(f"_imaps._tcp.{DOMAIN}", "SRV", "0 1 993 imap.example.net."))
fault("srv-denied", records(f"_imaps._tcp.{DOMAIN}", "SRV", "0 0 0 ."))
fault("srv-not-offered", records(f"_pop3s._tcp.{DOMAIN}", "SRV", f"0 1 995 {HOST}."))


async def test_dns_that_is_in_order_yields_no_finding() -> None:
    async with town() as (_, look):
        assert await look() == ()


@pytest.mark.parametrize("name", FAULTS)
async def test_one_fault_yields_its_one_sentence(name: str) -> None:
    async with town() as (there, look):
        FAULTS[name](there)
        found = await look()
    assert [each.code for each in found] == [name.partition(":")[0]], found
    (only,) = found
    assert only.sentence.endswith(".") and ", " in only.sentence
    assert "\n" not in only.sentence and len(only.sentence) < 300


def test_there_are_faults_of_at_least_forty_classes() -> None:
    assert len({name.partition(":")[0] for name in FAULTS}) >= 40


async def test_a_new_key_that_is_not_in_dns_yet_is_advice_and_no_error() -> None:
    async with town() as (there, look):
        made = replace(there.facts.keys[0], state="made")
        there.facts = replace(there.facts, keys=(made,))
        there.text(RSA)
        (only,) = await look()
    assert only.severity is Severity.ADVICE and "does not sign yet" in only.sentence


async def test_two_causes_yield_two_sentences() -> None:
    async with town() as (there, look):
        there.both(DOMAIN, "MX")
        there.text(DMARC)
        found = await look()
    assert [each.code for each in found] == ["mx-missing", "dmarc-missing"]


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        (DOMAIN, "v=spf1 " + "\x1b[31m" * 40 + " -all", "spf-syntax"),
        (DOMAIN, f"v=spf1 include:{'x' * 60}.{'y' * 60}.{'z' * 60}.example -all", "spf-include"),
        (DOMAIN, "v=spf1 " + "a:x.example.net " * 1_500 + "-all", "spf-lookups"),
        (RSA, "v=DKIM1; k=rsa; h=" + "x" * 4_000 + "; p=AAAA", "dkim-hash"),
        (DMARC, "v=DMARC1; p=" + "x" * 4_000, "dmarc-syntax"),
    ],
)
async def test_strangers_words_stay_in_one_bounded_sentence(
    name: str, text: str, code: str
) -> None:
    async with town() as (there, look):
        there.text(name, text.encode("latin-1"))
        (only,) = await look()
    assert only.code == code
    assert len(only.sentence) < 300 and only.sentence.isprintable()
