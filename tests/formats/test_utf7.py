"""Modified UTF-7 against the codec of the standard library, and one spelling for each name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.formats import utf7

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def by_the_book(name: str) -> bytes:
    """RFC 3501 §5.1.3 from RFC 2152: each run of what is not printable, shifted on its own."""
    out = b""
    run = ""
    for c in f"{name}a":  # the last letter ends the last run
        if " " <= c <= "~":
            if run:
                packed = run.encode("utf-7")
                assert packed[:1] == b"+"
                out += b"&" + packed[1:].rstrip(b"-").replace(b"/", b",") + b"-"
                run = ""
            out += b"&-" if c == "&" else c.encode("ascii")
        else:
            run += c
    return out[:-1]


@given(TEXT)
def test_names_round_trip(name: str) -> None:
    encoded = utf7.encode(name)
    assert all(0x20 <= octet < 0x7F for octet in encoded)
    assert utf7.decode(encoded) == name


@given(
    st.text(st.characters(min_codepoint=0xA0, exclude_categories=["Cs"]) | st.sampled_from("a&-~,"))
)
def test_the_standard_library_agrees(name: str) -> None:
    assert utf7.encode(name) == by_the_book(name)


@given(st.binary(max_size=20) | st.text("&-,/+AGkQyE1b=", max_size=14).map(str.encode))
def test_a_name_has_one_spelling(raw: bytes) -> None:
    try:
        name = utf7.decode(raw)
    except ValueError:
        return
    assert utf7.encode(name) == raw


def test_the_example_of_the_rfc() -> None:
    assert utf7.decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-") == "~peter/mail/台北/日本語"
    assert utf7.encode("~peter/mail/台北/日本語") == b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"
    assert utf7.decode(b"Q&-A") == "Q&A"


@pytest.mark.parametrize(
    "raw",
    [
        b"&Jjo!",  # the example of RFC 3501 §5.1.3: not a shift
        b"&U,BTFw-&ZeVnLIqe-",  # and the superfluous shift
        b"&",
        b"a&b",
        b"&AGE-",  # ASCII, shifted
        b"&AGEA4w-",
        b"&ACY-",  # "&" itself
        b"&U/BTFw-",  # "/" of the usual base64
        b"&2D3-",  # half a surrogate pair
        b"&3ADYAA-",  # the pair the wrong way round
        b"&AOR-",  # bits left over
        b"&A-",
        b"&AOQ=-",
        b"caf\xc3\xa9",
        b"a\x00",
        b"a\r\n",
        b"\x7f",
    ],
)
def test_what_is_not_canonical_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        utf7.decode(raw)


def test_a_lone_surrogate_cannot_be_written() -> None:
    with pytest.raises(ValueError):
        utf7.encode("\ud800")
