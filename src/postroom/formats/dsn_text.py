"""The part of a delivery status notification that people read. RFC 3464 §2, RFC 6522 §3.

Written for a sender who has never heard of SMTP: what happened, to whom, why, and what to do.
What an administrator needs besides stands below. Strangers' words are indented and named as
what a server said, so that they cannot pass for ours.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from postroom.formats.address import Address
from postroom.formats.dates import format_date
from postroom.formats.dsn_values import Action, RecipientStatus, Report, Typed, line
from postroom.formats.status_text import Meaning, meaning

_SHOWN_MAX: Final = 100  # recipients that the text names; the report has them all
_WIDTH: Final = 72
_WORDS_MAX: Final = 500  # characters of a server's answer
_ADDRESS_MAX: Final = 320

_SUBJECTS: Final = {
    Action.FAILED: "Undelivered",
    Action.DELAYED: "Delayed",
    Action.DELIVERED: "Delivered",
    Action.RELAYED: "Passed on",
    Action.EXPANDED: "Passed on to a list",
}
_HAPPENED: Final = {
    Action.FAILED: "Your message could not be delivered to {}:",
    Action.DELAYED: "Your message has not been delivered yet to {}:",
    Action.DELIVERED: "Your message was delivered to {}:",
    Action.RELAYED: "Your message was passed on, to a server that will send no notice, for {}:",
    Action.EXPANDED: "Your message was passed on to the members of {}:",
}
_CAME_TRUE: Final = frozenset({Action.DELIVERED, Action.RELAYED, Action.EXPANDED})


class Told(NamedTuple):
    """Text, its lines ended by LF."""

    subject: str
    body: str


def compose(report: Report, *, subject: str, trace: str, contact: Address | None) -> Told:
    """The notice in words. `subject` is that of the message, `trace` the id of its transit."""
    shown = report.recipients[:_SHOWN_MAX]
    lines: list[str] = []
    for (action, said), members in _grouped(shown).items():
        lines += _paragraph(action, said, members)
    if len(report.recipients) > len(shown):
        more = len(report.recipients) - len(shown)
        lines += [f"{more} more recipients are named in the attached report.", ""]
    lines += ["Your message", f"    Subject: {subject or '(none)'}"]
    if report.arrival_date is not None:
        lines.append(f"    Came in: {format_date(report.arrival_date)}")
    lines += ["", *_wrapped(_help(contact, trace), ""), "", "Technical details"]
    lines += [f"    Trace: {trace}", f"    Reported by: {_value(report.reporting_mta)}"]
    for each in shown:
        lines += _details(each)
    title = _SUBJECTS[report.action]
    return Told(f"{title}: {subject}" if subject else f"{title}: your message", _text(lines))


def _grouped(
    recipients: Sequence[RecipientStatus],
) -> dict[tuple[Action, Meaning], list[RecipientStatus]]:
    """Who shares a fate, the gravest first; a server's answers may differ within."""
    found: dict[tuple[Action, Meaning], list[RecipientStatus]] = {}
    for each in sorted(recipients, key=lambda each: list(Action).index(each.action)):
        found.setdefault((each.action, meaning(each.status)), []).append(each)
    return found


def _paragraph(action: Action, said: Meaning, members: Sequence[RecipientStatus]) -> Iterator[str]:
    count = len(members)
    if action is Action.EXPANDED:
        who = "this mailing list" if count == 1 else f"these {count} mailing lists"
    else:
        who = "this recipient" if count == 1 else f"these {count} recipients"
    yield _HAPPENED[action].format(who)
    yield ""
    for each in members:
        yield f"    {_name(each)}"
    yield ""
    if action in _CAME_TRUE:
        return
    yield from _wrapped(said.sentence, "    ")
    if action is Action.DELAYED:
        untils = [each.will_retry_until for each in members if each.will_retry_until is not None]
        until = f" until {format_date(max(untils))}" if untils else ""
        yield from _wrapped(f"The server goes on trying{until}. You need not do anything.", "    ")
    else:
        yield from _wrapped(said.advice, "    ")
    yield ""


def _name(recipient: RecipientStatus) -> str:
    """The address that the sender wrote, and where that led, if elsewhere."""
    final = _value(recipient.final_recipient)
    original = recipient.original_recipient
    if original is None or _value(original).lower() == final.lower():
        return final
    return f"{_value(original)} (which leads to {final})"


def _help(contact: Address | None, trace: str) -> str:
    ask = f"write to {contact}" if contact is not None else "ask your administrator"
    return f"This notice was written by a machine. For help, {ask}, and name the trace {trace}."


def _details(recipient: RecipientStatus) -> Iterator[str]:
    yield ""
    yield f"    Recipient: {_value(recipient.final_recipient)}"
    yield f"    Status: {recipient.status} ({recipient.action.value})"
    if recipient.remote_mta is not None:
        yield f"    Server: {_value(recipient.remote_mta)}"
    if recipient.last_attempt is not None:
        yield f"    Last attempt: {format_date(recipient.last_attempt)}"
    if recipient.diagnostic is not None:
        yield "    What the server said:"
        yield from _wrapped(line(recipient.diagnostic.value, _WORDS_MAX), "        ")


def _value(given: Typed) -> str:
    return line(given.value, _ADDRESS_MAX) or "(unknown)"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _text(lines: Sequence[str]) -> str:
    return "".join([f"{each}\n" for each in lines])
