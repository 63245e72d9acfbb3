"""Charsets: bytes of a declared or undeclared charset to text. Never raises, always linear.

`lookup` knows an allow-list of our own, so that no label of a stranger reaches a codec that is
not text (`zlib_codec`, `unicode_escape`, `idna`). Labels follow the web's habits where mail
shares them: ISO-8859-1 means windows-1252, GB2312 means GB 18030, KS C 5601 means windows-949.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Final

from charset_normalizer import from_bytes

SAMPLE: Final = 65_536
"""How many bytes the detector may see."""

_LABEL_MAX: Final = 64

# Codecs of ours, not of Python: tables of 256 characters.
_WEB_1252: Final = "windows-1252"
_WEB_874: Final = "windows-874"
_USER_DEFINED: Final = "x-user-defined"
_JIS: Final = "iso-2022-jp"


def _filled(codec: str) -> str:
    """The codec's table with its holes filled by C1 controls, as browsers do."""
    cells = []
    for n in range(256):
        try:
            cells.append(bytes((n,)).decode(codec))
        except UnicodeDecodeError:
            cells.append(chr(n))
    return "".join(cells)


_TABLES: Final = {
    _WEB_1252: _filled("cp1252"),
    _WEB_874: _filled("cp874"),
    _USER_DEFINED: "".join(chr(n if n < 128 else 0xF700 + n) for n in range(256)),
}

# Codec -> the labels that mean it, without punctuation and in lower case.
_LABELS: Final = {
    "us-ascii": "ascii usascii ansix341968 ansix341986 iso646us iso646irv1991 us ibm367 cp367 "
    "csascii 7bit",
    "utf-8": "utf8 unicode11utf8 utf8bom utf8mb4 utf80 uft8 ut8 utf unicode20utf8 xunicode20utf8 "
    "cp65001",
    "utf-7": "utf7 unicode11utf7 csunicode11utf7 xunicode20utf7",
    "utf-16": "utf16 unicode ucs2 iso10646ucs2 csunicode",
    "utf-16-le": "utf16le unicodelittle ucs2le",
    "utf-16-be": "utf16be unicodebig ucs2be",
    "utf-32": "utf32 ucs4 iso10646ucs4",
    "utf-32-le": "utf32le ucs4le",
    "utf-32-be": "utf32be ucs4be",
    _WEB_1252: "windows1252 cp1252 1252 csisolatin1 latin xcp1252 iso88591 iso885911987 isoir100 "
    "latin1 l1 8859 88591 ibm819 cp819 ansi iso8859 xansi win1252 westerneuropean xlatin1 "
    "isolatin1",
    "iso8859_2": "iso88592 iso885921987 isoir101 latin2 l2 88592 isolatin2 csisolatin2",
    "iso8859_3": "iso88593 iso885931988 isoir109 latin3 l3 csisolatin3",
    "iso8859_4": "iso88594 iso885941988 isoir110 latin4 l4 csisolatin4",
    "iso8859_5": "iso88595 iso885951988 isoir144 cyrillic csisolatincyrillic",
    "iso8859_6": "iso88596 iso885961987 isoir127 arabic asmo708 ecma114 iso88596i iso88596e "
    "csisolatinarabic",
    "iso8859_7": "iso88597 iso885971987 isoir126 greek greek8 ecma118 elot928 suneugreek "
    "csisolatingreek",
    "iso8859_8": "iso88598 iso885981988 isoir138 hebrew iso88598i iso88598e logical visual "
    "csisolatinhebrew",
    "cp1254": "windows1254 cp1254 xcp1254 iso88599 iso885991989 isoir148 latin5 l5 win1254 1254 "
    "csisolatin5",
    "iso8859_10": "iso885910 isoir157 latin6 l6",
    "iso8859_13": "iso885913 latin7 l7",
    "iso8859_14": "iso885914 isoir199 latin8 l8 isoceltic",
    "iso8859_15": "iso885915 latin9 l9 latin0",
    "iso8859_16": "iso885916 isoir226 latin10 l10",
    _WEB_874: "windows874 cp874 ibm874 dos874 tis620 tis62025291 tis62025330 iso885911 "
    "iso8859112001",
    "cp1250": "windows1250 cp1250 xcp1250 win1250 1250",
    "cp1251": "windows1251 cp1251 xcp1251 win1251 1251",
    "cp1253": "windows1253 cp1253 xcp1253 win1253 1253",
    "cp1255": "windows1255 cp1255 xcp1255 win1255 1255",
    "cp1256": "windows1256 cp1256 xcp1256 win1256 1256",
    "cp1257": "windows1257 cp1257 xcp1257 win1257 1257",
    "cp1258": "windows1258 cp1258 xcp1258 win1258 1258",
    "cp437": "cp437 ibm437 437",
    "cp720": "cp720 ibm720 dos720",
    "cp737": "cp737 ibm737",
    "cp775": "cp775 ibm775",
    "cp850": "cp850 ibm850 850 dos850",
    "cp852": "cp852 ibm852 852",
    "cp855": "cp855 ibm855 855",
    "cp857": "cp857 ibm857",
    "cp858": "cp858 ibm858 ibm00858",
    "cp860": "cp860 ibm860",
    "cp861": "cp861 ibm861",
    "cp862": "cp862 ibm862 dos862",
    "cp863": "cp863 ibm863",
    "cp864": "cp864 ibm864",
    "cp865": "cp865 ibm865",
    "cp866": "cp866 ibm866 866",
    "cp869": "cp869 ibm869",
    "cp037": "cp037 ibm037",
    "cp500": "cp500 ibm500",
    "cp1140": "cp1140 ibm1140 ibm01140",
    "koi8_r": "koi8r koi8 koi cskoi8r",
    "koi8_u": "koi8u koi8ru",
    "koi8_t": "koi8t",
    "kz1048": "kz1048 rk1048 strk10482002",
    "ptcp154": "ptcp154 pt154 cp154 cyrillicasian",
    "mac_roman": "macintosh mac xmacroman macroman",
    "mac_cyrillic": "xmaccyrillic maccyrillic xmacukrainian",
    "mac_greek": "xmacgreek macgreek",
    "mac_latin2": "xmacce xmaccentraleurroman maccentraleurope maclatin2",
    "mac_turkish": "xmacturkish macturkish",
    "mac_iceland": "xmacicelandic maciceland",
    "hp_roman8": "hproman8 roman8 r8",
    "cp932": "shiftjis shiftjis2 sjis xsjis mskanji windows31j cp932 windows932 csshiftjis "
    "cswindows31j xmsc932 ms932 xmacjapanese ibm943 cp943",
    "shift_jis_2004": "shiftjis2004 shiftjisx0213",
    "euc_jp": "eucjp xeucjp xeuc ujis cseucpkdfmtjapanese eucjpms",
    "euc_jis_2004": "eucjis2004 eucjisx0213",
    _JIS: "iso2022jp csiso2022jp iso2022jpms jis cp50220 cp50221 cp50222 iso2022jp1",
    "iso2022_jp_2": "iso2022jp2 iso2022jpext",
    "iso2022_jp_2004": "iso2022jp2004 iso2022jp3",
    "gb18030": "gb18030 gb2312 gb231280 gbk cp936 ms936 windows936 xgbk euccn eucgb2312cn chinese "
    "csgb2312 csiso58gb231280 isoir58 xgb2312 gb180302000 gb180302022",
    "hz": "hz hzgb hzgb2312",
    "big5": "big5 xxbig5 csbig5 cnbig5 big5eten cp950 windows950 ms950 xbig5",
    "big5hkscs": "big5hkscs big5hk hkscs",
    "cp949": "cp949 uhc ms949 windows949 ksc56011987 ksc56011989 ksc5601 ksc euckr xeuckr korean "
    "cseuckr csksc56011987 isoir149 ks56011987 xwindows949",
    "johab": "johab cp1361 ms1361",
    "iso2022_kr": "iso2022kr csiso2022kr",
    _USER_DEFINED: "xuserdefined",
}

_CODEC: Final = {label: codec for codec, labels in _LABELS.items() for label in labels.split()}

_PUNCTUATION: Final = {n: None for n in range(128) if not chr(n).isalnum()}


def lookup(name: str) -> str | None:
    """The codec that `decode_as` knows for a declared charset, or None for an unknown label.

    Case, punctuation and an RFC 2231 §5 language (`utf-8*en`) do not matter.
    """
    if len(name) > _LABEL_MAX:
        return None
    label, _, _ = name.partition("*")
    return _CODEC.get(label.translate(_PUNCTUATION).lower())


def decode(data: bytes, charset: str | None) -> str:
    """Text of `data`; a charset that is None, unknown or plainly wrong is guessed.

    Damage becomes U+FFFD. The result never holds a lone surrogate; a leading byte order mark
    is not text and goes.
    """
    codec = lookup(charset) if charset else None
    if codec is None or (codec == "us-ascii" and not data.isascii()):
        codec = guess(data)
    return decode_as(data, codec).removeprefix("\ufeff")


def guess(data: bytes) -> str:
    """The likeliest codec of undeclared bytes: UTF-8 if valid, else what the detector says of
    the first 64 KiB, else windows-1252.
    """
    if data.isascii():
        if b"\x1b$" in data:  # Japanese mail of old leaves its 7-bit charset undeclared
            try:
                data.decode("iso2022_jp")
            except UnicodeDecodeError:
                return "utf-8"
            return _JIS
        return "utf-8"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return _detect(data[:SAMPLE])
    return "utf-8"


def decode_as(data: bytes, codec: str) -> str:
    """Text of `data` in a codec that `lookup` or `guess` named; damage becomes U+FFFD."""
    table = _TABLES.get(codec)
    if table is not None:
        return codecs.charmap_decode(data, "replace", table)[0]
    if codec == "us-ascii":
        return data.decode("ascii", "replace")
    if codec == _JIS:
        return _decode_jis(data)
    if codec in ("utf-16", "utf-32"):
        codec = _byte_order(data, codec)
    text = data.decode(codec, "replace")
    if codec == "utf-7":
        # UTF-7 can spell halves of surrogate pairs, which no other encoding can carry.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def keeps_ascii(data: bytes, charset: str | None) -> bool:
    """Whether `decode` takes each ASCII octet of `data` for that character: where it does, a string
    of them that stands in the octets stands in the text. False where that is not certain.
    """
    codec = lookup(charset) if charset else None
    if codec is None or codec == "us-ascii":
        return data.isascii() and b"\x1b" not in data
    return _is_superset(codec)


@lru_cache(maxsize=128)
def _is_superset(codec: str) -> bool:
    """Each character of ASCII is one octet here, and no other has such an octet."""
    if codec in _SEVERAL_OCTETS:
        return False
    return decode_as(_ASCII, codec) == _ASCII.decode("ascii")


_ASCII: Final = bytes(range(128))
_SEVERAL_OCTETS: Final = frozenset(
    {"utf-7", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
    | {"cp932", "shift_jis_2004", "euc_jp", "euc_jis_2004", _JIS, "iso2022_jp_2", "iso2022_jp_2004"}
    | {"gb18030", "hz", "big5", "big5hkscs", "cp949", "johab", "iso2022_kr"}
)
"""Codecs whose characters may have octets of ASCII in them."""


def _byte_order(data: bytes, codec: str) -> str:
    """By the mark; else by where zero bytes are more; else big-endian (RFC 2781 §4.3)."""
    width = 2 if codec == "utf-16" else 4
    mark = data[:width]
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF32_LE):
        return codec + "-le"
    if mark in (codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE):
        return codec + "-be"
    sample = data[:SAMPLE]
    little = sample[width - 1 :: width].count(0) > sample[::width].count(0)
    return codec + ("-le" if little else "-be")


_JIS_RUN: Final = re.compile(rb"\x1b(?:\$[@B]|\(([BJI]))")
_HIGH_BIT: Final = bytes(n | 0x80 if 0x21 <= n <= 0x7E else n for n in range(256))


def _decode_jis(data: bytes) -> str:
    """ISO-2022-JP (RFC 1468), and what is sent under its name: NEC's row 13, half-width kana."""
    try:
        return data.decode("iso2022_jp")
    except UnicodeDecodeError:
        pass
    text = []
    codec = "ascii"
    start = 0
    for shift in _JIS_RUN.finditer(data):
        text.append(_jis_run(data[start : shift.start()], codec))
        start = shift.end()
        codec = {b"I": "kana", b"B": "ascii", b"J": "ascii", None: "kanji"}[shift[1]]
    text.append(_jis_run(data[start:], codec))
    return "".join(text)


def _jis_run(run: bytes, codec: str) -> str:
    if codec == "ascii":
        return run.decode("ascii", "replace")
    # With the high bit set, JIS X 0208 is EUC, and kana are what Shift_JIS calls them.
    run = run.translate(_HIGH_BIT)
    return run.decode("cp932" if codec == "kana" else "euc_jis_2004", "replace")


# What the detector may answer, likeliest first: each is in `lookup`'s range.
_CANDIDATES: Final = [
    *("cp1252", "cp1251", "koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949"),
    *("cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp874"),
]
_DETECTED: Final = {"cp1252": _WEB_1252, "cp874": _WEB_874}

# Letters in windows-1250 inside a word that are signs, or nothing, in windows-1252.
_EASTERN: Final = re.compile(
    rb"[A-Za-z\xc0-\xff][\x8d\x8f\x9d\xa3\xa5\xaf\xb3\xb9\xbe\xbf][a-z\xc0-\xff]"
)
# Every script but the Latin one puts several letters beyond ASCII side by side.
_ANOTHER_SCRIPT: Final = re.compile(rb"[\x80-\xff]{3}")


def _detect(sample: bytes) -> str:
    if not _ANOTHER_SCRIPT.search(sample):
        return "cp1250" if _EASTERN.search(sample) else _WEB_1252
    found = from_bytes(
        sample, cp_isolation=_CANDIDATES, preemptive_behaviour=False, enable_fallback=False
    ).best()
    if found is None:
        return _WEB_1252
    # The detector takes almost any Latin text for windows-1250; most of it is not.
    if found.encoding == "cp1250" and not _EASTERN.search(sample):
        return _WEB_1252
    return _DETECTED.get(found.encoding, found.encoding)
