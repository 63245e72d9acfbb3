"""OpenDKIM verifies what we sign, and we what it signs: messages of the corpus, both ways."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from postroom.testing.corpus import messages
from tests.trust.signed import DOMAIN, MESSAGE, key, ours, record, verify
from tests.walking import is_installed

PROGRAM = "/usr/sbin/opendkim"

pytestmark = pytest.mark.skipif(not is_installed(PROGRAM), reason="OpenDKIM is not installed")

COUNT = 40
SELECTOR = "k-rsa"
_INSERTED = re.compile(rb"hname='DKIM-Signature' hvalue='(.*?)'\n", re.DOTALL)


def corpus() -> list[bytes]:
    """Messages whose only author is of our domain."""
    made = [MESSAGE, MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"]
    for each in messages(COUNT, 11):
        head, gap, body = each.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        kept: list[bytes] = []
        for line in lines:
            if line[:1] in (b" ", b"\t") and kept:
                kept[-1] += b"\r\n" + line
            elif line:
                kept.append(line)
        others = [field for field in kept if not field.lower().startswith(b"from")]
        made.append(b"\r\n".join([b"From: ann@" + DOMAIN.encode(), *others]) + gap + body)
    return [each for each in made if b"\0" not in each]


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, capture_output=True, timeout=60, check=False)


def _verified(folder: Path, content: Sequence[bytes]) -> list[bool]:
    """What OpenDKIM says of each, with our key as DNS would tell it."""
    keys = folder / "keys"
    keys.write_text(f"{SELECTOR}._domainkey.{DOMAIN} {record('rsa')}\n")
    config = folder / "opendkim.conf"
    config.write_text(f"Mode v\nTestPublicKeys {keys}\nSyslog no\n")
    found = []
    for number, each in enumerate(content):
        path = folder / f"{number}.eml"
        path.write_bytes(each)
        done = _run([PROGRAM, "-x", str(config), "-t", str(path)])
        found.append(b"verification" in done.stdout and b"succeeded" in done.stdout)
    return found


def test_what_we_sign_it_verifies(tmp_path: Path) -> None:
    content = corpus()
    signed = [ours(each, ("rsa",)) for each in content]
    assert _verified(tmp_path, signed) == [True] * len(signed)


def test_what_was_changed_it_does_not(tmp_path: Path) -> None:
    """The test before this one can fail."""
    signed = ours(MESSAGE, ("rsa",))
    changed = [
        signed.replace(b"Is it ready?", b"It is ready!"),
        signed.replace(b"Subject: Dinner", b"Subject: Supper"),
        b"Subject: another\r\n" + signed,  # oversigned
        b"From: eve@b.example\r\n" + signed,
    ]
    assert _verified(tmp_path, changed) == [False] * len(changed)


@pytest.mark.parametrize("form", ["simple/simple", "relaxed/simple", "relaxed/relaxed"])
def test_what_it_signs_we_verify(tmp_path: Path, form: str) -> None:
    pem = tmp_path / "key.pem"
    pem.write_bytes(
        key("rsa").private.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )
    )
    config = tmp_path / "opendkim.conf"
    config.write_text(
        f"Mode s\nDomain {DOMAIN}\nSelector {SELECTOR}\nKeyFile {pem}\nSyslog no\n"
        f"SignatureAlgorithm rsa-sha256\nCanonicalization {form}\nOversignHeaders From\n"
        "InternalHosts 0.0.0.0/0\nRequireSafeKeys no\n"
    )
    path = tmp_path / "message.eml"
    for each in corpus():
        path.write_bytes(each)
        done = _run([PROGRAM, "-x", str(config), "-t", str(path), "-v", "-v"])
        told = _INSERTED.search(done.stdout)
        assert told is not None, (done.stdout, done.stderr)
        field = b"DKIM-Signature: " + told[1].replace(b"\n", b"\r\n") + b"\r\n"
        (found, *_) = asyncio.run(verify(field + each, now=int(time.time())))
        assert found.code.value == "pass", (found, each[:500])
