"""Secrets that must be readable again, such as the password at a smart host: sealed at rest.

A verifier is better wherever it is enough; what is sealed here has to be said to somebody else.
A sealed text is `sealed:1:KEY:DATA`: the version of this form, the id of its key, and in base64 a
nonce of 12 octets with what AES-256-GCM (NIST SP 800-38D) made of the text. What it is of, a place
and a name, is authenticated with it: moved elsewhere it does not open. The nonce is made of both
by HMAC: one key seals one text of one thing always alike, so that what did not change is seen not
to have changed, and no nonce serves two texts.

The keys lie in one file of the data directory, which its owner alone can read; the first of them
seals. The store without that file, as whoever steals a disk's backup has it, tells no secret.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from postroom.core.errors import Misuse, SecretUnreadable
from postroom.core.log import HIDDEN

V = TypeVar("V")

PREFIX: Final = "sealed:1:"
LONGEST: Final = 4_096
"""Octets of a secret."""
KEYS: Final = 100
"""Keys in a file: retired ones go when nothing that is kept was sealed with them."""
_KEY: Final = 32  # octets
_NONCE: Final = 12
_FILE_MAX: Final = 64 * 1024
_HEAD: Final = (
    "# The keys of this server's sealed secrets, the current one first. Whoever has this file and\n"
    "# the store can read them; without it they are lost. Keep a copy apart from the backups.\n"
)


def is_sealed(text: str) -> bool:
    """Whether a text has the form of a sealed one; `Keyring.open` says if it is one."""
    return text.startswith(PREFIX) and text.count(":") == _COLONS


_COLONS: Final = 3


def veiled(value: V) -> V | str:
    """A value as it may be shown: of a sealed one, that there is one."""
    return HIDDEN if isinstance(value, str) and is_sealed(value) else value


def key_of(sealed: str) -> str:
    """The id of the key with which a text was sealed; raises SecretUnreadable."""
    if not is_sealed(sealed):
        raise SecretUnreadable("A stored secret is damaged")
    return sealed.removeprefix(PREFIX).partition(":")[0]


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Its id is made from it, so that a damaged one is noticed."""

    octets: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return hashlib.sha256(b"postroom key id\0" + self.octets).hexdigest()[:8]


class Keyring:
    """The keys in a file, read anew whenever it has changed: other processes may rotate them."""

    __slots__ = ("_keys", "_path", "_random", "_seen")

    def __init__(self, path: str = "", random: Callable[[int], bytes] = os.urandom) -> None:
        """Without a path there are no keys, and nothing is sealed or opened."""
        self._path = path
        self._random = random
        self._seen: tuple[int, ...] = ()
        self._keys: Mapping[str, Key] = {}

    # --- sealing -----------------------------------------------------------------------------

    def seal(self, text: str, of: str) -> str:
        """The sealed text; `of` says what it is a secret of. Raises SecretUnreadable without a
        key, Misuse for one that is too long."""
        octets = text.encode()
        if len(octets) > LONGEST:
            raise Misuse(f"A secret has at most {LONGEST:,} octets")
        key = next(iter(self._current().values()))
        nonce = _nonce(key, octets, of)
        data = nonce + AESGCM(key.octets).encrypt(nonce, octets, _bound(key.id, of))
        return f"{PREFIX}{key.id}:{base64.b64encode(data).decode('ascii')}"

    def open(self, sealed: str, of: str) -> str:
        """The text; raises SecretUnreadable if its key is not here, or it is of something else."""
        id_ = key_of(sealed)
        key = self._current().get(id_)
        if key is None:
            raise SecretUnreadable(
                f"A secret was sealed with the key {id_}, which is not in {self._path}", detail=of
            )
        try:
            text = sealed.rpartition(":")[2]
            data = base64.b64decode(text, validate=True)
            if base64.b64encode(data).decode("ascii") != text:
                raise ValueError("another spelling of the same octets")
            nonce, octets = data[:_NONCE], data[_NONCE:]
            return AESGCM(key.octets).decrypt(nonce, octets, _bound(id_, of)).decode()
        except (binascii.Error, ValueError, InvalidTag) as error:
            raise SecretUnreadable(
                "A stored secret is damaged, or was moved from where it was set", detail=of
            ) from error

    # --- keys --------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return self._path

    def ids(self) -> tuple[str, ...]:
        """The ids of the keys, the current one first; raises SecretUnreadable."""
        return tuple(self._current())

    def exists(self) -> bool:
        """Whether there is a file of keys, good or not."""
        return bool(self._path) and os.path.lexists(self._path)

    def make(self) -> None:
        """Make the file with a first key, unless there is one."""
        with self._alone():
            if not self.exists():
                self._write([Key(self._random(_KEY))])

    def rotate(self) -> str:
        """Another key seals from now on, in every process; its id. The former ones still open.

        Raises SecretUnreadable, and Misuse where there are too many.
        """
        with self._alone():
            keys = list(self._current().values())
            if len(keys) >= KEYS:
                raise Misuse(f"There are {KEYS} keys: let go of those that nothing needs first")
            fresh = Key(self._random(_KEY))
            self._write([fresh, *keys])
        return fresh.id

    def retire(self, needed: Collection[str]) -> tuple[str, ...]:
        """Let go of keys but the current one, the one before it, and those that are needed; the
        ids of those that went.

        The one before stays, for what was being written while it was replaced.
        """
        with self._alone():
            keys = list(self._current().values())
            kept = [key for n, key in enumerate(keys) if n < 2 or key.id in needed]
            if len(kept) < len(keys):
                self._write(kept)
        return tuple(key.id for key in keys if key not in kept)

    # --- the file ----------------------------------------------------------------------------

    def _current(self) -> Mapping[str, Key]:
        """The keys by id, the current one first; raises SecretUnreadable."""
        if not self._path:
            raise SecretUnreadable("There are no keys here to seal or open a secret with")
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise SecretUnreadable(f"The keys of the secrets are missing: {self._path}") from error
        except OSError as error:
            raise SecretUnreadable(f"{self._path} cannot be read: {error.strerror}") from error
        try:
            about = os.fstat(descriptor)
            seen = (about.st_ino, about.st_mtime_ns, about.st_size, about.st_mode, about.st_uid)
            if seen != self._seen:
                self._guard(about)
                self._keys = self._parsed(os.read(descriptor, _FILE_MAX))
                self._seen = seen
        finally:
            os.close(descriptor)
        return self._keys

    def _guard(self, about: os.stat_result) -> None:
        """Raises SecretUnreadable for a file that others could have read or put there."""
        if not stat.S_ISREG(about.st_mode):
            raise SecretUnreadable(f"{self._path} is no file")
        if about.st_uid not in (0, os.geteuid()):
            raise SecretUnreadable(f"{self._path} belongs to another user ({about.st_uid})")
        if about.st_mode & 0o077:
            raise SecretUnreadable(
                f"{self._path} can be read by others (mode {about.st_mode & 0o777:o}): if nobody "
                "did, make it 600"
            )

    def _parsed(self, octets: bytes) -> Mapping[str, Key]:
        keys: dict[str, Key] = {}
        try:
            for line in octets.decode("ascii").splitlines():
                if not line or line.startswith("#"):
                    continue
                id_, _, text = line.partition(" ")
                key = Key(base64.b64decode(text, validate=True))
                if len(key.octets) != _KEY or key.id != id_:
                    raise ValueError("a key that is not what its id says")
                keys[id_] = key
        except ValueError as error:  # of base64 and ASCII too
            raise SecretUnreadable(f"{self._path} is damaged", detail=str(error)) from error
        if not keys:
            raise SecretUnreadable(f"{self._path} holds no key")
        return keys

    def _write(self, keys: Sequence[Key]) -> None:
        """Readers see the old or the new; on disk before this returns."""
        lines = (f"{key.id} {base64.b64encode(key.octets).decode('ascii')}\n" for key in keys)
        fresh = f"{self._path}.new"
        try:
            descriptor = os.open(
                fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(_HEAD + "".join(lines))
                file.flush()
                os.fsync(file.fileno())
            os.rename(fresh, self._path)
            _sync_folder(self._path)
        except OSError as error:
            raise SecretUnreadable(f"{self._path} cannot be written: {error.strerror}") from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile."""
        if not self._path:
            raise SecretUnreadable("There are no keys here")
        descriptor = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _nonce(key: Key, octets: bytes, of: str) -> bytes:
    made_of = hashlib.sha256(of.encode()).digest() + octets
    apart = hashlib.sha256(b"postroom nonces\0" + key.octets).digest()  # no key has two uses
    return hmac.digest(apart, made_of, "sha256")[:_NONCE]


def _bound(key: str, of: str) -> bytes:
    """What is authenticated with a secret."""
    return f"postroom secret 1\0{key}\0{of}".encode()


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
