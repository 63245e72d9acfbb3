"""Mailbox names in modified UTF-7, as a client may send them."""

from __future__ import annotations

from postroom.formats import utf7

SEEDS: list[bytes] = [
    b"INBOX",
    b"Entw&APw-rfe/2026",
    b"~peter/mail/&U,BTFw-/&ZeVnLIqe-",
    b"&2D3eAA-",
    b"R&-D",
]
TOKENS: list[bytes] = [b"&", b"-", b"&-", b"&AOQ", b"&2AA-", b"&//8-", b"&AA"]


def one_input(data: bytes) -> None:
    """Either refused, or it has this one spelling."""
    try:
        name = utf7.decode(data)
    except ValueError:
        return
    assert utf7.encode(name) == data
