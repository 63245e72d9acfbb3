"""Sign-ins over TLS, as clients that open a connection for each look at a mailbox: many at once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from bench.load.apart import own_cpu
from bench.load.imap import Imap
from bench.model import ACCOUNTS, PASSWORD, Endpoint


@dataclass(frozen=True, slots=True)
class LoginPlan:
    """So many clients at once, each on its own account in turn, for so long."""

    to: Endpoint
    clients: int
    seconds: float
    warm: float = 0.5  # s at the start that are not counted


@dataclass(frozen=True, slots=True)
class LoginResult:
    """Times are s; each is of a connection: TCP, TLS, greeting, LOGIN, SELECT."""

    latencies: tuple[float, ...]
    seconds: float
    cpu: float  # s of CPU that the clients used

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds


def sign_in_again_and_again(plan: LoginPlan) -> LoginResult:
    """Run the plan. Raises BenchError at the first refusal."""
    began = time.monotonic() + plan.warm
    until = began + plan.seconds
    latencies: list[float] = []
    errors: list[BaseException] = []
    cpu = own_cpu()

    def run(number: int) -> None:
        account = number
        try:
            while (start := time.monotonic()) < until and not errors:
                client = Imap(plan.to, ACCOUNTS[account % len(ACCOUNTS)], PASSWORD)
                client.command(b"SELECT INBOX")
                client.close()
                account += plan.clients
                now = time.monotonic()
                if began <= now <= until:
                    latencies.append(now - start)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(plan.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return LoginResult(tuple(latencies), plan.seconds, own_cpu() - cpu)
