"""Operations on sealed secrets and the keys that seal them. `settings secret` sets one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from postroom.admin.directory import Nothing
from postroom.admin.house import AdminHouse
from postroom.core.errors import SecretUnreadable
from postroom.core.operations import operation
from postroom.core.secrets import Keyring, key_of
from postroom.core.settings import Role
from postroom.domain import signing
from postroom.domain.changes.objects import place_name
from postroom.domain.mailboxes import urlkeys
from postroom.domain.policy import secrets
from postroom.store.sql import Tx


@dataclass(frozen=True, slots=True)
class SecretLine:
    """A setting that is a secret, where one is set."""

    at: str
    name: str
    key: str
    readable: str  # yes, or why not


@operation("secrets list", Role.ADMIN, changes=False)
async def list_secrets(house: AdminHouse, asked: Nothing) -> tuple[SecretLine, ...]:
    """List the secrets that are kept, by where they are set: the key that sealed each, and whether
    it can be read. None is shown."""
    keys = house.flow.secrets

    def look(tx: Tx) -> tuple[SecretLine, ...]:
        lines: list[SecretLine] = []
        for of, sealed in secrets.kept(tx).items():
            place, name = secrets.setting_in(of)
            why = _why(keys, sealed, of)
            lines.append(SecretLine(place_name(tx, place), name, key_of(sealed), why))
        return tuple(lines)

    return await house.flow.mail.read_much(look)


def _why(keys: Keyring, sealed: str, of: str) -> str:
    try:
        keys.open(sealed, of)
    except SecretUnreadable as error:
        return str(error)
    return "yes"


@dataclass(frozen=True, slots=True)
class Rotated:
    """How secrets were sealed anew."""

    key: str  # the new one
    sealed: int  # values, and former ones in the history
    unreadable: int
    retired: tuple[str, ...]  # keys that were let go of

    def told(self) -> str:
        lines = [f"The key {self.key} seals from now on; {self.sealed} secrets were sealed anew."]
        if self.retired:
            lines.append(f"Keys that nothing needs went: {', '.join(self.retired)}.")
        if self.unreadable:
            lines.append(
                f"{self.unreadable} could not be read, and stay as they are: see `secrets list`."
            )
        return "\n".join(lines)


@operation("secrets rotate", Role.ADMIN)
async def rotate_secrets(house: AdminHouse, asked: Nothing) -> Rotated:
    """Make a new key, and seal all secrets anew with it, former ones in the history too. The key
    before it stays until the next time, so that what was being written meanwhile can be read.

    That undoes no theft: who had key and store has the secrets. Set those anew.
    """
    mail, keys = house.flow.mail, house.flow.secrets
    fresh = keys.rotate()
    again = partial(_again, keys, fresh)
    sealed = 0
    after: secrets.Row | None = secrets.FIRST
    while after is not None:
        done, after = await mail.write(secrets.reseal, again, after)
        sealed += done
    for name in secrets.names():
        last: int | None = 0
        while last is not None:
            done, last = await mail.write(secrets.reseal_history, name, again, last)
            sealed += done
    for reseal in (signing.reseal, urlkeys.reseal):
        last = 0
        while last is not None:
            done, last = await mail.write(reseal, again, last)
            sealed += done
    kept = [key_of(each) for each in await _all(house)]
    retired = keys.retire(set(kept))
    return Rotated(fresh, sealed, len(kept) - kept.count(fresh), retired)


def _again(keys: Keyring, fresh: str, sealed: str, of: str) -> str:
    """The secret sealed with the new key; as it is if it was, or cannot be read."""
    try:
        if key_of(sealed) == fresh:
            return sealed
        return keys.seal(keys.open(sealed, of), of)
    except SecretUnreadable:
        return sealed


async def _all(house: AdminHouse) -> list[str]:
    """Every sealed text that is kept, former ones too."""
    mail = house.flow.mail
    found = list((await mail.read_much(secrets.kept)).values())
    found += (await mail.read_much(signing.sealed)).values()
    found += (await mail.read_much(urlkeys.sealed)).values()
    for name in secrets.names():
        last: int | None = 0
        while last is not None:
            more, last = await mail.read_much(secrets.former, name, last)
            found += more
    return found
