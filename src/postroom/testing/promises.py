"""What a server promised to its clients, and whether a store that was looked at keeps it.

Clients put down every event as it happens: a message is offered before its last octet leaves,
taken once 250 was read; a change is asked before its command leaves, done once OK was read. The
ledger made of them says what must be there, what may be, and what must not:

- a message that was taken is there once for each recipient, to the octet; one whose answer never
  came is there for all of its recipients or for none; one that was refused is nowhere;
- a change that was done holds; one whose answer never came holds wholly or not at all;
- a UID never means another message, UIDVALIDITY stays, UIDNEXT never goes back.

Events are small values with a form in JSON, so that they also go as marks into a recorder's log.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, TypeAlias

INBOX: Final = "INBOX"

# --- events -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offered:
    """A message is about to be sent whole: `size` octets with that hash, to these accounts."""

    mail: str  # its Message-ID, without the brackets
    sha256: str
    size: int
    accounts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """The reply to the end of its content."""

    mail: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A client was told of a message under a UID."""

    account: str
    path: str
    uid: int
    mail: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Numbered:
    """A client was told the UIDVALIDITY and UIDNEXT of a mailbox."""

    account: str
    path: str
    uidvalidity: int
    uidnext: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A change that is about to be asked for; each account has at most one under way.

    kind: "store" adds and removes flags of `uids`; "expunge" removes those of `uids` (all are
    flagged, so all go); "copy" copies `uids` to `target`; "append" puts `mail` into `path`.
    """

    account: str
    kind: str
    path: str
    uids: tuple[int, ...] = ()
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    target: str = ""
    mail: str = ""
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """OK to the change under way; `uids` of what it made, in order (COPYUID, APPENDUID)."""

    account: str
    uids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """NO to the change under way: nothing of it happened."""

    account: str


Event: TypeAlias = Offered | Answered | Told | Numbered | Asked | Done | Denied
Note: TypeAlias = Callable[[Event], None]

_EVENTS: Final[dict[str, Callable[..., Event]]] = {
    kind.__name__: kind for kind in (Offered, Answered, Told, Numbered, Asked, Done, Denied)
}


def packed(event: Event) -> tuple[str, bytes]:
    """The label and the payload of a mark."""
    return type(event).__name__, json.dumps(asdict(event)).encode()


def unpacked(label: str, payload: bytes) -> Event:
    """The event of a mark."""
    said = json.loads(payload)
    return _EVENTS[label](**{k: tuple(v) if isinstance(v, list) else v for k, v in said.items()})


# --- what was found ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A message as it lies in a mailbox. `wrong`: what is not as it was sent, "" if nothing."""

    mail: str
    flags: frozenset[str] = frozenset()
    wrong: str = ""


@dataclass(slots=True)
class Box:
    """A mailbox as it was found, or as far as clients know it."""

    uidvalidity: int = 0  # 0: nobody was told yet
    uidnext: int = 1
    messages: dict[int, Found] = field(default_factory=dict)


Boxes: TypeAlias = dict[str, Box]  # by path
_MESSAGE_ID: Final = re.compile(rb"^Message-ID: <([^>\r\n]{1,200})>\r$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mail:
    """A message as it was sent, and to whom."""

    sha256: str
    size: int
    accounts: frozenset[str]


class Ledger:
    """What was promised so far."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.mails: dict[str, Mail] = {}
        self.taken: set[str] = set()
        self.open: set[str] = set()  # offered, and never answered
        self.boxes: dict[str, Boxes] = {}  # by account
        self.under_way: dict[str, Asked] = {}
        self._arrived: dict[str, set[str]] = {}
        self._owed: dict[str, set[str]] = {}  # taken and not yet seen, by account
        self._contradictions: list[str] = []  # what clients themselves saw
        for event in events:
            self.note(event)

    def note(self, event: Event) -> None:
        """Put down what happened."""
        match event:
            case Offered(mail, sha256, size, accounts):
                self.mails[mail] = Mail(sha256, size, frozenset(accounts))
                self.open.add(mail)
            case Answered(mail, taken):
                self._answered(mail, taken=taken)
            case Told(account, path, uid, mail, flags):
                self._told(account, path, uid, Found(mail, frozenset(flags)))
            case Numbered(account, path, uidvalidity, uidnext):
                box = self._box(account, path)
                box.uidvalidity = uidvalidity
                box.uidnext = max(box.uidnext, uidnext)
            case Asked():
                self.under_way[event.account] = event
                if event.mail:
                    self.mails[event.mail] = Mail(event.sha256, event.size, frozenset())
            case Done(account, uids):
                self._done(self.under_way.pop(account), uids)
            case Denied(account):
                del self.under_way[account]

    def recognise(self, content: bytes) -> Found:
        """The message that this is, as it lies in a mailbox with trace fields above it."""
        said = _MESSAGE_ID.search(content)
        if said is None:
            return Found("", wrong="it has no Message-ID")
        name = said[1].decode("ascii", "replace")
        mail = self.mails.get(name)
        if mail is None:
            return Found(name, wrong="nobody sent it")
        if hashlib.sha256(content[-mail.size :]).hexdigest() != mail.sha256:
            return Found(name, wrong="its octets are not those that were sent")
        return Found(name)

    # --- judging ------------------------------------------------------------------------------

    def broken(self, found: Mapping[str, Boxes]) -> list[str]:
        """What the accounts that were looked at do not keep; empty if all is well.

        For a store at rest: the local queue has ended.
        """
        problems = list(self._contradictions)
        for account, boxes in found.items():
            asked = self.under_way.get(account)
            without = self._differences(account, boxes, None)
            if without and asked is not None:
                applied = self._differences(account, boxes, asked)
                without = min(without, applied, key=len)
            problems += without
        problems += self._halves(found)
        return problems

    def adopt(self, found: Mapping[str, Boxes]) -> None:
        """Take what was found, and is not broken, for what is known from here on.

        Every account must have been looked at: what never got an answer is settled by it.
        """
        for account, boxes in found.items():
            arrived = self._arrived.setdefault(account, set())
            arrived |= {m.mail for m in boxes.get(INBOX, Box()).messages.values()}
            self._owed.pop(account, None)
            self.boxes[account] = {
                path: Box(box.uidvalidity, box.uidnext, dict(box.messages))
                for path, box in boxes.items()
            }
        self.under_way.clear()
        for mail in self.open:
            if any(mail in self._arrived.get(a, ()) for a in self.mails[mail].accounts):
                self.taken.add(mail)
        self.open.clear()

    # --- within -------------------------------------------------------------------------------

    def _box(self, account: str, path: str) -> Box:
        return self.boxes.setdefault(account, {}).setdefault(path, Box())

    def _answered(self, mail: str, *, taken: bool) -> None:
        self.open.discard(mail)
        if not taken:
            if any(self._has(account, mail) for account in self.mails[mail].accounts):
                self._contradictions.append(f"{mail} was refused, and a client has seen it")
            return
        self.taken.add(mail)
        for account in self.mails[mail].accounts:
            if mail not in self._arrived.get(account, ()):
                self._owed.setdefault(account, set()).add(mail)

    def _told(self, account: str, path: str, uid: int, found: Found) -> None:
        box = self._box(account, path)
        known = box.messages.get(uid)
        if known is not None and (known.mail, known.flags) != (found.mail, found.flags):
            self._contradictions.append(
                f"{account} {path} {uid}: a client saw {known.mail} {sorted(known.flags)} become"
                f" {found.mail} {sorted(found.flags)}"
            )
        box.messages[uid] = found
        box.uidnext = max(box.uidnext, uid + 1)
        if path == INBOX:
            self._arrived.setdefault(account, set()).add(found.mail)
            self._owed.get(account, set()).discard(found.mail)

    def _done(self, asked: Asked, uids: Sequence[int]) -> None:
        box = self._box(asked.account, asked.path)
        for uid, found in self._made(asked).items():
            box.messages[uid] = found
        if asked.kind == "expunge":
            for uid in asked.uids:
                del box.messages[uid]
        new = self._added(asked)
        target = self._box(asked.account, asked.target or asked.path)
        for uid, found in zip(uids, new, strict=True):
            target.messages[uid] = found
            target.uidnext = max(target.uidnext, uid + 1)

    def _made(self, asked: Asked) -> dict[int, Found]:
        """The messages that a STORE changes, as they are after it."""
        if asked.kind != "store":
            return {}
        known = self._box(asked.account, asked.path).messages
        add, remove = frozenset(asked.add), frozenset(asked.remove)
        return {u: Found(known[u].mail, (known[u].flags | add) - remove) for u in asked.uids}

    def _added(self, asked: Asked) -> list[Found]:
        """The messages that a COPY or an APPEND adds."""
        if asked.kind == "append":
            return [Found(asked.mail, frozenset(asked.add))]
        if asked.kind == "copy":
            known = self._box(asked.account, asked.path).messages
            return [known[uid] for uid in asked.uids]
        return []

    def _differences(self, account: str, found: Boxes, asked: Asked | None) -> list[str]:
        """What an account lacks or has too much, if `asked` happened (None: did not)."""
        problems: list[str] = []
        for path in sorted({*self.boxes.get(account, {}), *found, INBOX}):
            where = f"{account} {path}"
            box = found.get(path)
            if box is None:
                problems.append(f"{where}: the mailbox is gone")
                continue
            known = self.boxes.get(account, {}).get(path, Box())
            expected = dict(known.messages)
            new: Counter[tuple[str, frozenset[str]]] = Counter()
            if asked is not None:
                if asked.path == path:
                    expected |= self._made(asked)
                    if asked.kind == "expunge":
                        for uid in asked.uids:
                            del expected[uid]
                if (asked.target or asked.path) == path:
                    new.update((m.mail, m.flags) for m in self._added(asked))
            may = set()
            if path == INBOX:
                arrived = self._arrived.get(account, set())
                new.update((mail, frozenset()) for mail in self._owed.get(account, ()))
                may = {m for m in self.open - arrived if account in self.mails[m].accounts}
            problems += _numbers(where, known, box)
            problems += _compare(where, known.uidnext, expected, new, may, box)
        return problems

    def _halves(self, found: Mapping[str, Boxes]) -> list[str]:
        """Messages without an answer that reached some of their recipients, and not all."""
        problems = []
        for mail in sorted(self.open):
            accounts = self.mails[mail].accounts & found.keys()
            there = {a for a in accounts if _holds(found[a], mail) or self._has(a, mail)}
            if there and there != accounts:
                problems.append(f"{mail} reached {len(there)} of {len(accounts)} recipients")
        return problems

    def _has(self, account: str, mail: str) -> bool:
        return mail in self._arrived.get(account, ())


def _holds(boxes: Boxes, mail: str) -> bool:
    return any(m.mail == mail for m in boxes.get(INBOX, Box()).messages.values())


def _numbers(where: str, known: Box, found: Box) -> list[str]:
    problems = []
    if known.uidvalidity not in (0, found.uidvalidity):
        problems.append(f"{where}: UIDVALIDITY {known.uidvalidity} became {found.uidvalidity}")
    if found.uidnext < known.uidnext:
        problems.append(f"{where}: UIDNEXT {known.uidnext} went back to {found.uidnext}")
    if found.messages and found.uidnext <= max(found.messages):
        problems.append(f"{where}: UIDNEXT {found.uidnext}, but UID {max(found.messages)} is there")
    return problems


def _compare(
    where: str,
    uidnext: int,
    expected: dict[int, Found],
    new: Counter[tuple[str, frozenset[str]]],
    may: set[str],
    box: Box,
) -> list[str]:
    """One mailbox: what was known by UID, and what is new in it."""
    problems = []
    for uid, known in expected.items():
        there = box.messages.get(uid)
        if there is None:
            problems.append(f"{where} {uid}: {known.mail} is lost")
        elif there.mail != known.mail:
            problems.append(f"{where} {uid}: {known.mail} became {there.mail}")
        elif there.flags != known.flags:
            problems.append(
                f"{where} {uid}: has {sorted(there.flags)}, {sorted(known.flags)} was promised"
            )
    for uid, there in box.messages.items():
        if there.wrong:
            problems.append(f"{where} {uid}: {there.mail}: {there.wrong}")
        if uid in expected:
            continue
        if uid < uidnext:
            problems.append(f"{where} {uid}: {there.mail} came, or came back, below {uidnext}")
        key = (there.mail, there.flags)
        if new[key]:
            new[key] -= 1
        elif there.mail in may and not there.flags:
            may.discard(there.mail)
        else:
            problems.append(f"{where} {uid}: {there.mail} is there once too often, or refused")
    problems += [f"{where}: {mail} was promised and is lost" for mail, _ in new.elements()]
    return problems
