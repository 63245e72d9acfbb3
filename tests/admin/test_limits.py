"""Who may perform what: one row for each operation, and none without one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from postroom.admin import OWNER, Caller, codec
from postroom.admin.house import permit
from postroom.admin.questions import CloseSession, Closing, SessionsFound
from postroom.core.bus import Answers, Question
from postroom.core.errors import NotAllowed
from postroom.core.operations import OPERATIONS
from postroom.core.settings import Role
from postroom.domain.reported import tables
from postroom.store.sql import Tx
from postroom.testing.clock import START as NOW
from postroom.testing.dns import Zones
from postroom.trust.checks import Checks
from tests.admin.housing import Admin
from tests.admin.resolving import dialer_of
from tests.trust.zones import Dns

OWN, OTHER = "example.org", "other.example"

# For administrators of the whole server alone.
SERVER = {
    "audit list",
    "backup",
    "backup forget",
    "backup list",
    "backup verify",
    "changes list",
    "changes revert",
    "changes show",
    "check",
    "config apply",
    "config diff",
    "config export",
    "dmarc failures sent",
    "dmarc report unfiled",
    "dmarc reports sent",
    "dns update",
    "domain create",
    "domain delete",
    "domain list",
    "export maildir",
    "export mbox",
    "import maildir",
    "import mbox",
    "jobs list",
    "jobs run",
    "log tail",
    "queue delete",
    "queue destinations",
    "queue hold",
    "queue list",
    "queue release",
    "queue read",
    "queue retry",
    "queue show",
    "recoverable list",
    "recoverable restore",
    "rehearse",
    "restore",
    "restore mailbox",
    "restore message",
    "search rebuild",
    "search status",
    "secrets list",
    "secrets rotate",
    "sender show",
    "sender test",
    "settings diff",
    "settings explain",
    "settings get",
    "settings history",
    "settings list",
    "settings secret",
    "settings set",
    "settings unset",
    "status",
    "trace",
}

# For a domain's administrator too, in that domain: an input in the domain {d}.
DOMAIN: dict[str, dict[str, Any]] = {
    "account create": {"address": "new@{d}"},
    "account delete": {"address": "bob@{d}"},
    "account deleted": {"domain": "{d}"},
    "account erase": {"address": "older@{d}"},
    "account list": {"domain": "{d}"},
    "account name": {"address": "ann@{d}", "name": "Ann"},
    "account password": {"address": "ann@{d}", "password": "correct horse"},
    "account rename": {"address": "cora@{d}", "to": "clara@{d}"},
    "account restore": {"address": "old@{d}"},
    "account role": {"address": "ann@{d}", "role": "domain-admin"},
    "account show": {"address": "ann@{d}"},
    "account state": {"address": "ann@{d}", "state": "frozen"},
    "alias create": {"address": "x@{d}", "target": "ann@{d}"},
    "alias delete": {"address": "x@{d}"},
    "alias list": {"domain": "{d}"},
    "session close": {"id": "s0000000000000", "domain": "{d}"},
    "session list": {"domain": "{d}"},
    "alias show": {"address": "info@{d}"},
    "dkim key activate": {"domain": "{d}", "selector": "next"},
    "dkim key create": {"domain": "{d}", "kind": "ed25519"},
    "dkim key list": {"domain": "{d}"},
    "dkim key records": {"domain": "{d}"},
    "dkim key retire": {"domain": "{d}", "selector": "old"},
    "dmarc report list": {"domain": "{d}"},
    "dmarc report show": {"id": "p0000000000000", "domain": "{d}"},
    "dmarc summary": {"domain": "{d}"},
    "dns check": {"domains": ["{d}"]},
    "dns records": {"domain": "{d}"},
    "domain show": {"domain": "{d}"},
    "folder address list": {"domain": "{d}"},
    "folder address remove": {"address": "news@{d}"},
    "folder address set": {"owner": "{d}", "folder": "News", "address": "more@{d}"},
    "folder rights": {"owner": "ann@{d}", "folder": "INBOX"},
    "folder share": {"owner": "ann@{d}", "folder": "INBOX", "to": "anyone", "rights": "read"},
    "public create": {"domain": "{d}", "folder": "Blog"},
    "public delete": {"domain": "{d}", "folder": "News/Old"},
    "public list": {"domain": "{d}"},
}

# What would reach beyond the domain though its first argument is in it.
BEYOND: list[tuple[str, dict[str, Any]]] = [
    ("account list", {"domain": ""}),
    ("account deleted", {"domain": ""}),
    ("alias list", {"domain": ""}),
    ("dmarc report list", {"domain": ""}),
    ("dmarc report show", {"id": "p0000000000000"}),
    ("dns check", {"domains": []}),
    ("dns check", {"domains": [OWN, OTHER]}),
    ("alias create", {"address": f"x@{OWN}", "target": f"eve@{OTHER}"}),
    ("alias create", {"address": f"x@{OWN}", "target": "eve@elsewhere.example"}),
    ("account rename", {"address": f"ann@{OWN}", "to": f"ann@{OTHER}"}),
    ("account create", {"address": f"x@{OWN}", "role": "admin"}),
    ("account role", {"address": f"ann@{OWN}", "role": "admin"}),
    (
        "folder share",
        {"owner": f"ann@{OWN}", "folder": "INBOX", "to": f"eve@{OTHER}", "rights": "read"},
    ),
]

# On an account that stands above the caller: nothing that changes it.
ABOVE: list[tuple[str, dict[str, Any]]] = [
    ("account delete", {}),
    ("account name", {"name": "Eve"}),
    ("account password", {"password": "mine now!!"}),
    ("account rename", {"to": f"eve@{OWN}"}),
    ("account role", {"role": "user"}),
    ("account state", {"state": "disabled"}),
]

CHIEF = Caller(7, Role.DOMAIN_ADMIN, OWN)


def filled(asked: dict[str, Any], domain: str) -> dict[str, Any]:
    return {
        name: [each.format(d=domain) for each in value]
        if isinstance(value, list)
        else value.format(d=domain)
        for name, value in asked.items()
    }


def test_every_operation_has_its_row() -> None:
    """A new operation is first for the server's administrators; write down which it is."""
    assert not SERVER & set(DOMAIN)
    assert {*SERVER, *DOMAIN} ^ set(OPERATIONS) == set(), "lack their row, or have it for nothing"


@pytest.mark.parametrize("name", sorted(SERVER))
def test_what_is_the_servers_is_for_no_domains_administrator(name: str) -> None:
    assert OPERATIONS[name].role is Role.ADMIN
    for role in (Role.USER, Role.DOMAIN_ADMIN):
        with pytest.raises(NotAllowed, match="needs the role admin"):
            permit(Caller(7, role, OWN), OPERATIONS[name], object())


@pytest.mark.parametrize("name", sorted(DOMAIN))
def test_what_is_a_domains_is_for_its_administrator_there_and_nowhere_else(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.role is Role.DOMAIN_ADMIN
    own = codec.decode(operation.input, filled(DOMAIN[name], OWN))
    other = codec.decode(operation.input, filled(DOMAIN[name], OTHER))
    loud = codec.decode(operation.input, filled(DOMAIN[name], OWN.upper()))
    for asked in (own, loud):
        permit(CHIEF, operation, asked)
    for caller, asked in (
        (CHIEF, other),
        (replace(CHIEF, domain=""), own),
        (replace(CHIEF, domain="org"), own),
        (replace(CHIEF, role=Role.USER), own),
    ):
        with pytest.raises(NotAllowed):
            permit(caller, operation, asked)
    for caller in (OWNER, Caller(8, Role.ADMIN)):
        for asked in (own, other):
            permit(caller, operation, asked)


@pytest.fixture
async def towns(admin: Admin) -> Admin:
    """Two domains alike: some accounts, an alias, deleted accounts, keys; a root to administer."""
    dns = Dns()
    admin.house.flow.checks = Checks(dns, admin.clock)
    await admin.do("domain create", domain=OTHER)
    people = "".join(
        f'[[accounts]]\naddress = "{local}@{domain}"\n'
        for domain in (OWN, OTHER)
        for local in ("ann", "bob", "cora", "old", "older")
    )
    admins = "".join(
        f'[[accounts]]\naddress = "{local}@{OWN}"\nrole = "admin"\n' for local in ("root", "second")
    )
    await admin.do("config apply", file=f"format = 1\n{people}{admins}")
    for domain in (OWN, OTHER):
        for local in ("old", "older"):
            await admin.do("account delete", address=f"{local}@{domain}")
        await admin.do("alias create", address=f"info@{domain}", target=f"ann@{domain}")
        await admin.do("public create", domain=domain, folder="News/Old")
        await admin.do("folder address set", owner=domain, folder="News", address=f"news@{domain}")
        for selector in ("next", "old"):
            made = await admin.do(
                "dkim key create", domain=domain, kind="ed25519", selector=selector
            )
            dns.add(f"{selector}._domainkey.{domain}", "TXT", made[0].zone.split('"')[1])
    await admin.house.flow.mail.write(_report)
    return admin


def _report(tx: Tx) -> None:
    """A report about the first, with the id that is asked for above."""
    now = dict.fromkeys(("begins", "ends", "at"), NOW)
    texts = dict.fromkeys(("key", "kind", "reporter", "voucher"), "")
    numbers = dict.fromkeys(("id", "messages", "aligned", "trace"), 0)
    tx.run(tables.ADD, domain=OWN, record="{}", **now, **texts, **numbers)


async def workers(question: Question[Any], deadline: float = 5) -> Answers[Any]:
    """One worker, with whatever session is asked for and no other."""
    found = isinstance(question, CloseSession)
    return Answers({0: Closing(True, True) if found else SessionsFound((), 0)}, {})


async def test_a_domains_administrator_can_do_it_in_the_domain(towns: Admin) -> None:
    chief = towns.by(CHIEF)
    async with dialer_of(Zones(), towns.clock) as dialer:
        chief.house = replace(chief.house, ask=workers, dialer=dialer)
        for name, asked in DOMAIN.items():
            with pytest.raises(NotAllowed):
                await chief.do(name, **filled(asked, OTHER))
            await chief.do(name, **filled(asked, OWN))


async def test_nothing_reaches_beyond_the_domain(towns: Admin) -> None:
    before = (await towns.do("config export", secrets=True)).document
    for name, asked in BEYOND:
        with pytest.raises(NotAllowed):
            await towns.by(CHIEF).do(name, **asked)
    assert (await towns.do("config export", secrets=True)).document == before


async def test_nobody_acts_on_who_stands_above(towns: Admin) -> None:
    changing = {
        name for name in DOMAIN if name.startswith("account ") and OPERATIONS[name].changes
    } - {"account create", "account restore", "account erase"}
    assert changing == {name for name, _ in ABOVE}
    before = (await towns.do("config export", secrets=True)).document
    for name, asked in ABOVE:
        with pytest.raises(NotAllowed):
            await towns.by(CHIEF).do(name, address=f"root@{OWN}", **asked)
    assert (await towns.do("config export", secrets=True)).document == before
    await towns.do("account delete", address=f"root@{OWN}")
    for name in ("account restore", "account erase"):
        with pytest.raises(NotAllowed):
            await towns.by(CHIEF).do(name, address=f"root@{OWN}")
    await towns.do("account restore", address=f"root@{OWN}")
