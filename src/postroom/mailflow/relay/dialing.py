"""A connection to the best host behind a next hop that answers. RFC 5321 §5.1."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from postroom.core.errors import ConnectionLost, MailError, Status, TlsFailed
from postroom.mailflow.relay.hosts import ClosedNetwork, Finder, Host, Ip, is_temporary
from postroom.mailflow.relay.smarthost import HOST, TLS, USER, SmartHost
from postroom.mailflow.routing import NextHop, Way
from postroom.mailflow.settings import RelaySettings
from postroom.net.dns import DnsFailed
from postroom.net.smtp import (
    NO_TLS,
    TIMEOUTS,
    Credentials,
    Fate,
    OpenFailed,
    Phase,
    SmtpChannel,
    Target,
    Timeouts,
    TlsMode,
    TlsWish,
)
from postroom.net.tls import client_context
from postroom.net.wheel import TimerWheel

_LASTING: Final = 500  # replies from here on say that the same will fail again
_UNFOUND: Final = f"We could not find the host that {HOST} names"


class NobodyThere(MailError):
    """No host behind a next hop could be used. `tried` says what each of them said.

    `told` is permanent only if every one of them was: then mail for it is returned. A host that
    an administrator named is his setting, not the recipient's address: whatever is wrong with it,
    `told` is temporary, and `setting` is what has to be put right before it ends well, if
    anything has. `host` is empty if nobody was asked.
    """

    status = Status(4, 4, 1)
    sentence = "No server for the recipient's domain answers"

    def __init__(
        self, status: Status, reply: str, host: str, tried: tuple[str, ...], setting: str = ""
    ) -> None:
        super().__init__(detail="; ".join(tried) or reply)
        self.told = status
        self.reply = reply
        self.host = host
        self.tried = tried
        self.setting = setting


@dataclass(frozen=True, slots=True)
class _Word:
    """Why a host was of no use; `host` is empty if it was we who found out."""

    status: Status
    reply: str
    host: str = ""
    setting: str = ""


@dataclass(slots=True)
class _Round:
    """What was tried in vain so far."""

    configured: bool  # an administrator named the host
    tried: list[str] = field(default_factory=list)
    temporary: _Word | None = None  # the first that may end better
    last: _Word = _Word(Status(4, 4, 1), "")

    def note(self, where: str, word: _Word, *, lasting: bool) -> None:
        self.tried.append(f"{where}: {word.reply}")
        self.last = word
        if not lasting and self.temporary is None:
            self.temporary = word

    def unfound(self, name: str, error: MailError) -> None:
        """The host that is meant could not be found out."""
        if self.configured:
            # What "no server takes mail for the recipient's domain" would say is not true of it.
            why = _said(error) if isinstance(error, DnsFailed) else error.detail
            said = f"{_UNFOUND}: {why}"
            if isinstance(error, ClosedNetwork):
                said += " unless --egress-allow names its network"
            self.note(name, _Word(error.status, said, setting=HOST), lasting=False)
            return
        self.note(name, _Word(error.status, _said(error)), lasting=not is_temporary(error))

    def failed(self) -> NobodyThere:
        word = self.temporary or self.last
        status = word.status
        if status.permanent and (self.configured or self.temporary is not None):
            status = Status(4, status.subject, status.detail)
        return NobodyThere(status, word.reply, word.host, tuple(self.tried), word.setting)


@dataclass(slots=True)
class Dialer:
    """Makes connections. `hello` is the name under which we greet."""

    finder: Finder
    wheel: TimerWheel
    hello: Callable[[], str]
    tls: ssl.SSLContext  # verifies nothing: RFC 7435
    timeouts: Timeouts = TIMEOUTS
    trusted: ssl.SSLContext = field(default_factory=partial(client_context, verify=True))

    async def dial(
        self, next_hop: NextHop, settings: RelaySettings, smart: SmartHost | None = None
    ) -> SmtpChannel:
        """A channel to the first host that can be used. Raises NobodyThere."""
        seen = _Round(next_hop.way is Way.HOST)
        try:
            hosts = await self.finder.hosts(next_hop)
        except MailError as error:
            seen.unfound(next_hop.name, error)
            raise seen.failed() from error
        for host in hosts:
            channel = await self._host(host, settings, smart, seen)
            if channel is not None:
                return channel
        raise seen.failed()

    async def find(self, next_hop: NextHop, settings: RelaySettings) -> list[Ip]:
        """The addresses that `dial` would try for a host that an administrator named; nobody but
        DNS is asked. Raises NobodyThere."""
        seen = _Round(next_hop.way is Way.HOST)
        found: list[Ip] = []
        try:
            for host in await self.finder.hosts(next_hop):
                found += await self.finder.addresses(host, ipv6=settings.ipv6)
        except MailError as error:
            seen.unfound(next_hop.name, error)
            raise seen.failed() from error
        return found

    async def _host(
        self, host: Host, settings: RelaySettings, smart: SmartHost | None, seen: _Round
    ) -> SmtpChannel | None:
        try:
            addresses = await self.finder.addresses(host, ipv6=settings.ipv6)
        except MailError as error:
            seen.unfound(host.name, error)
            return None
        for ip in addresses:
            try:
                return await self._open(host, ip, settings, smart)
            except OpenFailed as error:
                where = f"{host.name} [{ip}]"
                answer = error.answer
                lasting = error.fate is Fate.PERMANENT
                signing_in = error.phase is Phase.AUTH
                said = f"sign-in: {answer}" if signing_in else str(answer)
                setting = _to_put_right(error, smart) if seen.configured else ""
                seen.note(where, _Word(answer.status, said, host.name, setting), lasting=lasting)
                if lasting or signing_in:
                    break  # it is this host's word, at whichever address: RFC 5321 §4.2.4.2
        return None

    async def _open(
        self, host: Host, ip: Ip, settings: RelaySettings, smart: SmartHost | None
    ) -> SmtpChannel:
        target = Target(host.name, ip, host.port)
        if smart is not None and smart.tls:
            return await self._channel(target, self._wish(host, smart), smart.credentials)
        mode = TlsMode.MUST if settings.tls == "must" else TlsMode.MAY
        name = host.name if host.literal is None else None
        try:
            return await self._channel(target, TlsWish(mode, self.tls, name))
        except OpenFailed as error:
            if not error.plain_may_help:
                raise
            # Whoever offers TLS that does not work would else get no mail at all.
            return await self._channel(target, NO_TLS)

    def _wish(self, host: Host, smart: SmartHost) -> TlsWish:
        """TLS that has to be there."""
        if smart.verify:
            name = host.name if host.literal is None else str(host.literal)
            return TlsWish(TlsMode.VERIFY, self.trusted, name, implicit=smart.implicit)
        name_sent = host.name if host.literal is None else None
        return TlsWish(TlsMode.MUST, self.tls, name_sent, implicit=smart.implicit)

    async def _channel(
        self, target: Target, wish: TlsWish, credentials: Credentials | None = None
    ) -> SmtpChannel:
        return await SmtpChannel.open(
            target,
            hello=self.hello(),
            wheel=self.wheel,
            tls=wish,
            timeouts=self.timeouts,
            credentials=credentials,
        )


def _to_put_right(error: OpenFailed, smart: SmartHost | None) -> str:
    """The setting by which a smart host cannot be used; empty if it may be well in a while."""
    code, why = error.answer.code, error.reason
    lost = isinstance(why, ConnectionLost) and not isinstance(why, TlsFailed)
    if lost or (code is not None and code < _LASTING):
        return ""
    if error.phase is Phase.AUTH:
        return USER
    if error.phase in (Phase.STARTTLS, Phase.TLS):
        return TLS if smart is not None and smart.tls else "relay.tls"
    # Whoever takes no mail from us at all (RFC 5321 §3.1, RFC 7504) is not who should be named.
    return HOST if error.fate is Fate.PERMANENT else ""


def _said(error: MailError) -> str:
    return f"{error} ({error.detail})" if error.detail else str(error)
