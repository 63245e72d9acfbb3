"""What became of a recipient after a message was accepted, in plain sentences.

Pure: the events that queue runners added to a trace, and what waits at the moment of asking.
Called by `explain`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from postroom.core.clock import iso
from postroom.core.plural import counted
from postroom.domain.queue import Recipient
from postroom.mailflow.nexthop import Way, parse_next_hop

Event = Mapping[str, Any]


def next_hop(text: str) -> str:
    """A next hop as people call it."""
    hop = parse_next_hop(text)
    if hop.way is Way.EXCHANGERS:
        return f"the mail exchangers of {hop.name}"
    return f"the host {hop.name}{f':{hop.port}' if hop.port else ''}"


def happened(events: Sequence[Event], address: str) -> Iterator[str]:
    """The sentences about one recipient, in order."""
    for event in events:
        if event.get("to") == address:
            tell = _TELL.get(str(event.get("what")))
            yield tell(event) if tell is not None else _other(event)


def waits(waiting: Sequence[Recipient], address: str) -> Iterator[str]:
    """How a recipient who is still in the queue stands there."""
    for each in waiting:
        if each.address == address:
            yield _stands(each)


def ended(events: Sequence[Event], address: str) -> bool:
    """Whether the last word about a recipient was spoken, and it is in no mailbox of ours."""
    return any(e.get("to") == address and e.get("what") in _LAST for e in events)


def delivered_as(events: Sequence[Event], address: str) -> int | None:
    """The id of the message that the local queue made for a recipient."""
    made = [e["message"] for e in events if e.get("to") == address and "message" in e]
    return int(made[-1]) if made else None


_LAST: Final = frozenset({"relayed", "returned", "dropped"})


def _stands(each: Recipient) -> str:
    until = f"until {iso(each.message.expires_at)}"
    if each.quarantined:
        return (
            f"It is in quarantine {until}, when it is deleted; `queue release` lets it go and "
            "`queue delete` deletes it now."
        )
    if each.held:
        return "An administrator holds it back: it is not tried, and does not expire."
    if not each.attempts:
        return f"It waits for its first try, {until}."
    since = f"since {iso(each.message.arrived_at)}"
    tried = f"tried {counted(each.attempts, 'time')}"
    if each.last_at is not None:
        tried += f", last at {iso(each.last_at)}"
    said = f": {each.last_reply}" if each.last_reply else ""
    return f"It waits {since}, {tried}, next at {iso(each.due)}, {until}{said}."


def _relayed(event: Event) -> str:
    tls = event.get("tls")
    line = f"over {tls}" if tls else "without encryption"
    return f"{_at(event)} {_host(event)} took it {line}: {event.get('reply')}."


def _waits(event: Event) -> str:
    by = f"{_host(event)}: " if event.get("host") else ""
    told = f"{_at(event)} it had to wait: {by}{event.get('reply')}."
    if event.get("in doubt"):
        told += " The message had gone out whole, so it may arrive twice."
    return told


def _returned(event: Event) -> str:
    by = f" {_host(event)} said:" if event.get("host") else ""
    return f"{_at(event)} it was given up ({event.get('status')}).{by} {event.get('reply')}. " + (
        f"The sender was told in the notice {event['notice']}."
        if event.get("notice")
        else "Nobody was told: there is no sender, or it wanted no notice."
    )


def _delayed(event: Event) -> str:
    notice = event.get("notice")
    return f"{_at(event)} the sender was told of the delay in the notice {notice}."


def _delivered(event: Event) -> str:
    role = event.get("mailbox")
    box = "INBOX" if role == "inbox" else f"the mailbox for {role}"
    return f"{_at(event)} it was put into {box}."


def _dropped(event: Event) -> str:
    return f"{_at(event)} it was dropped: {event.get('because')}."


def _released(event: Event) -> str:
    return f"{_at(event)} an administrator let it out of quarantine."


def _filed(event: Event) -> str:
    but = f" Not all of it: {event['because']}." if event.get("because") else ""
    return f"{_at(event)} it was filed as a DMARC report.{but}"


def _not_filed(event: Event) -> str:
    return f"{_at(event)} it was not filed as a DMARC report: {event.get('because')}."


def _not_ours(event: Event) -> str:
    return f"{_at(event)} it was not filed: it reports on domains that are not of this server."


def _other(event: Event) -> str:
    return f"{_at(event)} {event.get('what')}."


_TELL: Final[Mapping[str, Callable[[Event], str]]] = {
    "relayed": _relayed,
    "waits": _waits,
    "returned": _returned,
    "delayed": _delayed,
    "delivered": _delivered,
    "dropped": _dropped,
    "released": _released,
    "filed": _filed,
    "not filed": _not_filed,
    "not ours": _not_ours,
}


def _at(event: Event) -> str:
    return f"At {event.get('at')}"


def _host(event: Event) -> str:
    ip = event.get("ip")
    return f"{event.get('host')} [{ip}]" if ip else str(event.get("host"))
