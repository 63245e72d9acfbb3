"""Attack 22: what a stranger's URL makes us ask, and of whom."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from postroom.core.errors import ConnectFailed, MailError, Malformed, NotAllowed
from postroom.net.egress import Egress
from postroom.net.fetch import Fetcher
from tools.tree import ROOT, Source, sources

from .web import HOST, OK, Web, web

URL = f"https://{HOST}/"
OUTSIDE = Egress()

# One of each kind of place that is ours, our neighbours', the machine's, or nobody's.
INSIDE = (
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1",
    "172.31.255.255", "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.0.8", "198.18.0.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    # IPv4 in IPv6: mapped, compatible, 6to4, NAT64 (well known and local), Teredo
    "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::10.0.0.1", "2002:7f00:1::",
    "2002:a9fe:a9fe::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
)  # fmt: skip
FORBIDDEN_MODULES = (
    "http.client", "urllib.request", "urllib3", "aiohttp", "httpx", "httpcore", "requests",
    "pycurl", "ftplib", "telnetlib", "xmlrpc", "webbrowser", "websockets", "websocket", "niquests",
)  # fmt: skip
DIALS = frozenset(
    {
        "open_connection",
        "create_connection",
        "sock_connect",
        "connect_ex",
        "create_datagram_endpoint",
    }
)
DIALERS = ("src/postroom/net/", "src/postroom/testing/")


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Web]:
    async with web(tmp_path) as made:
        yield made


async def refused(fetcher: Fetcher, url: str, there: Web, *, redirects: int = 0) -> MailError:
    """What a fetch is refused with; no connection was made for it."""
    before = there.connections
    with pytest.raises((NotAllowed, Malformed)) as caught:
        await fetcher.fetch(url, redirects=redirects, plain=True)
    assert there.connections == before + redirects
    return caught.value


# --- where nobody may send us ---------------------------------------------------------------------


@pytest.mark.parametrize("address", INSIDE)
async def test_no_address_inside_is_reached_by_literal_or_by_name(there: Web, address: str) -> None:
    ip = ip_address(address)
    there.zones.host("inside.example", address, reverse=False)
    literal = f"[{address}]" if ip.version == 6 else address
    for url in (f"https://{literal}/", f"http://{literal}:8080/", "https://inside.example/"):
        error = await refused(there.fetcher(OUTSIDE), url, there)
        assert isinstance(error, NotAllowed)
        assert address not in str(error)  # a stranger learns nothing of our network


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "8.8.8.8", "2001:db8::1", "2606:4700::1", "64:ff9b::808:808"]
)
def test_the_internet_is_open(address: str) -> None:
    assert OUTSIDE.permits_fetching(ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "017700000001", "127.1", "0177.0.0.1", "127.0.0.1.", "１27.1",
     "127%2e0.0.1", "127.0.0.1%00.a.example", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0::1]",
     "０x7f.1", "①②⑦.⓪.⓪.①"],
)  # fmt: skip
async def test_no_spelling_of_loopback_is_a_way_in(there: Web, host: str) -> None:
    await refused(there.fetcher(OUTSIDE), f"https://{host}:{there.port}/", there)
    assert not there.dns.questions()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "ftp://a.example/", "dict://a.example/",
        "unix:///run/x", f"https://{HOST}@127.0.0.1/", f"https://127.0.0.1#@{HOST}/",
        f"https://127.0.0.1\\@{HOST}/", f"https://{HOST}:25/", f"https://{HOST}/ HTTP/1.1\r\nX: y",
        f"https://{HOST}/\nHost: inside", "https:///x", "//127.0.0.1/",
    ],
)  # fmt: skip
async def test_no_other_scheme_port_or_trick_of_the_text(there: Web, url: str) -> None:
    await refused(there.fetcher(OUTSIDE), url, there)


async def test_a_name_is_refused_if_dns_says_localhost(there: Web) -> None:
    there.zones.zone("localhost")
    there.zones.host("localhost", "127.0.0.1", "::1", reverse=False)
    there.zones.add("alias.example", "CNAME", "localhost.")
    for name in ("localhost", "alias.example"):
        await refused(there.fetcher(OUTSIDE), f"https://{name}/", there)


# --- rebinding ------------------------------------------------------------------------------------


async def test_the_address_that_was_judged_is_the_one_that_is_reached(there: Web) -> None:
    """The name leads elsewhere a moment later: nobody asks again."""
    there.zones.remove(HOST, "A")
    there.zones.host(HOST, "127.0.0.1", ttl=0, reverse=False)
    allow = Egress(allow=(ip_network("127.0.0.1/32"),))

    async def rebind(head: bytes, writer: asyncio.StreamWriter) -> None:
        there.zones.remove(HOST, "A")
        there.zones.host(HOST, "127.0.0.2", ttl=0, reverse=False)
        local = writer.get_extra_info("sockname")[0]
        if head.startswith(b"GET / "):
            writer.write(b"HTTP/1.1 302 x\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")
        else:
            answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(local)}\r\n\r\n{local}"
            writer.write(answer.encode())

    there.answering = rebind
    got = await there.fetcher(allow).fetch(URL, redirects=2)
    assert (got.url, got.body, str(got.ip)) == (URL + "again", b"127.0.0.1", "127.0.0.1")
    assert len(there.dns.questions(HOST, "A")) == 1
    await refused(there.fetcher(allow), URL, there)  # asked anew, judged anew


async def test_of_mixed_addresses_only_the_open_ones_are_tried(there: Web) -> None:
    there.zones.host(HOST, "127.0.0.2", "10.0.0.1", "::1", "169.254.169.254", reverse=False)
    got = await there.fetcher().fetch(URL)
    assert str(got.ip) == "127.0.0.1"
    assert there.connections == 1


# --- redirects ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1/", "http://169.254.169.254/latest/meta-data/", "//other.example/",
        "https://other.example/", f"http://{HOST}/", f"https://{HOST}:8443/", "file:///etc/passwd",
        f"https://{HOST}@other.example/", "https://2130706433/", "\\\\other.example\\x",
        "gopher://x/", "https://web.example.evil.example/", "/ok\\..\\@x", "/\u00e4",
    ],
)  # fmt: skip
async def test_no_redirect_leads_away(there: Web, location: str) -> None:
    there.zones.host("other.example", "127.0.0.1", reverse=False)
    there.answer = (
        b"HTTP/1.1 302 Found\r\nLocation: " + location.encode() + b"\r\nContent-Length: 0\r\n\r\n"
    )
    await refused(there.fetcher(), URL, there, redirects=1)


# --- nothing is carried along ---------------------------------------------------------------------


async def test_no_proxy_of_the_environment_and_no_cookie_is_used(
    there: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.2:1/")
    there.answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    fetcher = there.fetcher()
    await fetcher.fetch(URL)
    await fetcher.fetch(URL)
    assert all(b"ookie" not in request for request in there.requests)
    assert len(there.requests) == 2


async def test_ports_are_closed_but_those_of_the_web_and_high_ones(there: Web) -> None:
    for port in (1, 22, 25, 53, 110, 143, 465, 587, 993, 1023):
        await refused(there.fetcher(), f"https://{HOST}:{port}/", there)
    with pytest.raises(ConnectFailed):
        await there.fetcher().fetch(f"https://{HOST}:1024/")
    there.answer = OK
    assert (await there.fetcher().fetch(f"https://{HOST}:{there.port}/")).status == 200


# --- every caller ---------------------------------------------------------------------------------


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


@pytest.fixture(scope="module")
def product() -> list[Source]:
    return list(sources(ROOT, ["src"]))


def test_there_is_no_other_http_client_in_the_product(product: list[Source]) -> None:
    found = {
        (source.path, name)
        for source in product
        for name in _imports(source.tree)
        if any(name == each or name.startswith(f"{each}.") for each in FORBIDDEN_MODULES)
    }
    assert found == set()


def test_nobody_dials_by_himself(product: list[Source]) -> None:
    """Connections into the network are made by `net` alone, to addresses that were judged."""
    found = {
        (source.path, node.attr)
        for source in product
        if not source.path.startswith(DIALERS)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr in DIALS
    }
    assert found == set()


def test_the_library_that_speaks_http_is_used_here_alone(product: list[Source]) -> None:
    users = {
        source.path
        for source in product
        for name in _imports(source.tree)
        if name.split(".")[0] == "h11" and "/protocols/" not in source.path
    }
    assert users == {"src/postroom/net/fetch.py"}
