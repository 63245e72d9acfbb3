"""SORT and THREAD as Dovecot answers them, message for message. RFC 5256, RFC 5957."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from postroom.core.clock import Instant
from postroom.testing.corpus import messages as corpus
from postroom.wire.imap import Value
from tests.protocols.imap.serving import Room

IMAP = Path("/usr/lib/dovecot/imap")
NOBODY = 65_534  # Dovecot refuses to be root
MANY = 500
START = 1_767_225_600  # 2026-01-01

pytestmark = pytest.mark.skipif(not IMAP.exists(), reason="dovecot is not installed")

ASKED = [
    *(f"UID SORT ({key}) UTF-8 ALL" for key in ("ARRIVAL", "DATE", "FROM", "TO", "CC", "SIZE")),
    "UID SORT (SUBJECT) UTF-8 ALL",
    "UID SORT (REVERSE SUBJECT) UTF-8 ALL",
    "UID SORT (SUBJECT REVERSE DATE) UTF-8 ALL",
    "UID SORT (REVERSE FROM SUBJECT) UTF-8 2:400",
    "UID SORT (DISPLAYFROM) UTF-8 ALL",
    "UID SORT (REVERSE DISPLAYTO DISPLAYFROM) UTF-8 ALL",
    "UID THREAD REFERENCES UTF-8 ALL",
    "UID THREAD REFERENCES UTF-8 5:333",
    "UID THREAD REFS UTF-8 ALL",
    "UID THREAD REFS UTF-8 5:333",
    "UID THREAD ORDEREDSUBJECT UTF-8 ALL",
]


def _corpus() -> list[bytes]:
    """Headers of the corpus, each over a short body."""
    return [raw[: raw.index(b"\r\n\r\n") + 4] + b"x\r\n" for raw in corpus(MANY, 11)]


def _tangled() -> list[bytes]:
    """References that lie, ids that come twice, subjects of every kind, dates that are equal."""
    chance = Random(3)
    marks = ["", "Re: ", "RE: ", "Fwd: ", "[list] ", "Re: [list] Re: ", "re [x]: "]
    made: list[bytes] = []
    for n in range(MANY):
        lines = [f"From: {chance.choice(['ann', 'Bob', 'zoe'])}{n % 7}@a.example"]
        if chance.random() < 0.9:
            lines.append(f"Message-ID: <{chance.randrange(MANY)}@x>")
        known = [f"<{chance.randrange(MANY)}@x>" for _ in range(chance.randrange(5))]
        if known:
            lines.append("References: " + " ".join(known))
        elif chance.random() < 0.3:
            lines.append(f"In-Reply-To: <{chance.randrange(MANY)}@x>")
        if chance.random() < 0.8:
            subject = chance.choice(marks) + f"subject {chance.randrange(60)}"
            lines.append("Subject: " + subject + chance.choice(["", " (fwd)", "  "]))
        if chance.random() < 0.9:
            day, hour = chance.randrange(1, 28), chance.randrange(24)
            lines.append(f"Date: {day} Feb 2026 {hour:02}:00:00 {chance.choice('+-')}0300")
        made.append("\r\n".join([*lines, "", "x", ""]).encode())
    return made


def _dovecot(folder: Path, raws: Sequence[bytes], asked: Sequence[str]) -> list[str]:
    """What Dovecot's own session says to each, without its name."""
    said: list[bytes] = []
    for n, raw in enumerate(raws):
        said.append(b"a APPEND INBOX %b {%d+}\r\n%b\r\n" % (_date(n), len(raw), raw))
    said.append(b"b SELECT INBOX\r\n")
    said += [each.encode() + b"\r\n" for each in map("c {}".format, asked)]
    said.append(b"d LOGOUT\r\n")
    home = folder / "home"
    home.mkdir()
    config = folder / "dovecot.conf"
    config.write_text(
        f"mail_location = maildir:{home}/mail\nbase_dir = {folder}/run\nssl = no\n"
        "first_valid_uid = 1\nfirst_valid_gid = 0\n"
    )
    user: int | None = None
    if os.geteuid() == 0:
        user = NOBODY
        os.chown(home, NOBODY, NOBODY)
        folder.chmod(0o755)
    done = subprocess.run(
        [str(IMAP), "-c", str(config)],
        input=b"".join(said),
        capture_output=True,
        env={"HOME": str(home), "USER": "nobody", "PATH": os.environ.get("PATH", "")},
        user=user,
        group=user,
        check=False,
        timeout=60,
    )
    lines = done.stdout.decode().split("\r\n")
    told = [line for line in lines if line.startswith(("* SORT", "* THREAD"))]
    assert len(told) == len(asked), (done.stderr, lines[-5:])
    return [line.split(" ", 2)[2] for line in told]


def _date(n: int) -> bytes:
    return b'"%2d-Jan-2026 %02d:00:00 +0000"' % (1 + n * 7 % 28, n % 24)


def _at(n: int) -> Instant:
    return Instant((START + (n * 7 % 28) * 86_400 + n % 24 * 3_600) * 1000)


@pytest.mark.parametrize("kind", ["corpus", "tangled"])
async def test_dovecot_answers_alike(room: Room, kind: str) -> None:
    raws = _corpus() if kind == "corpus" else _tangled()
    with TemporaryDirectory() as folder:  # pytest's own folders are closed to Dovecot's user
        expected = _dovecot(Path(folder), raws, ASKED)
    for n, raw in enumerate(raws):
        await room.deliver(raw, at=_at(n))
    client = await room.client()
    for line, theirs in zip(ASKED, expected, strict=True):
        reply = await client.command(line)
        (answer,) = reply["SORT"] or reply["THREAD"]
        assert _written(answer.data) == theirs, line


def _written(values: Sequence[Value]) -> str:
    """Lists as they stand on the wire: a space before all but a list that follows a list."""
    text = ""
    for at, value in enumerate(values):
        inner = isinstance(value, tuple)
        if at and not (inner and isinstance(values[at - 1], tuple)):
            text += " "
        text += f"({_written(value)})" if isinstance(value, tuple) else str(value)
    return text
