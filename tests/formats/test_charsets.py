"""postroom.formats.charsets: labels, damage, guesses; no codec that is not text."""

from __future__ import annotations

import codecs
import encodings.aliases
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.formats import charsets


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("windows-31j", "①髙い".encode("cp932"), "①髙い"),
        ("x-sjis", "会議".encode("cp932"), "会議"),
        ("cp-850", "Größe".encode("cp850"), "Größe"),
        ("windows-874", "สวัสดี".encode("cp874"), "สวัสดี"),
        ("ISO-8859-8-I", "שלום".encode("iso8859_8"), "שלום"),
        ("x-user-defined", b"a\x80\xff", "a\uf780\uf7ff"),
        ("utf8", "é".encode(), "é"),
        ("UTF_8", "é".encode(), "é"),
        ("unicode-1-1-utf-8", "é".encode(), "é"),
        ("utf-8*en", "é".encode(), "é"),
        ("ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방각하"),
        ("gb2312", "镕基㐀".encode("gb18030"), "镕基㐀"),
        ("iso-8859-1", b"\x93quoted\x94 \x80", "“quoted” €"),
        ("iso-8859-9", "ığş".encode("cp1254"), "ığş"),
        ("utf-7", b"+AOk-", "é"),
        ("utf-16", "é".encode("utf-16"), "é"),
        ("utf-16", "day".encode("utf-16-le"), "day"),
        ("utf-16", "day".encode("utf-16-be"), "day"),
        ("utf-8", b"\xef\xbb\xbfmark", "mark"),
        ("iso-2022-jp", "会議です".encode("iso2022_jp"), "会議です"),
        ("iso-2022-jp", b"\x1b$B-!\x1b(B end", "① end"),  # NEC row 13
        ("iso-2022-jp", b"\x1b(I1\x1b(B end", "ｱ end"),
        ("macintosh", "é".encode("mac_roman"), "é"),
    ],
)
def test_declared_charsets_under_the_names_that_mailers_use(
    label: str, data: bytes, text: str
) -> None:
    assert charsets.decode(data, label) == text


@pytest.mark.parametrize(
    "label",
    [
        *("rot13", "rot_13", "hex", "hex_codec", "zlib", "zlib_codec", "bz2_codec", "base64_codec"),
        *("uu_codec", "quopri", "idna", "punycode", "unicode_escape", "raw_unicode_escape"),
        *("undefined", "mbcs", "oem", "charmap", "string_escape", "", "*", "x" * 100, "no-such"),
        *("utf-8\x00", "Ｕ"),
    ],
)
def test_only_text_codecs_are_known(label: str) -> None:
    if label == "utf-8\x00":  # punctuation of any kind does not matter
        assert charsets.lookup(label) == "utf-8"
        return
    assert charsets.lookup(label) is None
    assert charsets.decode(b"plain \xc3\xa9", label) == "plain é"


def test_every_codec_of_ours_exists_and_gives_text() -> None:
    for codec in set(charsets._CODEC.values()):
        assert isinstance(charsets.decode_as(b"abc \xe9\xff=", codec), str)
        assert charsets.decode_as(b"", codec) == ""


def test_every_text_codec_of_python_is_known_by_some_name() -> None:
    known, codecs_there = set(), set()
    for alias, codec in encodings.aliases.aliases.items():
        try:
            is_text = codecs.lookup(codec)._is_text_encoding
        except LookupError:  # mbcs and its like, on another system
            continue
        if is_text:
            codecs_there.add(codec)
            if charsets.lookup(alias) or charsets.lookup(codec):
                known.add(codec)
    # EBCDIC of single countries and a DOS page of Ukraine, which no mail names.
    assert codecs_there - known <= {"cp1026", "cp1125", "cp273", "cp424", "shift_jisx0213"}


def test_ascii_that_is_not_is_guessed() -> None:
    assert charsets.decode("é".encode(), "us-ascii") == "é"
    assert charsets.decode(b"Andr\xe9", "us-ascii") == "André"


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("Réunion générale à l'école, déjà prévue", "cp1252"),
        ("Formação: Mega Campanha Final Verão", "cp1252"),
        ("André", "cp1252"),
        ("Übergröße", "cp1252"),
        ("Zażółć gęślą jaźń, spotkanie jest jutro", "cp1250"),
        ("Привет, как дела? Это тестовое сообщение", "cp1251"),
        ("Привет, как дела? Это тестовое сообщение", "koi8_r"),
        ("こんにちは、元気ですか。会議は明日です", "cp932"),
        ("你好,会议将于明天举行,请准时参加", "gb18030"),
        ("안녕하세요 회의는 내일입니다", "cp949"),
        ("Καλημέρα σας, η συνάντηση είναι αύριο", "cp1253"),
        ("会議は明日です", "iso2022_jp"),
        ("häufig gültig", "utf-8"),
    ],
)
def test_undeclared_text_is_guessed(text: str, codec: str) -> None:
    assert charsets.decode(text.encode(codec), None) == text


@given(st.binary(max_size=300), st.sampled_from(sorted(set(charsets._CODEC))))
@example(b"+2AA-", "utf7")
@example(b"\x1b$B\xff\x1b(I\xff", "iso2022jp")
@settings(max_examples=400, deadline=None)
def test_decoding_never_raises_and_gives_text_that_can_be_sent(data: bytes, label: str) -> None:
    charsets.decode(data, label).encode("utf-8")


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_guessing_never_raises(data: bytes) -> None:
    charsets.decode(data, None).encode("utf-8")
    assert charsets.guess(data)


@pytest.mark.parametrize("codec", sorted(set(charsets._CODEC.values())))
@given(
    st.lists(st.binary(max_size=4) | st.sampled_from([b"REPORT", b"-A-", b"\x1b$B"]), max_size=8)
)
@settings(max_examples=30, deadline=None)
def test_a_string_that_stands_in_the_octets_stands_in_the_text(
    codec: str, pieces: list[bytes]
) -> None:
    data = b"".join(pieces)
    for charset in (codec, None, "us-ascii"):
        if charsets.keeps_ascii(data, charset):
            text = charsets.decode(data, charset)
            for run in re.findall(rb"[\x00-\x7f]+", data):
                assert run.decode("ascii") in text


def test_the_charsets_of_most_mail_are_looked_at_as_octets() -> None:
    for charset in ("utf-8", "us-ascii", "iso-8859-1", "windows-1252", "koi8-r", None):
        assert charsets.keeps_ascii(b"plain", charset)
    for charset in ("utf-16", "iso-2022-jp", "shift_jis", "gb2312", "utf-7", "cp037", "big5"):
        assert not charsets.keeps_ascii(b"plain", charset)
    assert not charsets.keeps_ascii("naïve".encode(), "us-ascii")
