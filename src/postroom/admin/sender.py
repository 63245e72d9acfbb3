"""Operations on the sender policy: show its lines, and try what they would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from postroom.admin.house import AdminHouse, number_of
from postroom.core.errors import Misuse, NotFound
from postroom.core.ids import TRACE, external
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role, declared
from postroom.domain import trace
from postroom.domain.directory import people
from postroom.domain.facts import SenderPolicyFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Facts
from postroom.mailflow.phases import judge
from postroom.mailflow.rules import sender as rules
from postroom.mailflow.sender.evidence import Evidence, gathered, recorded, supposed
from postroom.mailflow.sender.judging import holds, judged
from postroom.mailflow.sender.language import RESULTS, UNKNOWN, parse
from postroom.mailflow.sender.settings import SenderSettings
from postroom.store.sql import Tx

_RULES = (
    rules.sender_marked,
    rules.sender_accepted,
    rules.sender_refused,
    rules.sender_deferred,
    rules.sender_filed,
)
_LISTENER = "As at this listener, such as smtp; without it, as on this node"
_DOMAIN = "As for mail to this domain, one of this server; without it, as set for all"


async def _policy(house: AdminHouse, listener: str, domain: str) -> Policy:
    """What decides about a message; raises NotFound of a domain that is not ours."""
    flow = house.flow

    def look(tx: Tx) -> Policy:
        name = people.domain(tx, domain).name if domain else ""
        return flow.policies.current(tx, flow.chain(listener, name))

    return await flow.mail.read(look)


# --- what is set --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShowPolicy:
    """Where."""

    listener: str = argument(_LISTENER, default="", option=True)
    domain: str = argument(_DOMAIN, default="", option=True)


@dataclass(frozen=True, slots=True)
class PolicyView:
    """The lines in their order, the thresholds, and who is approved."""

    lines: tuple[str, ...]
    junk_score: int
    refuse_score: int
    approved: tuple[str, ...]

    def told(self) -> str:
        told = [f"{n:>3}  {line}" for n, line in enumerate(self.lines, 1)]
        told = told or ["There are no lines: the settings spf.on_fail and dmarc.on_* say it all."]
        if self.junk_score:
            told.append(f"from {counted(self.junk_score, 'point')} on: junk")
        if self.refuse_score:
            told.append(f"from {counted(self.refuse_score, 'point')} on: refuse")
        return "\n".join([*told, *(f"approved: {each}" for each in self.approved)])


@operation("sender show", Role.ADMIN, changes=False)
async def show_policy(house: AdminHouse, asked: ShowPolicy) -> PolicyView:
    """Show the lines of `sender.rules` with their numbers, from which sum of points mail goes to
    junk or is refused, and the Approved List."""
    held = (await _policy(house, asked.listener, asked.domain)).of(SenderSettings)
    return PolicyView(held.rules, held.junk_score, held.refuse_score, held.approved)


# --- what it would do ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TryPolicy:
    """A message as it might come."""

    listener: str = argument(_LISTENER, default="", option=True)
    domain: str = argument(_DOMAIN, default="", option=True)
    message: str = argument(
        "A message that came, by its id: it is tried with what its checks found",
        default="",
        option=True,
    )
    lines: str = argument(
        "A file with lines to try in place of those that are set", default="", document=True
    )
    results: tuple[str, ...] = argument(
        "The results of the checks, in the words of the lines: spf=fail dkim=none dmarc=fail "
        "wish=reject arc=pass peer=192.0.2.1 sender=ann@example.org author=eve@example.net "
        "signer=example.com late=spf. What is not said is unknown",
        default=(),
    )


@dataclass(frozen=True, slots=True)
class TriedLine:
    """One line: whether it `holds` or `fails`, or was `not asked`, as another one decided."""

    line: int
    came: str
    text: str


@dataclass(frozen=True, slots=True)
class Tried:
    """What would become of the message. `action` is empty if nothing was decided."""

    action: str
    by: str
    reply: str  # to the peer, if it is refused or put off
    score: int
    tags: tuple[str, ...]
    instead: bool
    unknown: tuple[str, ...]
    lines: tuple[TriedLine, ...]

    def told(self) -> str:
        return "\n".join(self._told())

    def _told(self) -> Iterator[str]:
        for each in self.lines:
            yield f"{each.line:>3}  {each.came:<9}  {each.text}"
        if self.unknown:
            yield f"Unknown: {', '.join(self.unknown)}."
        if self.tags:
            yield f"It is tagged {', '.join(self.tags)}."
        if self.score:
            yield f"It has {counted(self.score, 'point')}."
        if not self.action:
            yield "Nothing is decided: what spf.on_fail and dmarc.on_* say is done."
            return
        yield f"{_DONE[self.action]} by {self.by}."
        if self.instead:
            yield "It decides in the place of what is set for DMARC."
        if self.reply:
            yield f"The peer is told: {self.reply}"


_DONE = {
    "accept": "It is accepted",
    "junk": "It is filed as junk",
    "quarantine": "It is put into quarantine",
    "defer": "It is put off",
    "refuse": "It is refused",
    "close": "It is refused, and the connection closed,",
}


@operation("sender test", Role.ADMIN, changes=False)
async def try_policy(house: AdminHouse, asked: TryPolicy) -> Tried:
    """Try what `sender.rules` and the Approved List would make of a message of which the checks
    had found this, or of one that came: which lines hold, which one decides, and what the peer is
    told. Nothing is sent or asked."""
    policy = await _policy(house, asked.listener, asked.domain)
    settings = policy.of(SenderSettings)
    if asked.lines:
        written = declared("sender.rules").parse(f"{asked.lines}\n")
        assert isinstance(written, tuple)  # as it is declared
        settings = replace(settings, rules=written)
    if asked.message and asked.results:
        raise Misuse("Name a message, or say what its checks might find")
    if asked.message:
        told = await _recorded(house, number_of(TRACE, asked.message, "a message"))
        found = gathered(recorded(told), policy)
    else:
        found = supposed(asked.results)
    ruled = judged(found, settings)
    facts = Facts()
    facts.put(ruled)
    last = judge(_RULES, facts, policy, None)[-1:]
    replies = [f"{v.reply_code} {v.status} {v.sentence}" for v in last if not v.passes]
    return Tried(
        ruled.action,
        ruled.by if ruled.line or not ruled.text else f"{ruled.by}, {ruled.text}",
        "".join(replies),
        ruled.score,
        ruled.tags,
        ruled.instead,
        tuple([each for each in RESULTS if found.results.get(each, UNKNOWN) == UNKNOWN]),
        tuple(_walk(settings, found, ruled)),
    )


async def _recorded(house: AdminHouse, number: int) -> Mapping[str, Any]:
    """The facts of a message by its trace, be it kept or refused. Raises NotFound."""
    record = await house.flow.mail.read(trace.get, number)
    if record is None:
        record = await house.flow.state.read(trace.get_refusal, number)
    if record is None:
        raise NotFound(f"There is no trace of {external(TRACE, number)}")
    facts = record.get("facts")
    return facts if isinstance(facts, dict) else {}


def _walk(
    settings: SenderSettings, found: Evidence, ruled: SenderPolicyFact
) -> Iterator[TriedLine]:
    approved = ruled.setting == "sender.approved"
    for number, text in enumerate(settings.rules, 1):
        came = "fails"
        if approved or (ruled.line and number > ruled.line):
            came = "not asked"
        elif all(holds(each, found) for each in parse(text).conditions):
            came = "holds"
        yield TriedLine(number, came, text)
