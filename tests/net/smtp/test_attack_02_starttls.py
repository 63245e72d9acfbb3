"""Attack class 2 from the client's side: nothing said before TLS counts after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.core.errors import Malformed
from postroom.net.smtp import Fate, OpenFailed, Phase, TlsMode, TlsWish
from postroom.net.tls import client_context
from postroom.testing.mx import RemoteMx, mx_tls

from .sending import SENDER, Octets, channel_to, fates, rcpts

MUST = TlsWish(TlsMode.MUST, client_context(verify=False), "mx.example")


@pytest.mark.parametrize(
    "injected",
    [
        b"250 2.0.0 taken\r\n",
        b"250-mx.example\r\n250 AUTH PLAIN\r\n",
        b"2",
        b"\r\n",
        b"221 bye\r\n" * 100,
    ],
)
async def test_replies_injected_behind_the_answer_are_refused(
    injected: bytes, tmp_path: Path
) -> None:
    """CVE-2021-38371: they would answer what is asked under TLS."""
    async with RemoteMx("127.0.0.2", tls=mx_tls(tmp_path, ["mx.example"]).context) as mx:
        mx.on("STARTTLS", reply=b"220 2.0.0 go\r\n" + injected)
        with pytest.raises(OpenFailed) as failed:
            async with channel_to(mx, tls=MUST):
                pass
        assert (failed.value.phase, failed.value.fate) == (Phase.TLS, Fate.TEMPORARY)
        assert isinstance(failed.value.reason, Malformed)
        assert mx.visits[0].tls is None
        assert mx.visits[0].commands == ["EHLO", "STARTTLS"]


async def test_offers_made_in_plaintext_do_not_count(tmp_path: Path) -> None:
    """A server that is offered less under TLS than somebody claimed before."""
    async with RemoteMx(
        "127.0.0.2", tls=mx_tls(tmp_path, ["mx.example"]).context, offers=["ENHANCEDSTATUSCODES"]
    ) as mx:
        mx.on(
            "EHLO",
            reply="250-mx.example\n250-CHUNKING\n250-PIPELINING\n250-SIZE 1\n250 STARTTLS",
            times=1,
        )
        async with channel_to(mx, tls=MUST) as channel:
            assert list(channel.facts.offers.keywords) == ["ENHANCEDSTATUSCODES"]
            result = await channel.send(SENDER, rcpts("ann"), Octets())
        assert fates(result) == {"ann@b.example": Fate.DELIVERED}
        assert mx.visits[0].commands == [
            *("EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA"),
        ]
        assert mx.complaints == []


async def test_starttls_hidden_by_somebody_is_no_excuse() -> None:
    async with RemoteMx("127.0.0.2") as mx:
        with pytest.raises(OpenFailed) as failed:
            async with channel_to(mx, tls=MUST):
                pass
        assert failed.value.phase is Phase.STARTTLS
        assert b"MAIL" not in mx.visits[0].said
