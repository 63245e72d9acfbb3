"""The four messages of SCRAM: octets to values and back. RFC 5802 §5, §7.

Each keeps the octets that both sides sign, as they were said. A mandatory extension (`m=`)
is refused, unknown optional ones are passed over. RFC 5802 §5.1.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import Malformed
from postroom.wire.sasl.limits import FIELDS_MOST, ITERATIONS_MOST, SALT_MOST, text_of

_NONCE_MOST: Final = 1024  # characters: the client's and the server's together
# RFC 5802 §7: printable, any visible ASCII but a comma.
_NONCE: Final = re.compile(rf"[!-+\--~]{{1,{_NONCE_MOST}}}", re.ASCII)
_BINDING_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_POSITIVE: Final = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_PROOF_MOST: Final = 64  # octets of the longest hash that a mechanism may name


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """`gs2-header client-first-message-bare`. RFC 5802 §5, §7."""

    flag: str  # n: no binding; y: the client could, and thinks that the server cannot; p: bound
    binding: str  # the name of the binding where the flag is p
    authzid: str  # whom to act as; empty: oneself
    login: str
    nonce: str
    header: bytes = field(repr=False)  # the gs2 header as it was said: the final one repeats it
    bare: bytes = field(repr=False)

    @classmethod
    def of(cls, flag: str, binding: str, authzid: str, login: str, nonce: str) -> ClientFirst:
        """For a client to say."""
        said_flag = f"p={binding}" if flag == "p" else flag
        said_authzid = f"a={render_name(authzid)}" if authzid else ""
        header = f"{said_flag},{said_authzid},".encode()
        bare = f"n={render_name(login)},r={nonce}".encode()
        return cls(flag, binding, authzid, login, nonce, header, bare)

    def render(self) -> bytes:
        return self.header + self.bare


@dataclass(frozen=True, slots=True)
class ServerFirst:
    """RFC 5802 §5, §7."""

    nonce: str  # the client's, and the server's behind it
    salt: bytes
    iterations: int

    def render(self) -> bytes:
        salt = b64encode(self.salt).decode("ascii")
        return f"r={self.nonce},s={salt},i={self.iterations}".encode()


@dataclass(frozen=True, slots=True)
class ClientFinal:
    """RFC 5802 §5, §7."""

    binding: bytes  # the gs2 header, and with flag p the channel's data behind it
    nonce: str
    unproven: bytes = field(repr=False)  # client-final-message-without-proof, which is signed
    proof: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, binding: bytes, nonce: str) -> ClientFinal:
        """For a client to sign, and then to `replace` with its proof."""
        return cls(binding, nonce, b"c=%b,r=%b" % (b64encode(binding), nonce.encode("ascii")))

    def render(self) -> bytes:
        return self.unproven + b",p=" + b64encode(self.proof)


@dataclass(frozen=True, slots=True)
class ServerFinal:
    """RFC 5802 §5, §7: a signature or an error."""

    signature: bytes = b""
    error: str = ""

    def render(self) -> bytes:
        return f"e={self.error}".encode() if self.error else b"v=" + b64encode(self.signature)


def parse_client_first(message: bytes) -> ClientFirst:
    """Raises Malformed."""
    text = text_of(message)
    parts = text.split(",", 2)
    if len(parts) != 3:
        raise Malformed("A SCRAM client begins with a gs2 header")
    flag, authzid, bare = parts
    binding = ""
    if flag.startswith("p="):
        flag, binding = "p", flag[2:]
        if _BINDING_NAME.fullmatch(binding) is None:
            raise Malformed("A channel binding has a name")
    elif flag not in ("n", "y"):
        raise Malformed("A SCRAM client says whether it binds the channel")
    if authzid:
        authzid = parse_name(_value(authzid, "a"))
    fields = _fields(bare)
    if len(fields) < 2:
        raise Malformed("A SCRAM client says its name and a nonce")
    login, nonce = parse_name(_value(fields[0], "n")), _nonce(_value(fields[1], "r"))
    if len(nonce) > _NONCE_MOST // 2:
        raise Malformed(f"A client's nonce has at most {_NONCE_MOST // 2} characters")
    _extensions(fields[2:])
    said = bare.encode()
    return ClientFirst(flag, binding, authzid, login, nonce, message[: -len(said)], said)


def parse_server_first(message: bytes) -> ServerFirst:
    """Raises Malformed."""
    fields = _fields(text_of(message))
    if len(fields) < 3:
        raise Malformed("A SCRAM server says a nonce, a salt and an iteration count")
    nonce = _nonce(_value(fields[0], "r"))
    salt = _base64(_value(fields[1], "s"))
    digits = _value(fields[2], "i")
    _extensions(fields[3:])
    if not 0 < len(salt) <= SALT_MOST:
        raise Malformed(f"A salt has at most {SALT_MOST} octets")
    if _POSITIVE.fullmatch(digits) is None or int(digits) > ITERATIONS_MOST:
        raise Malformed(f"An iteration count is at most {ITERATIONS_MOST}")
    return ServerFirst(nonce, salt, int(digits))


def parse_client_final(message: bytes) -> ClientFinal:
    """Raises Malformed."""
    unproven, found, proof_text = text_of(message).rpartition(",p=")
    if not found:
        raise Malformed("A proof is missing")
    proof = _base64(proof_text)
    if not 0 < len(proof) <= _PROOF_MOST:
        raise Malformed("This is no proof")
    fields = _fields(unproven)
    if len(fields) < 2:
        raise Malformed("A SCRAM client repeats its binding and the nonce")
    binding, nonce = _base64(_value(fields[0], "c")), _nonce(_value(fields[1], "r"))
    _extensions(fields[2:])
    return ClientFinal(binding, nonce, unproven.encode(), proof)


def parse_server_final(message: bytes) -> ServerFinal:
    """Raises Malformed."""
    fields = _fields(text_of(message))
    _extensions(fields[1:])
    if fields[0].startswith("e="):
        return ServerFinal(error=_value(fields[0], "e"))
    signature = _base64(_value(fields[0], "v"))
    if not 0 < len(signature) <= _PROOF_MOST:
        raise Malformed("This is no signature")
    return ServerFinal(signature)


def _fields(text: str) -> list[str]:
    fields = text.split(",", FIELDS_MOST)
    if len(fields) > FIELDS_MOST:
        raise Malformed(f"A SCRAM message has at most {FIELDS_MOST} attributes")
    if fields[0].startswith("m="):
        raise Malformed("Mandatory extensions of SCRAM are not known here")
    return fields


def _value(attribute: str, name: str) -> str:
    if attribute[:2] != f"{name}=" or len(attribute) == 2:
        raise Malformed(f"SCRAM's attribute {name} is missing here")
    return attribute[2:]


def _extensions(fields: Sequence[str]) -> None:
    """Each is a letter, `=` and a value; none of them concerns us."""
    for each in fields:
        letter = each[:1]
        if len(each) < 3 or each[1] != "=" or not (letter.isascii() and letter.isalpha()):
            raise Malformed("This is no attribute of SCRAM")
        if letter == "m":
            raise Malformed("Mandatory extensions of SCRAM are not known here")


def _nonce(text: str) -> str:
    if _NONCE.fullmatch(text) is None:
        raise Malformed("A nonce is visible ASCII without commas")
    return text


def _base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise Malformed("This is not base64") from None


def parse_name(text: str) -> str:
    """A saslname: `=2C` is a comma, `=3D` an equals sign; no other `=`. RFC 5802 §5.1, §7."""
    if "=" not in text:
        return text
    first, *rest = text.split("=")
    made = [first]
    for each in rest:
        if each[:2].upper() == "2C":
            made.append(",")
        elif each[:2].upper() == "3D":
            made.append("=")
        else:
            raise Malformed("A name writes = as =3D and a comma as =2C")
        made.append(each[2:])
    return "".join(made)


def render_name(name: str) -> str:
    return name.replace("=", "=3D").replace(",", "=2C")
