"""What an administrator may decide about mail that comes in."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.core.settings import Scope, group, setting
from postroom.mailflow import signing_rules
from postroom.mailflow.names import parse_domain_name, parse_host_name
from postroom.mailflow.nexthop import parse_host


@group("server")
@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The names under which this server speaks."""

    default_domain: str = setting(
        "example.test",
        "The domain of system mail, of `<Postmaster>` and of logins that name none",
        scopes=(Scope.SERVER,),
        form=parse_domain_name,
    )
    hostname: str = setting(
        "",
        "The host name in greetings and Received fields; empty: mail. and the default domain. "
        "It should resolve to this machine. RFC 5321 §2.3.5",
        form=parse_host_name,
    )


_MAIL_SCOPES = (Scope.SERVER, Scope.NODE, Scope.LISTENER)


@group("smtp")
@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Limits and refusals of the SMTP server."""

    max_size: int = setting(
        50 * 1024 * 1024,
        "The largest message that is taken. RFC 1870",
        unit="octets",
        scopes=_MAIL_SCOPES,
        at_least=64 * 1024,
        at_most=1024 * 1024 * 1024,
    )
    max_recipients: int = setting(
        1000,
        "Recipients of one transaction; further ones are asked to come in the next. "
        "RFC 5321 §4.5.3.1.8",
        scopes=_MAIL_SCOPES,
        at_least=100,
        at_most=10_000,
    )
    max_refused: int = setting(
        20,
        "Refused recipients after which a connection is closed: who guesses addresses has to "
        "begin again. 0 never closes",
        scopes=_MAIL_SCOPES,
        at_least=0,
    )
    max_hops: int = setting(
        50,
        "Received fields after which a message is taken to go in circles. RFC 5321 §6.3",
        scopes=_MAIL_SCOPES,
        at_least=10,
        at_most=1000,
    )
    local_senders_sign_in: bool = setting(
        True,
        "On port 25, refuse a reverse-path in a domain of this server unless the peer has "
        "signed in",
        scopes=(*_MAIL_SCOPES, Scope.DOMAIN),
    )
    accept_deadline: int = setting(
        20,
        "How long the checks of a message may take in all before it is decided without them",
        unit="seconds",
        scopes=_MAIL_SCOPES,
        at_least=1,
        at_most=300,
    )


_SENDER_SCOPES = (*_MAIL_SCOPES, Scope.DOMAIN)


@group("submission")
@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """Who may send as whom, and what is done to a message that is submitted."""

    own_sender: bool = setting(
        True,
        "Refuse a reverse-path that is not an address of who signed in",
        scopes=_SENDER_SCOPES,
    )
    own_author: bool = setting(
        True,
        "Refuse a message whose From or Sender is not an address of who signed in",
        scopes=_SENDER_SCOPES,
    )


_RELAY_SCOPES = (Scope.SERVER, Scope.NODE, Scope.DOMAIN)


@group("relay")
@dataclass(frozen=True, slots=True)
class RelaySettings:
    """How mail goes to other servers."""

    smart_host: str = setting(
        "",
        "A server that passes outgoing mail on: a name or an address, with a port or without, such "
        "as relay.example:587 or [2001:db8::1]:587. No mail exchangers are asked for it, and while "
        "it is not found or does not take us mail waits. Empty: mail goes to the mail exchangers "
        "of its domain. RFC 5321 §5",
        scopes=_RELAY_SCOPES,
        form=parse_host,
    )
    smart_host_user: str = setting(
        "",
        "The name under which we sign in at the smart host; empty: we do not. It counts for a "
        "smart host that was set at the same place or farther away. RFC 4954",
        scopes=_RELAY_SCOPES,
    )
    smart_host_password: str = setting(
        "",
        "The password of that name, set by `settings secret`. It is said over TLS alone",
        scopes=_RELAY_SCOPES,
        secret=True,
    )
    smart_host_tls: str = setting(
        "auto",
        "`starttls` and `implicit` send nothing unencrypted; `auto` is `implicit` on port 465, "
        "else `starttls` if we sign in, else as relay.tls says. RFC 8314",
        scopes=_RELAY_SCOPES,
        choices=("auto", "starttls", "implicit"),
    )
    smart_host_verify: bool = setting(
        True,
        "Where TLS is needed, believe only a smart host whose certificate is for its name and from "
        "an authority of this system or of --ca-file. Without, whoever answers gets the password",
        scopes=_RELAY_SCOPES,
    )
    connections: int = setting(
        10, "Connections to one destination at the same time", at_least=1, at_most=200
    )
    destinations: int = setting(
        50, "Destinations that one worker serves at the same time", at_least=1, at_most=500
    )
    messages_per_connection: int = setting(
        100, "Messages after which a connection is made anew", at_least=1
    )
    tls: str = setting(
        "may",
        "`may` encrypts where the other server offers it; `must` sends nothing unencrypted",
        choices=("may", "must"),
    )
    ipv6: bool = setting(True, "Reach other servers over IPv6 where they have it")


@group("queue")
@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How long mail is tried, and what its sender is told."""

    expire_hours: int = setting(
        120,
        "How long a message is tried before it is returned. RFC 5321 §4.5.4.1",
        unit="hours",
        scopes=(Scope.SERVER, Scope.NODE, Scope.DOMAIN),
        at_least=1,
        at_most=24 * 30,
    )
    expire_null_hours: int = setting(
        48,
        "How long a message without a sender, such as a delivery report, is tried",
        unit="hours",
        at_least=1,
        at_most=24 * 30,
    )
    delay_notice_hours: int = setting(
        4,
        "After how long the sender is told that a message is delayed; 0 tells nobody. "
        "RFC 3461 §4.1",
        unit="hours",
        at_least=0,
        at_most=24 * 30,
    )
    longest_wait_minutes: int = setting(
        240,
        "The longest time between two attempts: 3, 15, 30, 60 minutes, then doubling up to this",
        unit="minutes",
        at_least=3,
        at_most=24 * 60,
    )
    return_octets: int = setting(
        256 * 1024,
        "Up to which size a message is returned whole with its report; of a larger one, the "
        "header. RFC 3461 §4.3",
        unit="octets",
        at_least=0,
        at_most=50 * 1024 * 1024,
    )


@group("quota")
@dataclass(frozen=True, slots=True)
class QuotaSettings:
    """What an account may hold."""

    octets: int = setting(
        0,
        "How much an account may hold; 0 is no limit. What was deleted and can be brought back "
        "does not count",
        unit="octets",
        scopes=(Scope.SERVER, Scope.DOMAIN, Scope.ACCOUNT),
        at_least=0,
    )
    messages: int = setting(
        0,
        "How many messages an account may hold; 0 is no limit",
        scopes=(Scope.SERVER, Scope.DOMAIN, Scope.ACCOUNT),
        at_least=0,
    )


@group("retention")
@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long what is gone can be brought back, and what happened can be explained."""

    deleted_days: int = setting(
        30,
        "How long a deleted message can be brought back",
        unit="days",
        scopes=(Scope.SERVER, Scope.DOMAIN, Scope.ACCOUNT),
        at_least=0,
        at_most=3650,
    )
    traces_days: int = setting(
        90, "How long the trace of a message that was kept is held", unit="days", at_least=1
    )
    refusals_days: int = setting(
        14, "How long the trace of a refusal is held", unit="days", at_least=1
    )
    tombstones_days: int = setting(
        90,
        "How long clients can catch up by what changed; after that they read all anew",
        unit="days",
        at_least=1,
    )
    journal_days: int = setting(
        30, "How long changes of mailboxes are held for undo and audit", unit="days", at_least=1
    )


_OF_RECIPIENTS = (*_MAIL_SCOPES, Scope.DOMAIN)
"""What the recipients' domain decides: mailflow.deciding."""


@group("spf")
@dataclass(frozen=True, slots=True)
class SpfSettings:
    """Whether the sender's domain lets the peer send in its name. RFC 7208."""

    check: bool = setting(
        True,
        "Check SPF, and the name of the peer's address, for mail that comes in from others",
        scopes=_MAIL_SCOPES,
    )
    on_fail: str = setting(
        "accept",
        "What becomes of a message that the sender's domain disowns: `accept` records it, `junk` "
        "files it as junk, `quarantine` keeps it until an administrator lets it go, `refuse` "
        "refuses it. Forwarders make honest mail fail. RFC 7208 §8.4",
        scopes=_OF_RECIPIENTS,
        choices=("accept", "junk", "quarantine", "refuse"),
    )
    exempt: tuple[str, ...] = setting(
        (),
        "Who is not checked: networks of peers, such as 192.0.2.0/24, and domains of senders, "
        "those below them included",
        scopes=_MAIL_SCOPES,
    )
    received_spf: bool = setting(
        True,
        "Put a Received-SPF field beside Authentication-Results. RFC 7208 §9.1",
        scopes=_MAIL_SCOPES,
    )


@group("dkim")
@dataclass(frozen=True, slots=True)
class DkimSettings:
    """Signatures of domains: those of others checked, ours made. RFC 6376."""

    verify: bool = setting(
        True,
        "Check the DKIM signatures of mail that comes in from others",
        scopes=_MAIL_SCOPES,
    )
    sign: bool = setting(
        True,
        "Sign mail that leaves in the name of a domain of this server, once DNS has its keys",
        scopes=(*_MAIL_SCOPES, Scope.DOMAIN),
    )
    sign_reports: bool = setting(
        True,
        "Sign reports of delivery and other mail that the server composes, too",
        scopes=(Scope.SERVER,),
    )
    more_fields: tuple[str, ...] = setting(
        ("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post"),
        "Header fields that are signed where they are there, beside those that readers show; "
        "these are signed so that none can be added either. RFC 6376 §5.4.1",
        scopes=(Scope.SERVER, Scope.DOMAIN),
    )
    rules: tuple[str, ...] = setting(
        (),
        "Which keys sign which mail: lines such as `author=news@example.org sign news` or "
        "`list=lists.example.org unsigned`, of conditions `author`, `sender` (the reverse-path), "
        "`list` (List-Id) and `header` (`NAME` or `NAME:TEXT`), which all have to hold. The first "
        "line of which they do decides; without one, every active key of the author's domain "
        "signs that does not stand apart",
        scopes=(Scope.SERVER, Scope.DOMAIN),
        at_most=signing_rules.LINES_MAX,
        form=signing_rules.canonical,
    )
    valid_days: int = setting(
        0,
        "After how long our signatures end (`x=`), so that nobody can replay a message for ever; "
        "0 never. They last at least a day longer than mail is tried. RFC 6376 §3.5",
        unit="days",
        scopes=(Scope.SERVER, Scope.DOMAIN),
        at_least=0,
        at_most=3650,
    )
    make_keys: bool = setting(
        True,
        "Make signing keys for a domain that has none. They sign only once DNS has them",
        scopes=(Scope.SERVER, Scope.DOMAIN),
    )
    activate: bool = setting(
        True,
        "Let a key sign as soon as it was seen in DNS; without, `dkim key activate` does",
        scopes=(Scope.SERVER, Scope.DOMAIN),
    )
    rotate_days: int = setting(
        0,
        "After how long a successor is made for a key that signs; 0 makes none. The successor "
        "takes over once it was seen in DNS",
        unit="days",
        scopes=(Scope.SERVER, Scope.DOMAIN),
        at_least=0,
        at_most=3650,
    )
    keep_days: int = setting(
        14,
        "How long the record of a retired key has to stay in DNS, for mail that is still under "
        "way; then its private key is removed",
        unit="days",
        scopes=(Scope.SERVER, Scope.DOMAIN),
        at_least=5,
        at_most=365,
    )


_DMARC_ACTIONS = ("refuse", "quarantine", "junk", "tag", "accept")


@group("dmarc")
@dataclass(frozen=True, slots=True)
class DmarcSettings:
    """Whether the author's domain stands behind a message. RFC 9989."""

    verify: bool = setting(
        True,
        "Check DMARC for mail that comes in from others",
        scopes=_MAIL_SCOPES,
    )
    on_reject: str = setting(
        "refuse",
        "What becomes of a message that fails where the author's domain wants it rejected: "
        "`refuse` refuses it, `quarantine` keeps it until an administrator lets it go, `junk` "
        "files it as junk, `tag` sets the keyword $Phishing, `accept` records it. RFC 9989 §5.4",
        scopes=_OF_RECIPIENTS,
        choices=_DMARC_ACTIONS,
    )
    on_quarantine: str = setting(
        "junk",
        "The same where the author's domain wants it quarantined",
        scopes=_OF_RECIPIENTS,
        choices=_DMARC_ACTIONS,
    )
    on_temperror: str = setting(
        "accept",
        "What becomes of a message whose policy DNS does not tell: `accept` takes it, `defer` "
        "lets it come again. RFC 9989 §5.3.6",
        scopes=_OF_RECIPIENTS,
        choices=("accept", "defer"),
    )
    on_unclear_author: str = setting(
        "refuse",
        "What becomes of a message of which readers may disagree who wrote it: one with several "
        "From fields, with more authors than can be checked, with an address or a domain that is "
        "none, or with a header that breaks off before another From. RFC 9989 §11.5",
        scopes=_OF_RECIPIENTS,
        choices=_DMARC_ACTIONS,
    )
    exempt: tuple[str, ...] = setting(
        (),
        "Whose mail is taken though it fails: networks of peers, such as 192.0.2.0/24, domains "
        "of authors, those below them included, and addresses of authors. The check is still "
        "made and told",
        scopes=_OF_RECIPIENTS,
    )
