"""postroom.server.reach: what is fetched of an identity provider. Sockets."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from postroom.core.errors import MailError, Malformed, NotAllowed
from postroom.server.reach import Reach
from tests.net.web import HOST, web

DOCUMENT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def test_a_document_is_fetched_by_the_rules_of_egress(tmp_path: Path) -> None:
    async with web(tmp_path) as made:
        made.answer = DOCUMENT
        reach = Reach(
            outbound_https_port=made.port,
            ca_file=made.ca_file,
            egress_allow=(ip_network("127.0.0.1/32"),),
        )
        fetch = reach.documents(made.resolver, made.wheel)
        assert await fetch(f"https://{HOST}/.well-known/openid-configuration") == b"{}"
        assert b"Accept: application/json" in made.requests[0]
        made.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        with pytest.raises(Malformed):
            await fetch(f"https://{HOST}/keys")
        with pytest.raises(NotAllowed):
            await fetch(f"http://{HOST}/keys")
        strict = Reach(ca_file=made.ca_file).documents(made.resolver, made.wheel)
        with pytest.raises(MailError):
            await strict(f"https://{HOST}/keys")
