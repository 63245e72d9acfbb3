"""A trace in plain sentences: why a message lies where it lies, or why it was refused.

Pure: a record as mailflow wrote it, and where its copies are now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from postroom.admin import journey
from postroom.core.clock import iso
from postroom.core.plural import counted
from postroom.domain.mailboxes.reading import Whereabouts
from postroom.domain.queue import Recipient

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Now:
    """Where the copies of a message are at the moment of asking."""

    lies: tuple[Whereabouts, ...] = ()
    waits: tuple[Recipient, ...] = ()
    happened: tuple[Record, ...] = ()  # events of the trace, in order
    places: Mapping[str, str] = field(default_factory=dict)  # of settings, as people name them


def story(record: Record, now: Now) -> tuple[str, ...]:
    """The sentences, in the order of what happened."""
    return tuple(_story(record, now))


def _story(record: Record, now: Now) -> Iterator[str]:
    yield _arrival(record)
    if record.get("message_id"):
        size = f", {counted(record['size'], 'octet')}" if "size" in record else ""
        yield f"Its Message-ID is {record['message_id']}{size}."
    if record.get("amended"):
        yield f"It was amended: {', '.join(record['amended'])}."
    yield from _vouched(record)
    yield from _unknown(record)
    # In a refusal the last verdict is the one that refused; it is told at the end.
    refused = record.get("outcome") != "accepted"
    verdicts = record.get("verdicts", ())
    for verdict in verdicts[:-1] if refused else verdicts:
        yield _verdict("The message", verdict, now)
    for one in record.get("recipients", ()):
        for verdict in one.get("verdicts", ()):
            yield _verdict(one["address"], verdict, now)
    for one in record.get("refused", ()):
        yield from _refusal(f"The recipient {one['address']}", one, now)
    if refused:
        whom = record.get("recipient")
        what = f"The recipient {whom}" if whom else "The message"
        yield from _refusal(what, verdicts[-1] if verdicts else {}, now)
        return
    for copy in (*record.get("delivered", ()), *record.get("queued", ())):
        yield from _copy(record, copy, now)
        yield from (f"  {line}" for line in _place(copy, now))
    if record.get("reports"):
        address = record["reports"]
        yield f"{address} is where others send DMARC reports: it is looked into and filed."
        yield from (f"  {line}" for line in journey.happened(now.happened, address))
    for one in record.get("relayed", ()):
        yield f"{one['to']} is reached by {journey.next_hop(one['next hop'])}: {one['because']}."
        yield from (f"  {line}" for line in _elsewhere(one["to"], now))


_CAUSES: Mapping[str, str] = {
    "dsn": "a delivery report",
    "delay": "the word that a message is late",
    "dmarc": "a report to a domain on mail in its name",
}


def _arrival(record: Record) -> str:
    peer = record.get("facts", {}).get("peer", {})
    if record.get("cause"):
        by = f"This server wrote it, as {_CAUSES.get(record['cause'], record['cause'])}"
    elif peer:
        who = peer.get("ip") or "A program on this machine"
        helo = f", which calls itself {peer['helo']}," if peer.get("helo") else ""
        line = "over TLS" if peer.get("encrypted") else "without encryption"
        login = f", signed in as {peer['login']}" if peer.get("signed_in") else ""
        by = f"{who}{helo} sent it to the listener {peer.get('listener')} {line}{login}"
    else:
        by = "It was taken"
    sender = record.get("from") or "<> (nobody: a bounce or a notice)"
    protocol, session = record.get("protocol"), record.get("session")
    return f"{by}, by {protocol} in session {session}, from {sender}."


def _vouched(record: Record) -> Iterator[str]:
    """What the checks of its sender found."""
    facts = record.get("facts", {})
    address, spf, dmarc = facts.get("iprev"), facts.get("spf"), facts.get("dmarc")
    chain = facts.get("arc")
    if address and address.get("host"):
        yield f"The address of the peer is that of {address['host']}."
    elif address:
        result = address.get("result")
        yield f"The address of the peer has no name that leads back to it ({result})."
    if spf:
        said = f", which explains: {spf['explanation']}" if spf.get("explanation") else ""
        yield f"SPF of its sender: {spf.get('result')}, as {spf.get('why')}{said}."
        if record.get("from"):
            yield f"SPF of the peer's own name: {spf.get('helo')}, as {spf.get('helo_why')}."
    for each in (facts.get("dkim") or {}).get("signatures", ()):
        if each.get("code") != "none":
            of = f" of {each['domain']}" if each.get("domain") else ""
            yield f"DKIM signature{of}: {each.get('code')}. {each.get('why')}."
    copies = facts.get("replay") or {}
    if copies.get("copies", 0) > 1:
        yield (
            f"What {copies.get('domain')} signed came {counted(copies['copies'], 'time')} within "
            "the hour, this one included."
        )
    if chain:
        sealers = [each["domain"] for each in chain.get("sets", ())]
        by = f" of {', '.join(sealers)}" if sealers else ""
        yield f"ARC chain{by}: {chain.get('result')}. {chain.get('why')}."
    if dmarc:
        yield f"DMARC of its author: {dmarc.get('result')}, as {dmarc.get('why')}."
    if vbr := facts.get("vbr"):
        yield f"Who vouches for its sender: {vbr.get('result')}, as {vbr.get('why')}."
    if bimi := facts.get("bimi"):
        yield f"The logo of its author's domain: {bimi.get('result')}, as {bimi.get('why')}."


def _unknown(record: Record) -> Iterator[str]:
    late = record.get("facts", {}).get("unknown", ())
    if late:
        yield f"No answer came in time from: {', '.join(late)}. It was judged without."


def _verdict(what: str, verdict: Record, now: Now) -> str:
    action = verdict.get("action", "")
    did = _DID.get(action, f"was decided on ({action})")
    return f"{what} {did} by the rule {verdict.get('rule')}{_because(verdict, now)}."


_DID: Mapping[str, str] = {
    "accept": "was let pass",
    "mark": "was marked",
    "junk": "was put into the junk mailbox",
    "quarantine": "was put into quarantine",
    "drop": "was dropped",
    "defer": "was put off",
    "refuse": "was refused",
    "close": "was refused and the connection closed",
}


def _because(verdict: Record, now: Now) -> str:
    why = f": {verdict['why']}" if verdict.get("why") else ""
    if verdict.get("setting"):
        at = str(verdict.get("set at", "default"))
        why += f" (the setting {verdict['setting']}, from {now.places.get(at, at)})"
    return why


def set_at(record: Record) -> frozenset[str]:
    """The places of settings that a record names."""
    named: list[Record] = [*_verdicts_for(record), *record.get("refused", ())]
    return frozenset(str(each["set at"]) for each in named if "set at" in each)


def _refusal(what: str, verdict: Record, now: Now) -> Iterator[str]:
    yield _verdict(what, verdict, now)
    if verdict.get("reply"):
        yield f"The peer was told: {verdict.get('status')} {verdict['reply']}."


def _copy(record: Record, copy: Record, now: Now) -> Iterator[str]:
    """One account's copy: why it got one, and why there."""
    filed = f"it was meant for {_mailbox(copy)}"
    junked = [v for v in _verdicts_for(record) if v.get("action") == "junk"]
    if copy.get("mailbox") == "junk" and junked:
        filed += f", by the rule {junked[-1].get('rule')}"
    elif copy.get("mailbox") == "inbox" and not copy.get("quarantined"):
        filed += ", as no rule said otherwise"
    if copy.get("quarantined"):
        filed += ", once it is let out of quarantine"
    yield f"{copy['to']} got a copy: {copy['because']}; {filed}."
    for waited in record.get("waits", ()):
        if waited["to"] == copy["to"]:
            yield f"  At first it had to wait: {waited['because']}."
    yield from (f"  {line}" for line in journey.happened(now.happened, copy["to"]))


def _mailbox(copy: Record) -> str:
    if copy.get("folder"):
        return f"the folder {copy['folder']}"
    role = str(copy.get("mailbox", ""))
    return "INBOX" if role == "inbox" else f"the mailbox for {role}"


def _verdicts_for(record: Record) -> list[Record]:
    own: list[Record] = list(record.get("verdicts", ()))
    for one in record.get("recipients", ()):
        own += one.get("verdicts", ())
    return own


def _place(copy: Record, now: Now) -> Iterator[str]:
    """Where one account's copy is. One that the queue delivered got its id there."""
    message = journey.delivered_as(now.happened, copy["to"]) or copy.get("message")
    here = [w for w in now.lies if w.message == message]
    placed = [w for w in here if w.recoverable_until is None]
    for each in placed:
        flags = " ".join(each.flags) or "no flags"
        yield f"It lies in {each.path} as UID {each.uid} ({flags})."
    if placed:
        return
    removed = _latest(here)
    if removed is not None and removed.recoverable_until is not None:
        until = iso(removed.recoverable_until)
        yield f"It was deleted from {removed.path}; it can be brought back until {until}."
        return
    waits = list(journey.waits(now.waits, copy["to"]))
    yield from waits
    if not waits and not journey.ended(now.happened, copy["to"]):
        yield "It is gone: deleted for good, or its account is."


def _elsewhere(address: str, now: Now) -> Iterator[str]:
    """A recipient whom another server takes from here."""
    yield from journey.happened(now.happened, address)
    waits = list(journey.waits(now.waits, address))
    yield from waits
    if not waits and not journey.ended(now.happened, address):
        yield "An administrator has taken it out of the queue."


def _latest(found: Sequence[Whereabouts]) -> Whereabouts | None:
    return max(found, key=lambda each: each.recoverable_until or 0, default=None)
