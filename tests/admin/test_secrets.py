"""Settings that are secrets: sealed where they lie, and shown nowhere."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from postroom.core import log
from postroom.core.errors import Misuse, NotFound, SecretUnreadable
from postroom.core.secrets import Keyring, is_sealed, key_of
from postroom.core.settings import SERVER, Place, Scope
from postroom.domain import audit, policy
from postroom.domain.policy import Assignment, history, secrets
from postroom.domain.policy.secrets import secret_of
from tests.admin.housing import Admin

NAME = "relay.smart_host_password"
AT = "domain:example.org"
DOMAIN = Place(Scope.DOMAIN, "example.org")


def stored(admin: Admin) -> Any:
    return admin.house.flow.mail.read(policy.value_at, DOMAIN, NAME)


async def readable(admin: Admin) -> str:
    image = await stored(admin)
    return admin.house.flow.secrets.open(image["value"], secret_of(DOMAIN, NAME))


async def everything(admin: Admin) -> str:
    """All that administration shows of it, and all that the store holds besides the setting."""
    sets = await admin.do("changes list", limit=1000)
    shown = [await admin.do("changes show", id=each.id) for each in sets]
    told = [
        await admin.json("settings list", at=AT),
        await admin.json("settings get", name=NAME, at=AT),
        await admin.json("settings diff"),
        await admin.json("settings history"),
        await admin.json("settings explain", name=NAME, at=AT),
        await admin.json("audit list"),
        await admin.json("secrets list"),
        await admin.json("config export"),
        *shown,
        *(each.told() for each in shown),
        await admin.house.flow.state.read(audit.latest, 100, None),
    ]
    return repr(told)


async def test_a_secret_is_sealed_where_it_lies_and_shown_nowhere(admin: Admin) -> None:
    log.RECENT.clear()
    await admin.do("settings secret", name=NAME, value="swordfish", at=AT, reason="they asked")
    await admin.do("settings secret", name=NAME, value="trout", at=AT)
    image = await stored(admin)
    assert is_sealed(image["value"])
    assert await readable(admin) == "trout"
    shown = await everything(admin)
    lines = log.last_lines(log.RECENT.entries(), 1000)
    sets = await admin.house.flow.mail.read(history.latest, 10)
    for secret in ("swordfish", "trout"):
        assert secret not in shown
        assert not any(secret in line for line in lines)
        assert secret not in repr(sets)
    assert "sealed:1:" not in shown
    before = await admin.do("changes list")
    await admin.do("settings secret", name=NAME, value="trout", at=AT)
    assert await admin.do("changes list") == before  # it was that already
    got = await admin.do("settings get", name=NAME, at=AT)
    assert (got.value, got.origin) == ("[hidden]", AT)
    (change,) = (await admin.do("changes show", id=(await admin.do("changes list"))[0].id)).changes
    assert change.told() == f"~ setting {AT} {NAME}  value: [hidden] -> [hidden], another one"
    (line,) = await admin.do("secrets list")
    assert (line.at, line.name, line.readable) == (AT, NAME, "yes")
    assert line.key == admin.house.flow.secrets.ids()[0]


async def test_a_secret_is_never_taken_in_plain(admin: Admin) -> None:
    with pytest.raises(Misuse, match="settings secret"):
        await admin.do("settings set", name=NAME, value="swordfish", at=AT)
    with pytest.raises(Misuse, match="is no secret"):
        await admin.do("settings secret", name="relay.smart_host", value="swordfish", at=AT)
    with pytest.raises(Misuse, match="not empty"):
        await admin.do("settings secret", name=NAME, value="", at=AT)
    with pytest.raises(Misuse, match="settings secret"):
        document = f'format = 1\n[settings."{AT}"]\n"{NAME}" = "swordfish"\n'
        await admin.do("config apply", file=document)
    with pytest.raises(Misuse, match="sealed"):
        flow = admin.house.flow
        plain = [Assignment(DOMAIN, NAME, "swordfish")]
        await flow.mail.write(policy.change, plain, flow.ids.new(), flow.clock.now(), 0, "")
    assert await stored(admin) is None
    assert "swordfish" not in await everything(admin)  # nor in the audit of what was refused
    with pytest.raises(NotFound):
        await admin.do("settings secret", name=NAME, value="swordfish", at="domain:none.example")


async def test_a_change_of_a_secret_is_reverted(admin: Admin) -> None:
    await admin.do("settings secret", name=NAME, value="swordfish", at=AT)
    await admin.do("settings secret", name=NAME, value="trout", at=AT)
    await admin.do("changes revert", id=(await admin.do("changes list"))[0].id)
    assert await readable(admin) == "swordfish"
    await admin.do("settings unset", name=NAME, at=AT)
    await admin.do("changes revert", id=(await admin.do("changes list"))[0].id)
    assert await readable(admin) == "swordfish"


async def test_a_document_says_nothing_of_secrets_unless_it_is_asked_to(admin: Admin) -> None:
    await admin.do("settings secret", name=NAME, value="swordfish", at=AT)
    without = (await admin.do("config export")).document
    assert NAME not in without
    assert (await admin.do("config diff", file=without, prune=True)).changes == ()
    await admin.do("config apply", file=without, prune=True)
    assert await readable(admin) == "swordfish"  # it said nothing of it
    with_them = (await admin.do("config export", secrets=True)).document
    assert "swordfish" not in with_them
    assert "sealed:1:" in with_them
    assert (await admin.do("config diff", file=with_them)).changes == ()
    await admin.do("settings secret", name=NAME, value="trout", at=AT)
    (line,) = (await admin.do("config diff", file=with_them)).changes
    assert (line.was, line.now) == ({"value": "[hidden]"}, {"value": "[hidden], another one"})
    await admin.do("config apply", file=with_them)
    assert await readable(admin) == "swordfish"


async def test_a_document_of_another_server_or_of_another_place_is_refused(
    admin: Admin, tmp_path: Path
) -> None:
    await admin.do("settings secret", name=NAME, value="swordfish", at=AT)
    document = (await admin.do("config export", secrets=True)).document
    await admin.do("domain create", domain="other.org")
    moved = document.replace(f'[settings."{AT}"]', '[settings."domain:other.org"]')
    with pytest.raises(Misuse, match=r"moved.*set it anew"):
        await admin.do("config apply", file=moved)
    stranger = Keyring(str(tmp_path / "stranger.keys"))
    stranger.make()
    await admin.do("settings unset", name=NAME, at=AT)
    admin.house = replace(admin.house, flow=replace(admin.house.flow, secrets=stranger))
    with pytest.raises(Misuse, match=r"which is not in .*stranger.keys"):
        await admin.do("config apply", file=document)
    assert await stored(admin) is None


async def test_without_keys_nothing_is_kept(admin: Admin) -> None:
    await admin.do("settings secret", name=NAME, value="swordfish", at=AT)
    os.unlink(admin.house.flow.secrets.path)
    with pytest.raises(SecretUnreadable, match="missing"):
        await admin.do("settings secret", name=NAME, value="trout", at=AT)
    (line,) = await admin.do("secrets list")
    assert "missing" in line.readable
    with pytest.raises(SecretUnreadable):
        await admin.do("secrets rotate")
    await admin.do("settings unset", name=NAME, at=AT)  # the way out
    assert await admin.do("secrets list") == ()


# --- rotation -----------------------------------------------------------------------------------


async def test_rotation_seals_all_anew_in_pieces_former_ones_too(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "VALUES", 2)
    monkeypatch.setattr(secrets, "CHANGE_SETS", 2)
    keys = admin.house.flow.secrets
    (first,) = keys.ids()
    names = [f"d{n}.example" for n in range(5)]
    for name in names:
        await admin.do("domain create", domain=name, no_aliases=True)
        await admin.do("settings secret", name=NAME, value="old", at=f"domain:{name}")
        await admin.do("settings secret", name=NAME, value=f"of {name}", at=f"domain:{name}")
    await admin.do("settings secret", name=NAME, value="the server's", at="server")
    done = await admin.json("secrets rotate", reason="spring")
    # Each value as it is, and in the history what was set (two for a domain) and what was before.
    assert (done.sealed, done.unreadable, done.retired) == (6 + 5 * 3 + 1, 0, ())
    assert keys.ids() == (done.key, first)
    kept = await admin.house.flow.mail.read(secrets.kept)
    assert {key_of(each) for each in kept.values()} == {done.key}
    assert {keys.open(sealed, of) for of, sealed in kept.items()} == {
        "the server's",
        *(f"of {name}" for name in names),
    }
    again = await admin.do("secrets rotate")
    assert again.retired == (first,)
    for each in (await admin.do("changes list"))[:1]:
        assert each.operation == "settings secret"  # a rotation changes nothing that is configured
    # What was set before the rotations can be reverted after them.
    two = await admin.do("changes list", object=f"domain:{names[0]}")
    await admin.do("changes revert", id=two[0].id)
    image = await admin.house.flow.mail.read(policy.value_at, Place(Scope.DOMAIN, names[0]), NAME)
    place = Place(Scope.DOMAIN, names[0])
    assert image is not None
    assert keys.open(image["value"], secret_of(place, NAME)) == "old"


async def test_what_cannot_be_read_stays_and_keeps_its_key(admin: Admin) -> None:
    flow = admin.house.flow
    (first,) = flow.secrets.ids()
    moved = flow.secrets.seal("swordfish", secret_of(SERVER, NAME))
    put = [Assignment(DOMAIN, NAME, moved)]
    await flow.mail.write(policy.change, put, flow.ids.new(), flow.clock.now(), 0, "a bad hand")
    assert "moved" in (await admin.do("secrets list"))[0].readable
    for _ in range(2):
        done = await admin.do("secrets rotate")
        assert (done.sealed, done.unreadable) == (0, 2)  # it, and the history of it
        assert done.retired == () or first not in done.retired
    assert (await stored(admin))["value"] == moved
    assert "cannot be read" not in done.told()
    assert "could not be read" in done.told()


async def test_a_smart_host_is_checked_when_it_is_set(admin: Admin) -> None:
    for wrong in ("relay.example:port", "relay.example:70000", "two words", "[1.2.3]", "[::1]x"):
        with pytest.raises(Misuse, match="smart_host"):
            await admin.do("settings set", name="relay.smart_host", value=wrong)
    for right in ("relay.example", "relay.example:587", "[192.0.2.1]:25", ""):
        got = await admin.do("settings set", name="relay.smart_host", value=right)
        assert got.value == right
