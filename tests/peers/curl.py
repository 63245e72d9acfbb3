"""curl: one command in each connection. LIST, SEARCH, FETCH, APPEND, STORE, COPY, MOVE."""

from __future__ import annotations

import re

from postroom.testing.corpus import messages
from tests.peers.checks import Checks, Plan, deliver
from tests.peers.mbsync import large
from tests.walking import HOST, Account, Walking, run

LOGIN_DENIED = 67  # curl's exit codes
SELECT_FAILED = 67
QUOTE_ERROR = 21
REMOTE_FILE_NOT_FOUND = 78
UPLOAD_FAILED = 25


def walk(at: Walking, checks: Checks, plan: Plan) -> None:
    who = at.account("curl")
    _reads(at, who, checks, plan)
    _appends(at, who, checks, plan)
    _changes(at, who, checks)
    _refusals(at, who, checks)


def _reads(at: Walking, who: Account, checks: Checks, plan: Plan) -> None:
    listed = checks.ran(at.curl(who, ""), "LIST").text
    for special in ("Archive", "Drafts", "Junk", "Sent", "Trash"):
        checks.that(rf"\{special}" in listed, f"LIST tells of {special}", listed)
    content = list(messages(5, plan.seed))
    deliver(at, who, [*content, b"Subject: the needle\r\n\r\nin the haystack\r\n"])
    for n, sent in enumerate(content, start=1):
        read = checks.ran(at.curl(who, f"INBOX;MAILINDEX={n}"), "FETCH by number").out
        checks.octet_by_octet([read[-len(sent) :]], [sent], f"message {n} by number")
        by_uid = checks.ran(at.curl(who, f"INBOX;UID={n}"), "FETCH by UID").out
        checks.octet_by_octet([by_uid], [read], f"message {n} by UID")
        head = at.curl(who, f"INBOX;UID={n};SECTION=HEADER").out
        body = at.curl(who, f"INBOX;UID={n};SECTION=TEXT").out
        checks.octet_by_octet([head + body], [read], f"message {n} in two sections")
    found = checks.ran(at.curl(who, "INBOX?SUBJECT%20needle"), "SEARCH SUBJECT").text
    checks.equal(found.split(), ["*", "SEARCH", "6"], "found by its subject")
    found = checks.ran(at.curl(who, "INBOX?BODY%20haystack"), "SEARCH BODY").text
    checks.equal(found.split(), ["*", "SEARCH", "6"], "found by its text")


def _appends(at: Walking, who: Account, checks: Checks, plan: Plan) -> None:
    """-T: a synchronising literal, small, beyond ASCII, and of many megabytes."""
    eight_bit = next(m for m in messages(60, plan.seed) if not m.isascii())
    for n, content in enumerate((eight_bit, large(plan)), start=1):
        path = at.folder / "upload.eml"
        path.write_bytes(content)
        checks.ran(at.curl(who, "Drafts", "-T", str(path)), "APPEND")
        read = checks.ran(at.curl(who, f"Drafts;MAILINDEX={n}"), "FETCH").out
        checks.octet_by_octet([read], [content], f"upload {n}")


def _changes(at: Walking, who: Account, checks: Checks) -> None:
    """-X: any command on the mailbox of the URL; each sees what the one before left."""
    for command, mailbox, wanted in (
        (r"STORE 1 +FLAGS (\Seen $Forwarded)", "INBOX", r"1 FETCH .*\\Seen.*\$Forwarded"),
        ("FETCH 1 (FLAGS)", "INBOX", r"\\Seen"),
        ("SEARCH KEYWORD $Forwarded", "INBOX", r"^\* SEARCH 1\s*$"),
        ("FETCH 1 BODYSTRUCTURE", "INBOX", r'BODYSTRUCTURE \("|BODYSTRUCTURE \(\('),
        ("CREATE Taxes", "", r"^$"),
        ("UID COPY 6 Taxes", "INBOX", r"^$"),
        ("UID MOVE 5 Taxes", "INBOX", r"COPYUID \d+ 5 2"),
        ("STATUS Taxes (MESSAGES UIDNEXT)", "", r"MESSAGES 2 UIDNEXT 3"),
        ("RENAME Taxes Bills/2026", "", r"^$"),
        (r"UID STORE 1 +FLAGS.SILENT (\Deleted)", "Bills/2026", r"^$"),
        ("EXPUNGE", "Bills/2026", r"\* 1 EXPUNGE"),
        ("EXAMINE Bills/2026", "", r"\* 1 EXISTS"),
        ("DELETE Bills/2026", "", r"^$"),
        ('LIST "" "Taxes*"', "", r"^$"),
    ):
        said = checks.ran(at.curl(who, mailbox, "-X", command), command)
        matches = re.search(wanted, said.text, re.MULTILINE | re.DOTALL)
        checks.that(matches is not None, f"{command} says", said.text)
    text = at.curl(who, "INBOX?ALL").text
    checks.equal(text.split(), ["*", "SEARCH", "1", "2", "3", "4", "5"], "what is left")


def _refusals(at: Walking, who: Account, checks: Checks) -> None:
    """What must not work does not, with curl's own code for it."""
    wrong = Account(who.address, "not the password")
    checks.ran(at.curl(wrong, ""), "a wrong password", code=LOGIN_DENIED)
    checks.ran(at.curl(who, "NoSuch;UID=1"), "an unknown mailbox", code=SELECT_FAILED)
    checks.ran(at.curl(who, "INBOX;UID=999"), "an unknown message", code=REMOTE_FILE_NOT_FOUND)
    checks.ran(at.curl(who, "", "-X", "NONSENSE"), "an unknown command", code=QUOTE_ERROR)
    path = at.folder / "upload.eml"
    path.write_bytes(b"Subject: x\r\n\r\nx\r\n")
    nowhere = at.curl(who, "NoSuch", "-T", str(path))
    checks.ran(nowhere, "an upload to nowhere", code=UPLOAD_FAILED)
    user = ("--silent", "--user", f"{who.address}:{who.password}")
    plain = run(["curl", *user, f"imap://{HOST}:{at.imap}/"])
    checks.ran(plain, "a password in the clear", code=LOGIN_DENIED)
    trust = ("--ssl-reqd", "--cacert", str(at.certificate))
    upgraded = run(["curl", *user, *trust, f"imap://localhost:{at.imap}/"])
    checks.that("INBOX" in checks.ran(upgraded, "STARTTLS").text, "LIST over STARTTLS")
