"""What a server says, as a client reads it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.imap import (
    Atom,
    BadResponse,
    Code,
    Continuation,
    Response,
    ResponseLimits,
    ResponseReader,
    Tagged,
    Untagged,
    Value,
    parenthesised,
    quoted_or_literal,
)

A = Atom


def responses(data: bytes, limits: ResponseLimits | None = None) -> list[Response]:
    reader = ResponseReader(limits)
    reader.feed(data)
    found = []
    while (response := reader.next()) is not None:
        found.append(response)
    return found


@pytest.mark.parametrize(
    ("line", "response"),
    [
        (b"* OK IMAP4rev2 server ready", Untagged(b"OK", text=b"IMAP4rev2 server ready")),
        (b"* OK [CAPABILITY IMAP4rev2 AUTH=PLAIN] Hi",
         Untagged(b"OK", text=b"Hi",
                  code=Code(b"CAPABILITY", (A(b"IMAP4rev2"), A(b"AUTH=PLAIN"))))),
        (b"a1 OK [READ-WRITE] SELECT completed",
         Tagged(b"a1", b"OK", Code(b"READ-WRITE"), b"SELECT completed")),
        (b"a1 no [copyuid 1 2:3 4] x",
         Tagged(b"a1", b"NO", Code(b"COPYUID", (1, A(b"2:3"), 4)), b"x")),
        (b"* OK [PERMANENTFLAGS (\\Deleted \\*)] Limited",
         Untagged(b"OK", code=Code(b"PERMANENTFLAGS", ((A(b"\\Deleted"), A(b"\\*")),)),
                  text=b"Limited")),
        (b'* NO [BADURL "/a]b"] x', Untagged(b"NO", code=Code(b"BADURL", (b"/a]b",)), text=b"x")),
        (b"* OK [odd text", Untagged(b"OK", text=b"[odd text")),
        (b"* OK [] text", Untagged(b"OK", text=b"[] text")),
        (b"* OK send {5}", Untagged(b"OK", text=b"send {5}")),
        (b"a BAD what {5}", Tagged(b"a", b"BAD", None, b"what {5}")),
        (b"a OK", Tagged(b"a", b"OK", None, b"")),
        (b"+ idling {3}", Continuation(b"idling {3}")),
        (b"+", Continuation(b"")),
        (b"* 23 EXISTS", Untagged(b"EXISTS", number=23)),
        (b"* search 2 84 882", Untagged(b"SEARCH", (2, 84, 882))),
        (b'* LIST (\\Noselect) "/" ~/Mail/foo',
         Untagged(b"LIST", ((A(b"\\Noselect"),), b"/", A(b"~/Mail/foo")))),
        (b"* LIST () NIL [Gmail]/x", Untagged(b"LIST", ((), None, A(b"[Gmail]/x")))),
        (b"* LIST () NIL BODY[x", Untagged(b"LIST", ((), None, A(b"BODY[x")))),
        (b"* 1 FETCH (FLAGS ([x]))", Untagged(b"FETCH", ((A(b"FLAGS"), (A(b"[x]"),)),), 1)),
        (b'* LIST () "\\\\" "a \\"b\\""', Untagged(b"LIST", ((), b"\\", b'a "b"'))),
        (b'* ESEARCH (TAG "A283") UID MIN 2 ALL 2,10:11',
         Untagged(b"ESEARCH", ((A(b"TAG"), b"A283"), A(b"UID"), A(b"MIN"), 2, A(b"ALL"),
                               A(b"2,10:11")))),
        (b"* VANISHED (EARLIER) 41,43:116",
         Untagged(b"VANISHED", ((A(b"EARLIER"),), A(b"41,43:116")))),
        (b"* THREAD (2)(3 6 (4 23)(44 7 96))",
         Untagged(b"THREAD", ((2,), (3, 6, (4, 23), (44, 7, 96))))),
        (b'* 12 FETCH (BODY[HEADER.FIELDS (DATE "X]Y")]<0> {4}\r\na\r\nb FLAGS (\\Seen) UID 3)',
         Untagged(b"FETCH", ((A(b'BODY[HEADER.FIELDS (DATE "X]Y")]<0>'), b"a\r\nb", A(b"FLAGS"),
                              (A(b"\\Seen"),), A(b"UID"), 3),), 12)),
        (b"* 1 FETCH (BINARY[1] ~{2}\r\n\0x BODY[] NIL)",
         Untagged(b"FETCH", ((A(b"BINARY[1]"), b"\0x", A(b"BODY[]"), None),), 1)),
        (b"* 1 FETCH (BODY[] {0}\r\n X {1}\r\na)",
         Untagged(b"FETCH", ((A(b"BODY[]"), b"", A(b"X"), b"a"),), 1)),
    ],
)  # fmt: skip
def test_responses(line: bytes, response: Response) -> None:
    [read] = responses(line + b"\r\n")
    assert read == response


def test_an_atom_is_told_from_a_string() -> None:
    [read] = responses(b'* X NIL "NIL" nil 1 "1"\r\n')
    assert isinstance(read, Untagged)
    assert [type(value) for value in read.data] == [type(None), bytes, type(None), int, bytes]


VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none()
    | st.integers(0, 2**63 - 1)
    | st.binary(max_size=9).filter(lambda data: b"\0" not in data)
    | st.from_regex(r"\A[a-z][a-z0-9.:]{0,5}\Z")
    .map(str.encode)
    .filter(lambda w: w != b"nil")
    .map(A),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
)


def rendered(value: Value) -> bytes:
    if value is None:
        return b"NIL"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, tuple):
        return parenthesised(map(rendered, value))
    return bytes(value) if isinstance(value, Atom) else quoted_or_literal(value)


@settings(max_examples=60)
@given(st.lists(st.lists(VALUES, max_size=5).map(tuple), max_size=3), st.integers(1, 7))
def test_trees_round_trip_however_chopped(trees: list[tuple[Value, ...]], step: int) -> None:
    data = b"".join(b"* X " + b" ".join(map(rendered, tree)) + b"\r\n" for tree in trees)
    expected: list[Response] = [Untagged(b"X", tree) for tree in trees]
    assert responses(data) == expected
    reader = ResponseReader()
    found: list[Response] = []
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
        while (response := reader.next()) is not None:
            found.append(response)
    assert found == expected
    assert reader.empty


@pytest.mark.parametrize(
    "line",
    [b"", b"*", b"* ", b"a", b"a FOO", b"* X (", b"* X )", b"* X (()", b'* X "a', b'* X "\\n"',
     b"* 1 FETCH (BODY[ x)", b"* X {1", b"* 1", b"* 1 ", b"* X \\", b"* X a\x00", b'* X "a\rb"'],
)  # fmt: skip
def test_what_is_no_response_is_refused(line: bytes) -> None:
    with pytest.raises(BadResponse):
        responses(line + b"\r\n")


def test_a_server_is_bounded_too() -> None:
    limits = ResponseLimits(line=100, literal=50, response=200, depth=5)
    for data in (
        b"x" * 103,
        b"* X {51}\r\n",
        b"* X {99999999999}\r\n",
        b"* X" + b" {50}\r\n" + b"x" * 50 + b" {50}\r\n" + b"x" * 50 + b" {50}\r\n" + b"x" * 50
        + b" {50}\r\n",
        b"* X " + b"(" * 6 + b")" * 6 + b"\r\n",
    ):  # fmt: skip
        with pytest.raises(BadResponse):
            responses(data, limits)
    assert responses(b"* X " + b"(" * 5 + b")" * 5 + b"\r\n", limits)


@pytest.mark.parametrize(
    "unit",
    [
        b"(",
        b"()",
        b'"',
        b"\\",
        b"[",
        b"a[",
        b"[]",
        b'["',
        b"BODY[ ",
        b'BODY["',
        b"1 ",
        b"{",
        b"{0}\r\n",
    ],
)
def test_hostile_responses_take_linear_time(unit: bytes) -> None:
    began = time.process_time()
    for start in (b"* X ", b"* 1 FETCH ", b"* OK ["):
        for end in (b"\r\n", b"]\r\n", b'"\r\n'):
            try:
                responses(start + unit * (200_000 // len(unit)) + end)
            except BadResponse:
                continue
    assert time.process_time() - began < 5  # about 0.5


def test_extra_bytes_after_starttls_are_seen() -> None:
    reader = ResponseReader()
    reader.feed(b"a OK Begin TLS\r\n* OK [ALERT] injected\r\n")
    assert isinstance(reader.next(), Tagged)
    assert not reader.empty
