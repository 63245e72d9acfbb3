"""How a workload reaches a target's listeners and signs in."""

from __future__ import annotations

from bench.load.imap import Imap
from bench.model import ACCOUNTS, PASSWORD, BenchError, Endpoint, Target


def smtp_of(target: Target) -> Endpoint:
    """Raises BenchError if there is none."""
    if target.smtp is None:
        raise BenchError("no SMTP listener")
    return target.smtp


def imap_of(target: Target) -> Endpoint:
    """Where a client signs in. Raises BenchError if there is none."""
    if target.imap is None:
        raise BenchError("no IMAP listener")
    return target.imap


def plain_imap_of(target: Target) -> Endpoint:
    """Where a client is greeted without TLS. Raises BenchError if there is none."""
    if target.imap_plain is None:
        raise BenchError("no plain IMAP listener")
    return target.imap_plain


def sign_in(target: Target, account: int) -> Imap:
    """A client of one of the accounts, signed in."""
    return Imap(imap_of(target), ACCOUNTS[account % len(ACCOUNTS)], PASSWORD)
