"""The options of `postroom serve` and `postroom ready`.

An option whose room is not built yet is not accepted: silence would promise something.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeVar

from postroom.core.errors import MailError
from postroom.core.log import FORMATS, Format
from postroom.net.dns import parse_server
from postroom.net.proxy import parse_networks
from postroom.server.reach import Reach

T = TypeVar("T")

DATA: Final = "./data"
READY_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Given:
    """What `serve` was told."""

    data: str
    port_offset: int
    bind: tuple[str, ...]
    workers: int
    domain: str
    user: str | None
    log_format: Format
    reach: Reach = Reach()


def parse_serve(argv: Sequence[str]) -> Given:
    """Exits with 2 and a sentence for what cannot be."""
    parser = _parser("serve", "Run the server on a data directory; the first start makes it.")
    parser.add_argument(
        "--port-offset",
        type=_offset,
        default=0,
        metavar="N",
        help="add N to every standard port, and bind to loopback unless --bind says otherwise",
    )
    parser.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="ADDR",
        help="an address to listen on, instead of all; may be given several times",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="worker processes (one for each core)",
    )
    parser.add_argument(
        "--domain",
        default="example.test",
        metavar="D",
        help="the domain that a first start makes (example.test)",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="who to become when started as root (the owner of the data directory)",
    )
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default="text",
        help="lines for people or for machines (text)",
    )
    _add_reach(parser)
    given = parser.parse_args(argv)
    return Given(
        data=given.data,
        port_offset=given.port_offset,
        bind=tuple(given.bind),
        workers=given.workers,
        domain=given.domain,
        user=given.user,
        log_format=given.log_format,
        reach=Reach(
            resolver=given.resolver,
            outbound_port=given.outbound_port,
            outbound_https_port=given.outbound_https_port,
            egress_allow=tuple(chain.from_iterable(given.egress_allow)),
            ca_file=given.ca_file,
            proxy_from=tuple(chain.from_iterable(given.proxy_from)),
        ),
    )


def _add_reach(parser: argparse.ArgumentParser) -> None:
    """The world outside."""
    parser.add_argument(
        "--resolver",
        type=_told(parse_server),
        metavar="ADDR:PORT",
        help="the DNS server to ask (those of this machine)",
    )
    parser.add_argument(
        "--outbound-port",
        type=_port,
        metavar="N",
        help="the port of other mail servers instead of 25; loopback addresses may then be "
        "delivered to",
    )
    parser.add_argument(
        "--outbound-https-port",
        type=_port,
        metavar="N",
        help="the port of other web servers instead of 443; loopback addresses may then be asked",
    )
    parser.add_argument(
        "--egress-allow",
        action="append",
        default=[],
        type=_told(parse_networks),
        metavar="CIDR",
        help="a network that may be reached although it is private or this machine; may be given "
        "several times",
    )
    parser.add_argument(
        "--ca-file",
        metavar="FILE",
        help="certificates (PEM) that are trusted beside those of the system",
    )
    parser.add_argument(
        "--proxy-from",
        action="append",
        default=[],
        type=_told(parse_networks),
        metavar="CIDR",
        help="peers that must send a PROXY protocol header, and are then who it says; may be "
        "given several times",
    )


def _told(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser of ours as argparse calls it: with its sentence for what cannot be."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except (MailError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def parse_ready(argv: Sequence[str]) -> tuple[str, float]:
    """The data directory and how many seconds to wait."""
    parser = _parser(
        "ready",
        "Wait until every listener accepts: exit code 0, or 1 if they do not in time. May be "
        "called before the data directory exists.",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=READY_TIMEOUT,
        metavar="S",
        help=f"seconds to wait ({READY_TIMEOUT:g})",
    )
    given = parser.parse_args(argv)
    return given.data, given.timeout


def _parser(command: str, text: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"postroom {command}", description=text, allow_abbrev=False
    )
    parser.add_argument("--data", metavar="DIR", default=DATA, help=f"the data directory ({DATA})")
    return parser


def _offset(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 60_000:
        raise argparse.ArgumentTypeError("from 0 to 60000")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65_535:
        raise argparse.ArgumentTypeError("from 1 to 65535")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError("from 0 to 86400 seconds")
    return value
