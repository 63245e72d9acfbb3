"""Tokens that an identity provider signed: who their bearer is. RFC 7519, RFC 9068, RFC 8725.

The provider's keys are configured, or asked of it (OpenID Connect Discovery 1.0 §4) and kept for
an hour. A token is taken only if it was made for us, by the provider, with a key of its own, and
is of now. What is refused is refused alike; the reason goes to the log.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from joserfc import jwk, jws
from joserfc.errors import JoseError

from postroom.core.clock import Clock
from postroom.core.errors import AuthUnavailable, MailError, Malformed, NotAuthenticated
from postroom.core.settings import group, setting
from postroom.formats.address import canonical_domain

SLACK: Final = 60
"""Seconds that the provider's clock may differ from ours."""
KEEP: Final = 3600.0
"""Seconds for which keys are not asked for again."""
PAUSE: Final = 60.0
"""Seconds between two askings, whatever keys tokens name and however they fail."""
KEYS_MOST: Final = 50
TOKEN_MOST: Final = 8 * 1024
"""Octets of a token; those of the large providers have about 2,000."""
RSA_LEAST: Final = 2048  # RFC 7518 §3.3

# Signatures by asymmetric keys alone: a provider's public key is no secret to compute a MAC with.
ALGORITHMS: Final = frozenset(
    f"{kind}{size}" for kind in ("RS", "PS", "ES") for size in (256, 384, 512)
) | {"EdDSA", "Ed25519"}
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt", "application/jwt"})

Fetch = Callable[[str], Awaitable[bytes]]
"""What lies at an https URL; raises MailError."""


def parse_keys(text: str) -> str:
    """A JSON Web Key Set as it is kept; raises Malformed."""
    if text.strip():
        _read_keys(text.encode())
    return text.strip()


def parse_issuer(text: str) -> str:
    """An issuer's identifier: an https URL without query and fragment; raises Malformed."""
    issuer = text.strip()
    if issuer and (not issuer.startswith("https://") or set(issuer) & set("?# \t")):
        raise Malformed("Write the issuer as the provider does: https://login.example.org/…")
    return issuer


@group("oauth")
@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """Signing in with the token of an identity provider: OAUTHBEARER and XOAUTH2."""

    issuer: str = setting(
        "",
        "Whose tokens are taken: the `iss` of the provider, exactly as its tokens say it. Empty: "
        "nobody's, and the mechanisms are not offered. RFC 7519 §4.1.1",
        form=parse_issuer,
    )
    audience: tuple[str, ...] = setting(
        (),
        "For whom a token has to be made: its `aud` is one of these. Without any no token is "
        "taken, for one that was made for another service would do. RFC 7519 §4.1.3",
    )
    keys: str = setting(
        "",
        "The provider's public keys as a JSON Web Key Set (RFC 7517 §5). Empty: they are asked of "
        "the issuer, at .well-known/openid-configuration, and kept for an hour",
        form=parse_keys,
    )
    claim: str = setting("email", "The claim of a token that names the account by its address")
    scope: str = setting("", "A scope that a token must have. Empty: none. RFC 9068 §2.2.3")
    domains: tuple[str, ...] = setting(
        (), "The domains for whose accounts the provider may speak. None: for those of all domains"
    )

    def speaks_for(self, domain: str) -> bool:
        """Whether the provider may name accounts of that domain."""
        if not self.domains:
            return True
        return canonical_domain(domain) in map(canonical_domain, self.domains)

    @property
    def offered(self) -> bool:
        """Whether a token can be taken at all."""
        return bool(self.issuer and self.audience)

    @property
    def configuration(self) -> str:
        """Where the provider describes itself. OpenID Connect Discovery 1.0 §4."""
        return self.issuer.rstrip("/") + "/.well-known/openid-configuration"


@dataclass(slots=True)
class _Ring:
    """The keys of one provider as of a moment."""

    by_id: Mapping[str, list[jwk.Key]]
    read: float  # monotonic seconds
    asked: float


class Tokens:
    """The one verifier of a worker."""

    def __init__(self, clock: Clock, fetch: Fetch | None = None) -> None:
        """Without `fetch` only configured keys are known."""
        self._clock = clock
        self._fetch = fetch
        self._rings: dict[tuple[str, str], _Ring] = {}
        self._asking = asyncio.Lock()

    async def login(self, token: str, settings: OAuthSettings) -> str:
        """Whom a token names. Raises NotAuthenticated, AuthUnavailable if the provider's keys
        are not to be had.
        """
        if len(token) > TOKEN_MOST:
            raise NotAuthenticated(detail="the token is too long")
        try:
            header = jws.extract_compact(token.encode("ascii")).headers()
        except (JoseError, ValueError, TypeError) as error:
            raise NotAuthenticated(detail=f"it is no signed token: {error}") from error
        algorithm, identifier = header.get("alg"), header.get("kid", "")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise NotAuthenticated(detail=f"it is signed by {str(algorithm)[:40]}")
        if not isinstance(identifier, str):
            raise NotAuthenticated(detail="its kid is no text")
        if "crit" in header or str(header.get("typ", "")).lower() not in _TYPES:
            raise NotAuthenticated(detail="it is a token of another kind")  # RFC 8725 §3.11
        keys = await self._keys(identifier, settings)
        claims = _verified(token, algorithm, keys)
        return _judged(claims, settings, self._clock.now() // 1000)

    # --- the provider's keys -------------------------------------------------------------------

    async def _keys(self, identifier: str, settings: OAuthSettings) -> list[jwk.Key]:
        source = (settings.issuer, settings.keys)
        ring = self._rings.get(source)
        if ring is not None and not _is_due(ring, identifier, self._clock.monotonic()):
            return _chosen(ring.by_id, identifier)
        async with self._asking:  # one asks for all who wait
            ring, now = self._rings.get(source), self._clock.monotonic()
            if ring is None and settings.keys:
                ring = _Ring(_read_keys(settings.keys.encode()), now, now)
                self._rings = {source: ring}  # those of other settings are of no more use
            elif not settings.keys and _is_due(ring, identifier, now):
                ring = await self._ask(settings, ring, now)
                self._rings = {source: ring}
        assert ring is not None
        return _chosen(ring.by_id, identifier)

    async def _ask(self, settings: OAuthSettings, ring: _Ring | None, now: float) -> _Ring:
        try:
            by_id = await self._discover(settings)
        except MailError as error:
            if ring is None:
                ring = _Ring({}, -KEEP, now)
            ring.asked = now
            if not ring.by_id:
                why = error.detail or str(error)
                raise AuthUnavailable(detail=f"keys of {settings.issuer}: {why}") from error
            return ring  # those that we know are still good
        return _Ring(by_id, now, now)

    async def _discover(self, settings: OAuthSettings) -> Mapping[str, list[jwk.Key]]:
        if self._fetch is None:
            raise AuthUnavailable(detail="nothing is fetched here")
        told = _object(await self._fetch(settings.configuration))
        if told.get("issuer") != settings.issuer:  # OpenID Connect Discovery 1.0 §4.3
            raise Malformed(detail=f"it calls itself {str(told.get('issuer'))[:200]!r}")
        at = told.get("jwks_uri")
        if not isinstance(at, str):
            raise Malformed(detail="it names no keys")
        return _read_keys(await self._fetch(at))


def _is_due(ring: _Ring | None, identifier: str, now: float) -> bool:
    """Whether the keys have to be asked for: there are none, they are old, or a token names one
    that we do not know. A stranger can name what it likes, so that is not done often."""
    if ring is None:
        return True
    stale = now - ring.read >= KEEP or not _chosen(ring.by_id, identifier)
    return stale and now - ring.asked >= PAUSE


def _chosen(by_id: Mapping[str, list[jwk.Key]], identifier: str) -> list[jwk.Key]:
    if identifier:
        return by_id.get(identifier, [])
    return [key for keys in by_id.values() for key in keys]


def _object(octets: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(octets)
    except orjson.JSONDecodeError as error:
        raise Malformed("This is no JSON", detail=str(error)) from error
    if not isinstance(found, dict):
        raise Malformed("This is no JSON object")
    return found


def _read_keys(octets: bytes) -> Mapping[str, list[jwk.Key]]:
    """The keys that sign, by their ids; others and what we cannot use are passed over."""
    listed = _object(octets).get("keys")
    if not isinstance(listed, list):
        raise Malformed("A JSON Web Key Set has a list of keys. RFC 7517 §5.1")
    found: dict[str, list[jwk.Key]] = {}
    for each in listed[:KEYS_MOST]:
        key = _usable(each)
        if key is not None:
            found.setdefault(str(each.get("kid", "")), []).append(key)
    if not found:
        raise Malformed("The key set has no public key that we can use")
    return found


def _usable(described: object) -> jwk.Key | None:
    if not isinstance(described, dict) or described.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    if described.get("use", "sig") != "sig":
        return None
    public = {name: value for name, value in described.items() if name in _PUBLIC}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a short key: looked at below
            key = jwk.import_key(public)
    except (JoseError, ValueError, TypeError):
        return None
    if isinstance(key, jwk.RSAKey) and key.public_key.key_size < RSA_LEAST:
        return None
    return key


_PUBLIC: Final = frozenset({"kty", "n", "e", "crv", "x", "y", "kid", "alg"})


# --- a token -------------------------------------------------------------------------------------


def _verified(token: str, algorithm: str, keys: list[jwk.Key]) -> dict[str, Any]:
    """The claims of a token that one of the keys signed."""
    why = "no key of the provider has this id"
    for key in keys:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # EdDSA by its old name: RFC 9864
                found = jws.deserialize_compact(token.encode(), key, algorithms=[algorithm])
            return _object(found.payload)
        except (JoseError, MailError, ValueError, TypeError) as error:
            why = f"{type(error).__name__}: {error}"
    raise NotAuthenticated(detail=why)


def _judged(claims: dict[str, Any], settings: OAuthSettings, now: int) -> str:
    """The address that the claims name; RFC 7519 §4.1, RFC 9068 §4."""
    audience = claims.get("aud")
    made_for = audience if isinstance(audience, list) else [audience]
    scopes = str(claims.get("scope") or claims.get("scp") or "").split()
    login = claims.get(settings.claim)
    why = ""
    if claims.get("iss") != settings.issuer:
        why = f"it was made by {str(claims.get('iss'))[:200]!r}"
    elif not set(settings.audience) & {each for each in made_for if isinstance(each, str)}:
        why = f"it was made for {str(audience)[:200]!r}"
    elif not _is_current(claims, now):
        why = "it is not of now"
    elif settings.scope and settings.scope not in scopes:
        why = f"it lacks the scope {settings.scope}"
    elif not isinstance(login, str) or not login:
        why = f"it has no claim {settings.claim}"
    elif settings.claim == "email" and claims.get("email_verified", True) is not True:
        why = "its address is not verified"  # anybody may call themselves so
    if why:
        raise NotAuthenticated(detail=why)
    assert isinstance(login, str)
    return login


def _is_current(claims: dict[str, Any], now: int) -> bool:
    until, since = claims.get("exp"), claims.get("nbf", 0)
    if isinstance(until, bool) or not isinstance(until, int | float):
        return False  # one that never ends is none of RFC 9068
    if isinstance(since, bool) or not isinstance(since, int | float):
        return False
    return since - SLACK <= now < until + SLACK
