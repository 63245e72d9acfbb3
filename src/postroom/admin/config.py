"""Operations on the configuration as a whole: a document of all that there is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from postroom.admin import document
from postroom.admin.changes import ChangeLine, line
from postroom.admin.house import AdminHouse, changed
from postroom.admin.settings import DEFAULT_DOMAIN, fits_here
from postroom.core.errors import MailError, Misuse, SecretUnreadable, StoreFailed
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.secrets import is_sealed
from postroom.core.settings import Role
from postroom.domain.changes import Changing, Kind, configuration
from postroom.domain.changes.configuration import Configuration
from postroom.domain.changes.objects import look
from postroom.domain.changes.putting import Wish, put_all
from postroom.domain.directory import people
from postroom.domain.policy import setting_of
from postroom.domain.policy.history import difference
from postroom.domain.policy.secrets import secret_of
from postroom.store.sql import Tx

_DOCUMENT: Final = "A document as `config export` writes it; it may be partial. - is standard input"
_PRUNE: Final = "Delete what the document's sections do not name"


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """What to export."""

    secrets: bool = argument(
        "With the verifiers of passwords, so that they stay right elsewhere, and with the secrets "
        "among the settings as they are sealed: only a server with the same keys takes those. "
        "Write it where nobody else reads",
        default=False,
    )


@dataclass(frozen=True, slots=True)
class ConfigText:
    """The configuration as a text."""

    document: str

    def told(self) -> str:
        return self.document.rstrip("\n")


@dataclass(frozen=True, slots=True)
class DiffConfig:
    """A document to compare with."""

    file: str = argument(_DOCUMENT, document=True)
    prune: bool = argument(_PRUNE, default=False)


@dataclass(frozen=True, slots=True)
class ApplyConfig:
    """A document to apply."""

    file: str = argument(_DOCUMENT, document=True)
    prune: bool = argument(_PRUNE, default=False)
    dry_run: bool = argument("Only say what would be done", default=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """What stands between the configuration and a document."""

    changes: tuple[ChangeLine, ...]

    def told(self) -> str:
        if not self.changes:
            return "All is as the document says."
        return "\n".join(each.told() for each in self.changes)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a document changed."""

    changes: tuple[ChangeLine, ...]
    change_sets: tuple[str, ...]  # none if it was not applied, or changed nothing

    def told(self) -> str:
        if not self.changes:
            return "All is as the document says: nothing was changed."
        lines = [each.told() for each in self.changes]
        if self.change_sets:
            lines.append(
                f"{counted(len(self.changes), 'change')}, in {', '.join(self.change_sets)}."
            )
            given = {each.name for each in self.changes if each.kind == Kind.PASSWORD}
            bare = [
                each.name
                for each in self.changes
                if each.kind == Kind.ACCOUNT and each.did == "made" and each.name not in given
            ]
            if bare:
                lines.append(
                    f"Without a password: {counted(len(bare), 'new account')}. Until `postroom "
                    "account password ADDRESS` gives one, nobody signs in there."
                )
        else:
            lines.append(f"{counted(len(self.changes), 'change')} to make; none was made.")
        return "\n".join(lines)


@operation("config export", Role.ADMIN, changes=False, audited=True)
async def export_config(house: AdminHouse, asked: ExportConfig) -> ConfigText:
    """Write all domains, accounts, aliases and settings as one document, which `config apply`
    takes. Without mail, and without passwords."""

    def look(tx: Tx) -> Configuration:
        return configuration.read(tx, secrets=asked.secrets)

    return ConfigText(document.render(await house.flow.mail.read_much(look)))


@operation("config diff", Role.ADMIN, changes=False)
async def diff_config(house: AdminHouse, asked: DiffConfig) -> Difference:
    """Show what `config apply` would change."""
    _, lines = await _plan(house, asked.file, prune=asked.prune)
    return Difference(lines)


@operation("config apply", Role.ADMIN)
async def apply_config(house: AdminHouse, asked: ApplyConfig) -> Applied:
    """Make all as a document says. What it does not name stays, unless it is to be pruned. A
    document that changes more than a unit holds is applied in several change sets."""
    wishes, lines = await _plan(house, asked.file, prune=asked.prune)
    if asked.dry_run or not wishes:
        return Applied(lines, ())
    for piece in configuration.pieces(wishes):
        await _apply(house, piece)
    return Applied(lines, tuple(house.doing.change_sets))


async def _apply(house: AdminHouse, piece: list[Wish]) -> None:
    def unit(changing: Changing) -> None:
        put_all(changing, piece)

    try:
        await changed(house, unit, much=True)
    except MailError as error:
        done = house.doing.change_sets
        if not done:
            raise
        sentence = f"{error}. A part was applied before, and can be reverted: {', '.join(done)}"
        raise StoreFailed(sentence) from error


async def _plan(
    house: AdminHouse, text: str, *, prune: bool
) -> tuple[list[Wish], tuple[ChangeLine, ...]]:
    """What has to be done, and how it is told."""
    wanted = document.parse(text)
    flow = house.flow

    def look_at(tx: Tx) -> tuple[list[Wish], tuple[ChangeLine, ...]]:
        wishes = configuration.wishes(tx, wanted, flow.ids.new, flow.clock.now(), prune=prune)
        for wish in wishes:
            _openable(house, wish)
            _fitting(tx, house, wish, wanted.domains or ())
        lines = [_line(tx, wish) for wish in wishes]
        return wishes, tuple(each for each in lines if each.was != each.now)

    return await flow.mail.read_much(look_at)


def _openable(house: AdminHouse, wish: Wish) -> None:
    """Raises Misuse for a sealed value that could not be opened at its place afterwards."""
    if wish.kind is not Kind.SETTING or wish.image is None:
        return
    value = wish.image["value"]
    if isinstance(value, str) and is_sealed(value):
        try:
            house.flow.secrets.open(value, secret_of(*setting_of(wish.key)))
        except SecretUnreadable as error:
            raise Misuse(f"{wish.name}: {error}. Leave it out, and set it anew") from error


def _fitting(tx: Tx, house: AdminHouse, wish: Wish, domains: Collection[str]) -> None:
    """Raises Misuse, NotFound for a value that leads nowhere here."""
    if wish.kind is not Kind.SETTING or wish.image is None:
        return
    at, name = setting_of(wish.key)
    fits_here(house, at)
    value = wish.image["value"]
    if name == DEFAULT_DOMAIN and value not in domains:
        people.domain(tx, value)


def _line(tx: Tx, wish: Wish) -> ChangeLine:
    found = look(tx, wish.kind, wish.key)
    was = found.image if found is not None else None
    if wish.kind is Kind.PASSWORD:
        had, has = {"password": "former"}, {"password": "of the document"}
        return ChangeLine("changed", str(wish.kind), wish.name, had if was else {}, has)
    return line(difference(str(wish.kind), wish.key, wish.name, was, wish.image))
