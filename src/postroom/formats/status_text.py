"""Enhanced status codes as sentences: what happened, for people who do not run mail servers.

RFC 3463 §3 and the codes registered since under RFC 5248. A code that nobody registered says
what its subject says, and then what its class says.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from postroom.core.errors import Status


class Meaning(NamedTuple):
    """A sentence that says what happened, and one that says what the sender can do."""

    sentence: str
    advice: str


_CHECK: Final = "Check the address for typing errors, or ask the recipient for another one."
_RECIPIENT: Final = "Please tell the recipient in another way, so that it can be put right there."
_LATER: Final = "Please send the message again later."
_SMALLER: Final = "Send a shorter message, or share large files by a link."
_OUR_SIDE: Final = "Please tell your administrator, with the technical details below."
_CONTENT: Final = "Change the message, or send it in another form."
_POLICY: Final = "The recipient's administrator can say what their rules are."
_AUTHENTIC: Final = "Your administrator must put this right, with the technical details below."

# subject.detail: RFC 3463 §3.2 to §3.8 unless another document is named.
_MEANINGS: Final[dict[tuple[int, int], Meaning]] = {
    # addresses, §3.2
    (1, 0): Meaning("Something is wrong with the address.", _CHECK),
    (1, 1): Meaning("The address does not exist.", _CHECK),
    (1, 2): Meaning("The domain of the address does not exist or takes no mail.", _CHECK),
    (1, 3): Meaning("The address is not written as an address must be.", _CHECK),
    (1, 4): Meaning("The address could mean several recipients.", _CHECK),
    (1, 5): Meaning("The address is valid.", "Nothing needs to be done."),
    (1, 6): Meaning("The recipient has moved and left no new address.", _CHECK),
    (1, 7): Meaning("The recipient's server finds that your address is not valid.", _OUR_SIDE),
    (1, 8): Meaning("The recipient's server finds that your domain is not valid.", _OUR_SIDE),
    # RFC 3886
    (1, 9): Meaning("The message went on to a system that reports nothing.", _RECIPIENT),
    # RFC 7505
    (1, 10): Meaning("The domain of the address takes no mail at all.", _CHECK),
    # mailboxes, §3.3
    (2, 0): Meaning("Something is wrong with the recipient's mailbox.", _RECIPIENT),
    (2, 1): Meaning("The recipient's mailbox is switched off.", _RECIPIENT),
    (2, 2): Meaning("The recipient's mailbox is full.", _RECIPIENT),
    (2, 3): Meaning("The message is larger than the recipient may receive.", _SMALLER),
    (2, 4): Meaning("The mailing list could not pass the message on.", _RECIPIENT),
    # mail systems, §3.4
    (3, 0): Meaning("The recipient's mail system has a problem.", _LATER),
    (3, 1): Meaning("The recipient's mail system has no room left.", _LATER),
    (3, 2): Meaning("The recipient's mail system takes no mail at the moment.", _LATER),
    (3, 3): Meaning("The recipient's mail system cannot do what the message needs.", _CONTENT),
    (3, 4): Meaning("The message is too large for the recipient's mail system.", _SMALLER),
    (3, 5): Meaning("A mail system on the way is set up wrongly.", _OUR_SIDE),
    # RFC 6710
    (3, 6): Meaning("The message was taken with another priority.", "Nothing needs to be done."),
    # network and routing, §3.5
    (4, 0): Meaning("The way to the recipient's mail system has a problem.", _LATER),
    (4, 1): Meaning("The recipient's mail system does not answer.", _LATER),
    (4, 2): Meaning("The connection to the recipient's mail system broke off.", _LATER),
    (4, 3): Meaning("The recipient's domain could not be looked up.", _LATER),
    (4, 4): Meaning("No mail server is known for the domain of the address.", _CHECK),
    (4, 5): Meaning("Too much mail waits for the recipient's mail system.", _LATER),
    (4, 6): Meaning("The message went round in a circle between mail systems.", _OUR_SIDE),
    (4, 7): Meaning("The message could not be delivered in time.", _LATER),
    # the protocol, §3.6
    (5, 0): Meaning("Two mail systems did not understand each other.", _OUR_SIDE),
    (5, 1): Meaning("Two mail systems did not understand each other.", _OUR_SIDE),
    (5, 2): Meaning("Two mail systems did not understand each other.", _OUR_SIDE),
    (5, 3): Meaning(
        "The message has more recipients than the server accepts.",
        "Send it to fewer recipients at a time.",
    ),
    (5, 4): Meaning("Two mail systems did not understand each other.", _OUR_SIDE),
    (5, 5): Meaning("Two mail systems did not understand each other.", _OUR_SIDE),
    # RFC 4954
    (5, 6): Meaning("Two mail systems did not understand each other.", _OUR_SIDE),
    # content, §3.7
    (6, 0): Meaning("The recipient's mail system cannot handle this content.", _CONTENT),
    (6, 1): Meaning("The recipient's mail system does not take this kind of content.", _CONTENT),
    (6, 2): Meaning("The content would have to be converted, and must not be.", _CONTENT),
    (6, 3): Meaning("The content would have to be converted, and cannot be.", _CONTENT),
    (6, 4): Meaning("The content was converted, and something was lost.", _CONTENT),
    (6, 5): Meaning("The content could not be converted.", _CONTENT),
    # RFC 4468
    (6, 6): Meaning("The content of the message could not be fetched.", _OUR_SIDE),
    # RFC 6531
    (6, 7): Meaning(
        "A mail system on the way does not take addresses with international letters.",
        "Use an address in plain letters, if there is one.",
    ),
    (6, 8): Meaning(
        "A mail system on the way does not take answers with international letters.",
        "Use an address in plain letters, if there is one.",
    ),
    (6, 9): Meaning(
        "A mail system on the way does not take international letters in headers.",
        "Use plain letters in addresses and names, if you can.",
    ),
    (6, 10): Meaning(
        "A mail system on the way does not take international letters.",
        "Use plain letters in addresses and names, if you can.",
    ),
    # security and policy, §3.8
    (7, 0): Meaning("The message was refused for reasons of security.", _POLICY),
    (7, 1): Meaning("The recipient's rules do not allow this message.", _POLICY),
    (7, 2): Meaning("You may not send to this mailing list.", _POLICY),
    (7, 3): Meaning("The message's protection would have to be changed, and cannot be.", _CONTENT),
    (7, 4): Meaning("The recipient's server lacks the protection that is needed.", _OUR_SIDE),
    (7, 5): Meaning("A secure connection to the recipient's server could not be made.", _OUR_SIDE),
    (7, 6): Meaning("The recipient's server lacks the protection that is needed.", _OUR_SIDE),
    (7, 7): Meaning("The message was found to be changed on its way.", _LATER),
    # RFC 4954, RFC 5248
    (7, 8): Meaning("A server on the way did not accept our sign-in.", _OUR_SIDE),
    (7, 9): Meaning("A server on the way did not accept our way to sign in.", _OUR_SIDE),
    (7, 10): Meaning("A server on the way demands an encrypted connection.", _OUR_SIDE),
    (7, 11): Meaning("A server on the way demands an encrypted connection.", _OUR_SIDE),
    (7, 12): Meaning("A server on the way demands a new password.", _OUR_SIDE),
    # RFC 5248
    (7, 13): Meaning("The recipient's account is switched off.", _RECIPIENT),
    (7, 14): Meaning("The recipient's server does not trust ours.", _OUR_SIDE),
    # RFC 6710
    (7, 15): Meaning("The message's priority is too low for this server now.", _LATER),
    (7, 16): Meaning("The message is too large for its priority.", _SMALLER),
    # RFC 7293
    (7, 17): Meaning("The address belongs to somebody else now.", _CHECK),
    (7, 18): Meaning("The domain of the address belongs to somebody else now.", _CHECK),
    (7, 19): Meaning("Nobody can say whether the address still has its old owner.", _CHECK),
    # RFC 7372 §3
    (7, 20): Meaning("The message lacks a valid signature of its sender's domain.", _AUTHENTIC),
    (7, 21): Meaning("The message lacks a signature that the server accepts.", _AUTHENTIC),
    (7, 22): Meaning("The message lacks a valid signature of its author's domain.", _AUTHENTIC),
    (7, 23): Meaning("Our server may not send mail for your domain.", _AUTHENTIC),
    (7, 24): Meaning("Your domain's list of servers could not be checked.", _AUTHENTIC),
    (7, 25): Meaning("Our server's name and address do not fit together.", _AUTHENTIC),
    (7, 26): Meaning("The message did not pass the checks of its sender's domain.", _AUTHENTIC),
    # RFC 7505
    (7, 27): Meaning("Your domain says that it takes no mail, so it may not send any.", _AUTHENTIC),
    # registered without an RFC of their own
    (7, 28): Meaning("Too much mail came in a short time.", _LATER),
    # RFC 8617
    (7, 29): Meaning("The message's record of checks on its way is broken.", _AUTHENTIC),
    # RFC 8689
    (7, 30): Meaning("No server on the way keeps the message encrypted all along.", _OUR_SIDE),
}

_OTHER: Final = {
    2: Meaning("The message was taken.", "Nothing needs to be done."),
    4: Meaning("The recipient's mail system could not take the message for now.", _LATER),
    5: Meaning("The recipient's mail system refused the message.", _POLICY),
}


def meaning(status: Status) -> Meaning:
    """What this status means, in one plain sentence, and what to do about it. Never raises."""
    known = _MEANINGS.get((status.subject, status.detail)) or _MEANINGS.get((status.subject, 0))
    return known or _OTHER.get(status.klass, _OTHER[5])
