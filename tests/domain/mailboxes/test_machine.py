"""Mailboxes against a model: whatever is done in whatever order, both must agree.

The model is a few dictionaries. After each step every counter, flag, modseq and path is
compared, and what `changes` says is applied to views that were taken earlier.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from postroom.core.errors import AlreadyExists, InUse, NotAllowed, OverQuota
from postroom.domain.events import Changed
from postroom.domain.mailboxes import cleaning, flags, folders, messages, reading
from postroom.domain.mailboxes.messages import FlagChange, Quota
from postroom.domain.mailboxes.picking import Pick
from tests.domain.making import DAY, NOW, Town, checked, letter

EVERY = Pick(1, (1 << 32) - 1)
FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "$Junk", "Blue", "green")
NAMES = ("a", "b", "INBOX", "Gr\u00f6\u00dfe")


@dataclass
class Placed:
    message: int
    flags: frozenset[str]
    modseq: int
    size: int


@dataclass
class Box:
    id: int
    path: str
    uidvalidity: int
    uidnext: int = 1
    modseq: int = 0
    placed: dict[int, Placed] = field(default_factory=dict)


@dataclass
class View:
    """What a client knew: the mailbox at a modseq."""

    box: int
    since: int
    flags: dict[int, int]


_numbers = itertools.count(1)

paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
flag_sets = st.frozensets(st.sampled_from(FLAGS), max_size=3)


class Machine(RuleBasedStateMachine):
    town: Town

    @initialize()
    def begin(self) -> None:
        self.account: int = self.town.person(f"u{next(_numbers)}@a.test").id
        self.modseq: int = self.run(reading.account_state, self.account).modseq
        tree = self.run(folders.tree, self.account)
        self.boxes = {
            box.path: box
            for box in (
                Box(row.id, path, row.uidvalidity, modseq=row.modseq)
                for path, row in tree.by_path.items()
            )
        }
        self.recoverable: set[tuple[int, int, int]] = set()
        self.doomed: list[Box] = []
        self.views: list[View] = []
        self.town.store.events.clear()
        for path, count in (("INBOX", 4), ("Archive", 2)):
            self._append(self.boxes[path], [letter()] * count, frozenset(), Quota())

    # --- shorthands -----------------------------------------------------------------------

    def run(self, unit: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.town.store.write(unit, *args, **kwargs)

    def changed(self, *boxes: Box) -> int:
        self.modseq += 1
        for box in boxes:
            box.modseq = self.modseq
        return self.modseq

    def box(self, data: st.DataObject, label: str = "box", *, any_box: bool = False) -> Box:
        """One of the mailboxes; of those with messages, unless any will do."""
        full = sorted(path for path, box in self.boxes.items() if box.placed)
        paths = sorted(self.boxes) if any_box or not full else full
        return self.boxes[data.draw(st.sampled_from(paths), label=label)]

    def pick(self, data: st.DataObject, box: Box) -> tuple[Pick, list[int]]:
        """A choice and the UIDs of the model that it means; some choices hold what is gone."""
        uids = [*box.placed, 1, box.uidnext]
        one = st.sampled_from(uids)
        if data.draw(st.booleans(), label="a range"):
            first, last = sorted(data.draw(st.tuples(one, one), label="range"))
            pick = Pick(first, last)
            return pick, [uid for uid in box.placed if first <= uid <= last]
        listed = sorted(data.draw(st.sets(one, min_size=1, max_size=4), label="list"))
        return Pick.of(listed), [uid for uid in listed if uid in box.placed]

    def used(self) -> tuple[int, int]:
        placed = [p for b in (*self.boxes.values(), *self.doomed) for p in b.placed.values()]
        return sum(p.size for p in placed), len(placed)

    # --- messages -------------------------------------------------------------------------

    @rule(data=st.data(), flags=flag_sets, count=st.integers(1, 3), tight=st.booleans())
    def append(self, data: st.DataObject, flags: frozenset[str], count: int, tight: bool) -> None:
        box = self.box(data, any_box=True)
        raw = letter(body=b"x" * data.draw(st.integers(0, 50)))
        octets, number = self.used()
        full = Quota(octets + count * len(raw) - 1, 0)
        try:
            quota = full if tight else Quota(0, number + count)
            self._append(box, [raw] * count, flags, quota)
        except OverQuota:
            assert tight
            return
        assert not tight

    def _append(self, box: Box, raws: list[bytes], flags: frozenset[str], quota: Quota) -> None:
        new = [self.town.new(raw, tuple(sorted(flags))) for raw in raws]
        stored = self.run(messages.append, self.account, box.id, new, quota, NOW, 1)
        modseq = self.changed(box)
        assert [s.uid for s in stored] == list(range(box.uidnext, box.uidnext + len(new)))
        for one, (_, message) in zip(stored, new, strict=True):
            box.placed[one.uid] = Placed(message.id, flags, modseq, message.size)
        box.uidnext += len(new)

    @rule(
        data=st.data(),
        add=flag_sets,
        remove=flag_sets,
        replace=st.booleans(),
        back=st.none() | st.none() | st.integers(0, 6),
    )
    def set_flags(
        self,
        data: st.DataObject,
        add: frozenset[str],
        remove: frozenset[str],
        replace: bool,
        back: int | None,
    ) -> None:
        box = self.box(data)
        pick, uids = self.pick(data, box)
        since = None if back is None else max(0, self.modseq - back)
        wanted = FlagChange(tuple(sorted(add)), tuple(sorted(remove)), replace)
        done = self.run(
            messages.set_flags, self.account, box.id, pick, wanted, NOW, 1, unchanged_since=since
        )
        late = [u for u in uids if since is not None and box.placed[u].modseq > since]
        assert done.failed == tuple(late)
        after = {
            uid: add if replace else (box.placed[uid].flags - remove) | add
            for uid in uids
            if uid not in late
        }
        moved = {uid: new for uid, new in after.items() if new != box.placed[uid].flags}
        changed = {uid for _, group in done.groups for uid in group}
        same = {uid for _, group in done.same for uid in group}
        assert changed == set(moved)
        assert same == set(after) - set(moved)
        if moved:
            modseq = self.changed(box)
            for uid, new in moved.items():
                box.placed[uid].flags = new
                box.placed[uid].modseq = modseq
        assert done.modseq == self.modseq

    @rule(data=st.data(), tight=st.booleans())
    def copy(self, data: st.DataObject, tight: bool) -> None:
        box, target = self.box(data), self.box(data, "target", any_box=True)
        pick, uids = self.pick(data, box)
        quota = Quota(messages=max(1, self.used()[1] + len(uids) - tight))
        try:
            done = self.run(messages.copy, self.account, box.id, target.id, pick, quota, NOW, 1)
        except OverQuota:
            assert tight
            assert uids
            return
        assert not (tight and uids and self.used()[1] + len(uids) > 1)
        self._placed(box, target, uids, done)

    def _placed(self, box: Box, target: Box, uids: list[int], done: messages.Copied) -> None:
        assert done.source == tuple(uids)
        assert done.target == tuple(range(target.uidnext, target.uidnext + len(uids)))
        assert done.uidvalidity == target.uidvalidity
        if not uids:
            return
        modseq = self.changed(target)
        for source, made in zip(uids, done.target, strict=True):
            old = box.placed[source]
            target.placed[made] = Placed(old.message, old.flags, modseq, old.size)
        target.uidnext += len(uids)

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        box, target = self.box(data), self.box(data, "target", any_box=True)
        pick, uids = self.pick(data, box)
        done = self.run(messages.move, self.account, box.id, target.id, pick, NOW, 1)
        self._placed(box, target, uids, done)
        if uids:
            box.modseq = self.modseq
        for uid in uids:
            del box.placed[uid]

    @rule(data=st.data())
    def expunge(self, data: st.DataObject) -> None:
        box = self.box(data)
        pick, uids = self.pick(data, box)
        gone = self.run(messages.expunge, self.account, box.id, pick, NOW, 1, retention=DAY)
        assert gone.uids == tuple(uids)
        if uids:
            self.changed(box)
        for uid in uids:
            self.recoverable.add((box.id, uid, box.placed.pop(uid).message))

    # --- folders --------------------------------------------------------------------------

    def _make(self, path: str) -> None:
        """What making a path adds to the model: it and what is missing above it."""
        tree = self.run(folders.tree, self.account)
        modseq = self.changed()
        names = path.split("/")
        for end in range(1, len(names) + 1):
            at = "/".join(names[:end])
            if at not in self.boxes:
                row = tree.by_path[at]
                used = {b.uidvalidity for b in (*self.boxes.values(), *self.doomed)}
                assert row.uidvalidity > max(used)
                self.boxes[at] = Box(row.id, at, row.uidvalidity, modseq=modseq)

    @rule(path=paths)
    def create(self, path: str) -> None:
        try:
            self.run(folders.create, self.account, path, self.town.ids, NOW, 1)
        except AlreadyExists:
            assert path in self.boxes
            return
        assert path not in self.boxes
        self._make(path)

    @rule(data=st.data(), new=paths)
    def rename(self, data: st.DataObject, new: str) -> None:
        old = self.box(data, any_box=True).path
        try:
            self.run(folders.rename, self.account, old, new, self.town.ids, NOW, 1)
        except (AlreadyExists, NotAllowed) as error:
            taken = isinstance(error, AlreadyExists)
            assert new in self.boxes if taken else old == "INBOX" or new.startswith(old + "/")
            return
        assert new not in self.boxes
        tree = self.run(folders.tree, self.account)
        above = new.rpartition("/")[0]
        moved = {p: b for p, b in self.boxes.items() if p == old or p.startswith(old + "/")}
        for path in moved:
            del self.boxes[path]
        if above and above not in self.boxes:
            self._make(above)
        for path, box in moved.items():
            box.path = new + path[len(old) :]
            self.boxes[box.path] = box
        self.changed()
        assert set(tree.by_path) == set(self.boxes)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        box = self.box(data, any_box=True)
        try:
            self.run(folders.delete, self.account, box.path, NOW, 1)
        except (InUse, NotAllowed) as error:
            below = any(p.startswith(box.path + "/") for p in self.boxes)
            assert below if isinstance(error, InUse) else box.path == "INBOX"
            return
        self.changed()
        self.views = [view for view in self.views if view.box != box.id]
        self.doomed.append(self.boxes.pop(box.path))

    @precondition(lambda self: self.doomed)
    @rule()
    def empty(self) -> None:
        while self.run(cleaning.empty_doomed, NOW, DAY):
            pass
        for box in sorted(self.doomed, key=lambda b: b.id):
            if box.placed:
                self.changed()
            self.recoverable |= {(box.id, uid, p.message) for uid, p in box.placed.items()}
        self.doomed.clear()

    # --- what must hold -------------------------------------------------------------------

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        """A client takes a view, or brings one up to date."""
        box = self.box(data)
        known = {u: s for u, s, _ in self.run(reading.flags, box.id, EVERY)}
        self.views = [*self.views[-7:], View(box.id, box.modseq, known)]

    @invariant()
    def views_can_be_brought_up_to_date(self) -> None:
        for view in getattr(self, "views", []):
            found = self.run(reading.changes, view.box, view.since)
            brought = dict(view.flags)
            for uid in found.vanished:
                brought.pop(uid, None)
            for uid, set_, modseq in found.flags:
                assert view.since < modseq <= found.mailbox.modseq
                brought[uid] = set_
            assert list(found.vanished) == sorted(found.vanished)
            now = {u: s for u, s, _ in self.run(reading.flags, view.box, EVERY)}
            assert brought == now

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        if not hasattr(self, "boxes"):
            return
        state = self.run(reading.account_state, self.account)
        assert state.modseq == self.modseq
        assert self.run(reading.usage, self.account) == self.used()
        registry = self.run(flags.registry, self.account)
        tree = self.run(folders.tree, self.account)
        assert set(tree.by_path) == set(self.boxes)
        for path, box in self.boxes.items():
            row = tree.by_path[path]
            sets = [p.flags for p in box.placed.values()]
            assert (row.id, row.uidvalidity, row.uidnext) == (box.id, box.uidvalidity, box.uidnext)
            assert row.total == len(sets)
            assert row.unseen == sum("\\Seen" not in s for s in sets)
            assert row.deleted == sum("\\Deleted" in s for s in sets)
            assert row.size == sum(p.size for p in box.placed.values())
            assert row.modseq == box.modseq <= self.modseq
            got = {
                r.uid: Placed(r.message, frozenset(registry.flags(r.flags)), r.modseq, r.size)
                for r in self.run(reading.brief, box.id, EVERY)
            }
            assert got == box.placed
            unseen = [u for u, p in box.placed.items() if "\\Seen" not in p.flags]
            assert self.run(reading.first_unseen, box.id) == min(unseen, default=None)
        rows = self.run(reading.recoverable, self.account, 10_000)
        assert {(r.mailbox, r.uid, r.message) for r in rows} == self.recoverable

    @invariant()
    def events_tell_of_every_change(self) -> None:
        events = [e for e in self.town.store.events if isinstance(e, Changed)]
        told = [e.modseq for e in events if e.account == self.account]
        assert told == sorted(set(told))
        if told:
            assert told[-1] == self.modseq

    def teardown(self) -> None:
        while self.run(cleaning.empty_doomed, NOW, DAY):
            pass
        assert checked(self.town.store).problems == []


def test_mailboxes_are_as_the_model_says(town: Town) -> None:
    machine = type("Machine", (Machine,), {"town": town})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40 if town.store.engine == "sqlite" else 12,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
