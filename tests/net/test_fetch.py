"""Fetching: the answer whole, or the reason why not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from postroom.core.errors import (
    CertificateRefused,
    ConnectFailed,
    ConnectionLost,
    DnsFailed,
    Malformed,
    Misuse,
    NotAllowed,
    NotFound,
    TlsFailed,
    TooLarge,
)
from postroom.net.egress import Egress
from postroom.testing.dns import Fault, What

from .web import HOST, OK, Web, web

URL = f"https://{HOST}/"


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Web]:
    async with web(tmp_path) as made:
        yield made


# --- what is asked, and what comes back -----------------------------------------------------------


async def test_an_answer_comes_whole_with_what_is_known_of_it(there: Web) -> None:
    there.answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    got = await there.fetcher().fetch(URL + "x?y#z")
    assert (got.status, got.body, got.url) == (200, b"hello", URL + "x?y")
    assert got.headers == (("content-type", "text/plain"), ("content-length", "5"))
    assert got.first("content-type") == "text/plain"
    assert got.first("etag") is None
    assert got.ip == ip_address("127.0.0.1")
    assert got.tls is not None
    assert got.tls.verified
    assert there.requests == [
        b"GET /x?y HTTP/1.1\r\nHost: web.example\r\nUser-Agent: Postroom\r\n"
        b"Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    ]


async def test_a_request_has_a_method_fields_and_a_body(there: Web) -> None:
    got = await there.fetcher().fetch(
        URL, method="POST", headers={"Content-Type": "application/json"}, body=b"{}"
    )
    assert got.status == 200
    (request,) = there.requests
    assert request.startswith(b"POST / HTTP/1.1\r\nHost: web.example\r\n")
    assert b"\r\nContent-Type: application/json\r\n" in request
    assert b"\r\nContent-Length: 2\r\n" in request
    assert request.endswith(b"\r\n\r\n{}")


async def test_a_head_has_no_content(there: Web) -> None:
    there.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\nContent-Encoding: gzip\r\n\r\n"
    got = await there.fetcher().fetch(URL, method="HEAD")
    assert (got.status, got.body) == (200, b"")


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n4;x=y\r\n you\r\n0\r\n"
         b"Trailer: x\r\n\r\n", 200, b"hi you"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK, 200, b"hi"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\nContent-Encoding: identity\r\n\r\nno",
         500, b"no"),
        (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother", 200, b"hi"),
    ],
)  # fmt: skip
async def test_every_way_to_send_content_is_read(
    there: Web, answer: bytes, status: int, body: bytes
) -> None:
    there.answer = answer
    got = await there.fetcher().fetch(URL)
    assert (got.status, got.body) == (status, body)


async def test_a_port_in_the_url_is_asked_itself(there: Web) -> None:
    got = await there.fetcher().fetch(f"https://{HOST}:{there.port}/")
    assert got.url == f"https://{HOST}:{there.port}/"
    assert f"\r\nHost: {HOST}:{there.port}\r\n".encode() in there.requests[0]


async def test_plain_http_only_where_the_caller_wants_it(there: Web) -> None:
    url = f"http://{HOST}:{there.plain_port}/"
    with pytest.raises(NotAllowed, match="Only https"):
        await there.fetcher().fetch(url)
    assert not there.dns.questions()
    got = await there.fetcher().fetch(url, plain=True)
    assert (got.body, got.tls) == (b"hi", None)


async def test_fields_that_frame_or_name_are_not_the_callers(there: Web) -> None:
    for name in ("Host", "Content-Length", "transfer-encoding", "Cookie", "Accept-Encoding"):
        with pytest.raises(Misuse):
            await there.fetcher().fetch(URL, headers={name: "x"})
    for headers in ({"X": "a\r\nY: b"}, {"X:": "a"}, {"X": "a\0"}, {"X": "ä€"}):
        with pytest.raises(Misuse):
            await there.fetcher().fetch(URL, headers=headers)
    with pytest.raises(Misuse):
        await there.fetcher().fetch(URL, method="GET /x HTTP/1.1\r\nX:")
    with pytest.raises(Misuse):
        await there.fetcher().fetch(URL, redirects=4)
    assert not there.connections


async def test_many_at_once_take_turns(there: Web) -> None:
    most = now = 0

    async def slowly(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        writer.write(OK)

    there.answering = slowly
    fetcher = there.fetcher(at_once=3)
    got = await asyncio.gather(*[fetcher.fetch(URL) for _ in range(12)])
    assert [each.status for each in got] == [200] * 12
    assert most <= 3


# --- redirects ------------------------------------------------------------------------------------


def moved(to: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


async def test_a_redirect_is_an_answer_unless_it_is_to_be_followed(there: Web) -> None:
    there.answer = moved("https://elsewhere.example/")
    got = await there.fetcher().fetch(URL)
    assert (got.status, got.first("location")) == (302, "https://elsewhere.example/")


async def test_a_redirect_within_the_place_is_followed_to_the_same_address(there: Web) -> None:
    async def step(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(moved("/there") if head.startswith(b"GET / ") else OK)

    there.answering = step
    got = await there.fetcher().fetch(URL, redirects=1)
    assert (got.status, got.url) == (200, URL + "there")
    assert len(there.dns.questions(HOST)) == 2  # A and AAAA, once


async def test_redirects_end(there: Web) -> None:
    there.answer = moved("/again")
    got = await there.fetcher().fetch(URL, redirects=3)
    assert got.status == 302
    assert there.connections == 4


async def test_what_changes_something_is_not_sent_twice(there: Web) -> None:
    there.answer = moved("/there", 307)
    got = await there.fetcher().fetch(URL, method="POST", body=b"x", redirects=3)
    assert got.status == 307
    assert there.connections == 1


# --- what is too much -----------------------------------------------------------------------------


async def test_content_is_taken_up_to_its_size_and_not_beyond(there: Web) -> None:
    body = b"x" * 10_000
    for framing in (
        b"Content-Length: 10000\r\n\r\n" + body,
        b"Transfer-Encoding: chunked\r\n\r\n2710\r\n" + body + b"\r\n0\r\n\r\n",
        b"Connection: close\r\n\r\n" + body,
    ):
        there.answer = b"HTTP/1.1 200 OK\r\n" + framing
        assert (await there.fetcher(size=10_000).fetch(URL)).body == body
        with pytest.raises(TooLarge):
            await there.fetcher().fetch(URL, max_size=9_999)


async def test_an_endless_answer_is_cut_off(there: Web) -> None:
    sent = 0

    async def endless(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    there.answering = endless
    with pytest.raises(TooLarge):
        await there.fetcher().fetch(URL, max_size=100_000)
    assert sent < 32 << 20  # what lay in buffers


@pytest.mark.parametrize(
    "piece",
    [
        b"X: " + b"y" * 1_000 + b"\r\n",
        b"X" * 1_000,
    ],
)
async def test_an_endless_header_is_cut_off(there: Web, piece: bytes) -> None:
    there.answer = b"HTTP/1.1 200 OK\r\n" + piece * 1_000
    with pytest.raises(Malformed):
        await there.fetcher().fetch(URL)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"1;" + b"x" * 60_000 + b"\r\ny\r\n") * 100,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 200_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000,
    ],
)
async def test_framing_without_content_is_cut_off(there: Web, answer: bytes) -> None:
    there.answer = answer
    with pytest.raises((TooLarge, Malformed)):
        await there.fetcher(size=100_000).fetch(URL)


async def test_a_slow_answer_is_cut_off_however_it_drips(there: Web) -> None:
    async def drip(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1_000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    there.answering = drip
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match="in time"):
        await there.fetcher().fetch(URL, deadline=0.3)
    assert time.monotonic() - began < 1


async def test_a_dns_that_is_silent_counts_towards_the_deadline(there: Web) -> None:
    there.zones.fault(HOST, None, Fault(What.SILENT))
    with pytest.raises((ConnectionLost, DnsFailed)):
        await there.fetcher().fetch(URL, deadline=0.2)
    with pytest.raises(DnsFailed):
        await there.fetcher().fetch(URL)


# --- what is no answer ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"",
    ],
)
async def test_what_is_no_answer_is_told_as_such(there: Web, answer: bytes) -> None:
    there.answer = answer
    with pytest.raises((Malformed, ConnectionLost)):
        await there.fetcher().fetch(URL)


async def test_an_answer_that_was_cut_without_a_word_of_tls_is_none(there: Web) -> None:
    async def cut(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\npart of it")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    there.answering = cut
    with pytest.raises(ConnectionLost):
        await there.fetcher().fetch(URL)


async def test_a_certificate_for_another_name_is_refused(there: Web) -> None:
    there.zones.host("other.example", "127.0.0.1")
    with pytest.raises(CertificateRefused):
        await there.fetcher().fetch("https://other.example/")
    local = Egress(loopback=True)
    with pytest.raises(CertificateRefused):
        await there.fetcher(local).fetch("https://127.0.0.2/")  # it names 127.0.0.1
    assert not there.requests


async def test_a_certificate_of_nobody_is_refused(there: Web) -> None:
    there.ca_file = None
    with pytest.raises(CertificateRefused):
        await there.fetcher().fetch(URL)
    assert not there.requests


async def test_plain_text_where_tls_should_be_fails(there: Web) -> None:
    def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TlsFailed):
            await there.fetcher().fetch(f"https://{HOST}:{port}/", deadline=5)


async def test_a_host_that_is_not_there_is_told(there: Web) -> None:
    with pytest.raises(NotFound):
        await there.fetcher().fetch("https://none.example/")
    closed = there.port - 1 if there.port > 1025 else there.port + 1
    with pytest.raises(ConnectFailed):
        await there.fetcher().fetch(f"https://{HOST}:{closed}/")


async def test_the_next_address_is_tried_where_one_does_not_answer(there: Web) -> None:
    there.zones.host("two.example", "127.0.0.3", "127.0.0.1")
    there.zones.host(HOST, "127.0.0.3")
    allow = Egress(allow=(ip_network("127.0.0.0/8"),))
    got = await there.fetcher(allow).fetch(URL)
    assert got.ip == ip_address("127.0.0.1")


async def test_who_is_cancelled_leaves_no_connection(there: Web) -> None:
    ended = asyncio.Event()

    async def wait(head: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.wait_closed()
        finally:
            ended.set()

    there.answering = wait
    task = asyncio.create_task(there.fetcher().fetch(URL))
    async with asyncio.timeout(5):
        while not there.requests:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await ended.wait()
