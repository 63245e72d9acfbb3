"""Our signatures before dkimpy, and its before ours, over messages that Hypothesis makes up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trust.signed import DOMAIN, NOW, key, ours, record, verify

dkimpy = pytest.importorskip("dkim", reason="dkimpy is not installed")

_TEXT = st.text(alphabet="ab =;:\t", max_size=30)
_VALUES = st.one_of(
    _TEXT, st.tuples(_TEXT.filter(str.strip), _TEXT.filter(str.strip)).map("\r\n ".join)
)
_FIELDS = st.lists(
    st.tuples(st.sampled_from(["To", "Subject", "X-One", "Received", "List-Id"]), _VALUES),
    max_size=6,
)
_LINES = st.lists(st.sampled_from(["", " ", "\t", "a", "a  b \t", " x", "From here"]), max_size=8)


@st.composite
def messages(draw: Any) -> bytes:
    fields = [("From", f"ann@{DOMAIN}"), *draw(_FIELDS)]
    head = "".join(f"{name}: {value.strip()}\r\n" for name, value in fields)
    body = "".join(f"{line}\r\n" for line in draw(_LINES))
    return f"{head}\r\n{body}".encode()


def _text(name: bytes | str, timeout: int = 5) -> bytes:
    asked = name.decode() if isinstance(name, bytes) else name
    return record("rsa" if asked.startswith("k-rsa.") else "ed25519").encode()


@given(message=messages())
@settings(max_examples=40, deadline=None)
def test_what_we_sign_dkimpy_verifies(message: bytes) -> None:
    signed = ours(message, ("rsa",))
    assert dkimpy.verify(signed, dnsfunc=_text)


@given(
    message=messages(),
    forms=st.tuples(
        st.sampled_from([b"simple", b"relaxed"]), st.sampled_from([b"simple", b"relaxed"])
    ),
)
@settings(max_examples=30, deadline=None)
def test_what_dkimpy_signs_we_verify(message: bytes, forms: tuple[bytes, bytes]) -> None:
    pem = key("rsa").private.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    head = message.partition(b"\r\n\r\n")[0].split(b"\r\n")
    there = {line.partition(b":")[0].lower() for line in head if line[:1].strip()}
    names = sorted(there - {b"received"})  # dkimpy signs none
    field = dkimpy.sign(
        message,
        b"k-rsa",
        DOMAIN.encode(),
        pem,
        canonicalize=forms,
        include_headers=names,
    )
    found = asyncio.run(verify(field + message, now=NOW + 10**9))
    word = found[0].code.value
    doubled = any(message.count(b"\r\n" + name + b": ") > 1 for name in (b"To", b"Subject"))
    assert word == "pass" or (doubled and word == "policy"), (found, field)
