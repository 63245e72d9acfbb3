"""Operations on the index of message texts: how far it is, and to make it anew."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.admin.house import AdminHouse
from postroom.core.errors import NotAllowed
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain import searching
from postroom.domain.directory import people
from postroom.domain.directory.spelling import address_of
from postroom.domain.mailboxes import reading
from postroom.domain.searching import Tally
from postroom.domain.searching.indexing import Indexer
from postroom.mailflow.searching import hasten
from postroom.store.sql import Tx


@dataclass(frozen=True, slots=True)
class Indexed:
    """Whose index."""

    address: str = argument("Only of this account; without it of all", default="")


@dataclass(frozen=True, slots=True)
class IndexView:
    """How far an account's texts are indexed."""

    address: str
    messages: int  # that lie in its mailboxes
    indexed: int  # each once; those that were removed are among them for a day
    segments: int
    damaged: int  # segments that are about to be made anew
    state: str


@operation("search status", Role.ADMIN, changes=False)
async def search_status(house: AdminHouse, asked: Indexed) -> tuple[IndexView, ...]:
    """Show how far message texts are indexed for searching. What is not is read by a search."""
    indexer = _indexer(house)
    held = await house.flow.mail.read_much(_held, asked.address)
    known = await indexer.index.read_much(searching.tallies, [account for account, *_ in held])
    return tuple(
        _view(address, messages, modseq, known.get(account))
        for account, address, messages, modseq in held
    )


def _view(address: str, messages: int, modseq: int, known: Tally | None) -> IndexView:
    if known is None:
        return IndexView(address, messages, 0, 0, 0, "not looked at yet")
    state = "up to date" if known.modseq == modseq and not known.broken else "behind"
    return IndexView(address, messages, known.messages, known.segments, known.broken, state)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many accounts are indexed anew."""

    accounts: int

    def told(self) -> str:
        return f"The texts of {counted(self.accounts, 'account')} are indexed anew."


@operation("search rebuild", Role.ADMIN)
async def search_rebuild(house: AdminHouse, asked: Indexed) -> Forgotten:
    """Throw the index of message texts away, and make it anew in the background. Meanwhile a search
    reads every message."""
    flow, indexer = house.flow, _indexer(house)
    held = await flow.mail.read_much(_held, asked.address)
    if asked.address:
        for account, *_ in held:
            await indexer.index.write_much(searching.forget, account)
    else:
        await indexer.index.write_much(searching.forget_all)
    await flow.mail.write(hasten, flow)
    return Forgotten(len(held))


def _indexer(house: AdminHouse) -> Indexer:
    indexer = house.flow.indexer
    if indexer is None:
        raise NotAllowed("No index of message texts is kept here")
    return indexer


def _held(tx: Tx, address: str) -> list[tuple[int, str, int, int]]:
    """(account, address, messages, modseq) of one account or all; raises Malformed, NotFound."""
    wanted = [people.account(tx, address_of(address))] if address else people.accounts(tx)
    return [
        (each.id, str(each.address), each.used_messages, reading.account_state(tx, each.id).modseq)
        for each in wanted
    ]
