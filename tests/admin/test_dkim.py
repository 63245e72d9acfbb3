"""The keys of DKIM as an administrator has them in hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postroom.admin.house import Caller
from postroom.core.errors import AlreadyExists, Malformed, Misuse, NotAllowed, NotFound, Unreachable
from postroom.core.secrets import is_sealed, key_of
from postroom.core.settings import Role
from postroom.domain import signing
from postroom.domain.signing import SigningKey
from postroom.mailflow.signers import Signers
from postroom.trust.checks import Checks
from tests.admin.housing import Admin
from tests.trust.zones import Dns

DOMAIN = "example.org"


def asking(admin: Admin, dns: Dns) -> None:
    admin.house.flow.checks = Checks(dns, admin.clock)


async def key(admin: Admin, selector: str) -> SigningKey:
    return await admin.house.flow.mail.read(signing.one, DOMAIN, selector)


async def test_a_key_is_made_published_activated_and_retired(admin: Admin) -> None:
    dns = Dns()
    asking(admin, dns)
    (made,) = await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector="One")
    assert made.zone.startswith('one._domainkey.example.org. IN TXT "v=DKIM1; k=ed25519; ')
    with pytest.raises(NotAllowed, match="no key record"):
        await admin.do("dkim key activate", domain=DOMAIN, selector="one")
    dns.add("one._domainkey.example.org", "TXT", (await key(admin, "one")).record)
    assert (await admin.do("dkim key activate", domain=DOMAIN, selector="one")).state == "active"
    (second,) = await admin.do("dkim key create", domain=DOMAIN, kind="ed25519")
    dns.add(
        f"{second.selector}._domainkey.example.org",
        "TXT",
        (await key(admin, second.selector)).record,
    )
    await admin.do("dkim key activate", domain=DOMAIN, selector=second.selector)
    listed = await admin.json("dkim key list", domain=DOMAIN)
    assert [(each.selector, each.state) for each in listed] == [
        ("one", "retired"),
        (second.selector, "active"),
    ]
    again = await admin.do("dkim key activate", domain=DOMAIN, selector="one")
    assert again.state == "active"
    assert (await key(admin, second.selector)).state == "retired"
    gone = await admin.do("dkim key retire", domain=DOMAIN, selector="one")
    assert gone.state == "retired"


async def test_both_kinds_are_made_unless_one_is_named(admin: Admin) -> None:
    made = await admin.do("dkim key create", domain=DOMAIN)
    records = await admin.do("dkim key records", domain=DOMAIN)
    assert [each.zone for each in records] == [each.zone for each in made]
    assert "k=rsa" in made[0].zone and "k=ed25519" in made[1].zone
    assert made[0].selector != made[1].selector


async def test_a_key_apart_signs_beside_the_others(admin: Admin) -> None:
    dns = Dns()
    asking(admin, dns)
    for selector, apart in (("main", False), ("news", True)):
        await admin.do(
            "dkim key create", domain=DOMAIN, kind="ed25519", selector=selector, apart=apart
        )
        dns.add(f"{selector}._domainkey.{DOMAIN}", "TXT", (await key(admin, selector)).record)
        await admin.do("dkim key activate", domain=DOMAIN, selector=selector)
    listed = await admin.json("dkim key list", domain=DOMAIN)
    assert [(each.selector, each.state, each.apart) for each in listed] == [
        ("main", "active", False),
        ("news", "active", True),
    ]
    with pytest.raises(Misuse, match="say its selector"):
        await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", apart=True)


async def test_what_cannot_be_is_refused(admin: Admin) -> None:
    await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector="s")
    with pytest.raises(AlreadyExists):
        await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector="s")
    with pytest.raises(Misuse):
        await admin.do("dkim key create", domain=DOMAIN, kind="dsa")
    with pytest.raises(Misuse):
        await admin.do("dkim key create", domain=DOMAIN, selector="s2")
    with pytest.raises(Malformed):
        await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector='x" IN A')
    with pytest.raises(NotFound):
        await admin.do("dkim key create", domain="nowhere.example", kind="ed25519")
    with pytest.raises(NotFound):
        await admin.do("dkim key retire", domain=DOMAIN, selector="none")
    with pytest.raises(Unreachable):
        await admin.do("dkim key activate", domain=DOMAIN, selector="s")


async def test_dns_that_does_not_answer_activates_nothing(admin: Admin) -> None:
    dns = Dns()
    dns.fail("s._domainkey.example.org")
    asking(admin, dns)
    await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector="s")
    with pytest.raises(NotAllowed, match="no answer"):
        await admin.do("dkim key activate", domain=DOMAIN, selector="s")
    assert (await key(admin, "s")).state == "made"


async def test_nothing_signs_that_was_not_published(admin: Admin) -> None:
    await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector="s")
    write, now = admin.house.flow.mail.write, admin.clock.now()
    made = await key(admin, "s")
    with pytest.raises(Misuse):
        await write(signing.move, made, "active", now)
    with pytest.raises(Misuse):
        await write(signing.remove, made)
    with pytest.raises(Exception, match="made by now"):
        await write(signing.move, replace(made, state="published"), "active", now)


async def test_a_private_key_is_sealed_shown_nowhere_and_sealed_anew(admin: Admin) -> None:
    await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector="s")
    before = await key(admin, "s")
    flow = admin.house.flow
    assert is_sealed(before.private)
    clear = flow.secrets.open(before.private, signing.secret_of(before.id))
    told = repr(
        [
            before,
            await admin.json("dkim key list", domain=DOMAIN),
            await admin.json("dkim key records", domain=DOMAIN),
            await admin.json("config export"),
            await admin.json("audit list"),
        ]
    )
    assert clear not in told and before.private not in told
    for _ in range(3):  # the one before stays for a turn
        await admin.do("secrets rotate")
    after = await key(admin, "s")
    assert key_of(after.private) == flow.secrets.ids()[0] != key_of(before.private)
    assert flow.secrets.open(after.private, signing.secret_of(after.id)) == clear
    assert Signers().of(flow.secrets, after).selector == "s"


async def test_a_domains_administrator_has_its_keys_alone(admin: Admin) -> None:
    await admin.do("domain create", domain="example.net", no_aliases=True)
    theirs = admin.by(Caller(1, Role.DOMAIN_ADMIN, "example.net"))
    await theirs.do("dkim key create", domain="example.net", kind="ed25519")
    with pytest.raises(NotAllowed):
        await theirs.do("dkim key list", domain=DOMAIN)


async def test_the_keys_go_with_their_domain(admin: Admin) -> None:
    await admin.do("domain create", domain="example.net", no_aliases=True)
    await admin.do("dkim key create", domain="example.net", kind="ed25519")
    await admin.do("domain delete", domain="example.net")
    assert await admin.house.flow.mail.read(signing.sealed) == {}
