"""Answers of IMAP servers in one form: what means nothing is taken away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, TypeAlias

from postroom.testing.imap import Reply, fetches, flags_of, numbers_of
from postroom.wire.imap import Untagged, Value

Answer: TypeAlias = dict[tuple[int, str], object]
"""What was answered by (UID, item); UID 0 for what is about no message."""

_OURS_ALONE: Final = frozenset({"UID", "MODSEQ", "EMAILID", "THREADID", "SAVEDATE"})


def answer_of(reply: Reply) -> Answer:
    """A reply to one command, which must be about UIDs."""
    answer: Answer = {(0, "kind"): reply.kind}
    for number, items in fetches(reply.untagged):
        uid = items.get("UID", number)
        assert isinstance(uid, int)
        for item, value in items.items():
            if item not in _OURS_ALONE:
                answer[uid, item] = _fetched(item, value)
    gone: list[int] = []
    for each in reply.untagged:
        name = each.name.decode("ascii")
        numbers = [value for value in each.data if isinstance(value, int)]
        if each.name == b"SEARCH":
            answer |= {(uid, "found"): True for uid in numbers}
        elif each.name == b"SORT":
            answer[0, name] = numbers
        elif each.name == b"THREAD":
            answer[0, name] = each.data
        elif each.name == b"ESEARCH":
            answer[0, name] = _esearch(each)
        elif each.name == b"EXPUNGE" and each.number is not None:
            gone.append(each.number)
        elif each.name == b"VANISHED":
            answer[0, name] = sorted(numbers_of(each.data[-1]))
        elif each.name == b"EXISTS":
            answer[0, name] = each.number
    if gone:
        answer[0, "EXPUNGE"] = _originally(gone)
    for code in reply.codes():
        if code.name == b"COPYUID":
            answer[0, "COPYUID"] = [numbers_of(value) for value in code.data[1:]]
    return answer


def _fetched(item: str, value: Value) -> object:
    if item == "FLAGS":
        return sorted(flags_of(value) - {"\\Recent"})
    if item == "INTERNALDATE":
        assert isinstance(value, bytes)
        there = datetime.strptime(value.decode("ascii").strip(), "%d-%b-%Y %H:%M:%S %z")
        return there.astimezone(UTC).isoformat()
    if item in ("BODY", "BODYSTRUCTURE"):
        return _structure(value)
    if item.startswith(("BODY[", "RFC822", "BINARY[")):
        return value if isinstance(value, int) else _octets(value)
    if item == "ENVELOPE":
        return _plain(value)
    return value


def _octets(value: Value) -> bytes:
    """NIL for a part that is not there, or an empty string: clients do not tell them apart."""
    assert value is None or isinstance(value, bytes)
    return bytes(value or b"")


def _plain(value: Value) -> object:
    if isinstance(value, tuple):
        return tuple(_plain(each) for each in value)
    return bytes(value) if isinstance(value, bytes) else value


def _structure(value: Value) -> object:
    """Names of types, encodings and parameters have no case. RFC 3501 §7.4.2."""
    if not isinstance(value, tuple) or not value:
        return _plain(value)
    if isinstance(value[0], tuple):
        parts = [each for each in value if isinstance(each, tuple)]
        count = next((n for n, each in enumerate(value) if not isinstance(each, tuple)), len(parts))
        inner = tuple(_structure(each) for each in value[:count])
        rest = value[count + 1 :]
        subtype = _upper(value[count]) if count < len(value) else None
        return (*inner, subtype, *_extension(rest))
    head = (_upper(value[0]), _upper(value[1]), _parameters(value[2]), *map(_plain, value[3:5]))
    rest = value[7:]
    tail: tuple[object, ...] = ()
    if head[:2] == (b"MESSAGE", b"RFC822") and len(rest) >= 3 and isinstance(rest[0], tuple):
        tail, rest = (_plain(rest[0]), _structure(rest[1]), rest[2]), rest[3:]
    elif head[0] == b"TEXT" and rest:
        tail, rest = (rest[0],), rest[1:]
    md5 = (_plain(rest[0]),) if rest else ()
    return (*head, _upper(value[5]), value[6], *tail, *md5, *_extension(rest[1:], parameters=False))


def _extension(rest: tuple[Value, ...], *, parameters: bool = True) -> tuple[object, ...]:
    """Parameters (of a multipart), disposition, language, location."""
    out: list[object] = []
    if parameters and rest:
        out.append(_parameters(rest[0]))
        rest = rest[1:]
    for at, each in enumerate(rest):
        if at == 0 and isinstance(each, tuple) and len(each) > 1:
            out.append((_upper(each[0]), _parameters(each[1])))
        else:
            out.append(_plain(each))
    return tuple(out)


def _parameters(value: Value) -> object:
    if not isinstance(value, tuple):
        return _plain(value)
    pairs = zip(value[::2], value[1::2], strict=False)
    return tuple((_upper(name), _plain(each)) for name, each in pairs)


def _upper(value: Value) -> object:
    return bytes(value).upper() if isinstance(value, bytes) else _plain(value)


def _esearch(told: Untagged) -> object:
    """Its results by name; MODSEQ is each server's own."""
    data = [each for each in told.data if not isinstance(each, tuple) and each != b"UID"]
    pairs = zip(data[::2], data[1::2], strict=False)
    found: dict[str, object] = {}
    for name, value in pairs:
        assert isinstance(name, bytes)
        key = bytes(name).decode("ascii").upper()
        if key != "MODSEQ":
            found[key] = numbers_of(value) if key == "ALL" else value
    return found


def _originally(gone: list[int]) -> list[int]:
    """The numbers that expunged messages had before the command."""
    removed: list[int] = []
    for number in gone:
        place = number
        for each in sorted(removed):
            place += each <= place
        removed.append(place)
    return sorted(removed)
