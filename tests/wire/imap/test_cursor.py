"""The values of the grammar, each read from a line or from literals."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.wire.imap import BadSyntax, Cursor, Piece, astring, flags, mailbox_name
from postroom.wire.imap import quoted_or_literal as string

FLAG = st.from_regex(re.compile(r"\\?[A-Za-z0-9$_.+-]{1,8}", re.ASCII), fullmatch=True)
NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), min_size=1
)


def cursor(rendered: bytes, *, utf8: bool = False) -> Cursor:
    """What a receiver makes of one rendered value: a line, or a literal between lines."""
    found = re.fullmatch(rb"(~?)\{(\d+)\}\r\n(.*)", rendered, re.DOTALL)
    if found is None:
        return Cursor(rendered, utf8=utf8)
    assert int(found[2]) == len(found[3])
    return Cursor(b"", 0, [Piece(found[3], bool(found[1]), b"")], utf8=utf8)


@given(st.binary().filter(lambda data: b"\0" not in data))
def test_strings_round_trip(data: bytes) -> None:
    for read in (
        cursor(string(data)).string,
        cursor(string(data, utf8=True)).string,
        cursor(astring(data)).astring,
        cursor(string(data)).nstring,
    ):
        assert read() == data


@given(NAME, st.booleans())
def test_mailbox_names_round_trip(name: str, utf8: bool) -> None:
    args = cursor(mailbox_name(name, utf8), utf8=utf8)
    assert args.mailbox() == ("INBOX" if name.upper() == "INBOX" else name)
    args.end()


@given(st.lists(FLAG, unique_by=str.upper))
def test_flags_round_trip(names: list[str]) -> None:
    read = cursor(flags(names)).flag_list()
    assert [flag.upper() for flag in read] == [name.upper() for name in names]


def test_system_flags_have_one_spelling() -> None:
    assert Cursor(b"(\\SEEN $junk \\seen \\ANSWERED)").flag_list() == (
        "\\Seen", "$junk", "\\Answered"
    )  # fmt: skip
    assert Cursor(b"\\deleted").flag() == "\\Deleted"
    assert Cursor(b"()").flag_list() == ()


@pytest.mark.parametrize(
    "text",
    [b"(", b"( )", b"(a )", b"( a)", b"(a  b)", b"(\\)", b"(\\*)", b"(a\\b)", b"(\xc3\xa9)", b"a",
     b'("a")', b"(a]b)", b"((a))", b"(\\\\a)", b"(a\0)"],
)  # fmt: skip
def test_what_is_no_list_of_flags_is_refused(text: bytes) -> None:
    with pytest.raises(BadSyntax):
        Cursor(text).flag_list()


def test_inbox_has_one_spelling() -> None:
    for spelling in (b"INBOX", b"inbox", b'"InBox"'):
        assert Cursor(spelling).mailbox() == "INBOX"
    assert Cursor(b"inbox/x").mailbox() == "inbox/x"


@pytest.mark.parametrize(
    "raw",
    [b'""', b"&AAA-", b"&AAoADQ-", b"&AH8-", b"&AIU-", b"&ICg-", b'"caf\xc3\xa9"', b"a&b",
     b'"a\tb"'],
)  # fmt: skip
def test_mailbox_names_that_cannot_be_are_refused(raw: bytes) -> None:
    with pytest.raises(BadSyntax):
        Cursor(raw).mailbox()


def test_mailbox_names_in_utf8() -> None:
    assert Cursor(b'"caf\xc3\xa9 &-"', utf8=True).mailbox() == "café &-"
    for raw in (b'"\xff"', b'"\xed\xa0\x80"', b'"a\tb"', b'"\xc2\x85"'):
        with pytest.raises(BadSyntax):
            Cursor(raw, utf8=True).mailbox()


def test_quoted_strings() -> None:
    assert Cursor(b'"a\\"b\\\\c" x').string() == b'a"b\\c'
    for text in (b'"', b'"a', b'"a\\n"', b'"a\rb"', b'"a\nb"', b'"a\0b"', b'"a\\"', b"a", b""):
        with pytest.raises(BadSyntax):
            Cursor(text).string()


def test_literals_of_two_kinds() -> None:
    assert Cursor(b"", 0, [Piece(b"a\0", True, b"")]).literal8() == b"a\0"
    for piece in (Piece(b"a\0", False, b""), Piece(b"a", True, b"")):
        with pytest.raises(BadSyntax):
            Cursor(b"", 0, [piece]).string()
    with pytest.raises(BadSyntax):
        Cursor(b"", 0, [Piece(b"a", False, b"")]).literal8()
    with pytest.raises(BadSyntax):
        Cursor(b" ", 0, [Piece(b"a", False, b"")]).string()


def test_nil_is_no_string() -> None:
    assert Cursor(b"nil").nstring() is None
    assert Cursor(b'"NIL"').nstring() == b"NIL"
    assert Cursor(b"", 0, [Piece(b"x", False, b"")]).nstring() == b"x"
    with pytest.raises(BadSyntax):
        Cursor(b"x").nstring()


def test_numbers_have_their_width() -> None:
    assert Cursor(b"4294967295").number() == 4294967295
    assert Cursor(b"9223372036854775807").number64() == 2**63 - 1
    assert Cursor(b"007").number() == 7
    for text in (b"4294967296", b"99999999999999999999", b"-1", b"x", b""):
        with pytest.raises(BadSyntax):
            Cursor(text).number()
    with pytest.raises(BadSyntax):
        Cursor(b"9223372036854775808").number64()
    with pytest.raises(BadSyntax):
        Cursor(b"0").nz_number()


def test_words() -> None:
    assert Cursor(b"a+b c").tag() == b"a"
    assert Cursor(b"a]b").astring() == b"a]b"
    assert Cursor(b"a]b").atom() == b"a"
    assert Cursor(b"flags ").keyword() == b"FLAGS"
    for text in (b"(", b")", b"{", b" ", b"%", b"*", b'"', b"\\", b"\x7f", b"\xe9", b"\t", b""):
        with pytest.raises(BadSyntax):
            Cursor(text).atom()


def test_lists() -> None:
    assert Cursor(b"(1 2 3)").list(Cursor.number) == [1, 2, 3]
    assert Cursor(b"()").list(Cursor.number, empty=True) == []
    for text in (b"()", b"(1", b"(1 )", b"(1  2)", b"1", b"(1 2))"):
        args = Cursor(text)
        with pytest.raises(BadSyntax):
            args.list(Cursor.number)
            args.end()


def test_the_end_is_the_end_of_all_pieces() -> None:
    Cursor(b"x", 1).end()
    for args in (
        Cursor(b"x"), Cursor(b"", 0, [Piece(b"", False, b"")]), Cursor(b"", more=True)
    ):  # fmt: skip
        with pytest.raises(BadSyntax):
            args.end()
    assert Cursor(b"", more=True).at_streamed
    assert not Cursor(b"").at_streamed


def test_a_refusal_is_malformed_and_says_one_short_sentence() -> None:
    with pytest.raises(Malformed, match=r"^A space is missing$"):
        Cursor(b"x").sp()


@pytest.mark.parametrize("unit", [b'"', b"\\", b'\\"', b'"\\', b"a", b"&", b"&-", b"&AAA", b"("])
def test_long_hostile_values_take_linear_time(unit: bytes) -> None:
    text = b'"' + unit * (1 << 20)
    start = time.process_time()
    for read in (Cursor.string, Cursor.mailbox, Cursor.flag_list, Cursor.astring):
        for line in (text, unit * (1 << 20)):
            try:
                read(Cursor(line))
            except BadSyntax:
                continue
    assert time.process_time() - start < 5  # about 0.3
