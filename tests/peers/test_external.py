"""EXTERNAL as an administrator sets it up: a file of authorities, SIGHUP, and curl."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authorities import Authority
from tests.walking import HOST, Walking, eventually, is_installed, run

pytestmark = pytest.mark.skipif(not is_installed("curl"), reason="curl is not installed")


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walking]:
    walking = Walking(tmp_path)
    try:
        walking.start()
        yield walking
    finally:
        walking.close()


def test_a_client_signs_in_by_its_certificate_and_a_server_still_brings_mail(
    walk: Walking, tmp_path: Path
) -> None:
    ann = walk.account("ann")
    authority = Authority()
    authority.write(walk.data / "tls" / "clients.ca")
    os.kill(walk.server.pid, signal.SIGHUP)
    mine, theirs = tmp_path / "mine.pem", tmp_path / "theirs.pem"
    mine.write_bytes(authority.vouch(ann.address)[1])
    theirs.write_bytes(Authority("Others").vouch(ann.address)[1])

    def code(url: str, pem: Path, *more: str) -> int:
        words = ("curl", "-sSk", "--max-time", "10", "--cert", str(pem), *more, url)
        return run(words).code

    by_certificate = ("--login-options", "AUTH=EXTERNAL", "--user", f"{ann.address}:")
    imaps = f"imaps://{HOST}:{walk.offset + 993}/"
    eventually(lambda: code(imaps, mine, *by_certificate) == 0)
    assert code(imaps, theirs, *by_certificate) != 0
    assert code(imaps, mine, *by_certificate[:3], "bea@example.test:") != 0
    starttls = ("--ssl-reqd", *by_certificate)
    assert code(f"imap://{HOST}:{walk.offset + 143}/", mine, *starttls) == 0
    # Port 25 asks nobody: another server shows a certificate of its own and is not shut out.
    letter = tmp_path / "letter"
    letter.write_bytes(b"From: <x@sender.example>\r\nSubject: hi\r\n\r\nhello\r\n")
    brings = ("--ssl-reqd", "--mail-from", "x@sender.example", "--mail-rcpt", ann.address)
    mx = f"smtp://{HOST}:{walk.offset + 25}/sender.example"
    assert code(mx, theirs, *brings, "--upload-file", str(letter)) == 0
