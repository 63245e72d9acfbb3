"""Failure reports as an operator walks them: on a server that dies before it has told anybody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroom.testing.dns import DnsServer
from postroom.testing.mx import RemoteMx
from postroom.testing.zones import Zones
from tests.walking import HOST, Walking, is_installed

pytestmark = pytest.mark.skipif(not is_installed("swaks"), reason="swaks missing")


async def test_a_report_that_was_owed_when_all_died_is_sent_once(tmp_path: Path) -> None:
    zones = Zones()
    zones.text("_dmarc.far.example", "v=DMARC1; p=reject; ruf=mailto:f@far.example")
    zones.add("far.example", "MX", "10 mx.far.example.")
    zones.host("mx.far.example", HOST)
    async with DnsServer(zones) as dns, RemoteMx() as exchanger:
        options = ("--resolver", str(dns), "--outbound-port", str(exchanger.port))
        walking = Walking(tmp_path, *options)
        try:
            await _walk(walking, exchanger)
        finally:
            await asyncio.to_thread(walking.close)


async def _walk(walking: Walking, exchanger: RemoteMx) -> None:
    await asyncio.to_thread(walking.start)
    turned_on = ("settings", "set", "dmarc.send_failure_reports", "true")
    await asyncio.to_thread(walking.postroom, *turned_on)
    bea = await asyncio.to_thread(walking.account, "bea")
    refused = await asyncio.to_thread(
        lambda: walking.swaks("--header", "From: x@far.example", to=bea)
    )
    assert "Rejected per DMARC policy of far.example" in refused.text
    walking.server.kill_group()
    await asyncio.to_thread(walking.close)
    await asyncio.to_thread(walking.postroom, "jobs", "run", "dmarc.failures")
    await asyncio.to_thread(walking.start)
    async with asyncio.timeout(20):
        while not exchanger.messages:
            await asyncio.sleep(0.05)
    await asyncio.to_thread(walking.postroom, "jobs", "run", "dmarc.failures")
    listed = await asyncio.to_thread(walking.postroom, "dmarc", "failures", "sent")
    assert "f@far.example" in listed.text and refused.trace_id in listed.text
    (report,) = exchanger.messages
    assert b"Feedback-Type: auth-failure" in report.content
    assert b"Reported-Domain: far.example" in report.content
    assert refused.trace_id.encode() in report.content
