"""OfflineIMAP: an account and a Maildir, while both sides change.

It writes each message anew as Python's email package understands it, and so changes an odd one. It
gets those that this leaves as they are; they are compared octet by octet.
"""

from __future__ import annotations

import re
from email import message_from_bytes
from email.errors import MessageError
from email.policy import default
from pathlib import Path
from typing import Final

from postroom.testing.corpus import messages
from tests.peers.checks import Checks, Plan, deliver
from tests.walking import Account, Ran, Walking, fetched, run

PATIENCE: Final = 120.0
ENOUGH: Final = 120
NEW: Final = b"From: <me@example.test>\nSubject: written here\n\nhello\n"
_MARK: Final = re.compile(rb"^X-OfflineIMAP: [^\n]*\n", re.MULTILINE)


def walk(at: Walking, checks: Checks, plan: Plan) -> None:
    who = at.account("offlineimap")
    corpus = messages(min(plan.messages, ENOUGH), plan.seed + 4)
    plain = [each for each in corpus if _is_left_as_it_is(each)]
    checks.that(len(plain) > ENOUGH // 2, "most messages are left as they are", len(plain))
    deliver(at, who, plain)
    lying = _lying(at, who)
    sync = Offline(at, who)
    checks.ran(sync.run(), "offlineimap, the first run")
    checks.octet_by_octet(sorted(sync.contents()), sorted(map(unix, lying)), "all comes down")
    # Here one is read, one deleted and one written; there one is flagged and one deleted.
    files = sorted(sync.files())
    read, gone = files[0], files[1]
    read_content, gone_content = _content(read), _content(gone)
    read.rename(read.parents[1] / "cur" / f"{read.name.partition(':2,')[0]}:2,S")
    gone.unlink()
    (sync.inbox / "new" / "1700000000.M1P1.here").write_bytes(NEW)
    numbers = {unix(each): number for number, each in enumerate(lying, 1)}
    others = [each for each in numbers if each not in (read_content, gone_content)]
    with at.imaplib(who) as box:
        box.select("INBOX")
        box.store(str(numbers[others[0]]), "+FLAGS", r"(\Flagged)")
        box.store(str(numbers[others[1]]), "+FLAGS", r"(\Deleted)")
        box.expunge()
    checks.ran(sync.run(), "offlineimap, after changes on both sides")
    wanted = sorted([*(set(numbers) - {gone_content, others[1]}), NEW])
    checks.octet_by_octet(sorted(map(unix, _lying(at, who))), wanted, "the server's side")
    checks.octet_by_octet(sorted(sync.contents()), wanted, "this side")
    with at.imaplib(who) as box:
        box.select("INBOX", readonly=True)
        checks.equal(len(box.search(None, "SEEN")[1][0].split()), 1, "what was read here is there")
    flagged = [_content(f) for f in sync.files() if "F" in f.name.rpartition(":2,")[2]]
    checks.that(flagged == others[:1], "what was flagged there is here")
    before = sorted(sync.files())
    checks.ran(sync.run(), "offlineimap, with nothing to do")
    checks.equal(sorted(sync.files()), before, "nothing was done")


def unix(content: bytes) -> bytes:
    """As it keeps a message: lines of LF, and without the field that it adds."""
    return _MARK.sub(b"", content.replace(b"\r\n", b"\n"), count=1)


def _is_left_as_it_is(content: bytes) -> bool:
    """Whether Python's email package writes a message as it read it."""
    policy = default.clone(cte_type="8bit", utf8=True, refold_source="none")
    plain = unix(content)
    try:
        return message_from_bytes(plain, policy=policy).as_bytes() == plain
    except (MessageError, ValueError, LookupError, AttributeError, IndexError, KeyError):
        return False


def _content(file: Path) -> bytes:
    return unix(file.read_bytes())


def _lying(at: Walking, who: Account) -> list[bytes]:
    with at.imaplib(who) as box:
        box.select("INBOX", readonly=True)
        return fetched(box)


class Offline:
    """One account of one configuration."""

    def __init__(self, at: Walking, who: Account) -> None:
        folder = at.folder / "offlineimap"
        folder.mkdir()
        self.inbox = folder / "mail" / "INBOX"
        self._config = folder / "offlineimaprc"
        self._config.write_text(
            f"""[general]
accounts = one
metadata = {folder}/state
[Account one]
localrepository = here
remoterepository = there
[Repository here]
type = Maildir
localfolders = {folder}/mail
[Repository there]
type = IMAP
remotehost = localhost
remoteport = {at.imaps}
remoteuser = {who.address}
remotepass = {who.password}
sslcacertfile = {at.certificate}
folderfilter = lambda name: name == 'INBOX'
"""
        )

    def run(self) -> Ran:
        """Synchronise once."""
        words = ["offlineimap", "-c", str(self._config), "-o", "-u", "quiet"]
        return run(words, patience=PATIENCE)

    def files(self) -> list[Path]:
        return [each for sub in ("cur", "new") for each in (self.inbox / sub).iterdir()]

    def contents(self) -> list[bytes]:
        return [_content(each) for each in self.files()]
