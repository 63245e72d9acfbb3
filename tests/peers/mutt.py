"""mutt, driven by keys on a terminal: a header cache, copies, saves, deletions, marks, sending."""

from __future__ import annotations

import mailbox
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Sequence
from typing import Final

from postroom.testing.corpus import messages
from tests.peers.checks import Checks, Plan, deliver
from tests.walking import DOMAIN, ENVIRONMENT, HOST, Account, Ran, Walking, fetched

PATIENCE: Final = 60.0  # seconds for one run
COUNT: Final = 40
"""Messages in the mailbox: more than one screen."""

_COUNTS: Final = re.compile(rb"^(?:Content-Length|Lines): \d+\r\n", re.MULTILINE)


def walk(at: Walking, checks: Checks, plan: Plan) -> None:
    who = at.account("mutt")
    content = [b"Subject: parcel %02d\r\n\r\nWhere is parcel %02d?\r\n" % (n, n) for n in range(20)]
    content += messages(COUNT - len(content), plan.seed)
    deliver(at, who, content)
    with at.imaplib(who) as box:
        box.select("INBOX", readonly=True)
        stored = fetched(box)
    mutt = Mutt(at, who)
    _caches(mutt, checks)
    _copies(mutt, checks, stored)
    _changes(at, who, mutt, checks)
    _sends(at, who, mutt, checks)


def _caches(mutt: Mutt, checks: Checks) -> None:
    """A second look fetches no header again: UIDVALIDITY and UIDNEXT are believed."""
    first = checks.ran(mutt.press("<exit>"), "mutt opens the mailbox")
    checks.that(f"FETCH 1:{COUNT} (UID FLAGS" in first.text, "headers are fetched", first.text)
    again = checks.ran(mutt.press("<exit>"), "mutt opens it again")
    checks.that("BODY.PEEK[HEADER" not in again.text, "headers come from the cache", again.text)


def _copies(mutt: Mutt, checks: Checks, stored: list[bytes]) -> None:
    """Every message into a Maildir, octet by octet."""
    place = mutt.home / "copies"
    keys = f"<tag-pattern>~A<enter><tag-prefix><copy-message>{place}<enter><exit>"
    checks.ran(mutt.press(keys), "mutt copies every message")
    copied = mailbox.Maildir(place, create=False)
    found = [copied.get_bytes(key).replace(b"\n", b"\r\n") for key in copied.iterkeys()]
    plain = sorted(map(_without_counts, found)), sorted(map(_without_counts, stored))
    checks.octet_by_octet(*plain, "mutt's copies")


def _without_counts(content: bytes) -> bytes:
    """A message without the two fields that mutt writes into copies of its own accord."""
    head, gap, body = content.partition(b"\r\n\r\n")
    return _COUNTS.sub(b"", head + b"\r\n") + gap[2:] + body


def _changes(at: Walking, who: Account, mutt: Mutt, checks: Checks) -> None:
    """Save elsewhere, delete, mark; found by the server where mutt has it search."""
    mutt_saves = "<tag-pattern>=b 'parcel 07'<enter><tag-prefix><save-message>=Archive<enter>"
    checks.ran(mutt.press(f"{mutt_saves}<sync-mailbox><exit>"), "mutt saves what was found")
    checks.ran(
        mutt.press("<delete-pattern>~s 'parcel 1'<enter><sync-mailbox><exit>"), "mutt deletes"
    )
    marks = "<tag-pattern>~s 'parcel 02'<enter><tag-prefix><flag-message>"
    reads = "<limit>~s 'parcel 03'<enter><display-message><exit>"
    checks.ran(mutt.press(f"{marks}{reads}<sync-mailbox><exit>"), "mutt marks and reads")
    with at.imaplib(who) as box:
        box.select("Archive", readonly=True)
        checks.equal(_found(box.search(None, "SUBJECT", '"parcel 07"')), 1, "it is in Archive")
        box.select("INBOX", readonly=True)
        checks.equal(_found(box.search(None, "ALL")), COUNT - 11, "messages left")
        for flag, subject in (("FLAGGED", "parcel 02"), ("SEEN", "parcel 03")):
            both = _found(box.search(None, flag, "SUBJECT", f'"{subject}"'))
            checks.equal((both, _found(box.search(None, flag))), (1, 1), f"{subject} is {flag}")


def _sends(at: Walking, who: Account, mutt: Mutt, checks: Checks) -> None:
    """In batch mode: over SMTP with STARTTLS, and a copy into Sent."""
    words = ["-s", "Grüße aus mutt", "--", who.address]
    checks.ran(mutt.run(words, stdin="Schöne Grüße\n".encode()), "mutt sends")
    bodies = []
    for name in ("INBOX", "Sent"):
        with at.imaplib(who) as box:
            count = box.select(name, readonly=True)[1][0]
            assert count is not None
            last = fetched(box, count.decode())[0]
            bodies.append(last.partition(b"\r\n\r\n")[2])
            checks.that(b"aus mutt" in last, f"it is in {name}", last)
    checks.octet_by_octet(bodies[:1], bodies[1:], "sent and received text")
    unknown = mutt.run(["-s", "x", "--", f"nobody@{DOMAIN}"], stdin=b"x\n")
    checks.that(unknown.code != 0 and "550 5.1.1" in unknown.text, "mutt hears no", unknown.text)


def _found(answer: tuple[str, list[bytes | None]]) -> int:
    return len((answer[1][0] or b"").split())


class Mutt:
    """mutt for one account, with a home of its own."""

    def __init__(self, at: Walking, who: Account, folder: str = "mutt") -> None:
        self.home = at.folder / folder
        (self.home / "headers").mkdir(parents=True)
        self._config = self.home / "muttrc"
        self._config.write_text(
            f"""set ssl_force_tls=yes ssl_starttls=yes
set certificate_file="{at.certificate}"
set imap_user="{who.address}" imap_pass="{who.password}"
set folder="imaps://localhost:{at.imaps}/" spoolfile="+INBOX" record="+Sent"
set header_cache="{self.home}/headers" mbox_type=Maildir
set smtp_url="smtp://{HOST}:{at.smtp}/" ssl_verify_host=no
set from="me@far.example" use_envelope_from=yes envelope_from_address="me@far.example"
set charset=utf-8 send_charset=utf-8
set quit=yes delete=yes move=no copy=yes confirmappend=no confirmcreate=no abort_nosubject=no
set mark_old=no sleep_time=0 wait_key=no imap_idle=no
"""
        )
        self._env = {**ENVIRONMENT, "HOME": str(self.home), "TERM": "vt100", "LC_ALL": "C.UTF-8"}

    @property
    def _words(self) -> list[str]:
        return ["mutt", "-d", "3", "-n", "-F", str(self._config)]

    def press(self, keys: str) -> Ran:
        """These keys on a terminal, to the end; the text is what mutt noted of its IMAP."""
        escaped = keys.replace("\\", "\\\\").replace('"', '\\"')
        return self._on_terminal([*self._words, "-e", f'push "{escaped}"'])

    def run(self, words: Sequence[str], stdin: bytes) -> Ran:
        """Without a terminal, a text on its input."""
        done = subprocess.run(
            [*self._words, *words],
            input=stdin, env=self._env, capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout + self._noted(), done.stderr)

    def _on_terminal(self, words: Sequence[str]) -> Ran:
        ours, theirs = pty.openpty()
        try:
            with subprocess.Popen(
                words, stdin=theirs, stdout=theirs, stderr=theirs, env=self._env,
                start_new_session=True,
            ) as child:  # fmt: skip
                os.close(theirs)
                screen = _watch(ours, child)
        finally:
            os.close(ours)
        return Ran(child.returncode, screen + self._noted(), b"")

    def _noted(self) -> bytes:
        """What it said and heard, its password left out."""
        noted = (self.home / ".muttdebug0").read_bytes()
        lines = re.findall(rb"^\[[^]]*\] \d+[<>] .*$", noted, re.MULTILINE)
        return b"\n" + b"\n".join(line for line in lines if b"AUTHENTICATE" not in line)


def _watch(terminal: int, child: subprocess.Popen[bytes]) -> bytes:
    """What is shown until the child ends; one that does not is killed."""
    shown = b""
    deadline = time.monotonic() + PATIENCE
    while child.poll() is None:
        if time.monotonic() > deadline:
            child.kill()
            raise TimeoutError(f"mutt does not end: {shown[-500:]!r}")
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                shown += os.read(terminal, 65_536)
            except OSError:  # the other end is closed
                break
    child.wait(PATIENCE)
    return shown
