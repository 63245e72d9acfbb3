"""The certificates of this server: made, kept in `DIR/tls`, chosen by SNI, replaced at once.

A certificate is `NAME.pem` (chain and key in one file, as we write them: one rename replaces
both) or the pair `NAME.crt.pem` and `NAME.key.pem`. The one called `default` is for clients
that ask for no name, or for one that we do not have. `clients.ca`, if it is there, holds the
authorities (PEM) whose certificates our own clients may show: RFC 4422 Appendix A.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import Final, NamedTuple

import idna
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from postroom.core.clock import Instant, from_datetime, to_datetime
from postroom.core.errors import Malformed, Misuse, NotFound
from postroom.net.tls import ServerSide, ask_clients, base_context, server_context

DEFAULT: Final = "default"
CLIENTS: Final = "clients.ca"
LIFETIME: Final = timedelta(days=397)  # clients of some makers refuse more than 398
_SLACK: Final = timedelta(hours=1)  # for peers whose clock is behind
_LARGEST: Final = 1 << 20  # bytes of a file that may hold a chain


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of the store: what it is good for, not its key."""

    name: str  # of its file
    hosts: frozenset[str]  # lower case A-labels, may begin with "*."
    not_after: Instant
    self_signed: bool
    endpoint: bytes  # tls-server-end-point, if it has one. RFC 5929 §4.1
    public_key: bytes = b""  # SHA-256 of SubjectPublicKeyInfo, as TLSA has it. RFC 6698 §2.1.3


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload found."""

    names: tuple[str, ...]  # certificates that are served now
    problems: tuple[str, ...]  # a sentence for each file that could not be used


class _Door(NamedTuple):
    """What a listener wants of TLS."""

    alpn: tuple[str, ...] = ()
    clients: bool = False  # that its clients are asked for a certificate


@dataclass(frozen=True, slots=True)
class _Loaded:
    certificate: Certificate
    files: tuple[str, str | None]  # chain, key
    contexts: dict[_Door, ssl.SSLContext]


@dataclass(frozen=True, slots=True)
class _Generation:
    """All certificates of one moment; replaced as a whole."""

    loaded: Mapping[str, _Loaded] = field(default_factory=dict)
    by_host: Mapping[str, _Loaded] = field(default_factory=dict)
    default: _Loaded | None = None

    def choose(self, sni: str | None) -> _Loaded | None:
        if sni is None:
            return self.default
        host = sni.lower().rstrip(".")
        exact = self.by_host.get(host)
        if exact is not None:
            return exact
        # A wildcard stands for exactly one label. RFC 9525 §6.3
        return self.by_host.get("*." + host.partition(".")[2], self.default)


class CertificateStore:
    """The certificates in one folder, and the TLS contexts of listeners that use them.

    `reload` and `write` touch the disk and take milliseconds for each certificate: with many
    call them in a thread. A reload is seen at once, as a whole, by new handshakes only.
    """

    def __init__(self, folder: str, alpn: Iterable[tuple[str, ...]] = ()) -> None:
        """`alpn` are the lists of protocols that listeners offer; offering none is always there.

        Told at once, because a certificate is only read in `reload`.
        """
        self._folder = folder
        self._now = _Generation()
        doors = [_Door(offer, clients) for offer in ((), *alpn) for clients in (False, True)]
        self._entries = {door: self._entry(door) for door in doors}

    def reload(self) -> Reloaded:
        """Read the folder anew. A broken file leaves the certificate of that name as it was.

        Raises NotFound if no certificate is left to serve; then nothing changed.
        """
        loaded: dict[str, _Loaded] = {}
        problems = []
        authorities = os.path.join(self._folder, CLIENTS)
        asked = base_context()
        if os.path.exists(authorities):
            try:
                ask_clients(asked, authorities)
            except OSError as error:
                asked = base_context()
                problems.append(f"{CLIENTS}: {_reason(error)}; no client is asked who it is")
        for name, files in _find(self._folder).items():
            try:
                made = loaded[name] = _load(name, files, tuple(self._entries))
                for door, context in made.contexts.items():
                    if door.clients and asked.verify_mode is ssl.CERT_OPTIONAL:
                        ask_clients(context, authorities)
            except (OSError, ValueError) as error:
                kept = self._now.loaded.get(name)
                if kept is not None:
                    loaded[name] = kept
                state = "the earlier one is kept" if kept is not None else "it is left out"
                problems.append(f"Certificate {name}: {_reason(error)}; {state}")
        if not loaded:
            raise NotFound("There is no usable certificate", detail="; ".join(problems))
        self._now = _generation(loaded)
        for door, entry in self._entries.items():
            if door.clients:
                # A handshake takes the rules from the context that it began with, and whom to
                # believe from the one that it is handed over to.
                entry.verify_mode, entry.verify_flags = asked.verify_mode, asked.verify_flags
        return Reloaded(tuple(sorted(loaded)), tuple(problems))

    def context(self, alpn: tuple[str, ...] = (), *, clients: bool = False) -> ssl.SSLContext:
        """The context for listeners that offer `alpn`: picks the certificate at each handshake.

        With `clients` a client may show who it is, if there is a `clients.ca`: for doors at which
        our own people sign in, as servers show what they like. Lives as long as the store. Raises
        Misuse for an offer that the store was not told of.
        """
        entry = self._entries.get(_Door(alpn, clients))
        if entry is None:
            raise Misuse(f"No listener was to offer {', '.join(alpn)}")
        return entry

    def choose(self, sni: str | None) -> Certificate:
        """The certificate that a client asking for `sni` gets. Raises NotFound before a load."""
        chosen = self._now.choose(sni)
        if chosen is None:
            raise NotFound("There is no usable certificate")
        return chosen.certificate

    def certificates(self) -> tuple[Certificate, ...]:
        """Those that are served, by name."""
        return tuple(each.certificate for _, each in sorted(self._now.loaded.items()))

    def expiring(self, before: Instant) -> tuple[Certificate, ...]:
        """Those that end before that moment, the first to end first."""
        ending = [each for each in self.certificates() if each.not_after < before]
        return tuple(sorted(ending, key=lambda each: each.not_after))

    def write(self, name: str, chain: bytes, key: bytes) -> None:
        """Put a certificate into the folder, durably and at once; `reload` brings it to use.

        `chain` and `key` are PEM. Raises Malformed if they do not belong together, leaving
        what was there; OSError if the disk refuses.
        """
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise Malformed("This cannot be the name of a certificate")
        path = os.path.join(self._folder, f"{name}.pem")
        with_key = chain.rstrip() + b"\n" + key.strip() + b"\n"
        fresh = f"{path}.new"
        try:
            _write_file(fresh, with_key)
            try:
                _load(name, (fresh, None), (_Door(),))
            except (ssl.SSLError, ValueError) as error:
                raise Malformed(
                    "The certificate and its key cannot be used", detail=_reason(error)
                ) from error
            os.rename(fresh, path)
        except BaseException:
            if os.path.exists(fresh):
                os.unlink(fresh)
            raise
        _sync_folder(self._folder)

    def _entry(self, door: _Door) -> ssl.SSLContext:
        """A context without a certificate, which hands each handshake over to one that has."""

        def pick(
            side: ssl.SSLSocket | ssl.SSLObject, sni: str | None, _: ssl.SSLContext
        ) -> int | None:
            return self._pick(side, sni, door)

        entry = base_context(door.alpn)
        entry.sni_callback = pick
        return entry

    def _pick(
        self, side: ssl.SSLSocket | ssl.SSLObject, sni: str | None, door: _Door
    ) -> int | None:
        chosen = self._now.choose(sni)
        if chosen is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        side.context = chosen.contexts[door]
        if isinstance(side, ServerSide):
            side.sni = sni.lower() if sni is not None else None
            side.certificate = chosen.certificate.name
            side.endpoint = chosen.certificate.endpoint
        return None


def self_signed(names: Iterable[str], now: Instant) -> tuple[bytes, bytes]:
    """A certificate that nobody vouches for, and its key, both PEM: ECDSA P-256, 397 days.

    Good for `names` (domains, IP addresses), localhost and the loopback addresses. Raises
    Malformed for a name that cannot be one.
    """
    hosts = list(dict.fromkeys((*names, "localhost", "127.0.0.1", "::1")))
    alternatives = [_general_name(host) for host in hosts]
    key = ec.generate_private_key(ec.SECP256R1())
    # The common name holds 64 characters (RFC 5280 appendix A.1) and nobody looks at it.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    start = to_datetime(now)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _SLACK)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    wildcard, bare = ("*.", host[2:]) if host.startswith("*.") else ("", host)
    try:
        return x509.DNSName(wildcard + idna.encode(bare, uts46=True).decode("ascii"))
    except idna.IDNAError as error:
        raise Malformed(f"{host!r} is not a host name", detail=str(error)) from error


def _find(folder: str) -> dict[str, tuple[str, str | None]]:
    """Names and their files (chain, key or None), in order of names."""
    found: dict[str, tuple[str, str | None]] = {}
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        if entry.startswith(".") or entry.endswith(".key.pem") or not entry.endswith(".pem"):
            continue
        if entry.endswith(".crt.pem"):
            name = entry.removesuffix(".crt.pem")
            # The combined file is ours and newer than any pair of the same name.
            found.setdefault(name, (path, os.path.join(folder, f"{name}.key.pem")))
        else:
            found[entry.removesuffix(".pem")] = (path, None)
    return found


def _load(name: str, files: tuple[str, str | None], doors: Iterable[_Door]) -> _Loaded:
    """Read and check one certificate. Raises OSError (also ssl.SSLError), ValueError."""
    contexts = {door: server_context(*files, door.alpn) for door in doors}
    with open(files[0], "rb") as file:
        pem = file.read(_LARGEST)
    leaf = x509.load_pem_x509_certificate(pem)
    return _Loaded(_describe(name, leaf), files, contexts)


def _describe(name: str, leaf: x509.Certificate) -> Certificate:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        hosts = []  # the common name stands for nothing any more. RFC 9525 §6.3
    return Certificate(
        name=name,
        hosts=frozenset(host.lower().rstrip(".") for host in hosts),
        not_after=from_datetime(leaf.not_valid_after_utc),
        self_signed=leaf.issuer == leaf.subject,
        endpoint=endpoint(leaf),
        public_key=_digest(leaf),
    )


def _digest(leaf: x509.Certificate) -> bytes:
    key = leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(key).digest()


def endpoint(leaf: x509.Certificate) -> bytes:
    """tls-server-end-point: the hash of a server's certificate that channel binding compares.

    Empty where it is not defined: a signature that names no hash of its own, as EdDSA does.
    RFC 5929 §4.1.
    """
    algorithm = leaf.signature_hash_algorithm
    if algorithm is None:
        return b""
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return leaf.fingerprint(algorithm)


def _generation(loaded: Mapping[str, _Loaded]) -> _Generation:
    """Where two certificates hold a host: one that somebody vouches for, then the longest."""
    best_last = sorted(
        loaded.values(),
        key=lambda each: (not each.certificate.self_signed, each.certificate.not_after),
    )
    by_host = {host: each for each in best_last for host in each.certificate.hosts}
    return _Generation(loaded, by_host, loaded.get(DEFAULT, best_last[-1]))


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _write_file(path: str, content: bytes) -> None:
    """A new file that only its owner can read, on disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # also if a crash had left one behind
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
