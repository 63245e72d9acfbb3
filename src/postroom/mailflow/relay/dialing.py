"""A connection to the best host behind a next hop that answers. RFC 5321 §5.1."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from postroom.core.errors import MailError, Status
from postroom.mailflow.relay.hosts import Finder, Host, Ip, is_temporary
from postroom.mailflow.relay.smarthost import SmartHost
from postroom.mailflow.routing import NextHop
from postroom.mailflow.settings import RelaySettings
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


class NobodyThere(MailError):
    """No host behind a next hop could be used. `tried` says what each of them said.

    `told` is permanent only if every one of them was: then mail for it is returned.
    """

    status = Status(4, 4, 1)
    sentence = "No server for the recipient's domain answers"

    def __init__(self, status: Status, reply: str, host: str, tried: tuple[str, ...]) -> None:
        super().__init__(detail="; ".join(tried) or reply)
        self.told = status
        self.reply = reply
        self.host = host
        self.tried = tried


@dataclass(slots=True)
class _Round:
    """What was tried in vain so far."""

    tried: list[str] = field(default_factory=list)
    temporary: tuple[Status, str, str] | None = None  # the first that may end better
    last: tuple[Status, str, str] = (Status(4, 4, 1), "", "")

    def note(self, host: str, where: str, status: Status, reply: str, *, lasting: bool) -> None:
        self.tried.append(f"{where}: {reply}")
        self.last = (status, reply, host)
        if not lasting and self.temporary is None:
            self.temporary = self.last

    def failed(self) -> NobodyThere:
        status, reply, host = self.temporary or self.last
        if self.temporary is not None and status.permanent:
            status = Status(4, status.subject, status.detail)
        return NobodyThere(status, reply, host, tuple(self.tried))


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
        seen = _Round()
        try:
            hosts = await self.finder.hosts(next_hop)
        except MailError as error:
            seen.note(
                "", next_hop.name, error.status, _said(error), lasting=not is_temporary(error)
            )
            raise seen.failed() from error
        for host in hosts:
            channel = await self._host(host, settings, smart, seen)
            if channel is not None:
                return channel
        raise seen.failed()

    async def _host(
        self, host: Host, settings: RelaySettings, smart: SmartHost | None, seen: _Round
    ) -> SmtpChannel | None:
        try:
            addresses = await self.finder.addresses(host, ipv6=settings.ipv6)
        except MailError as error:
            lasting = not is_temporary(error)
            seen.note(host.name, host.name, error.status, _said(error), lasting=lasting)
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
                seen.note(host.name, where, answer.status, said, lasting=lasting)
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


def _said(error: MailError) -> str:
    return f"{error} ({error.detail})" if error.detail else str(error)
