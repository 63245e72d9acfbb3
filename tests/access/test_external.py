"""EXTERNAL: who a client's certificate says it is, on both engines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from postroom.access import Challenge, Identity, NotOffered, Reason, SessionFacts
from postroom.access.clients import addresses
from postroom.core.errors import EncryptionRequired, Malformed, NotAuthenticated
from postroom.testing.clock import ManualClock
from postroom.wire.sasl import EXTERNAL, ExternalClient
from tests.access.doors import Door
from tests.access.test_conversations import ANN, enter, facts
from tests.authorities import Authority

AUTHORITY = Authority()


def shown(*names: str) -> SessionFacts:
    """A session whose client proved in TLS to hold a certificate for those addresses."""
    certificate, _ = AUTHORITY.vouch(*names)
    return replace(facts(), certificate=certificate.public_bytes(Encoding.DER))


async def test_it_is_offered_to_whom_it_is_good_for(door: Door) -> None:
    offer = door.authenticator.mechanisms
    assert offer(shown(ANN))[0] == EXTERNAL
    assert EXTERNAL not in offer(facts())
    with pytest.raises(NotOffered):
        door.authenticator.begin(EXTERNAL, facts())
    with pytest.raises(EncryptionRequired):
        door.authenticator.begin(EXTERNAL, facts(encrypted=False))


@pytest.mark.parametrize("acting", ["", ANN, "ANN@example.ORG"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_the_certificate_says_who_it_is(door: Door, acting: str, at_once: bool) -> None:
    conversation = door.authenticator.begin(EXTERNAL, shown("Ann@Example.org"))
    if not at_once:
        assert await conversation.step(None) == Challenge(b"")
    who = await conversation.step(acting.encode())
    assert isinstance(who, Identity) and who.account == door.account
    with pytest.raises(Malformed):
        await conversation.step(b"")


@pytest.mark.parametrize(
    ("names", "acting", "reason"),
    [
        (["bob@example.org"], "", Reason.UNKNOWN),
        ([ANN], "bob@example.org", Reason.NOT_GRANTED),
        ([ANN, "bob@example.org"], "", Reason.NOT_GRANTED),  # whom, it has to say
        ([ANN, "bob@example.org"], ANN, Reason.RIGHT),
        ([ANN, "Ann@example.org"], "", Reason.RIGHT),  # one and the same
        (["no address"], "", Reason.NOT_GRANTED),
        ([ANN], "x" * 2000, Reason.NOT_GRANTED),
    ],
)
async def test_whom_it_names(door: Door, names: list[str], acting: str, reason: Reason) -> None:
    assert await enter(door, ExternalClient(acting), shown(*names)) is reason


async def test_what_names_nobody(door: Door, clock: ManualClock) -> None:
    authority = AUTHORITY.certificate.public_bytes(Encoding.DER)
    assert await enter(door, ExternalClient(), replace(facts(), certificate=authority)) is (
        Reason.WRONG
    )
    with pytest.raises(NotAuthenticated):
        addresses(b"no certificate")


def test_a_subject_stands_for_nothing() -> None:
    certificate, _ = AUTHORITY.vouch(ANN)
    assert isinstance(certificate, x509.Certificate)
    assert addresses(certificate.public_bytes(Encoding.DER)) == (ANN,)
