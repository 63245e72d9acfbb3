"""postroom.access.tokens: tokens signed here, by a provider of our own."""

from __future__ import annotations

import asyncio
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from joserfc import jwk, jwt

from postroom.access import Attempt, Challenge, Identity, NotOffered, Reason
from postroom.access.tokens import KEEP, PAUSE, OAuthSettings, Tokens, parse_issuer, parse_keys
from postroom.core.errors import AuthUnavailable, ConnectFailed, Malformed, NotAuthenticated
from postroom.testing.clock import ManualClock
from postroom.wire.sasl import OAUTHBEARER, XOAUTH2, Bearer, BearerClient
from tests.access.doors import THERE, Door
from tests.access.test_conversations import facts

ISSUER = "https://login.example.org/realm"
MAIL = "urn:mail"
ANN = "ann@example.org"
KEY = jwk.ECKey.generate_key("P-256", {"kid": "one"})
OTHER = jwk.ECKey.generate_key("P-256", {"kid": "other"})


def key_set(*keys: jwk.Key) -> str:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]})


SETTINGS = OAuthSettings(issuer=ISSUER, audience=(MAIL,), keys=key_set(KEY))


def token(
    clock: ManualClock, key: jwk.Key = KEY, header: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A good token, but for what is told here."""
    now = clock.now() // 1000
    held = {"iss": ISSUER, "aud": MAIL, "exp": now + 300, "email": ANN} | claims
    top = {"alg": "ES256", "kid": key.kid, "typ": "at+jwt"} | (header or {})
    kept = {name: value for name, value in held.items() if value is not None}
    return jwt.encode(top, kept, key, algorithms=[str(top["alg"])])


@dataclass
class Provider:
    """What lies at the provider's URLs."""

    keys: str = key_set(KEY)
    issuer: str = ISSUER
    asked: list[str] = field(default_factory=list)
    broken: bool = False

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await asyncio.sleep(0)
        if self.broken:
            raise ConnectFailed(detail="nobody is there")
        if url.endswith("/.well-known/openid-configuration"):
            return json.dumps({"issuer": self.issuer, "jwks_uri": f"{ISSUER}/keys"}).encode()
        return self.keys.encode()


@pytest.fixture
def verifier(clock: ManualClock) -> Tokens:
    return Tokens(clock)


async def refusal(verifier: Tokens, shown: str, settings: OAuthSettings = SETTINGS) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        await verifier.login(shown, settings)
    return caught.value.detail


async def test_a_token_names_its_bearer(verifier: Tokens, clock: ManualClock) -> None:
    assert await verifier.login(token(clock), SETTINGS) == ANN


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: jwk.RSAKey.generate_key(2048, {"kid": "k"}), "RS256"),
        (lambda: jwk.RSAKey.generate_key(2048, {"kid": "k"}), "PS384"),
        (lambda: jwk.ECKey.generate_key("P-384", {"kid": "k"}), "ES384"),
        (lambda: jwk.OKPKey.generate_key("Ed25519", {"kid": "k"}), "Ed25519"),
    ],
)
async def test_every_kind_of_key(
    verifier: Tokens, clock: ManualClock, make: Callable[[], jwk.Key], algorithm: str
) -> None:
    key = make()
    settings = replace(SETTINGS, keys=key_set(KEY, key))
    assert await verifier.login(token(clock, key, {"alg": algorithm}), settings) == ANN


async def test_a_key_without_an_id_is_found_by_trying(verifier: Tokens, clock: ManualClock) -> None:
    settings = replace(SETTINGS, keys=key_set(OTHER, KEY))
    shown = jwt.encode(
        {"alg": "ES256"},
        {"iss": ISSUER, "aud": [MAIL, "x"], "exp": clock.now() // 1000 + 9, "email": ANN},
        KEY,
    )
    assert await verifier.login(shown, settings) == ANN


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "https://evil.example"}, "made by"),
        ({"iss": None}, "made by"),
        ({"aud": "urn:calendar"}, "made for"),
        ({"aud": None}, "made for"),
        ({"aud": [["urn:mail"]]}, "made for"),
        ({"exp": 0}, "of now"),
        ({"exp": None}, "of now"),
        ({"exp": "tomorrow"}, "of now"),
        ({"exp": True}, "of now"),
        ({"nbf": 1 << 40}, "of now"),
        ({"email": None}, "no claim"),
        ({"email": 7}, "no claim"),
        ({"email_verified": False}, "not verified"),
        ({"email_verified": "true"}, "not verified"),
    ],
)
async def test_claims_that_are_refused(
    verifier: Tokens, clock: ManualClock, claims: dict[str, Any], why: str
) -> None:
    assert why in await refusal(verifier, token(clock, **claims))


async def test_a_token_by_another_key(verifier: Tokens, clock: ManualClock) -> None:
    forged = jwk.ECKey.generate_key("P-256", {"kid": "one"})
    assert "BadSignature" in await refusal(verifier, token(clock, forged))
    assert "no key" in await refusal(verifier, token(clock, OTHER))


async def test_each_changed_octet_is_found(verifier: Tokens, clock: ManualClock) -> None:
    good = token(clock)
    for at in range(0, len(good), 7):
        other = "A" if good[at] != "A" else "B"
        bad = good[:at] + other + good[at + 1 :]
        try:
            await verifier.login(bad, SETTINGS)
        except NotAuthenticated:
            continue
        # The last character of a part holds bits that nothing reads: RFC 4648 §3.5.
        assert at in {good.index("."), len(good) - 1, good.rindex(".") - 1, good.index(".") - 1}


async def test_algorithms_that_prove_nothing(verifier: Tokens, clock: ManualClock) -> None:
    """RFC 8725 §2.1: `none`, and a MAC whose key is the provider's public one."""
    _, claims, _ = token(clock).split(".")
    bare = "eyJhbGciOiJub25lIn0"  # {"alg":"none"}
    assert "signed by none" in await refusal(verifier, f"{bare}.{claims}.")
    top = urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=") + b"." + claims.encode()
    mac = urlsafe_b64encode(hmac.digest(KEY.as_pem(private=False), top, "sha256")).rstrip(b"=")
    assert "signed by HS256" in await refusal(verifier, (top + b"." + mac).decode())


async def test_a_token_of_another_kind(verifier: Tokens, clock: ManualClock) -> None:
    assert "another kind" in await refusal(verifier, token(clock, header={"typ": "logout+jwt"}))
    for text in ("", "x", "a.b.c", "a.b.c.d.e", "." * 3000, "é.é.é", "x" * 9000):
        assert await refusal(verifier, text)


async def test_a_short_rsa_key_is_not_used() -> None:
    with pytest.warns():
        short = jwk.RSAKey.generate_key(1024, {"kid": "s"})
    with pytest.raises(Malformed):
        parse_keys(key_set(short))


async def test_a_scope_that_is_asked_for(verifier: Tokens, clock: ManualClock) -> None:
    settings = replace(SETTINGS, scope="imap")
    assert "scope" in await refusal(verifier, token(clock, scope="openid imaps"), settings)
    assert await verifier.login(token(clock, scope="openid imap"), settings) == ANN


async def test_another_claim_names_the_account(verifier: Tokens, clock: ManualClock) -> None:
    settings = replace(SETTINGS, claim="upn")
    assert await verifier.login(token(clock, upn="bob@example.org"), settings) == "bob@example.org"


async def test_clocks_may_differ_by_a_minute(verifier: Tokens, clock: ManualClock) -> None:
    now = clock.now() // 1000
    assert await verifier.login(token(clock, exp=now - 50, nbf=now), SETTINGS) == ANN
    assert await verifier.login(token(clock, nbf=now + 50), SETTINGS) == ANN
    assert await refusal(verifier, token(clock, exp=now - 61))


# --- the provider's keys ---------------------------------------------------------------------


ASKING = OAuthSettings(issuer=ISSUER, audience=(MAIL,))


async def test_keys_are_asked_for_once(clock: ManualClock) -> None:
    provider = Provider()
    verifier = Tokens(clock, provider.fetch)
    await asyncio.gather(*[verifier.login(token(clock), ASKING) for _ in range(20)])
    assert provider.asked == [ASKING.configuration, f"{ISSUER}/keys"]


async def test_a_new_key_is_found_and_a_stranger_cannot_make_us_ask_on(clock: ManualClock) -> None:
    provider = Provider()
    verifier = Tokens(clock, provider.fetch)
    await verifier.login(token(clock), ASKING)
    provider.keys = key_set(OTHER)
    clock.advance(PAUSE)
    assert await verifier.login(token(clock, OTHER), ASKING) == ANN
    asked = len(provider.asked)
    unknown = jwk.ECKey.generate_key("P-256", {"kid": "never"})
    for _ in range(10):
        await refusal(verifier, token(clock, unknown), ASKING)
    assert len(provider.asked) == asked
    clock.advance(PAUSE)
    for _ in range(10):
        await refusal(verifier, token(clock, unknown), ASKING)
    assert len(provider.asked) == asked + 2


async def test_a_key_that_was_withdrawn_is_forgotten_within_the_hour(clock: ManualClock) -> None:
    provider = Provider(keys=key_set(KEY, OTHER))
    verifier = Tokens(clock, provider.fetch)
    await verifier.login(token(clock), ASKING)
    provider.keys = key_set(OTHER)
    clock.advance(KEEP)
    await refusal(verifier, token(clock), ASKING)


async def test_known_keys_outlive_an_outage(clock: ManualClock) -> None:
    provider = Provider()
    verifier = Tokens(clock, provider.fetch)
    await verifier.login(token(clock), ASKING)
    provider.broken = True
    clock.advance(KEEP)
    assert await verifier.login(token(clock), ASKING) == ANN


async def test_without_keys_nobody_can_be_judged(clock: ManualClock) -> None:
    provider = Provider(broken=True)
    verifier = Tokens(clock, provider.fetch)
    with pytest.raises(AuthUnavailable):
        await verifier.login(token(clock), ASKING)
    provider.broken = False
    clock.advance(PAUSE)
    assert await verifier.login(token(clock), ASKING) == ANN


async def test_a_provider_that_calls_itself_otherwise(clock: ManualClock) -> None:
    provider = Provider(issuer="https://evil.example")
    with pytest.raises(AuthUnavailable):
        await Tokens(clock, provider.fetch).login(token(clock), ASKING)


@pytest.mark.parametrize("text", ["[]", "{}", '{"keys": []}', "x", '{"keys": [1, {"kty": "oct"}]}'])
def test_what_is_no_key_set(text: str) -> None:
    with pytest.raises(Malformed):
        parse_keys(text)


def test_what_is_no_issuer() -> None:
    assert parse_issuer("") == ""
    for text in ("http://login.example.org", "login.example.org", "https://a.example/?x"):
        with pytest.raises(Malformed):
            parse_issuer(text)


# --- signing in -------------------------------------------------------------------------------


async def configure(door: Door) -> None:
    await door.set("oauth.issuer", ISSUER)
    await door.set("oauth.audience", (MAIL,))
    await door.set("oauth.keys", key_set(KEY))
    await door.enter()  # the policy is read


async def show(
    door: Door, shown: str, login: str = "", mechanism: str = OAUTHBEARER
) -> Identity | Reason:
    """Who it is, or how the attempt ended after the challenge that says why."""
    client = BearerClient(mechanism, Bearer(login, shown))
    conversation = door.authenticator.begin(mechanism, facts(ip=THERE))
    said = await conversation.step(client.start())
    if isinstance(said, Identity):
        return said
    answer = client.step(said.data)
    with pytest.raises(NotAuthenticated):
        await conversation.step(answer)
    return door.told[-1].reason


async def test_nothing_is_offered_until_it_is_configured(door: Door) -> None:
    assert OAUTHBEARER not in door.authenticator.mechanisms(facts())
    with pytest.raises(NotOffered):
        door.authenticator.begin(OAUTHBEARER, facts())
    await configure(door)
    offered = door.authenticator.mechanisms(facts())
    assert offered[-2:] == (OAUTHBEARER, XOAUTH2)
    assert not door.authenticator.mechanisms(facts(encrypted=False))


@pytest.mark.parametrize("mechanism", [OAUTHBEARER, XOAUTH2])
@pytest.mark.parametrize("login", ["", ANN, "ANN@Example.org"])
async def test_signing_in_by_token(
    door: Door, clock: ManualClock, mechanism: str, login: str
) -> None:
    await configure(door)
    who = await show(door, token(clock), login, mechanism)
    assert isinstance(who, Identity) and who.account == door.account
    assert door.told[-1].reason is Reason.RIGHT


async def test_a_client_that_waits_to_be_asked(door: Door, clock: ManualClock) -> None:
    await configure(door)
    conversation = door.authenticator.begin(OAUTHBEARER, facts())
    assert await conversation.step(None) == Challenge(b"")
    assert isinstance(await conversation.step(Bearer("", token(clock)).oauthbearer()), Identity)
    with pytest.raises(Malformed):
        await conversation.step(b"more")


async def test_the_token_of_one_is_not_the_name_of_another(door: Door, clock: ManualClock) -> None:
    await configure(door)
    assert await show(door, token(clock), "bob@example.org") is Reason.NOT_GRANTED


async def test_nobody_and_somebody_are_refused_alike(door: Door, clock: ManualClock) -> None:
    await configure(door)
    assert await show(door, token(clock, email="nobody@example.org")) is Reason.UNKNOWN
    assert await show(door, token(clock, exp=1)) is Reason.WRONG


async def test_a_provider_speaks_for_its_domains_alone(door: Door, clock: ManualClock) -> None:
    await configure(door)
    await door.set("oauth.domains", ("other.example",))
    await door.enter()
    assert await show(door, token(clock)) is Reason.NOT_GRANTED
    await door.set("oauth.domains", ("Example.ORG",))
    await door.enter()
    assert isinstance(await show(door, token(clock)), Identity)


async def test_bad_tokens_are_throttled_and_one_again_and_again_is_not(
    door: Door, clock: ManualClock
) -> None:
    await configure(door)
    await door.set("access.wrong_passwords", 3)
    await door.enter()
    old = token(clock, exp=1)
    for _ in range(6):
        assert await show(door, old, ANN) is Reason.WRONG  # a client that does not know better
    for number in range(2):
        assert await show(door, token(clock, exp=2 + number), ANN) is Reason.WRONG
    client = BearerClient(OAUTHBEARER, Bearer(ANN, token(clock)))
    assert await show(door, token(clock), ANN) is Reason.THROTTLED
    assert client.start() is not None


async def test_keys_that_cannot_be_had_are_no_fault_of_the_client(
    door: Door, clock: ManualClock
) -> None:
    await configure(door)
    await door.set("oauth.keys", "")
    await door.enter()
    conversation = door.authenticator.begin(OAUTHBEARER, facts())
    with pytest.raises(AuthUnavailable):
        await conversation.step(Bearer("", token(clock)).oauthbearer())
    assert door.told[-1].reason is Reason.UNAVAILABLE


async def test_a_token_is_not_in_what_is_told(door: Door, clock: ManualClock) -> None:
    attempts: list[Attempt] = []
    door.authenticator.after.append(lambda attempt, outcome: attempts.append(attempt))
    await configure(door)
    shown = token(clock)
    await show(door, shown)
    assert attempts[-1].login == "Ann@example.org" and shown not in repr(attempts)
