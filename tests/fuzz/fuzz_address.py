"""Addresses: the envelope's and the header's, from any bytes."""

from __future__ import annotations

import re
import time

from postroom.core.errors import Malformed
from postroom.formats import headers
from postroom.formats.address import (
    BadAddress,
    Group,
    format_mailbox,
    parse_address_list,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    to_address,
)

SEEDS: list[bytes] = [
    b"<ann@a.example> SIZE=1",
    b"<>",
    b"<Postmaster>",
    b"<@one.example,@two.example:ann@a.example>",
    b'<"a\\"b c"@[IPv6:2001:db8::1]>',
    "<jörg@bücher.example>".encode(),
    b'"Doe, Ann" <ann@a.example>, list: bob@b.example (Bob);, =?utf-8?q?=C3=A9?= <e@e.example>',
    b"Joe (a (nested) comment) <joe . doe @ a . example>, <@r.example:x@y.example>",
    b'"open <a@b.example, Bob <c@d.example> e@f.example g@h.example; mailto:i@j.example',
    b"<Undisclosed-Recipient:@a.example;>",
]

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
SECONDS_FIXED = 0.5
SECONDS_PER_BYTE = 2e-5


def one_input(data: bytes) -> None:
    """Raises AssertionError where a property breaks."""
    start = time.thread_time()
    _strict(data)
    _lenient(data)
    taken = time.thread_time() - start
    assert taken < SECONDS_FIXED + SECONDS_PER_BYTE * len(data), f"{taken:.3f} s"


def _strict(data: bytes) -> None:
    for utf8 in (False, True):
        for parse in (parse_reverse_path, parse_forward_path):
            try:
                found, rest = parse(data, utf8=utf8)
            except BadAddress:
                continue
            assert data.endswith(rest)
            if found is None:
                assert data.startswith(b"<>")
            elif found.domain:
                wire = str(found)
                assert not _CONTROL.search(wire)
                assert utf8 or wire.isascii()
                assert parse_mailbox(wire) == found
                assert len(wire.encode("utf-8")) <= 254


def _lenient(data: bytes) -> None:
    count = 0
    for item in parse_address_list(data):
        boxes = item.members if isinstance(item, Group) else [item]
        count += len(boxes)
        for box in boxes:
            assert not _CONTROL.search(box.name + box.local + box.domain)
            address = to_address(box)
            if address is None:
                continue
            assert parse_mailbox(str(address)) == address
            try:
                field = headers.field("To", format_mailbox(box.name, address))
            except Malformed:
                continue
            (again,) = parse_address_list(headers.scan(field).first(b"to") or b"")
            assert not isinstance(again, Group)
            assert (again.name, to_address(again)) == (box.name, address)
    assert count <= 5_000
