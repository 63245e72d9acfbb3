"""What mail flow needs of the rooms below, constructed once in `server`."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from postroom.core.clock import Clock
from postroom.core.ids import Ids
from postroom.core.secrets import Keyring
from postroom.core.settings import Chain, Place, Scope, chain
from postroom.domain.policy import Policies
from postroom.domain.searching.indexing import Indexer
from postroom.formats.address import Address
from postroom.formats.lookalike import Lookalikes
from postroom.mailflow.copies import Copies
from postroom.mailflow.settings import ServerSettings
from postroom.mailflow.signers import Signers
from postroom.store.blobs import Blobs
from postroom.store.units import Database
from postroom.trust.checks import Checks

_MOST_CHAINS: Final = 20_000


@dataclass(slots=True)
class MailHouse:
    """The stores, the clock, the ids, the policies and the keys of secrets."""

    mail: Database
    state: Database
    blobs: Blobs
    clock: Clock
    ids: Ids
    policies: Policies
    node: str = "1"
    random: random.Random = field(default_factory=random.SystemRandom)
    secrets: Keyring = field(default_factory=Keyring)
    signers: Signers = field(default_factory=Signers)  # of what leaves in our domains' names
    checks: Checks | None = None  # of who vouches for mail; without them nobody asks
    copies: Copies = field(default_factory=Copies)  # of signed messages
    indexer: Indexer | None = None  # of message texts; without it a search reads them
    batv_secret: bytes = b""  # from which tags are made; empty: not read yet
    lookalikes: Lookalikes = field(default_factory=Lookalikes)  # the domains of this server
    lookalikes_until: float = 0.0  # of the monotonic clock
    named: dict[str, Address | None] = field(default_factory=dict)  # by the keys of names
    named_until: float = 0.0  # likewise
    _chains: dict[tuple[str, str, int], Chain] = field(default_factory=dict)

    @property
    def hostname(self) -> str:
        """The name under which this server speaks, as of the last look at the settings."""
        names = self.policies.latest(self.chain("")).of(ServerSettings)
        return names.hostname or f"mail.{names.default_domain}"

    @property
    def default_domain(self) -> str:
        """The domain of `<Postmaster>` without one, and of logins without one."""
        return self.policies.latest(self.chain("")).of(ServerSettings).default_domain

    def chain(self, listener: str, domain: str = "", account: int = 0) -> Chain:
        """The places whose settings apply, the nearest first."""
        asked = (listener, domain, account)
        known = self._chains.get(asked)
        if known is not None:
            return known
        if len(self._chains) >= _MOST_CHAINS:
            self._chains.clear()
        places = [Place(Scope.NODE, self.node), Place(Scope.LISTENER, listener)]
        if domain:
            places.append(Place(Scope.DOMAIN, domain))
        if account:
            places.append(Place(Scope.ACCOUNT, str(account)))
        made = self._chains[asked] = chain(*places)
        return made
