"""postroom.formats.recode: parts decode to the same octets, what comes out fits the line."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from postroom.formats import mime, recode
from postroom.formats.mime import Part, scan
from postroom.formats.recode import binary_to_eight_bit, fits, to_seven_bit
from postroom.formats.transfer import decode
from postroom.testing.scaling import cpu_seconds

HEAD = b"From: a@a.example\r\nMIME-Version: 1.0\r\n"
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")


def strict(data: bytes) -> bool:
    """The rules of the line, written the slow way."""
    return not BARE.search(data) and all(len(line) <= 998 for line in data.split(b"\r\n"))


def leaves(raw: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(type, subtype, decoded body) of each leaf that has a body of its own."""
    return [
        (
            part.type,
            part.subtype,
            decode(raw[part.body : part.end], (part.encoding or b"").decode("latin-1")),
        )
        for part in scan(raw).walk()
        if not part.children
    ]


def labels(raw: bytes) -> list[bytes]:
    return [part.encoding or b"" for part in scan(raw).walk()]


def made(raw: bytes | None) -> bytes:
    assert raw is not None
    return raw


# --- single parts --------------------------------------------------------------------------------


def test_a_text_becomes_quoted_printable() -> None:
    raw = (
        HEAD
        + b"Content-Transfer-Encoding: 8bit\r\nSubject: x\r\n\r\nGr\xc3\xbc\xc3\x9fe an alle\r\n"
    )
    raw = raw.replace(b"Subject", b"Content-Type: text/plain; charset=utf-8\r\nSubject")
    wanted = raw.replace(b"8bit", b"quoted-printable").replace(b"\xc3\xbc\xc3\x9f", b"=C3=BC=C3=9F")
    assert to_seven_bit(raw) == wanted


def test_what_is_mostly_8_bit_or_no_text_becomes_base64() -> None:
    for kind in (b"text/plain", b"image/png"):
        body = "Привет".encode() * 20 if kind == b"text/plain" else b"ascii \xff"
        raw = HEAD + b"Content-Type: " + kind + b"\r\n\r\n" + body
        new = made(to_seven_bit(raw))
        assert labels(new) == [b"base64"]
        assert leaves(new)[0][2] == body


def test_a_message_without_mime_gets_its_fields() -> None:
    raw = b"From: a@a.example\r\n\r\nna\xefve, isn't it? Yes.\r\n"
    assert to_seven_bit(raw) == (
        b"From: a@a.example\r\nMIME-Version: 1.0\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nna=EFve, isn't it? Yes.\r\n"
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"A: 1\r\n\r\nplain\r\n",
        b"A: 1\r\n\r\n",
        b"",
        b"A: 1\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n",
        HEAD + b"Content-Transfer-Encoding: x-mine\r\n\r\nplain\r\n",
        b"no header\r\n",
    ],
)
def test_what_fits_is_left_alone(raw: bytes) -> None:
    assert to_seven_bit(raw) is raw
    assert binary_to_eight_bit(raw) is raw


def test_8_bit_text_needs_no_change_for_8bitmime() -> None:
    raw = HEAD + "Subject: ü\r\nContent-Transfer-Encoding: 8bit\r\n\r\nü\r\n".encode()
    assert binary_to_eight_bit(raw) is raw


def test_names_of_encodings_are_corrected() -> None:
    raw = HEAD + b"content-transfer-encoding:  8-Bit (x)\r\nContent-Type: a/b\r\n\r\nplain\r\n"
    assert to_seven_bit(raw) == HEAD + (
        b"Content-Transfer-Encoding: 7bit\r\nContent-Type: a/b\r\n\r\nplain\r\n"
    )
    raw = HEAD + b"Content-Transfer-Encoding: binary\r\n\r\nplain\r\n"
    assert binary_to_eight_bit(raw) == raw.replace(b"binary", b"8bit")
    assert to_seven_bit(raw) == raw.replace(b"binary", b"7bit")


def test_a_second_name_of_an_encoding_goes() -> None:
    """Another reader may believe the second."""
    field = b"Content-Transfer-Encoding: 8bit\r\n"
    raw = HEAD + field + b"Content-Type: image/png\r\n" + field + b"\r\n\xff"
    new = made(to_seven_bit(raw))
    assert new.lower().count(b"content-transfer-encoding") == 1
    assert leaves(new)[0][2] == b"\xff"


@pytest.mark.parametrize(
    "body",
    [
        b"a\0b\r\n",
        b"a\nb\r\n",
        b"a\rb\r\n",
        b"x" * 999,
        b"\r",
        b"no end",
        b"blank at the end \r\n\t\r\nand here\t",
        b"From x\r\n.\r\n..\r\n",
        b"\r\n" * 5,
    ],
)
@pytest.mark.parametrize("kind", [b"text/plain", b"image/png"])
def test_binary_bodies_come_back(body: bytes, kind: bytes) -> None:
    body += b"\0\xff"
    raw = HEAD + b"Content-Type: %b\r\nContent-Transfer-Encoding: binary\r\n\r\n%b" % (kind, body)
    for turned in (binary_to_eight_bit(raw), to_seven_bit(raw)):
        new = made(turned)
        assert strict(new)
        assert new.endswith(b"\r\n")
        assert leaves(new)[0][2] == body


def test_an_encoded_body_with_octets_that_are_none_is_encoded_again() -> None:
    raw = HEAD + b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    raw += b"=C3=BC and \xc3\xbc and much more text\r\n"
    assert made(to_seven_bit(raw)).endswith(b"=C3=BC and =C3=BC and much more text\r\n")
    raw = HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 300
    new = made(binary_to_eight_bit(raw))
    assert strict(new)
    assert leaves(new) == leaves(raw)


def test_a_header_without_a_blank_line_gets_one() -> None:
    raw = b"A: 1\r\nno field \xff\r\n"
    new = made(to_seven_bit(raw))
    assert new.startswith(b"A: 1\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: ")
    assert leaves(new)[0][2] == b"no field \xff\r\n"
    assert leaves(made(to_seven_bit(b"\xff")))[0][2] == b"\xff"


# --- what cannot be ------------------------------------------------------------------------------


def multipart(kind: bytes, *parts: bytes, boundary: bytes = b"b") -> bytes:
    inside = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    fields = b"Content-Type: multipart/%b; boundary=%b\r\n" % (kind, boundary)
    return fields + b"\r\n" + inside + b"--%b--\r\n" % boundary


EIGHT = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nna\xc3\xafve as can be"
SEVEN = b"Content-Type: text/plain\r\n\r\nplain"


@pytest.mark.parametrize(
    "raw",
    [
        "Subject: ü\r\n\r\nplain\r\n".encode(),
        b"A: " + b"x" * 999 + b"\r\n\r\nplain\r\n",
        b"A: 1\nB: 2\r\n\r\nplain\r\n",
        HEAD + multipart(b"signed", EIGHT, SEVEN),
        HEAD + multipart(b"encrypted", SEVEN, EIGHT),
        HEAD + multipart(b"mixed", multipart(b"signed", EIGHT, SEVEN, boundary=b"c")),
        HEAD + multipart(b"mixed", b"Content-Description: \xff\r\n\r\nplain"),
        HEAD + b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n\xff\r\nend\r\n",
        HEAD + b"Content-Transfer-Encoding: x-mine\r\n\r\n\xff\r\n",
        HEAD + b"Content-Type: message/partial; id=1; number=1\r\n\r\n\xff\r\n",
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\nno part \xff\r\n",
        HEAD + b"Content-Type: multipart/mixed\r\n\r\nno boundary \xff\r\n",
        HEAD + b"Content-Type: multipart/mixed; boundary*=utf-8''%C3%BC\r\n\r\n"
        b"--\xc3\xbc\r\n\r\nx\r\n--\xc3\xbc--\r\n",
    ],
)
def test_what_cannot_be_changed_cannot_travel(raw: bytes) -> None:
    assert to_seven_bit(raw) is None


def test_a_bare_lf_at_a_delimiter_is_not_repaired() -> None:
    raw = HEAD + multipart(b"mixed", SEVEN, EIGHT)
    assert binary_to_eight_bit(raw.replace(b"--b\r\n", b"--b\n", 1)) is None
    assert binary_to_eight_bit(raw.replace(b"plain\r\n", b"plain\n")) is None


def test_signed_parts_that_fit_are_left_alone() -> None:
    signed = multipart(b"signed", b"Content-Transfer-Encoding: 8bit\r\n\r\nx", SEVEN, boundary=b"s")
    raw = HEAD + multipart(b"mixed", signed, EIGHT)
    new = made(to_seven_bit(raw))
    assert signed.partition(b"\r\n\r\n")[2] in new
    assert leaves(new) == leaves(raw)


def test_what_lies_beyond_the_caps_cannot_be_encoded() -> None:
    limits = mime.Limits(parts=4)
    raw = HEAD + multipart(b"mixed", EIGHT, SEVEN, SEVEN, SEVEN)
    assert to_seven_bit(raw, limits=limits) is not None
    raw = HEAD + multipart(b"mixed", SEVEN, SEVEN, SEVEN, EIGHT)
    assert to_seven_bit(raw, limits=limits) is None


# --- what holds parts ----------------------------------------------------------------------------


def test_enclosing_parts_are_told() -> None:
    inner = (
        HEAD + b"Content-Transfer-Encoding: 8bit\r\n" + multipart(b"mixed", EIGHT, boundary=b"c")
    )
    attached = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + inner
    raw = HEAD + b"Content-Transfer-Encoding: 8bit\r\n" + multipart(b"mixed", SEVEN, attached)
    new = made(to_seven_bit(raw))
    assert labels(new) == [b"7bit", b"", b"7bit", b"7bit", b"quoted-printable"]
    assert leaves(new) == leaves(raw)
    assert new.isascii()


def test_a_message_in_utf_8_is_encoded_whole() -> None:
    inner = "Subject: ü\r\n\r\nü\r\n".encode()
    attached = b"Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + inner
    new = made(to_seven_bit(HEAD + multipart(b"mixed", SEVEN, attached)))
    part = scan(new).children[1]
    assert part.encoding == b"base64"
    assert b"Content-Type: message/global\r\n" in new
    assert decode(new[part.body : part.end], "base64") == inner
    legacy = attached.replace(b"global", b"rfc822")
    assert to_seven_bit(HEAD + multipart(b"mixed", SEVEN, legacy)) is None


def test_text_around_the_parts_that_does_not_fit_goes() -> None:
    raw = HEAD + multipart(b"mixed", EIGHT).replace(b"\r\n\r\n", b"\r\n\r\npre\xff\r\n", 1)
    raw += b"after\xff\nmore"
    new = made(to_seven_bit(raw))
    assert new.isascii()
    assert new.endswith(b"--b--\r\n")
    assert b"\r\n\r\n--b\r\n" in new
    assert leaves(new) == leaves(raw)
    kept = HEAD + multipart(b"mixed", EIGHT).replace(b"\r\n\r\n", b"\r\n\r\npre\r\n", 1) + b"after"
    assert b"\r\n\r\npre\r\n--b" in made(to_seven_bit(kept))
    assert made(to_seven_bit(kept)).endswith(b"--b--\r\nafter")


def test_a_cut_line_is_no_delimiter() -> None:
    """A soft line break must not put what was in the middle of a line at its start."""
    for size in range(60, 80):
        text = b"\xff " + b"x" * size + b"--b\r\nmore text of the part, plain enough"
        part = b"Content-Type: text/plain\r\n\r\n" + text
        raw = HEAD + multipart(b"mixed", part, SEVEN)
        new = made(to_seven_bit(raw))
        assert leaves(new) == leaves(raw)


# --- properties ----------------------------------------------------------------------------------

KINDS = st.sampled_from([b"text/plain", b"text/html; charset=utf-8", b"image/png", b"message/x"])
CHUNKS = st.sampled_from(
    [b"\r\n", b"--b", b"--", b"word ", b"\xc3\xbc", b"\0", b"\n", b"\r", b"=", b"x" * 400, b"."]
)
BODIES = st.one_of(
    st.lists(CHUNKS, max_size=25).map(b"".join), st.binary(max_size=60), st.just(b"x" * 990)
)
LABELS = st.sampled_from([b"", b"7bit", b"8bit", b"binary", b"Binary"])


def labelled(label: bytes) -> bytes:
    return b"Content-Transfer-Encoding: " + label + b"\r\n" if label else b""


def leaf(kind: bytes, label: bytes, body: bytes) -> bytes:
    return b"Content-Type: " + kind + b"\r\n" + labelled(label) + b"\r\n" + body


def nest(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    boundaries = st.sampled_from([b"b", b"=_c", b"d=20"])
    multiparts = st.builds(
        lambda parts, boundary, label: (
            labelled(label) + multipart(b"mixed", *parts, boundary=boundary)
        ),
        st.lists(children, min_size=1, max_size=3),
        boundaries,
        LABELS,
    )
    messages = st.builds(
        lambda inner, label: (
            b"Content-Type: message/rfc822\r\n" + labelled(label) + b"\r\n" + inner
        ),
        children,
        LABELS,
    )
    return multiparts | messages


ENTITIES = st.recursive(st.builds(leaf, KINDS, LABELS, BODIES), nest, max_leaves=5)


@pytest.mark.parametrize("turn", [to_seven_bit, binary_to_eight_bit])
@given(entity=ENTITIES)
@settings(max_examples=200, deadline=None)
def test_parts_decode_to_the_same_and_fit(
    turn: Callable[[bytes], bytes | None], entity: bytes
) -> None:
    raw = HEAD + entity
    new = turn(raw)
    if new is None:
        # Text can open a delimiter line that holds what cannot be mended, and only so.
        assume(b"--" in entity)
        return
    assert strict(new)
    assert new.isascii() or turn is binary_to_eight_bit
    assert leaves(new) == leaves(raw)
    assert turn(new) is new
    wrong = (b"8bit", b"binary") if turn is to_seven_bit else (b"binary",)
    assert not [each for each in labels(new) if each.lower() in wrong]
    before = [(part.type, part.subtype) for part in scan(raw).walk()]
    assert [(part.type, part.subtype) for part in scan(new).walk()] == before


# The standard library takes any message/… for a message.
SIMPLE = KINDS.filter(lambda kind: not kind.startswith(b"message"))


@given(st.lists(st.builds(leaf, SIMPLE, st.just(b"binary"), BODIES), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_the_standard_library_decodes_the_same(parts: list[bytes]) -> None:
    assume(all(b"\r\n--" not in part and b"\n--" not in part for part in parts))
    raw = HEAD + multipart(b"mixed", *parts, boundary=b"=_boundary")
    new = made(to_seven_bit(raw))
    theirs = email.message_from_bytes(new, policy=email.policy.compat32)
    ours = [body for _, _, body in leaves(raw)]
    assert [part.get_payload(decode=True) for part in theirs.walk()][1:] == ours


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_octets_fit_afterwards_or_cannot(raw: bytes) -> None:
    for turn in (to_seven_bit, binary_to_eight_bit):
        new = turn(raw)
        assert new is None or strict(new)
        assert new is None or turn(new) is new


@given(st.lists(CHUNKS | st.just(b"y" * 998), max_size=10).map(b"".join))
def test_what_fits_is_what_the_line_allows(data: bytes) -> None:
    assert fits(data, eight_bit=True) == strict(data)
    assert fits(data, eight_bit=False) == (strict(data) and data.isascii())


# --- hostile messages ----------------------------------------------------------------------------

MANY = b"--b\r\nContent-Type: text/plain\r\n\r\n\xff\r\n"
HOSTILE = {
    "8-bit": HEAD + b"\r\n" + b"\xff" * (1 << 20),
    "line ends": HEAD + b"\r\n\xff" + b"\r\n" * (1 << 19),
    "bare CR": HEAD + b"\r\n\xff" + b"\r" * (1 << 20),
    "dashed lines": HEAD + multipart(b"mixed", b"\r\n\xff" + b"--x\r\n" * (1 << 17)),
    "blanks": HEAD + b"\r\n\xff" + b" " * (1 << 20),
    "parts": HEAD + multipart(b"mixed").replace(b"\r\n\r\n", b"\r\n\r\n" + MANY * 4_900, 1),
    "depth": HEAD
    + b"".join(
        b"Content-Type: multipart/x; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(98)
    )
    + b"\r\n\xff" * 300_000,
    "messages": HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 98 + b"\r\n\xff" * 300_000,
    "global": HEAD + b"Content-Type: message/global\r\n\r\n" * 98 + b"A: \xff\r\n\r\n" * 100_000,
    "signed": HEAD + multipart(b"signed", b"x\r\n" * 300_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_as_the_message_does(name: str) -> None:
    raw = HOSTILE[name]
    enough = 0.2 + 2e-6 * len(raw)

    def both() -> None:
        to_seven_bit(raw)
        binary_to_eight_bit(raw)

    assert cpu_seconds(both, enough=enough) < enough


def test_the_hostile_messages_that_can_be_mended_are() -> None:
    mended = {name for name, raw in HOSTILE.items() if to_seven_bit(raw) is not None}
    assert mended == set(HOSTILE)
    part: Part = scan(made(to_seven_bit(HOSTILE["parts"])))
    assert len(part.children) == 4_900


def test_the_limits_of_the_structure_are_those_of_mime() -> None:
    raw = HEAD + multipart(b"mixed").replace(b"\r\n\r\n", b"\r\n\r\n" + MANY * 5_100, 1)
    assert to_seven_bit(raw) is None
    assert recode.LINE_MAX == 998
