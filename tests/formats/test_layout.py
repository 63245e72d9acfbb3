"""postroom.formats.layout: section numbers of RFC 9051 §6.4.5.1, and what is not a layout."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Corrupt
from postroom.formats.layout import UNKNOWN, Layout, What, pack
from postroom.formats.mime import Part, scan

# The shape of RFC 9051 §6.4.5.1's example: what each number names is said in its text.
MESSAGE = b"""\
Subject: outer
Content-Type: multipart/mixed; boundary=a

--a
Content-Type: text/plain

text 1
--a
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

dGV4dCAy
--a
Content-Type: message/rfc822

Subject: three
Content-Type: multipart/mixed; boundary=b

--b

text 3.1
--b
Content-Type: application/octet-stream

text 3.2
--b--

--a
Content-Type: multipart/mixed; boundary=c

--c
Content-Type: image/gif
Content-Transfer-Encoding: x-nobody-knows

text 4.1
--c
Content-Type: message/rfc822
Content-Description: a message of one part

Subject: four two

text 4.2.1
--c--

--a--
""".replace(b"\n", b"\r\n")


def layout(raw: bytes) -> Layout:
    return Layout.unpack(pack(scan(raw)))


def text(raw: bytes, path: tuple[int, ...], what: What) -> bytes | None:
    found = layout(raw).section(path, what)
    return None if found is None else raw[found[0] : found[0] + found[1]]


def test_a_part_of_the_tree_is_the_one_that_the_layout_names() -> None:
    root = scan(MESSAGE)
    layout = Layout.unpack(pack(root))
    paths = product(range(5), repeat=3)
    for path in {tuple(n for n in each if n) for each in paths} - {()}:
        part, place = root.at(path), layout.section(path, "part")
        assert place == (None if part is None else (part.body, part.end - part.body)), path
    assert root.at(()) is root


@pytest.mark.parametrize(
    ("path", "what", "wanted"),
    [
        ((), "part", MESSAGE),
        ((), "HEADER", MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 4]),
        ((), "TEXT", MESSAGE[MESSAGE.index(b"\r\n\r\n") + 4 :]),
        ((), "MIME", None),
        ((1,), "part", b"text 1"),
        ((1,), "MIME", b"Content-Type: text/plain\r\n\r\n"),
        ((1,), "HEADER", None),
        ((1,), "TEXT", None),
        ((1, 1), "part", None),
        ((2,), "part", b"dGV4dCAy"),
        (
            (3,),
            "HEADER",
            b"Subject: three\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n",
        ),
        ((3,), "MIME", b"Content-Type: message/rfc822\r\n\r\n"),
        ((3, 1), "part", b"text 3.1"),
        ((3, 1), "MIME", b"\r\n"),
        ((3, 2), "part", b"text 3.2"),
        ((3, 3), "part", None),
        ((4, 1), "part", b"text 4.1"),
        ((4,), "HEADER", None),
        ((4, 2), "HEADER", b"Subject: four two\r\n\r\n"),
        ((4, 2), "TEXT", b"text 4.2.1"),
        ((4, 2), "part", b"Subject: four two\r\n\r\ntext 4.2.1"),
        ((4, 2, 1), "part", b"text 4.2.1"),
        ((4, 2, 2), "part", None),
        ((4, 2, 1, 1), "part", None),
        ((5,), "part", None),
        ((0,), "part", None),
        ((-1,), "part", None),
    ],
)
def test_a_section_is_the_slice_that_its_number_names(
    path: tuple[int, ...], what: What, wanted: bytes | None
) -> None:
    assert text(MESSAGE, path, what) == wanted


def test_part_1_of_a_message_without_parts_is_its_text() -> None:
    raw = b"Subject: x\r\n\r\nbody\r\n"
    assert text(raw, (1,), "part") == b"body\r\n"
    assert text(raw, (1,), "MIME") == b"Subject: x\r\n\r\n"
    assert text(raw, (2,), "part") is None
    assert text(raw, (1, 1), "part") is None


def test_a_message_that_is_a_message_has_it_as_part_1() -> None:
    raw = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody"
    assert text(raw, (1,), "part") == b"Subject: in\r\n\r\nbody"
    assert text(raw, (1,), "HEADER") == b"Subject: in\r\n\r\n"
    assert text(raw, (1, 1), "part") == b"body"


def test_binary_names_the_encoding() -> None:
    found = layout(MESSAGE)
    at, length, encoding = found.binary((2,)) or (0, 0, "")
    assert (MESSAGE[at : at + length], encoding) == (b"dGV4dCAy", "base64")
    assert (found.binary((1,)) or ())[2:] == ("identity",)
    assert (found.binary((4, 1)) or ())[2:] == (UNKNOWN,)
    assert found.binary(()) == (0, len(MESSAGE), "identity")
    assert found.binary((9,)) is None


def test_what_is_no_layout_is_refused() -> None:
    good = pack(scan(MESSAGE))
    for bad in (b"", b"\x01", good[:-1], good + b"\0", b"\x09" + good[1:], b"\x01\0\0\0"):
        with pytest.raises(Corrupt):
            Layout.unpack(bad)


@given(st.binary(max_size=80), st.lists(st.integers(0, 3), max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_damaged_layout_answers_or_is_corrupt(records: bytes, path: list[int]) -> None:
    records = records[: len(records) // 18 * 18]
    try:
        found = Layout.unpack(b"\x01\0" + (len(records) // 18).to_bytes(2, "little") + records)
        found.section(tuple(path), "HEADER")
    except Corrupt:
        pass


def numbered(part: Part, path: tuple[int, ...], entity: bool) -> list[tuple[tuple[int, ...], Part]]:
    """Every body part with its number, from the tree alone: the other way round."""
    if part.is_multipart:
        below = [
            numbered(child, (*path, n), False) for n, child in enumerate(part.children, start=1)
        ]
        own = [] if entity else [(path, part)]
        return own + [each for some in below for each in some]
    own_path = (*path, 1) if entity else path
    inside = numbered(part.children[0], own_path, True) if part.children else []
    return [(own_path, part), *inside]


KINDS = st.recursive(
    st.just(b"\r\nleaf"),
    lambda below: st.one_of(
        st.lists(below, min_size=1, max_size=3).map(tuple),
        below.map(lambda inner: [inner]),
    ),
    max_leaves=8,
)


def built(shape: object, name: bytes = b"b") -> bytes:
    if isinstance(shape, bytes):
        return shape
    if isinstance(shape, list):
        return b"Content-Type: message/rfc822\r\n\r\n" + built(shape[0], name)
    assert isinstance(shape, tuple)
    parts = [b"--" + name + b"\r\n" + built(each, name + b"x") for each in shape]
    head = b"Content-Type: multipart/mixed; boundary=" + name + b"\r\n\r\n"
    return head + b"\r\n".join([*parts, b"--" + name + b"--"])


@given(KINDS)
@settings(max_examples=150, deadline=None)
def test_every_part_is_found_under_its_number(shape: object) -> None:
    root = scan(built(shape))
    packed = Layout.unpack(pack(root))
    parts = numbered(root, (), True)
    assert len({path for path, _ in parts}) == len(parts)
    for path, part in parts:
        assert packed.section(path, "part") == (part.body, part.end - part.body)
        assert packed.section(path, "MIME") == (part.start, part.body - part.start)
