"""POP3 mail programs: poplib, curl, fetchmail, getmail, mpop and mutt. What each downloads is what
was delivered, octet by octet; what it deletes is gone, and nothing else.
"""

from __future__ import annotations

import email
import mailbox
import poplib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from postroom.testing.corpus import messages
from tests.peers.checks import Checks, Plan, deliver
from tests.peers.mbsync import large
from tests.peers.mutt import Mutt
from tests.walking import ENVIRONMENT, HOST, PATIENCE, Account, Ran, Walking, fetched, run

LOGIN_DENIED: Final = 67  # curl's exit code
ENOUGH: Final = 60
"""Messages at most: each of these programs takes one after the other."""

_TRACE: Final = re.compile(
    rb"^(?:Received|Delivered-To|Return-Path|X-getmail[^:]*):.*\n(?:[ \t].*\n)*", re.MULTILINE
)
_COUNTS: Final = re.compile(rb"^(?:Content-Length|Lines): \d+\n", re.MULTILINE)


def ports(at: Walking) -> tuple[int, int]:
    """Of POP3 with STLS, and inside TLS."""
    return 110 + at.offset, 995 + at.offset


def settle(at: Walking, local: str, plan: Plan) -> tuple[Account, list[bytes]]:
    """An account with mail in it, and the messages as they lie there."""
    who = at.account(local)
    content = [*messages(min(plan.messages, ENOUGH), plan.seed), large(plan)]
    deliver(at, who, content)
    return who, lying(at, who)


def lying(at: Walking, who: Account) -> list[bytes]:
    """What is in INBOX, by IMAP."""
    with at.imaplib(who) as box:
        count = box.select("INBOX", readonly=True)[1][0]
        return fetched(box) if count != b"0" else []


def unix(content: bytes) -> bytes:
    """As these programs keep it: lines of LF, without the fields that they add of their own."""
    plain = content.replace(b"\r\n", b"\n")
    head, gap, body = plain.partition(b"\n\n")
    head = _COUNTS.sub(b"", _TRACE.sub(b"", head + b"\n"))
    return head + gap[1:] + body


def same(found: Sequence[bytes], stored: Sequence[bytes], checks: Checks, what: str) -> None:
    checks.octet_by_octet(sorted(map(unix, found)), sorted(map(unix, stored)), what)


# --- Python's poplib ---------------------------------------------------------------------------


def python(at: Walking, checks: Checks, plan: Plan) -> None:
    who, stored = settle(at, "poplib", plan)
    plain, _ = ports(at)
    box = poplib.POP3("localhost", plain, timeout=PATIENCE)
    checks.that(_refused(lambda: box.user(who.address)), "no sign-in before TLS")
    checks.that("STLS" in box.capa() and "SASL" not in box.capa(), "STLS is offered", box.capa())
    box.stls(at.trusting())
    checks.that(b"+OK" in box.utf8(), "UTF8")
    box.user(who.address)
    checks.that(_refused(lambda: box.pass_("not the password")), "a wrong password")
    box.close()
    with _poplib(at, who) as box:
        checks.equal(box.stat(), (len(stored), sum(map(len, stored))), "STAT")
        sizes = [int(line.split()[1]) for line in box.list()[1]]
        checks.equal(sizes, [len(each) for each in stored], "LIST")
        uidl = box.uidl()[1]
        checks.equal(len(set(uidl)), len(stored), "UIDL")
        found = [b"\r\n".join([*box.retr(n + 1)[1], b""]) for n in range(len(stored))]
        checks.octet_by_octet(found, stored, "RETR")
        top = [b"\r\n".join([*box.top(n + 1, 0)[1], b""]) for n in range(len(stored))]
        heads = [each[: each.index(b"\r\n\r\n") + 4] for each in stored]
        checks.octet_by_octet(top, heads, "TOP")
        checks.that(_refused(lambda: box.retr(len(stored) + 1)), "a message that is not there")
        for n in range(1, len(stored), 2):
            box.dele(n)
        box.rset()
        box.dele(1)
        box.dele(len(stored))
        checks.that(b"+OK" in box.noop(), "NOOP")
        checks.that(_refused(lambda: box.list(1)), "what is deleted is out of sight")
    checks.octet_by_octet(lying(at, who), stored[1:-1], "two are gone")
    with _poplib(at, who) as box:
        checks.equal([line.split()[1] for line in box.uidl()[1]],
                     [line.split()[1] for line in uidl[1:-1]], "unique ids stay")  # fmt: skip
        checks.that(_refused(lambda: _poplib(at, who).__enter__()), "one session at a time")
        box.dele(1)
        box.close()  # without QUIT
    checks.equal(len(lying(at, who)), len(stored) - 2, "nothing goes without QUIT")


def _refused(what: Callable[[], object]) -> bool:
    try:
        what()
    except poplib.error_proto as error:
        return str(error).startswith("b'-ERR")
    return False


@contextmanager
def _poplib(at: Walking, who: Account) -> Iterator[poplib.POP3_SSL]:
    """Signed in; QUIT at the end if it is still there."""
    context = at.trusting()
    box = poplib.POP3_SSL("localhost", ports(at)[1], timeout=PATIENCE, context=context)
    try:
        box.user(who.address)
        box.pass_(who.password)
        yield box
    finally:
        if box.sock is not None:
            box.quit()


# --- curl --------------------------------------------------------------------------------------


def curl(at: Walking, checks: Checks, plan: Plan) -> None:
    who, stored = settle(at, "curlpop", plan)
    plain, secure = ports(at)
    trust = ("--silent", "--show-error", "--cacert", str(at.certificate))
    user = ("--user", f"{who.address}:{who.password}")

    def ask(path: str, *options: str) -> Ran:
        return run(["curl", *trust, *user, *options, f"pop3s://localhost:{secure}/{path}"])

    listed = checks.ran(ask(""), "LIST").text.split()
    checks.equal(listed[1::2], [str(len(each)) for each in stored], "LIST")
    for n in (1, len(stored) // 2, len(stored)):
        checks.octet_by_octet(
            [checks.ran(ask(str(n)), "RETR").out], [stored[n - 1]], f"message {n}"
        )
    upgraded = ["curl", *trust, *user, "--ssl-reqd", f"pop3://localhost:{plain}/1"]
    checks.octet_by_octet([checks.ran(run(upgraded), "STLS").out], stored[:1], "by STLS")
    for mechanism in ("PLAIN", "LOGIN"):
        options = ("--login-options", f"AUTH={mechanism}")
        checks.octet_by_octet([ask("1", *options).out], stored[:1], f"by {mechanism}")
    checks.ran(ask("", "-X", "DELE 1", "--head"), "DELE")
    checks.octet_by_octet(lying(at, who), stored[1:], "one is gone")
    wrong = ("--user", f"{who.address}:not the password")
    checks.ran(ask("", *wrong), "a wrong password", code=LOGIN_DENIED)
    clear = run(["curl", *trust, *user, f"pop3://{HOST}:{plain}/"])
    checks.ran(clear, "a password in the clear", code=LOGIN_DENIED)


# --- fetchmail ---------------------------------------------------------------------------------


def fetchmail(at: Walking, checks: Checks, plan: Plan) -> None:
    """By STLS, leaving all on the server and knowing it again by UIDL; then taking it away."""
    who, stored = settle(at, "fetchmail", plan)
    home = at.folder / "fetchmail"
    deliverer = _deliverer(home)
    config = home / "fetchmailrc"
    config.write_text(
        f"poll localhost protocol POP3 port {ports(at)[0]} uidl\n"
        f'  user "{who.address}" password "{who.password}"\n'
        f'  sslproto "tls1.2+" sslcertck sslcertfile "{at.certificate}"\n'
        f'  mda "{deliverer}"\n'
    )
    config.chmod(0o600)
    words = ["fetchmail", "--fetchmailrc", str(config), "--idfile", str(home / "ids")]
    words += ["--pidfile", str(home / "pid"), "--invisible", "--limit", "0"]
    env = {**ENVIRONMENT, "HOME": str(home), "FETCHMAILHOME": str(home)}

    checks.ran(run([*words, "--keep"], env=env, patience=120), "fetchmail, keeping all")
    same(_got(home), stored, checks, "fetchmail's copies")
    again = run([*words, "--keep"], env=env)
    checks.ran(again, "fetchmail finds nothing new", code=1)
    checks.equal(len(lying(at, who)), len(stored), "all is kept")
    deliver(at, who, [b"Subject: one more\r\n\r\n.\r\n..\r\n"])
    checks.ran(run([*words, "--keep"], env=env), "fetchmail, one more")
    checks.equal(len(_got(home)), len(stored) + 1, "only that comes")
    checks.ran(run([*words, "--all", "--nokeep"], env=env, patience=120), "fetchmail, taking all")
    checks.equal(lying(at, who), [], "nothing is left")


def _deliverer(home: Path) -> Path:
    """A program that keeps each message it is given, for those that deliver by one."""
    got = home / "got"
    got.mkdir(parents=True)
    program = home / "deliver"
    program.write_text(
        f"#!{sys.executable}\nimport sys, tempfile\n"
        f"with tempfile.NamedTemporaryFile(dir={str(got)!r}, delete=False) as file:\n"
        "    file.write(sys.stdin.buffer.read())\n"
    )
    program.chmod(0o700)
    return program


def _got(home: Path) -> list[bytes]:
    return [path.read_bytes() for path in (home / "got").iterdir()]


# --- getmail -----------------------------------------------------------------------------------


def getmail(at: Walking, checks: Checks, plan: Plan) -> None:
    who, stored = settle(at, "getmail", plan)
    home = at.folder / "getmail"
    deliverer = _deliverer(home)
    (home / "getmailrc").write_text(
        f"""[retriever]
type = SimplePOP3SSLRetriever
server = localhost
port = {ports(at)[1]}
username = {who.address}
password = {who.password}
ca_certs = {at.certificate}
[destination]
type = MDA_external
path = {deliverer}
allow_root_commands = true
[options]
read_all = false
delete = false
delivered_to = false
received = false
verbose = 1
"""
    )
    words = ["getmail", f"--getmaildir={home}", "--rcfile=getmailrc"]
    env = {**ENVIRONMENT, "HOME": str(home)}
    env.pop("PYTHONPATH")  # it is a Python program itself
    checks.ran(run(words, env=env, patience=120), "getmail, keeping all")
    # It writes every message anew by Python's email, which folds some fields otherwise.
    same([*map(_anew, _got(home))], [*map(_anew, stored)], checks, "getmail's copies")
    checks.ran(run(words, env=env), "getmail once more")
    checks.equal(len(_got(home)), len(stored), "getmail knows what it has")
    checks.ran(run([*words, "--delete", "--all"], env=env, patience=120), "getmail, taking all")
    checks.equal(lying(at, who), [], "nothing is left")


def _anew(content: bytes) -> bytes:
    return email.message_from_bytes(unix(content)).as_bytes()


def _maildir(path: Path) -> list[bytes]:
    box = mailbox.Maildir(path, create=False)
    return [box.get_bytes(key) for key in box.iterkeys()]


# --- mpop --------------------------------------------------------------------------------------


def mpop(at: Walking, checks: Checks, plan: Plan) -> None:
    """Pipelined, which no other of these does; with every way to sign in that it knows."""
    who, stored = settle(at, "mpop", plan)
    home = at.folder / "mpop"
    home.mkdir()
    maildir = home / "got"
    mailbox.Maildir(maildir, create=True)
    config = home / "mpoprc"
    config.write_text(
        f"""account test
host localhost
port {ports(at)[1]}
user {who.address}
password {who.password}
tls on
tls_starttls off
tls_trust_file {at.certificate}
pipelining on
received_header off
uidls_file {home}/uidls
delivery maildir {maildir}
"""
    )
    config.chmod(0o600)
    words = ["mpop", f"--file={config}", "--quiet", "test"]
    env = {**ENVIRONMENT, "HOME": str(home)}
    for way in ("user", "plain", "login", "scram-sha-256"):
        told = run([*words, "--serverinfo", f"--auth={way}"], env=env)
        checks.ran(told, f"mpop signs in by {way}")
    checks.ran(run([*words, "--keep=on"], env=env, patience=120), "mpop, keeping all")
    same(_maildir(maildir), stored, checks, "mpop's copies")
    checks.ran(run([*words, "--keep=on"], env=env), "mpop once more")
    checks.equal(len(_maildir(maildir)), len(stored), "mpop knows what it has")
    deliver(at, who, [b"Subject: one more\r\n\r\n.\r\n..\r\n"])
    starttls = [f"--port={ports(at)[0]}", "--tls-starttls=on"]
    checks.ran(run([*words, *starttls, "--keep=on"], env=env), "mpop by STLS")
    checks.equal(len(_maildir(maildir)), len(stored) + 1, "only that comes")
    checks.ran(run([*words, "--only-new=off", "--keep=off"], env=env, patience=120), "taking all")
    checks.equal(lying(at, who), [], "nothing is left")


# --- mutt --------------------------------------------------------------------------------------


def mutt(at: Walking, checks: Checks, plan: Plan) -> None:
    who, stored = settle(at, "muttpop", plan)
    program = Mutt(at, who, "mutt-pop")
    place = program.home / "copies"
    sign_in = f"<enter-command>set pop_user={who.address} pop_pass='{who.password}'<enter>"
    opens = f"{sign_in}<change-folder>pops://localhost:{ports(at)[1]}/<enter>"
    copies = f"<tag-pattern>~A<enter><tag-prefix><copy-message>{place}<enter><exit>"
    checks.ran(program.press(opens + copies), "mutt copies every message")
    same(_maildir(place), stored, checks, "mutt's copies")
    deletes = "<delete-pattern>~A<enter><undelete-message><sync-mailbox><exit>"
    checks.ran(program.press(opens + deletes), "mutt deletes all but one")
    checks.equal(len(lying(at, who)), 1, "one is left")
