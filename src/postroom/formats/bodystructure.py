"""IMAP's BODYSTRUCTURE and BODY of a message, as the bytes that go on the wire.

RFC 9051 §7.5.2. Built without recursion from the tree of `mime.scan`; every tree gives a well
formed answer. Strings are quoted where that is safe, else literals, and never hold a NUL.
"""

from __future__ import annotations

import re
from typing import Final

from postroom.formats.envelope import envelope, nstring, string
from postroom.formats.headers import raw_parameters
from postroom.formats.mime import Parameters, Part

_TOKEN: Final = re.compile(rb"[!#-'*+\-.0-9A-Z^-z|~]{1,40}")
_LANGUAGE: Final = re.compile(rb"[A-Za-z0-9-]{1,64}")
_LANGUAGES_MAX: Final = 64
_SECTION: Final = re.compile(rb"([^*]++)\*([0-9]{1,5})(\*)?")
_PLAIN: Final = re.compile(rb"[^!#$&+\-.0-9A-Z^_`a-z{|}~]")  # no attribute-char: RFC 2231 §7


def bodystructure(part: Part, raw: bytes) -> bytes:
    """BODYSTRUCTURE: with the extension data."""
    return _build(part, raw, extended=True)


def body(part: Part, raw: bytes) -> bytes:
    """BODY: the same without extension data."""
    return _build(part, raw, extended=False)


def _build(root: Part, raw: bytes, *, extended: bool) -> bytes:
    """Each part opens, its children follow, and what must come after them waits on the stack."""
    out: list[bytes] = []
    waiting: list[Part | bytes] = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, bytes):
            out.append(item)
            continue
        if item.is_multipart:
            out.append(b"(")
            waiting.append(_after_parts(item, extended))
            waiting.extend(reversed(item.children))
        elif item.is_message:
            message = item.children[0]
            out.append(b"(%b %b " % (_fields(item), _envelope(message, raw)))
            waiting.append(b" %d%b)" % (item.lines, _extension(item) if extended else b""))
            waiting.append(message)
        else:
            lines = b" %d" % item.lines if item.type == b"text" else b""
            out.append(b"(%b%b%b)" % (_fields(item), lines, _extension(item) if extended else b""))
    return b"".join(out)


def _envelope(message: Part, raw: bytes) -> bytes:
    """ENVELOPE of an encapsulated message; mime.scan keeps the headers where one begins."""
    assert message.headers is not None
    return envelope(message.headers, raw)


def _fields(part: Part) -> bytes:
    """Type, subtype and body-fields: parameters, id, description, encoding, octets."""
    params = part.params
    if part.type == b"text" and not any(name.lower() == b"charset" for name, _ in params):
        params = (*params, (b"charset", b"us-ascii"))  # RFC 2045 §5.2
    return b"%b %b %b %b %b %b %d" % (
        string(part.type),
        string(part.subtype),
        parameters(params),
        nstring(part.id),
        nstring(part.description),
        string(_encoding(part.encoding)),
        part.end - part.body,
    )


def _encoding(value: bytes | None) -> bytes:
    """The name in a Content-Transfer-Encoding value, in lower case; 7bit without one."""
    found = _TOKEN.match(value) if value else None
    return found[0].lower() if found else b"7bit"


def _extension(part: Part) -> bytes:
    """What follows a body without parts: MD5, disposition, language, location."""
    if part.md5 is part.disposition is part.language is part.location is None:
        return b" NIL NIL NIL NIL"
    return b" %b %b %b %b" % (
        nstring(part.md5),
        _disposition(part.disposition),
        _language(part.language),
        nstring(part.location),
    )


def _after_parts(part: Part, extended: bool) -> bytes:
    """What follows the parts of a multipart."""
    if not extended:
        return b" %b)" % string(part.subtype)
    return b" %b %b %b %b %b)" % (
        string(part.subtype),
        parameters(part.params),
        _disposition(part.disposition),
        _language(part.language),
        nstring(part.location),
    )


def parameters(params: Parameters) -> bytes:
    """`("name" "value" ...)`, or NIL for none; what was sent in sections is one value."""
    if not params:
        return b"NIL"
    if any(b"*" in name for name, _ in params):
        params = _joined(params)
    return b"(%b)" % b" ".join([b"%b %b" % (string(name), string(value)) for name, value in params])


def _joined(params: Parameters) -> Parameters:
    """`name*0=a; name*1=b` becomes `name=ab`. RFC 2231 §3, RFC 9051 §7.5.2.

    Sections that name their charset become one `name*=charset'language'…`, which clients decode.
    A section that is not next in line stays as it was sent.
    """
    made: dict[bytes, list[bytes]] = {}  # by the name in lower case: name, value so far, next
    out: list[list[bytes]] = []
    for name, value in params:
        section = _SECTION.fullmatch(name)
        whole = made.get(section[1].lower()) if section else None
        if section and whole is None and int(section[2]) == 0:
            whole = [section[1] + (section[3] or b""), b"", b"0"]
            made[section[1].lower()] = whole
            out.append(whole)
        if section is None or whole is None or int(section[2]) != int(whole[2]):
            out.append([name, value])
            continue
        plain = whole[0].endswith(b"*") and not section[3]
        whole[1] += _PLAIN.sub(_escaped, value) if plain else value
        whole[2] = b"%d" % (int(whole[2]) + 1)
    return tuple((each[0], each[1]) for each in out)


def _escaped(octet: re.Match[bytes]) -> bytes:
    return b"%%%02X" % octet[0][0]


def _disposition(value: bytes | None) -> bytes:
    """`("attachment" ("filename" "x"))`, or NIL. RFC 2183."""
    if value is None:
        return b"NIL"
    main, params = raw_parameters(value)
    main = main.strip().lower()
    if not main:
        return b"NIL"
    return b"(%b %b)" % (string(main), parameters(tuple(params)))


def _language(value: bytes | None) -> bytes:
    """NIL, one string, or a list of strings. RFC 3282."""
    found = _LANGUAGE.findall(value) if value else None
    if not found:
        return b"NIL"
    if len(found) == 1:
        return string(found[0])
    return b"(%b)" % b" ".join([string(tag) for tag in found[:_LANGUAGES_MAX]])
