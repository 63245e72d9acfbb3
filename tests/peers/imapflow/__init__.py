"""imapflow, a client on Node.js: it compresses, keeps up by modseq and idles as it likes."""

from __future__ import annotations

import json
import shutil
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

from postroom.testing.corpus import messages
from tests.peers.checks import Checks, Plan, deliver
from tests.walking import Walking, fetched, run

HERE: Final = Path(__file__).parent
LETTER: Final = b"From: <ann@far.example>\r\nSubject: appended\r\n\r\nhello\r\n"
MARKED: Final = b"From: <ann@far.example>\r\nSubject: the needle in here\r\n\r\nhello\r\n"
PATIENCE: Final = 120.0


def is_there() -> bool:
    """Whether Node.js and npm are: Debian's and others' differ, so no package is asked for."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def install(folder: Path) -> Path:
    """The client as it is locked; its own install scripts do not run."""
    for name in ("package.json", "package-lock.json", ".npmrc", "walk.mjs"):
        shutil.copy(HERE / name, folder / name)
    done = run(["npm", "ci", "--no-progress"], cwd=folder, patience=PATIENCE)
    assert done.code == 0, done
    return folder / "walk.mjs"


def walk(at: Walking, checks: Checks, plan: Plan) -> None:
    who = at.account("imapflow")
    deliver(at, who, [*messages(60, plan.seed + 3), MARKED])
    with at.imaplib(who) as box:
        box.select("INBOX", readonly=True)
        lying = fetched(box)
    folder = at.folder / "imapflow"
    folder.mkdir()
    script = install(folder)
    told = {
        "port": at.imaps,
        "user": who.address,
        "password": who.password,
        "certificate": at.certificate.read_text(),
        "letter": b64encode(LETTER).decode(),
        "subject": "needle",
    }
    done = run(["node", str(script)], stdin=json.dumps(told).encode(), patience=PATIENCE)
    checks.ran(done, "imapflow")
    said = json.loads(done.out)
    checks.that({"QRESYNC", "CONDSTORE"} & set(said["enabled"]) != set(), "it keeps up by modseq")
    checks.that(said["compressed"], "it compresses")
    folders = dict(said["folders"])
    checks.that("Réunions/2026" in folders, "a name beyond ASCII", folders)
    checks.equal(folders.get("Trash"), "\\Trash", "a folder's use")
    checks.equal((said["exists"], said["modseq"]), (61, True), "what SELECT says")
    checks.octet_by_octet(map(b64decode, said["contents"]), lying, "what it fetches")
    checks.octet_by_octet([b64decode(said["download"])], lying[1:2], "what it downloads")
    first = said["first"]
    checks.equal((first["size"], first["emailId"]), (len(lying[0]), True), "size and object id")
    checks.that(first["header"].lower().startswith("subject:"), "a header field", first)
    checks.equal((said["subject"], said["none"]), ([61], []), "searches")
    checks.equal(said["flagged"], [1, 2, 3], "flags that it set")
    checks.equal(said["appended"]["heard"], 62, "one that idles hears of what comes")
    checks.that(said["expunged"], "and of what goes")
    checks.equal((said["moved"], said["there"]), (1, 1), "a move")
    checks.that(said["quota"], "the quota")
    with at.imaplib(who) as box:
        box.select("INBOX", readonly=True)
        checks.octet_by_octet(fetched(box), lying[1:], "what is left")
