"""Messages of the world with the keys that were in DNS then: tests/vectors/auth/dkim. RFC 8463."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from postroom.trust.dkim import DkimCode
from tests.trust.signed import verify
from tests.trust.zones import Dns

FOLDER = Path(__file__).parents[1] / "vectors" / "auth" / "dkim"
FILES = sorted(FOLDER.glob("*.txt"))
_SIGNED_AT = re.compile(rb"\bt=(\d+)\b")


def read(path: Path) -> tuple[Dns, bytes, int]:
    """Lines of names and keys, an empty line, the message; and when it was signed."""
    keys, _, content = path.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    dns = Dns()
    for line in keys.decode().splitlines():
        name, _, record = line.partition(" ")
        dns.add(name, "TXT", record.strip())
    told = _SIGNED_AT.search(content)
    at = int(told[1]) + 60 if told is not None else 1_700_000_000
    return dns, content.replace(b"\n", b"\r\n"), at


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_signature_holds(path: Path) -> None:
    dns, content, at = read(path)
    found = asyncio.run(verify(content, dns, at))
    assert found
    assert {each.code for each in found} == {DkimCode.PASS}, found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_none_holds_for_another_subject(path: Path) -> None:
    dns, content, at = read(path)
    changed = re.sub(rb"(?im)^subject: ", b"Subject: x", content, count=1)
    assert changed != content
    found = asyncio.run(verify(changed, dns, at))
    assert DkimCode.PASS not in {each.code for each in found}


def test_all_of_them_are_here() -> None:
    assert len(FILES) == 6
