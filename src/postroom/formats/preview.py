"""The first words of a message, as a list of messages shows them. RFC 8970.

Plain and linear: at most 16 KiB of one part are looked at, and at most 200 characters answered.
What comes out is text for display, never markup; whoever shows it escapes it.
"""

from __future__ import annotations

import binascii
import re
from html.entities import html5
from typing import Final

from postroom.formats import charsets, transfer
from postroom.formats.mime import Part

PREVIEW_MAX: Final = 200  # characters; RFC 8970 §3.1 allows 256
_LOOK: Final = 16 * 1024  # octets of the encoded part
_GLANCE: Final = 1024  # octets that suffice for most

_ENTITY: Final = re.compile(
    r"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));?"
)
_TAG_NAME: Final = re.compile(r"/?[A-Za-z][A-Za-z0-9]*+")
_HIDDEN: Final = {
    name: re.compile(rf"</{name}", re.IGNORECASE | re.ASCII)
    for name in ("head", "noscript", "script", "style", "template", "title")
}
_BREAKS: Final = frozenset(
    {"address", "article", "blockquote", "body", "br", "center", "dd", "div", "dl", "dt", "footer"}
    | {"form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main", "ol", "p"}
    | {"pre", "section", "table", "td", "th", "tr", "ul"}
)
# Controls, and the invisible characters with which newsletters pad what is shown here.
_UNSEEN: Final = dict.fromkeys(
    [
        *(n for n in range(0x20) if n not in (0x09, 0x0A, 0x0D)),
        *range(0x7F, 0xA0),
        0xAD,
        0x34F,
        0x61C,
        0x180E,
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
        0xFEFF,
    ]
)


def preview(raw: bytes, part: Part) -> str:
    """At most 200 characters of the first text of the message whose tree is `part`.

    text/plain before text/html; attachments and attached messages only where nothing else is.
    Quoted lines and the signature are left out when anything else is there.
    """
    found = _first_text(part)
    if found is None:
        return ""
    text = ""
    size = found.end - found.body
    for look in (_GLANCE, _LOOK):
        text, quoted = _words(raw, found, look)
        if size <= look or (len(text) >= PREVIEW_MAX and not quoted):
            break
    return text[:PREVIEW_MAX].rstrip()


def _words(raw: bytes, part: Part, look: int) -> tuple[str, bool]:
    """What the first `look` octets of the part say, and whether nothing but quotes is there."""
    text = _text(raw, part, look)
    if part.subtype == b"html":
        text = html_text(text)
    own = " ".join(_own_lines(text))
    if own:
        return own, False
    return " ".join(text.replace(">", " ").translate(_UNSEEN).split()), True


def _first_text(root: Part) -> Part | None:
    """The part to read: outside attached messages if there is one."""
    best: tuple[int, Part] | None = None
    waiting = [(root, False)]
    while waiting:
        part, attached = waiting.pop()
        if part.children:
            attached = attached or part.is_message
            waiting.extend((child, attached) for child in reversed(part.children))
        elif part.type == b"text" and part.subtype in (b"plain", b"html") and part.end > part.body:
            aside = attached or (part.disposition or b"")[:10].lower() == b"attachment"
            rank = 2 * aside + (part.subtype == b"html")
            if best is None or rank < best[0]:
                best = rank, part
            if rank == 0:
                break
    return best[1] if best else None


def _text(raw: bytes, part: Part, look: int) -> str:
    """The decoded text of the first `look` octets of the part."""
    data = raw[part.body : min(part.end, part.body + look)]
    if part.encoding is not None:
        encoding = part.encoding.decode("latin-1")
        if transfer.canonical(encoding) == transfer.QUOTED_PRINTABLE:
            data = binascii.a2b_qp(
                data
            )  # what transfer.decode mends beyond this shows nowhere here
        else:
            data = transfer.decode(data, encoding, limit=look)
    charset = b"us-ascii"
    for name, value in part.params:
        if name.lower() == b"charset":
            charset = value
            break
    # A character cut in two at the end decodes to U+FFFD.
    return charsets.decode(data, charset.decode("latin-1")).rstrip("\ufffd")


def _own_lines(text: str) -> list[str]:
    """The words of the author's own lines, until there are enough."""
    words: list[str] = []
    size = 0
    held: list[str] = []  # a line that ends in ":" goes if a quotation follows it
    for line in text.translate(_UNSEEN).splitlines():
        if line.rstrip() == "--" and (words or held):
            break  # RFC 3676 §4.3: the signature
        if line.startswith(">"):
            held = []
            continue
        found = line.split()
        if not found:
            continue
        words += held
        held = []
        if found[-1].endswith(":"):
            held = found
        else:
            words += found
        size += len(line)
        if size > 2 * PREVIEW_MAX:
            break
    return words + held


def html_text(text: str) -> str:
    """The text of some HTML, for reading at a glance: not safe markup, not a faithful rendering.

    Linear: each search goes on where the last one ended, and one that finds nothing ends it all.
    """
    out: list[str] = []
    at, size, quotes = 0, len(text), 0
    while at < size:
        tag = text.find("<", at)
        if tag < 0:
            tag = size
        if tag > at:
            out.append(text[at:tag].replace("\n", " "))
        if text.startswith("<!--", tag):
            end = text.find("-->", tag + 4)
            at = end + 3 if end >= 0 else size
            continue
        found = _TAG_NAME.match(text, tag + 1)
        if found is None and not text.startswith(("<!", "<?"), tag):
            out.append(text[tag : tag + 1])  # a lone "<", or the end
            at = tag + 1
            continue
        end = text.find(">", tag)
        at = end + 1 if end >= 0 else size
        if found is None:
            continue
        name = found[0].lower()
        if name in _HIDDEN:
            closing = _HIDDEN[name].search(text, at)
            at = closing.start() if closing else size
            continue
        quotes += (name == "blockquote") - (name == "/blockquote")
        if name.lstrip("/") in _BREAKS:
            out.append("\n>" if quotes > 0 else "\n")
        elif name == "img":
            out.append(" ")
    return _ENTITY.sub(_entity, "".join(out))


def _entity(match: re.Match[str]) -> str:
    """The character that an entity stands for; itself if it stands for none."""
    decimal, hexadecimal, name = match.groups()
    if name is not None:
        return html5.get(name + ";", match[0])
    number = int(decimal) if decimal is not None else int(hexadecimal, 16)
    if not 0 < number < 0x110000 or 0xD800 <= number < 0xE000:
        return "\ufffd"
    return chr(number)
