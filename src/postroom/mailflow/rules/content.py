"""Rules about what came as the message itself."""

from __future__ import annotations

from postroom.core.errors import Status, TooLarge
from postroom.domain.facts import AuthorFact, ContentFact, PeerFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Recipient, Verdict, refuse
from postroom.formats.headers import FIELDS_MAX, HEADER_MAX
from postroom.mailflow.settings import SmtpSettings, SubmissionSettings


def line_ends(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """A bare CR or LF lets a second message be smuggled in: refuse, never repair.

    RFC 5321 §2.3.8; attack class 1.
    """
    content = facts.get(ContentFact)
    if content is None or not (content.bare_cr or content.bare_lf):
        return None
    which = "LF" if content.bare_lf else "CR"
    return Verdict(
        "line_ends",
        Action.REFUSE,
        Status(5, 6, 0),
        f"The message holds a bare {which}; lines end with CRLF",
        f"a bare {which} came where RFC 5321 allows CRLF only",
        code=554,
    )


def nul(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """No mail client can show a NUL, and many programs stop reading there."""
    content = facts.get(ContentFact)
    if content is None or not content.nul:
        return None
    return Verdict(
        "nul",
        Action.REFUSE,
        Status(5, 6, 0),
        "The message holds a NUL octet",
        "a NUL octet came in the content",
        code=554,
    )


def size(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """What MAIL did not declare is seen when it is there. RFC 1870 §6.3."""
    content = facts.get(ContentFact)
    limit = policy.of(SmtpSettings).max_size
    if content is None or content.size <= limit:
        return None
    return refuse(
        "size",
        TooLarge(f"This server takes messages of up to {limit} octets"),
        f"the message has {content.size} octets, the limit is {limit}",
        code=552,
        setting="smtp.max_size",
    )


def hops(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """A message that was passed on too often goes in circles. RFC 5321 §6.3."""
    content = facts.get(ContentFact)
    limit = policy.of(SmtpSettings).max_hops
    if content is None or content.hops < limit:
        return None
    return Verdict(
        "hops",
        Action.REFUSE,
        Status(5, 4, 6),
        "This message goes in circles",
        f"it holds {content.hops} Received fields, the limit is {limit}",
        code=554,
        setting="smtp.max_hops",
    )


def whole_header(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """What of a submitted header lies beyond our caps would go out unseen: a Bcc, another From.

    RFC 6409 §6.1, §8.
    """
    author = facts.get(AuthorFact)
    if author is None or author.whole:
        return None
    return refuse(
        "whole_header",
        TooLarge("The header of this message is too large"),
        f"its header has more than {FIELDS_MAX} fields or {HEADER_MAX} octets",
        code=552,
    )


def own_author(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Who signed in writes under an address of his own. RFC 6409 §6.1, attack class 4."""
    peer, author = facts.get(PeerFact), facts.get(AuthorFact)
    if peer is None or not peer.signed_in or not policy.of(SubmissionSettings).own_author:
        return None
    if author is not None and author.from_fields == 1 and author.addresses and not author.foreign:
        return None
    if author is None:
        why = "the header was not looked at in time"
    elif author.from_fields != 1:
        why = f"the header has {author.from_fields} From fields"
    elif not author.addresses:
        why = "From holds no address"
    else:
        why = f"{', '.join(author.foreign)} is no address of {peer.login}"
    return Verdict(
        "own_author",
        Action.REFUSE,
        Status(5, 7, 1),
        "You may not write under this From or Sender address",
        why,
        code=550,
        setting="submission.own_author",
    )
