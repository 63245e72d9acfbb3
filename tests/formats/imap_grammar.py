"""A strict reader of what ENVELOPE and BODYSTRUCTURE may be: RFC 9051 §9, nothing more.

Written from the grammar alone, for tests: it shares no code with what it checks.
"""

from __future__ import annotations

import re

Value = bytes | int | None | list["Value"]

_TOKEN = re.compile(
    rb'(\()|(\))|( )|NIL(?=[ )])|"((?:[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\x7f]|\\["\\])*)"'
    rb"|\{([0-9]+)\}\r\n|([0-9]+)(?=[ )])"
)


class NotImapError(Exception):
    """The octets are not what the grammar allows."""


def read(wire: bytes) -> Value:
    """One parenthesised value, nothing after it. Raises NotImapError."""
    stack: list[list[Value]] = [[]]
    at = 0
    # What may come next: a value, or a separator. `(a)(b)` needs none: 1*address, 1*body.
    after = b"("
    while at < len(wire):
        found = _TOKEN.match(wire, at)
        if found is None:
            raise NotImapError(at, wire[at : at + 40])
        at = found.end()
        if found[1]:
            if after == b"v":
                raise NotImapError(at, "no space before a list")
            stack.append([])
            after = b"("
        elif found[2]:
            if len(stack) < 2 or after in (b" ", b"(") or not stack[-1]:
                raise NotImapError(at, "an empty list, or one that was not opened")
            done = stack.pop()
            stack[-1].append(done)
            after = b")"
        elif found[3]:
            if after in (b" ", b"("):
                raise NotImapError(at, "a stray space")
            after = b" "
        else:
            if after in (b"v", b")"):
                raise NotImapError(at, "no space before a value")
            value: Value = None
            if found[4] is not None:
                value = re.sub(rb"\\(.)", rb"\1", found[4])
            elif found[5] is not None:
                size = int(found[5])
                value = wire[at : at + size]
                if len(value) != size or b"\0" in value:
                    raise NotImapError(at, "a literal")
                at += size
            elif found[6] is not None:
                value = int(found[6])
            stack[-1].append(value)
            after = b"v"
    if len(stack) != 1 or len(stack[0]) != 1:
        raise NotImapError(at, "not one value")
    return stack[0][0]


def _need(fits: bool, what: str) -> None:
    if not fits:
        raise NotImapError(what)


def _nstring(value: Value) -> None:
    _need(value is None or isinstance(value, bytes), f"nstring: {value!r}"[:200])


def _string(value: Value) -> None:
    _need(isinstance(value, bytes), f"string: {value!r}"[:200])


def _number(value: Value) -> None:
    _need(isinstance(value, int), f"number: {value!r}"[:200])


def _list(value: Value, size: int | None = None) -> list[Value]:
    _need(isinstance(value, list), f"list: {value!r}"[:200])
    assert isinstance(value, list)
    _need(size is None or len(value) == size, f"{len(value)} members, not {size}")
    return value


def envelope(value: Value) -> list[Value]:
    """Check an `envelope`: its ten members."""
    members = _list(value, 10)
    for n in (0, 1, 8, 9):
        _nstring(members[n])
    for n in range(2, 8):
        if members[n] is not None:
            open_group = False
            for entry in _list(members[n]):
                name, adl, mailbox, host = address = _list(entry, 4)
                for each in address:
                    _nstring(each)
                if host is None:
                    _need(name is None and adl is None, "a group mark has no name, no route")
                    _need(open_group == (mailbox is None), "groups open, then close")
                    open_group = mailbox is not None
                else:
                    _need(mailbox is not None, "a mailbox without a local part is empty")
            _need(not open_group, "a group that is not closed")
    return members


def _parameters(value: Value) -> None:
    if value is not None:
        pairs = _list(value)
        _need(len(pairs) % 2 == 0, "pairs")
        for each in pairs:
            _string(each)


def _disposition(value: Value) -> None:
    if value is not None:
        kind, params = _list(value, 2)
        _string(kind)
        _parameters(params)


def _language(value: Value) -> None:
    if isinstance(value, list):
        for each in value:
            _string(each)
    else:
        _nstring(value)


def body(value: Value, *, extended: bool) -> int:
    """Check a `body`; answers the number of parts, itself included."""
    count = 0
    waiting = [_list(value)]
    while waiting:
        members = waiting.pop()
        count += 1
        if isinstance(members[0], list):
            parts = 0
            while parts < len(members) and isinstance(members[parts], list):
                waiting.append(_list(members[parts]))
                parts += 1
            rest = members[parts:]
            _need(len(rest) == (5 if extended else 1), f"{len(rest)} members after the parts")
            _string(rest[0])
            if extended:
                _parameters(rest[1])
                _disposition(rest[2])
                _language(rest[3])
                _nstring(rest[4])
            continue
        _string(members[0])
        _string(members[1])
        _parameters(members[2])
        _nstring(members[3])
        _nstring(members[4])
        _string(members[5])
        _number(members[6])
        assert isinstance(members[0], bytes)
        assert isinstance(members[1], bytes)
        kind, subtype = members[0].lower(), members[1].lower()
        rest = members[7:]
        if kind == b"text":
            _number(rest.pop(0))
        elif kind == b"message" and subtype in (b"rfc822", b"global"):
            envelope(rest.pop(0))
            waiting.append(_list(rest.pop(0)))
            _number(rest.pop(0))
        _need(len(rest) == (4 if extended else 0), f"{len(rest)} members of extension data")
        if extended:
            _nstring(rest[0])
            _disposition(rest[1])
            _language(rest[2])
            _nstring(rest[3])
    return count
