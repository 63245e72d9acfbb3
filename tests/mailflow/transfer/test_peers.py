"""Trees that Dovecot, mbsync and mutt made, and what they make of ours."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.admin.housing import Admin
from tests.mailflow.transfer.test_exporting import MAIL, fill
from tests.mailflow.transfer.trees import (
    ANN,
    BOB,
    Message,
    account,
    filled,
    maildir,
    put,
    subscribed,
    text,
    wired,
)
from tests.walking import is_installed, without_mark

NOBODY = 65_534  # Dovecot refuses to be root


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not is_installed(program), reason=f"{program} is not installed")


class Doveadm:
    """Dovecot without its server: its own command on one Maildir."""

    def __init__(self, folder: Path, mail: Path) -> None:
        self._user = NOBODY if os.geteuid() == 0 else os.geteuid()
        self._group = NOBODY if os.geteuid() == 0 else os.getegid()
        self._folder = folder
        self._config = folder / "dovecot.conf"
        self._config.write_text(
            f"""mail_location = maildir:{mail}
base_dir = {folder}/run
ssl = no
mail_uid = {self._user}
mail_gid = {self._group}
first_valid_uid = 1
first_valid_gid = 0
"""
        )
        self.give(folder)

    def give(self, path: Path) -> None:
        """Let Dovecot's user have a tree, and come to it."""
        if os.geteuid() != 0:
            return
        for above in path.parents:
            if above.stat().st_mode & 0o001 == 0:
                above.chmod(above.stat().st_mode | 0o011)
        for at, folders, files in os.walk(path):
            for name in (".", *folders, *files):
                os.chown(os.path.join(at, name), self._user, self._group)

    def __call__(self, *words: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["doveadm", "-c", str(self._config), *words],
            input=stdin,
            capture_output=True,
            env={**os.environ, "HOME": str(self._folder), "USER": "nobody"},
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, (words, done)
        return done.stdout.decode()


@needs("doveadm")
async def test_a_maildir_that_dovecot_made_comes_whole(house: Admin, tmp_path: Path) -> None:
    await account(house)
    home = tmp_path / "dovecot"
    home.mkdir()
    doveadm = Doveadm(home, home / "Maildir")
    doveadm("save", "-m", "INBOX", stdin=text("one"))
    doveadm("save", "-m", "INBOX", stdin=text("two"))
    doveadm("mailbox", "create", "-s", "Entwürfe", "Arbeit.2026")
    doveadm("save", "-m", "Arbeit.2026", stdin=text("work"))
    doveadm("flags", "add", "\\Seen $label1 NonJunk", "mailbox", "INBOX", "uid", "1")
    doveadm("flags", "add", "NonJunk \\Flagged", "mailbox", "INBOX", "uid", "2")
    done = await house.do("import maildir", path=str(home / "Maildir"), account=ANN)
    assert (done.imported, done.problems) == (3, ())
    found = await filled(house)
    assert {path: [each[:2] for each in held] for path, held in found.items()} == {
        "INBOX": [
            (wired(text("one")), frozenset({"\\Seen", "$label1", "NonJunk"})),
            (wired(text("two")), frozenset({"\\Flagged", "NonJunk"})),
        ],
        "Arbeit/2026": [(wired(text("work")), frozenset())],
    }
    assert {"Drafts", "Arbeit/2026"} <= await subscribed(house)


@needs("doveadm")
async def test_dovecot_reads_the_tree_that_we_write(house: Admin, tmp_path: Path) -> None:
    await fill(house, await account(house), MAIL)
    home = tmp_path / "dovecot"
    home.mkdir()
    await house.do("export maildir", account=ANN, target=str(home / "Maildir"))
    doveadm = Doveadm(home, home / "Maildir")
    told = doveadm(
        *("-f", "tab", "fetch", "mailbox uid flags date.received.unixtime size.virtual"),
        *("mailbox", "*"),
    )
    rows = {
        (mailbox, uid): (frozenset(flags.split()) - {"\\Recent"}, int(at), int(size))
        for mailbox, uid, flags, at, size in (
            line.split("\t") for line in told.splitlines()[1:] if line
        )
    }
    wanted = {
        (path.replace(".", "\\2e").replace("/", "."), str(n)): (
            each.flags,
            each.received_at // 1000,
            len(each.content),
        )
        for path, held in MAIL.items()
        for n, each in enumerate(held, 1)
    }
    assert rows == wanted
    body = doveadm("fetch", "text", "mailbox", "INBOX", "uid", "3")
    assert "\nFrom here on\n>From there\nfrom everywhere\n" in body
    assert "Trash" in doveadm("mailbox", "list", "-s").splitlines()


@needs("mbsync")
async def test_a_tree_that_mbsync_made_comes_whole(house: Admin, tmp_path: Path) -> None:
    await account(house)
    far, near = maildir(tmp_path / "far"), tmp_path / "near"
    put(far, "cur/1700000001.M1P1.host:2,FS", text("one"), at=1_600_000_001)
    put(far, "new/1700000002.M1P1.host", text("two"), at=1_600_000_002)
    put(maildir(far / ".Work.Deep"), "cur/1.a:2,R", text("deep"), at=1_600_000_003)
    near.mkdir()
    config = tmp_path / "mbsyncrc"
    config.write_text(
        f"""MaildirStore far
Inbox {far}
SubFolders Maildir++

MaildirStore near
Path {near}/
Inbox {near}/INBOX
SubFolders Verbatim

Channel x
Far :far:
Near :near:
Patterns *
Create Near
SyncState *
CopyArrivalDate yes
"""
    )
    subprocess.run(["mbsync", "-c", str(config), "-a"], check=True, capture_output=True, timeout=60)
    done = await house.do("import maildir", path=str(near), account=ANN)
    assert (done.imported, done.problems) == (3, ())
    assert {
        # mbsync knows by a field of its own what it has copied.
        path: [each._replace(content=without_mark(each.content)) for each in held]
        for path, held in (await filled(house)).items()
    } == {
        "INBOX": [
            Message(wired(text("one")), frozenset({"\\Flagged", "\\Seen"}), 1_600_000_001_000),
            Message(wired(text("two")), frozenset(), 1_600_000_002_000),
        ],
        "Work/Deep": [Message(wired(text("deep")), frozenset({"\\Answered"}), 1_600_000_003_000)],
    }


_COUNTS = re.compile(rb"^(?:Content-Length|Lines): \d+\r\n", re.MULTILINE)


def press(keys: str, home: Path, kind: str, folder: Path) -> None:
    """Keys for mutt on a terminal, to its end."""
    # Without a folder it asks whether to make one, and the answer is taken from the keys.
    options = (
        f"set folder={home} mbox_type={kind} mark_old=no move=no copy=yes quit=yes sleep_time=0"
    )
    calm = "set confirmappend=no confirmcreate=no wait_key=no delete=yes"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["mutt", "-n", "-F", "/dev/null", "-e", options, "-e", calm, "-e", f'push "{keys}"',
         "-f", str(folder)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "vt100", "HOME": str(home), "LC_ALL": "C.UTF-8"},
    ) as child:  # fmt: skip
        os.close(theirs)
        try:
            # EIO: the other end is closed
            with suppress(OSError):
                while os.read(ours, 65_536):
                    pass
            assert child.wait(60) == 0
        finally:
            os.close(ours)
            child.kill()


@needs("mutt")
@pytest.mark.parametrize("kind", ["maildir", "mbox"])
async def test_mutt_reads_ours_and_what_it_writes_comes_whole(
    house: Admin, tmp_path: Path, kind: str
) -> None:
    ann = await account(house)
    await account(house, BOB)
    await fill(house, ann, {"INBOX": MAIL["INBOX"]})
    ours = tmp_path / "ours"
    await house.do(f"export {kind}", account=ANN, target=str(ours))
    folder = ours if kind == "maildir" else ours / "INBOX.mbox"
    copy = tmp_path / "copy"
    keys = f"<tag-pattern>~A<enter><tag-prefix><copy-message>{copy}<enter><exit>"
    await asyncio.to_thread(press, keys, tmp_path, kind, folder)
    asked = {"path": str(copy)} if kind == "maildir" else {"file": str(copy)}
    done = await house.do(f"import {kind}", **asked, account=BOB, into="INBOX")
    assert (done.imported, done.problems) == (3, ())
    # In mutt's order; without what it counted.
    copied = {_COUNTS.sub(b"", m.content): m.flags for m in (await filled(house, BOB))["INBOX"]}
    one, two, three = MAIL["INBOX"]
    last = three.content
    if kind == "mbox":
        last = last.replace(b"\n>From", b"\n>>From")  # mutt takes no quoting of ours away
    assert set(copied) == {one.content, two.content, last}
    assert "\\Seen" in copied[one.content]
    assert "\\Flagged" in copied[two.content]
