"""postroom.formats.maildir: names as Dovecot and Courier write them, and names back."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.formats import utf7
from postroom.formats.maildir import (
    KEYWORDS_MAX,
    flag_letters,
    folder_directory,
    format_keywords,
    format_subscriptions,
    imap_flags,
    maildir_name,
    parse_folder,
    parse_keywords,
    parse_maildir_name,
    parse_subscriptions,
)

# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "unique", "flags", "size", "wire_size"),
    [
        ("1.M2P3.host,S=10,W=12:2,RS", "1.M2P3.host,S=10,W=12", "RS", 10, 12),
        ("1.M2P3.host,W=12,S=10:2,", "1.M2P3.host,W=12,S=10", "", 10, 12),
        ("1.2.host:2,STabA", "1.2.host", "ASTab", None, None),
        ("1.2.host", "1.2.host", "", None, None),
        ("1.2.host;2,S", "1.2.host", "S", None, None),
        ("1.2.host!2,S", "1.2.host", "S", None, None),
        ("1.2.host:1,S", "1.2.host:1,S", "", None, None),
        ("1.2.host:2,SS", "1.2.host", "S", None, None),
        ("1.2.host:2,S,extra", "1.2.host", "S", None, None),
        ("1.2.host,S=x:2,S", "1.2.host,S=x", "S", None, None),
        ("1.2.host,S=1,S=2:2,", "1.2.host,S=1,S=2", "", 1, None),
        ("1.2.host,S=" + "9" * 30 + ":2,", "1.2.host,S=" + "9" * 30, "", None, None),
        ("1:2,R:2,S", "1:2,R", "S", None, None),
        ("", "", "", None, None),
    ],
)
def test_a_name_says_unique_part_flags_and_sizes(
    name: str, unique: str, flags: str, size: int | None, wire_size: int | None
) -> None:
    assert parse_maildir_name(name) == (unique, flags, size, wire_size)


def test_a_name_is_made() -> None:
    assert maildir_name("1.host", "SR", size=10, wire_size=12) == "1.host,S=10,W=12:2,RS"
    assert maildir_name("1.host") == "1.host:2,"


@pytest.mark.parametrize(
    ("unique", "flags"),
    [("", ""), ("a/b", ""), ("a:2,", ""), (".a", ""), ("a\n", ""), ("a", "1"), ("a", "S,")],
)
def test_what_would_break_a_name_is_refused(unique: str, flags: str) -> None:
    with pytest.raises(Malformed):
        maildir_name(unique, flags)


@given(
    st.from_regex(r"[A-Za-z0-9_=,]{1,30}", fullmatch=True), st.sets(st.sampled_from("DFPRSTabz"))
)
def test_a_name_comes_back(unique: str, flags: set[str]) -> None:
    found = parse_maildir_name(maildir_name(unique, "".join(flags)))
    assert (found.unique, set(found.flags)) == (unique, flags)


@given(st.text(max_size=60))
def test_any_name_is_read(name: str) -> None:
    found = parse_maildir_name(name)
    assert name.startswith(found.unique)
    assert list(found.flags) == sorted(set(found.flags))


def test_flags_and_keywords_have_letters() -> None:
    keywords: list[str | None] = ["$Junk", None, "Work"]
    assert imap_flags("DFPRSTabcz", keywords) == (
        *("\\Draft", "\\Flagged", "$Forwarded", "\\Answered", "\\Seen", "\\Deleted"),
        *("$Junk", "Work"),
    )
    letters = flag_letters(["\\seen", "$FORWARDED", "work", "New", "\\Recent"], keywords)
    assert letters == ("PScd", ("\\Recent",))
    assert keywords == ["$Junk", None, "Work", "New"]


def test_beyond_26_keywords_there_is_no_letter() -> None:
    keywords: list[str | None] = []
    letters, without = flag_letters([f"k{n}" for n in range(30)], keywords)
    assert len(letters) == len(keywords) == KEYWORDS_MAX
    assert without == ("k26", "k27", "k28", "k29")


# --- the files beside them -----------------------------------------------------------------------


def test_a_keywords_file() -> None:
    data = b"0 $Junk\n2 Work\n26 No\nx y\n3\n1000000000000 z\n"
    assert parse_keywords(data) == ["$Junk", None, "Work"]
    assert format_keywords(["$Junk", None, "Work"]) == b"0 $Junk\n2 Work\n"
    for bad in (["a b"], ["a\nb"], [""], ["ü"], ["x"] * 27):
        with pytest.raises(Malformed):
            format_keywords(list(bad))


def test_subscriptions_of_both_versions() -> None:
    first = b"INBOX\nSent\nINBOX.Lists.a\r\nSent\n\nEntw&APw-rfe\n"
    assert parse_subscriptions(first) == [(), ("Sent",), ("Lists", "a"), ("Entwürfe",)]
    second = b"V\t2\n\nINBOX\nSent\nLists\ta\x01tb\nEntw&APw-rfe\n"
    assert parse_subscriptions(second) == [(), ("Sent",), ("Lists", "a\tb"), ("Entwürfe",)]


PATHS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4).map(tuple)


@given(st.lists(PATHS, max_size=5, unique=True))
@settings(max_examples=100)
def test_subscriptions_come_back(paths: list[tuple[str, ...]]) -> None:
    try:
        data = format_subscriptions(paths)
    except Malformed:
        assert any("\0" in name or not name.isprintable() for path in paths for name in path)
        return
    wanted = [path[1:] if path[0].upper() == "INBOX" else path for path in paths]
    assert parse_subscriptions(data) == list(dict.fromkeys(wanted))


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directory", "path"),
    [
        (".", ()),
        ("", ()),
        (".Sent", ("Sent",)),
        (".Lists.python-dev", ("Lists", "python-dev")),
        (".Entw&APw-rfe", ("Entwürfe",)),
        (".Entwürfe", ("Entwürfe",)),
        (".a&AC4-b", ("a.b",)),
        (".a\\2eb", ("a.b",)),
        (".R&-D", ("R&D",)),
        (".R&D", ("R&D",)),
        (".\udcff", ("ÿ",)),
        ("..", None),
        ("...", None),
        (".a..b", None),
        (".a.", None),
        ("cur", None),
    ],
)
def test_a_directory_is_a_folder_or_none(directory: str, path: tuple[str, ...] | None) -> None:
    assert parse_folder(directory) == path


def test_a_folder_is_a_directory() -> None:
    assert folder_directory(()) == "."
    assert folder_directory(("Entwürfe", "a.b/c\\d")) == ".Entw&APw-rfe.a\\2eb\\2fc\\5cd"
    for bad in (("",), ("a\0",), ("\ud800",), ("a", "")):
        with pytest.raises(Malformed):
            folder_directory(bad)


@given(PATHS)
@settings(max_examples=200)
def test_a_folder_comes_back(path: tuple[str, ...]) -> None:
    try:
        directory = folder_directory(path)
    except Malformed:
        assert any("\0" in name or not name.isprintable() for name in path)
        return
    assert parse_folder(directory) == path
    assert directory.isascii()
    assert "/" not in directory


@given(st.binary(max_size=60))
def test_modified_utf_7_has_one_spelling(raw: bytes) -> None:
    try:
        name = utf7.decode(raw)
    except ValueError:
        return
    assert utf7.encode(name) == raw
    assert utf7.decode_any(raw) == name


def test_time_grows_as_the_names_do() -> None:
    start = time.thread_time()
    for size in (1 << 18, 1 << 19):
        parse_maildir_name(",S=" * size)
        parse_maildir_name(":2," * size)
        parse_folder("." + "&A" * size)
        parse_keywords(b"1 a\n" * size)
        parse_subscriptions(b"a\n" * size)
    assert time.thread_time() - start < 6
