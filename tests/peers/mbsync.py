"""mbsync: a mailbox synchronised both ways, while both sides change.

Both sides are compared with what was done to them, octet by octet and flag by flag; a second run
must find nothing to do.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from postroom.testing.corpus import messages
from tests.peers.checks import Checks, Plan, deliver
from tests.walking import Account, Mbsync, Walking, as_on_the_wire, fetched, without_mark

PATIENCE: Final = 300.0  # seconds for one run
FLAGS: Final[Mapping[str, str]] = {
    "F": r"\Flagged",
    "P": "$Forwarded",
    "R": r"\Answered",
    "S": r"\Seen",
}
"""Of Maildir and of IMAP; T, which deletes, has steps of its own."""
EACH: Final = 6
"""Of every kind of change in a round."""

Side = dict[bytes, frozenset[str]]
"""Content and flags, as letters, of each message of a mailbox."""


def walk(at: Walking, checks: Checks, plan: Plan) -> None:
    """Everything down, then rounds of changes on both sides."""
    who = at.account("mbsync")
    sync = Sync(at, who, at.mbsync(who), checks, random.Random(plan.seed))
    content = [*messages(plan.messages, plan.seed), large(plan)]
    deliver(at, who, content)
    sync.run("the first run")
    far = sync.adopt()
    checks.octet_by_octet(
        (stored[-len(sent) :] for stored, sent in zip(far, content, strict=True)),
        content,
        "what was delivered is on the server",
    )
    sync.compare("after the first run")
    for number in range(plan.rounds):
        sync.change(number)
        sync.run(f"round {number}")
        sync.compare(f"after round {number}")
    sync.folders()


def large(plan: Plan) -> bytes:
    """One message of many megabytes: longer than a read, a frame and a file's limit."""
    line = b"A large message goes in many pieces, and every one is counted: %08d.\r\n"
    lines = plan.large // len(line % 0)
    return b"Subject: a large one\r\n\r\n" + b"".join(line % n for n in range(lines))


@dataclass(slots=True)
class Sync:
    """An INBOX on both sides, and what should be in it."""

    at: Walking
    who: Account
    mbsync: Mbsync
    checks: Checks
    rng: random.Random
    wanted: Side = field(default_factory=dict)

    def run(self, what: str) -> None:
        """Once with changes, once with none."""
        self.checks.ran(self.mbsync.run(patience=PATIENCE), f"mbsync, {what}")
        before = (self.files(), self.modseqs())
        self.checks.ran(self.mbsync.run(patience=PATIENCE), f"mbsync, {what}, once more")
        self.checks.that((self.files(), self.modseqs()) == before, f"{what}: the next is a no-op")

    def files(self) -> dict[Path, tuple[int, int]]:
        """Every message on this side, with inode and time of its last change."""
        found = {}
        for path in self.mbsync.mail.rglob("*:2,*"):
            told = path.stat()
            found[path] = (told.st_ino, told.st_mtime_ns)
        return found

    def modseqs(self) -> list[bytes]:
        """What the server says of every mailbox; each number moves with any change."""
        with self.at.imaplib(self.who) as box:
            listed = [re.findall(rb'"/" (.*)', line) for line in _lines(box.list()[1])]
            names = [found[0].decode() for found in listed]
            about = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)"
            return [line for name in names for line in _lines(box.status(name, about)[1])]

    def adopt(self) -> list[bytes]:
        """What the server holds now is what should be there; nothing is marked yet."""
        with self.at.imaplib(self.who) as box:
            box.select("INBOX", readonly=True)
            stored = fetched(box)
        self.wanted = dict.fromkeys(stored, frozenset())
        return stored

    def compare(self, what: str) -> None:
        """Both sides hold what they should, octet by octet."""
        wanted = sorted(self.wanted)
        for side, found in (("far", self.far()), ("near", self.near())):
            self.checks.octet_by_octet(sorted(found), wanted, f"{side}, {what}")
            wrong = [(found[c], f) for c, f in self.wanted.items() if found.get(c, f) != f]
            self.checks.that(not wrong, f"flags, {side}, {what}", wrong)

    def far(self) -> Side:
        letters = {flag: letter for letter, flag in FLAGS.items()}
        found = {}
        with self.at.imaplib(self.who) as box:
            box.select("INBOX", readonly=True)
            kind, data = box.fetch("1:*", "(FLAGS BODY.PEEK[])")
            assert kind == "OK", data
            for each in data:
                if isinstance(each, tuple):
                    told = re.search(rb"FLAGS \((.*?)\)", each[0])
                    assert told is not None, each[0]
                    flags = told[1].decode().split()
                    found[without_mark(each[1])] = frozenset(
                        letters[f] for f in flags if f in letters
                    )
        return found

    def near(self) -> Side:
        return {as_on_the_wire(f): _letters(f) & FLAGS.keys() for f in self.mbsync.files()}

    # --- changes --------------------------------------------------------------------------------

    def change(self, number: int) -> None:
        """New, marked and deleted messages on both sides; never one message on both."""
        picked = iter(self.rng.sample(sorted(self.wanted), min(len(self.wanted), 4 * EACH)))
        self._mark_far([next(picked) for _ in range(EACH)])
        self._delete_far([next(picked) for _ in range(EACH)])
        near = {as_on_the_wire(file): file for file in self.mbsync.files()}
        for _ in range(EACH):
            content = next(picked)
            self.wanted[content] = frozenset(self._letters())
            _rename(near[content], self.wanted[content])
        for _ in range(EACH):
            content = next(picked)
            del self.wanted[content]
            _rename(near[content], frozenset("T"))
        for n, content in enumerate(messages(EACH, plan_seed(self.rng))):
            flags = frozenset(self._letters())
            path = self.mbsync.mail / "INBOX" / "cur" / f"{number}.{n}.near:2,{_suffix(flags)}"
            path.write_bytes(content.replace(b"\r\n", b"\n"))
            self.wanted[content] = flags
        self._arrive(list(messages(EACH, plan_seed(self.rng))))

    def _letters(self) -> Iterator[str]:
        return (letter for letter in FLAGS if self.rng.random() < 0.5)

    def _mark_far(self, contents: list[bytes]) -> None:
        with self.at.imaplib(self.who) as box:
            box.select("INBOX")
            uids = _uids(box.fetch("1:*", "(UID BODY.PEEK[])")[1])
            for content in contents:
                letters = frozenset(self._letters())
                box.uid(
                    "STORE",
                    uids[content],
                    "FLAGS",
                    f"({' '.join(FLAGS[each] for each in letters)})",
                )
                self.wanted[content] = letters

    def _delete_far(self, contents: list[bytes]) -> None:
        with self.at.imaplib(self.who) as box:
            box.select("INBOX")
            uids = _uids(box.fetch("1:*", "(UID BODY.PEEK[])")[1])
            box.uid("STORE", ",".join(uids[c] for c in contents), "+FLAGS.SILENT", r"(\Deleted)")
            box.expunge()
        for content in contents:
            del self.wanted[content]

    def _arrive(self, contents: list[bytes]) -> None:
        deliver(self.at, self.who, contents)
        with self.at.imaplib(self.who) as box:
            there = int(_lines(box.select("INBOX", readonly=True)[1])[0])
            for stored in fetched(box, f"{there - len(contents) + 1}:*"):
                self.wanted[stored] = frozenset()

    # --- folders --------------------------------------------------------------------------------

    def folders(self) -> None:
        """Made on one side, a name beyond ASCII among them, they come to be on the other."""
        draft = b"From: me@example.test\r\nSubject: not done\r\n\r\nTo be continued\r\n"
        for made in (self.mbsync.mail / "Projects", self.mbsync.mail / "Projects" / "B&APw-ro"):
            for sub in ("cur", "new", "tmp"):
                (made / sub).mkdir(parents=True)
        drafts = self.mbsync.mail / "Drafts" / "cur"
        (drafts / "draft.near:2,DS").write_bytes(draft.replace(b"\r\n", b"\n"))
        with self.at.imaplib(self.who) as box:
            box.create("Receipts/2026")
        self.run("folders")
        with self.at.imaplib(self.who) as box:
            listed = b"\n".join(_lines(box.list()[1]))
            self.checks.that(b"Projects/B&APw-ro" in listed, "a local folder goes up", listed)
            box.select("Drafts", readonly=True)
            kind, data = box.fetch("1", "(FLAGS BODY.PEEK[])")
            first = data[0]
            assert isinstance(first, tuple), data
            marked = rb"\Draft" in first[0] and rb"\Seen" in first[0]
            self.checks.that(kind == "OK" and marked, "a local draft goes up", first[0])
            self.checks.octet_by_octet(
                [without_mark(first[1])], [draft], "the draft as it was written"
            )
        here = self.mbsync.mail / "Receipts" / "2026" / "cur"
        self.checks.that(here.is_dir(), "a folder of the server comes down")


def plan_seed(rng: random.Random) -> int:
    """A seed for the next few messages."""
    return rng.getrandbits(32)


def _lines(data: Sequence[bytes | tuple[bytes, bytes] | None]) -> list[bytes]:
    return [line for line in data if isinstance(line, bytes)]


def _uids(data: Sequence[bytes | tuple[bytes, bytes] | None]) -> dict[bytes, str]:
    """The UID by the content."""
    found = {}
    for each in data:
        if isinstance(each, tuple):
            told = re.search(rb"UID (\d+)", each[0])
            assert told is not None, each[0]
            found[without_mark(each[1])] = told[1].decode()
    return found


def _letters(file: Path) -> frozenset[str]:
    return frozenset(file.name.rpartition(":2,")[2])


def _suffix(letters: frozenset[str]) -> str:
    return "".join(sorted(letters))


def _rename(file: Path, letters: frozenset[str]) -> None:
    """As a mail program marks a message of a Maildir."""
    base = file.name.rpartition(":2,")[0]
    os.rename(file, file.parents[1] / "cur" / f"{base}:2,{_suffix(letters)}")
