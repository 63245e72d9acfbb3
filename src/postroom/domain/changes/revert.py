"""Taking a change set back: what it changed becomes what it was.

An object that is not as the change set left it was changed again since: then nothing is reverted,
unless force says that the later change is to be lost. What is reverted is a change set itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from postroom.core.errors import InUse, NotAllowed, NotFound
from postroom.core.ids import ACCOUNT, CHANGE_SET, external, internal
from postroom.core.settings import Place, Scope
from postroom.domain import policy
from postroom.domain.changes.changing import Changing
from postroom.domain.changes.objects import Kind, account_key, living, look
from postroom.domain.changes.putting import Wish, put_all
from postroom.domain.changes.whole import numbered
from postroom.domain.directory import former, people
from postroom.domain.directory.people import IDS_FOR_PASSWORD
from postroom.domain.policy import history
from postroom.domain.policy.history import Change, ChangeSet, Image
from postroom.formats.address import parse_mailbox

_LOOK_BACK: Final = 100
"""Change sets of one account that are searched for its deletion; it is the last, or nearly."""


def revert(changing: Changing, of: ChangeSet, ids: Iterator[int], *, force: bool) -> None:
    """Take a change set back, whole or not at all.

    Takes IDS_FOR_PASSWORD ids for each password in it. Raises InUse if something was changed
    again since and there is no force, NotAllowed if what was is kept no more, and what
    `put_all` raises.
    """
    put_all(changing, [_wish(changing, of, change, ids, force) for change in of.diff])


def restore(changing: Changing, account: int, ids: Iterator[int]) -> None:
    """Bring one deleted account back, with the aliases and settings that went with it, whatever
    else its deletion changed. Raises NotFound if the history does not know of it, and what
    `revert` raises."""
    key = account_key(account)
    for made in history.of(changing.tx, f"{Kind.ACCOUNT} {key}", _LOOK_BACK):
        for change in made.diff:
            if change.kind == Kind.ACCOUNT and change.key == key and change.is_ is None:
                own = tuple(each for each in made.diff if _went_with(change, each))
                revert(changing, ChangeSet(made.note, own), ids, force=False)
                return
    raise NotFound(f"The history does not know how account {key} was deleted")


def _went_with(account: Change, change: Change) -> bool:
    """Whether a change of the same change set belongs to the deletion of an account."""
    if change.is_ is not None or change.was is None or account.was is None:
        return False
    if change.kind == Kind.ALIAS:
        return bool(change.was["target"] == people.written(parse_mailbox(account.was["address"])))
    if change.kind == Kind.SETTING:
        place, _ = policy.setting_of(change.key)
        id_ = str(internal(ACCOUNT, account.key))
        return place == Place(Scope.ACCOUNT, id_)
    return change.object == account.object


def _wish(
    changing: Changing, of: ChangeSet, change: Change, ids: Iterator[int], force: bool
) -> Wish:
    kind = Kind(change.kind)
    found = look(changing.tx, kind, change.key)
    now = found.image if found is not None else None
    if not (force or _as_left(change, now)):
        raise InUse(_again(changing, of, change))
    if kind is Kind.PASSWORD:
        return _password(changing, change, ids)
    target = change.was
    if change.was is not None and change.is_ is not None:
        if now is None:
            raise InUse(f"The {kind} {change.name} is gone: bring it back first")
        target = {**now, **change.was}
    return Wish(kind, change.key, change.name, target)


def _as_left(change: Change, now: Image | None) -> bool:
    """Whether an object is as the change left it, other fields of it apart."""
    if change.is_ is None or now is None:
        return now is None and change.is_ is None
    if change.was is None:
        return now == change.is_
    return all(now.get(field) == value for field, value in change.is_.items())


def _again(changing: Changing, of: ChangeSet, change: Change) -> str:
    later = [s for s in history.of(changing.tx, change.object, 1) if s.id > of.id]
    by = f", by the change set {external(CHANGE_SET, later[0].id)}" if later else ""
    return f"The {change.kind} {change.name} was changed again since{by}: revert that first"


def _password(changing: Changing, change: Change, ids: Iterator[int]) -> Wish:
    """The password that the change set took away."""
    account = internal(ACCOUNT, change.key)
    if living(changing.tx, account) is None:
        raise InUse(f"The account {change.name} is gone: bring it back first")
    kept: dict[str, str] = {}
    if change.was is not None:
        kept = former.kept(changing.tx, account, numbered(change.was["since"]))
        if not kept:
            raise NotAllowed(f"The former password of {change.name} is kept no more")
    own = tuple(next(ids) for _ in range(IDS_FOR_PASSWORD))
    return Wish(Kind.PASSWORD, change.key, change.name, change.was, own, kept)
