"""FETCH: items, sections, their labels, modifiers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import (
    BadSyntax,
    Fetch,
    FetchAttribute,
    FetchBinarySize,
    FetchBody,
    FetchItem,
    FetchPreview,
    Section,
    SequenceSet,
)
from postroom.wire.imap import FetchAttribute as A
from tests.wire.imap.commands.reading import read

ONE = SequenceSet.parse(b"1")
PATHS = st.lists(st.integers(1, 2**32 - 1), max_size=4).map(tuple)
FIELD = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"),
                min_size=1, max_size=12).map(str.encode)  # fmt: skip
PARTIAL = st.none() | st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1))


@st.composite
def bodies(draw: st.DrawFn) -> FetchBody:
    path = draw(PATHS)
    section = draw(st.sampled_from(Section).filter(lambda s: s is not Section.MIME or bool(path)))
    fields: tuple[bytes, ...] = ()
    if section in (Section.HEADER_FIELDS, Section.HEADER_FIELDS_NOT):
        fields = tuple(draw(st.lists(FIELD, min_size=1, max_size=3)))
    return FetchBody(path, section, fields, draw(PARTIAL), draw(st.booleans()))


BINARIES = st.builds(
    FetchBody, path=PATHS, partial=PARTIAL, peek=st.booleans(), binary=st.just(True)
)
ITEMS = st.one_of(
    st.sampled_from(FetchAttribute), bodies(), BINARIES, st.builds(FetchBinarySize, PATHS),
    st.just(FetchPreview()),
)  # fmt: skip


def written(item: FetchItem) -> bytes:
    """The item as a client asks for it: its label, with PEEK and the whole partial."""
    if isinstance(item, FetchAttribute):
        return item.encode()
    if isinstance(item, FetchPreview):
        return b"PREVIEW (LAZY)"
    label = item.label()
    if isinstance(item, FetchBinarySize):
        return label
    if item.partial:
        label = re.sub(rb"<\d+>\Z", b"<%d.%d>" % item.partial, label)
    return label.replace(b"[", b".PEEK[", 1) if item.peek else label


@given(st.lists(ITEMS, min_size=1, unique=True))
def test_items_round_trip(items: list[FetchItem]) -> None:
    line = b"FETCH 1 (" + b" ".join(map(written, items)) + b")"
    assert read(line) == Fetch(ONE, tuple(items))


@given(ITEMS)
def test_one_item_needs_no_parentheses(item: FetchItem) -> None:
    assert read(b"UID FETCH 1 " + written(item) + b" (CHANGEDSINCE 5)") == Fetch(ONE, (item,), 5)


@given(bodies() | BINARIES)
def test_a_label_is_one_line_of_printable_octets(item: FetchBody) -> None:
    label = item.label()
    assert re.fullmatch(rb"B[A-Z]+\[[\x20-\x7e]*\](<\d+>)?", label)
    assert b"PEEK" not in label.split(b"[")[0]


@pytest.mark.parametrize(
    ("items", "parsed"),
    [
        (b"ALL", (A.FLAGS, A.INTERNALDATE, A.RFC822_SIZE, A.ENVELOPE)),
        (b"fast", (A.FLAGS, A.INTERNALDATE, A.RFC822_SIZE)),
        (b"FULL", (A.FLAGS, A.INTERNALDATE, A.RFC822_SIZE, A.ENVELOPE, A.BODY)),
        (b"(FLAGS uid FLAGS)", (A.FLAGS, A.UID)),
        (b"BODY[]", (FetchBody(),)),
        (b"body.peek[text]<0.10>",
         (FetchBody(section=Section.TEXT, partial=(0, 10), peek=True),)),
        (b"(FLAGS BODY[HEADER.FIELDS (DATE FROM)])",
         (A.FLAGS, FetchBody(section=Section.HEADER_FIELDS, fields=(b"DATE", b"FROM")))),
        (b"BODY[4.2.HEADER.FIELDS.NOT ({3+}\r\nx]y \"z\\\"\")]",
         (FetchBody((4, 2), Section.HEADER_FIELDS_NOT, (b"x]y", b'z"')),)),
        (b"(BODY[1.MIME] BODY[1.HEADER] BODY)",
         (FetchBody((1,), Section.MIME), FetchBody((1,), Section.HEADER), A.BODY)),
        (b"(BINARY[1] BINARY.PEEK[]<5.9> BINARY.SIZE[2.1])",
         (FetchBody((1,), binary=True), FetchBody((), partial=(5, 9), peek=True, binary=True),
          FetchBinarySize((2, 1)))),
        (b"(EMAILID THREADID SAVEDATE MODSEQ RFC822 RFC822.HEADER RFC822.TEXT)",
         (A.EMAILID, A.THREADID, A.SAVEDATE, A.MODSEQ, A.RFC822, A.RFC822_HEADER, A.RFC822_TEXT)),
        (b"(PREVIEW (lazy) PREVIEW)", (FetchPreview(), A.PREVIEW)),
    ],
)  # fmt: skip
def test_items(items: bytes, parsed: tuple[FetchItem, ...]) -> None:
    assert read(b"FETCH 1 " + items) == Fetch(ONE, parsed)


@pytest.mark.parametrize(
    ("item", "label"),
    [
        (b"BODY.PEEK[]", b"BODY[]"),
        (b"body[header]", b"BODY[HEADER]"),
        (b"BODY[1.2.text]<5.10>", b"BODY[1.2.TEXT]<5>"),
        (b'BODY[header.fields (From "X-A" {1+}\r\n])]', b'BODY[HEADER.FIELDS (From X-A "]")]'),
        (b'BODY[HEADER.FIELDS.NOT ("a(b" "c\\\\")]', b'BODY[HEADER.FIELDS.NOT ("a(b" "c\\\\")]'),
        (b"BINARY.PEEK[1]<0.1>", b"BINARY[1]<0>"),
        (b"BINARY.SIZE[1.2]", b"BINARY.SIZE[1.2]"),
    ],
)
def test_labels(item: bytes, label: bytes) -> None:
    fetch = read(b"FETCH 1 " + item)
    assert isinstance(fetch, Fetch)
    [parsed] = fetch.items
    assert isinstance(parsed, FetchBody | FetchBinarySize)
    assert parsed.label() == label


def test_modifiers() -> None:
    """RFC 7162 §3.1.4.1, §3.2.6."""
    messages = SequenceSet.parse(b"300:500")
    assert read(b"UID FETCH 300:500 (FLAGS) (CHANGEDSINCE 12345 VANISHED)") == Fetch(
        messages, (A.FLAGS,), 12345, True
    )
    assert read(b"FETCH 300:500 FLAGS (changedsince 12345)") == Fetch(messages, (A.FLAGS,), 12345)


@pytest.mark.parametrize(
    "arguments",
    [
        b"",
        b" 1",
        b" 1 ",
        b" x FLAGS",
        b" 1 FOO",
        b" 1 ()",
        b" 1 (FLAGS",
        b" 1 (FLAGS )",
        b" 1 ( FLAGS)",
        b" 1 (FLAGS  UID)",
        b" 1 (ALL)",
        b" 1 FLAGS UID",
        b" 1 BODY[",
        b" 1 BODY[]<",
        b" 1 BODY[]<1>",
        b" 1 BODY[]<1.0>",
        b" 1 BODY[]<-1.5>",
        b" 1 BODY[]<1.9223372036854775808>",
        b" 1 BODY[FOO]",
        b" 1 BODY[MIME]",
        b" 1 BODY[0]",
        b" 1 BODY[1.0]",
        b" 1 BODY[1.]",
        b" 1 BODY[.1]",
        b" 1 BODY[1..2]",
        b" 1 BODY[4294967296]",
        b" 1 BODY[1" + b".1" * 100 + b"]",
        b" 1 BODY[TEXT.1]",
        b" 1 BODY[HEADER.FIELDS]",
        b" 1 BODY[HEADER.FIELDS ()]",
        b" 1 BODY[HEADER.FIELDS (a b]",
        b' 1 BODY[HEADER.FIELDS ("")]',
        b' 1 BODY[HEADER.FIELDS ("a b")]',
        b' 1 BODY[HEADER.FIELDS ("a:")]',
        b" 1 BODY[HEADER.FIELDS ({3+}\r\na\r\n)]",
        b" 1 BODY[HEADER.FIELDS ({1+}\r\n\xff)]",
        b" 1 BODY.PEEK",
        b" 1 BODYSTRUCTURE[]",
        b" 1 FLAGS[]",
        b" 1 BINARY",
        b" 1 BINARY[TEXT]",
        b" 1 BINARY[1.MIME]",
        b" 1 BINARY.SIZE[1]<0.1>",
        b" 1 BINARY.SIZE",
        b" 1 PREVIEW (EAGER)",
        b" 1 FLAGS ()",
        b" 1 FLAGS (FOO)",
        b" 1 FLAGS (CHANGEDSINCE)",
        b" 1 FLAGS (CHANGEDSINCE 1",
        b" 1 FLAGS (CHANGEDSINCE 1 CHANGEDSINCE 2)",
        b" 1 FLAGS (CHANGEDSINCE 1) x",
        b" 1 FLAGS (VANISHED)",
    ],
)
def test_what_follows_no_grammar_is_refused(arguments: bytes) -> None:
    for name in (b"FETCH", b"UID FETCH"):
        with pytest.raises(BadSyntax):
            read(name + arguments)


def test_vanished_is_for_uids() -> None:
    with pytest.raises(BadSyntax):
        read(b"FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)")
