"""GENURLAUTH, RESETKEY, URLFETCH. RFC 4467 §7; decoded, or its structure: RFC 5524.

Who has such a URL may read what it names, as long as who authorized it may. URLFETCH answers NIL
whatever is wrong with a URL, and streams what is large.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import structlog

from postroom.core.clock import Instant, from_datetime
from postroom.core.errors import ConnectionLost, Corrupt, MailError, Malformed, NotAllowed, NotFound
from postroom.domain.mailboxes import rights, sharing, urlkeys
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.urlkeys import UrlKey
from postroom.formats import mime, transfer
from postroom.formats.address import parse_mailbox
from postroom.formats.bodystructure import bodystructure
from postroom.protocols.imap import authorizing
from postroom.protocols.imap.decoding import Memory
from postroom.protocols.imap.fetching import SLICE, Response, write_decoded
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.urls import BadUrl, Found, Urls
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx
from postroom.wire.imap import (
    INTERNAL,
    AskedUrl,
    BadSyntax,
    Command,
    Rump,
    UrlItem,
    astring,
    literal_header,
    parse_genurlauth,
    parse_resetkey,
    parse_rump,
    parse_urlfetch,
    untagged,
    with_token,
)

FEW: Final = 4
"""Mailboxes that are looked up on the loop; more are in a thread."""

_CODE: Final = b"URLMECH " + INTERNAL

_log: Final = structlog.get_logger("postroom.imap")


class CannotAuthorize(Malformed):
    """A URL that the user may not authorize, for whatever reason: BAD. RFC 4467 §7."""

    sentence = "This is not a URL that you can authorize here; none was authorized"


def tell_mechanisms(session: Session) -> None:
    """With a mailbox that opens: RFC 4467 §8, URLMECH."""
    session.tell(None, "OK", "These authorize URLs", _CODE)


# --- GENURLAUTH ---------------------------------------------------------------------------------


async def genurlauth(session: Session, command: Command) -> None:
    """All URLs are authorized, or none."""
    asked = parse_genurlauth(command.args).asked
    if any(mechanism != INTERNAL for _, mechanism in asked):
        raise BadSyntax("There is no such mechanism")
    house = session.shared.house
    now = house.clock.now()
    paths = [_path(session, parse_rump(text), now) for text, _ in asked]
    places = dict.fromkeys(paths)
    read = house.mail.read if len(places) <= FEW else house.mail.read_much
    boxes, keys = await read(_with_keys, session.account, places)
    missing = {path: box for path, box in boxes.items() if box.id not in keys}
    if missing:
        made = {
            path: authorizing.new_key(house.secrets, house.random, session.account, box.id)
            for path, box in missing.items()
        }
        write = house.mail.write if len(made) <= FEW else house.mail.write_much
        keys |= await write(_keep, session.account, made)
    sign = {box: authorizing.signer(house.secrets, key) for box, key in keys.items()}
    told = [
        astring(with_token(text, sign[boxes[path].id](text)))
        for (text, _), path in zip(asked, paths, strict=True)
    ]
    session.write(untagged(b"GENURLAUTH", *told))
    await finish(session, command, "URLs authorized")


def _path(session: Session, rump: Rump, now: Instant) -> tuple[str, int | None]:
    """The mailbox of a URL that the user may authorize, and its UIDVALIDITY where that is said;
    raises CannotAuthorize. RFC 4467 §7."""
    site, mailbox, user = rump.url.site, rump.url.mailbox, rump.user
    assert site is not None and site.user is not None and mailbox is not None
    assert session.identity is not None
    if not authorizing.is_here(site, session.shared.house.hostname):
        raise CannotAuthorize
    if site.user.lower() != str(session.identity.address).lower():
        raise CannotAuthorize
    if rump.expire is not None and from_datetime(rump.expire) <= now:
        raise CannotAuthorize("EXPIRE is in the past; no URL was authorized")
    if user is not None:
        # Whether there is such a user nobody is told here.
        try:
            parse_mailbox(user)
        except Malformed:
            raise CannotAuthorize("The URL is for nobody; none was authorized") from None
    return mailbox, rump.url.uidvalidity


Places = Iterable[tuple[str, int | None]]


def _with_keys(
    tx: Tx, account: int, places: Places
) -> tuple[dict[tuple[str, int | None], Mailbox], dict[int, UrlKey]]:
    """The mailboxes, which may be read, and those keys of them that are there. Raises
    CannotAuthorize."""
    boxes = {place: _readable(tx, account, *place) for place in places}
    return boxes, urlkeys.of_mailboxes(tx, account, {box.id for box in boxes.values()})


def _keep(tx: Tx, account: int, made: dict[tuple[str, int | None], UrlKey]) -> dict[int, UrlKey]:
    """Keep first keys; those that are there then, by mailbox."""
    for place, key in made.items():
        if _readable(tx, account, *place).id != key.mailbox:
            raise CannotAuthorize
    return urlkeys.keep(tx, account, made.values())


def _readable(tx: Tx, account: int, path: str, uidvalidity: int | None) -> Mailbox:
    try:
        box = sharing.find(tx, account, path, Right.READ)
    except (NotFound, NotAllowed):
        raise CannotAuthorize from None
    if uidvalidity not in (None, box.uidvalidity):
        raise CannotAuthorize
    return box


# --- RESETKEY -----------------------------------------------------------------------------------


async def resetkey(session: Session, command: Command) -> None:
    """What a key authorized before is worth nothing from now on."""
    asked = parse_resetkey(command.args)
    if any(each != INTERNAL for each in asked.mechanisms):
        raise BadSyntax("There is no such mechanism")
    house = session.shared.house
    if asked.mailbox is None:
        await house.mail.write(urlkeys.forget, session.account)
        await finish(session, command, "All keys are gone")
        return
    box = await session.find(asked.mailbox, Right.READ)
    key = authorizing.new_key(house.secrets, house.random, session.account, box.id)
    await house.mail.write(_replace, session.account, asked.mailbox, key)
    await finish(session, command, "There is another key", _CODE)


def _replace(tx: Tx, account: int, path: str, key: UrlKey) -> None:
    reached = sharing.reach(tx, account, path)
    rights.check(reached.rights, Right.READ)
    if reached.mailbox.id != key.mailbox:
        raise NotFound("No such mailbox")
    urlkeys.replace(tx, key)


# --- URLFETCH -----------------------------------------------------------------------------------


async def urlfetch(session: Session, command: Command) -> None:
    """One response for each URL, in the order that they were asked for."""
    urls, pace = Urls(session), Pace(session.shared.clock)
    for asked in parse_urlfetch(command.args).urls:
        try:
            found = await urls.find_authorized(asked.url)
        except BadUrl:
            _tell_nothing(session, asked.url)
        except Corrupt as error:
            _log.error("content of a URL not readable", session=session.id, reason=error.detail)
            _tell_nothing(session, asked.url)
        else:
            await _tell(session, urls, asked, found)
        await session.output.drain()
        if pace.over:
            await pace.rest()
    await finish(session, command, "URLs fetched")


def _tell_nothing(session: Session, text: bytes) -> None:
    session.write(untagged(b"URLFETCH", astring(text), b"NIL"))


async def _tell(session: Session, urls: Urls, asked: AskedUrl, found: Found) -> None:
    """What is asked of a URL; NIL if its first octets cannot be read. Later nothing could stand in
    the place of the rest: the connection ends."""
    response = Response(session.output)
    response.add(b"* URLFETCH " + astring(asked.url))
    try:
        if not asked.items:
            await _body(urls, asked, found, response, b"")
        for item in asked.items:
            await _item(session, urls, asked, found, response, item)
    except ConnectionLost:
        raise
    except (BadUrl, MailError) as error:
        _log.error("content of a URL not readable", session=session.id, reason=str(error))
        if response.begun:
            session.output.abort()
            raise ConnectionLost(detail="a literal could not be finished") from error
        _tell_nothing(session, asked.url)
        return
    response.add(b"\r\n")
    await response.flush()


async def _item(
    session: Session,
    urls: Urls,
    asked: AskedUrl,
    found: Found,
    response: Response,
    item: UrlItem,
) -> None:
    """`(ITEM value)`. RFC 5524 §3.2."""
    house = session.shared.house
    label = b" (" + item.encode("ascii")
    if item is UrlItem.BODYPARTSTRUCTURE:
        decodes = UrlItem.BINARY in asked.items
        told = await house.mail.read_much(_structure, house.blobs, found, decodes)
        response.add(label + b" " + told)
    elif item is UrlItem.BODY:
        await _body(urls, asked, found, response, label)
    elif found.picked is not None:
        head = literal_header(found.length, binary=b"\0" in found.picked)
        response.add(label + b" " + head + found.picked)
    elif found.binary is None:
        response.add(label + b" NIL")  # no encoding that is known
    else:
        await write_decoded(house, response, label, found.binary, Memory())
    response.add(b")")


async def _body(
    urls: Urls, asked: AskedUrl, found: Found, response: Response, label: bytes
) -> None:
    """A literal, a slice at a time."""
    response.add(label + b" " + literal_header(found.length))
    async for octets in urls.read(asked.url, found):
        if response.size > SLICE:
            await response.flush()
        response.add(octets)


def _structure(tx: Tx, blobs: Blobs, found: Found, decodes: bool) -> bytes:
    """The structure of the part that a URL is about, as it is told: decoded, it has no encoding,
    and another size. RFC 5524 §3.2. Raises Corrupt."""
    raw = blobs.read(tx, found.blob)
    part = mime.scan(raw).at(found.path)
    if part is None:
        raise Corrupt(detail="the layout knows a part that is not there")
    if decodes and found.binary is not None and found.binary.is_coded:
        content = transfer.decode(raw[part.body : part.end], found.binary.encoding)
        end, lines = part.body + len(content), content.count(b"\n")
        part = replace(part, encoding=b"binary", end=end, lines=lines)
    return bodystructure(part, raw)
