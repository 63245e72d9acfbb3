"""postroom.formats.headers: finding fields, composing them, parameters."""

from __future__ import annotations

import email
import email.policy
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.formats import headers, words
from postroom.formats.address import Group, Mailbox, parse_address_list
from postroom.testing.scaling import grows_linearly

MESSAGE = (
    b"From: Ann <ann@a.example>\r\n"
    b"SUBJECT : one\r\n\ttwo\r\n   three\r\n"
    b"X-Empty:\r\n"
    b"Received: a\r\n"
    b"received: b\r\n"
    b"\r\n"
    b"Body: not a field\r\n"
)


def names(block: headers.Headers) -> list[bytes]:
    return [field.name for field in block.fields]


# --- scan ------------------------------------------------------------------------------------


def test_fields_with_their_places() -> None:
    block = headers.scan(MESSAGE)
    assert names(block) == [b"From", b"SUBJECT", b"X-Empty", b"Received", b"received"]
    assert MESSAGE[block.end :] == b"Body: not a field\r\n"
    assert not block.over_cap
    subject = block.fields[1]
    assert subject.raw(MESSAGE) == b"SUBJECT : one\r\n\ttwo\r\n   three\r\n"
    assert subject.raw_value(MESSAGE) == b" one\r\n\ttwo\r\n   three"
    assert b"".join(field.raw(MESSAGE) for field in block.fields) == MESSAGE[: block.end - 2]


def test_values_by_name_whatever_its_case() -> None:
    block = headers.scan(MESSAGE)
    assert block.first(b"subject") == b"one\ttwo   three"
    assert block.first(b"x-empty") == b""
    assert block.first(b"to") is None
    assert block.all(b"RECEIVED") == [b"a", b"b"]
    assert block.all(b"to") == []
    assert [field.name for field in block.find(b"Received")] == [b"Received", b"received"]


def test_bare_line_feeds_of_imported_mail() -> None:
    source = MESSAGE.replace(b"\r\n", b"\n")
    block = headers.scan(source)
    assert block.first(b"subject") == b"one\ttwo   three"
    assert source[block.end :] == b"Body: not a field\n"
    assert block.fields[4].raw_value(source) == b" b"


@pytest.mark.parametrize(
    ("source", "found", "body"),
    [
        (b"", [], b""),
        (b"\r\nbody", [], b"body"),
        (b"A: 1", [b"A"], b""),
        (b"A: 1\r\n", [b"A"], b""),
        (b"A: 1\r\n 2", [b"A"], b""),
        (b"A: 1\r\n\r\n", [b"A"], b""),
        (b"A: 1\r\njunk\r\nB: 2\r\n\r\nbody", [b"A"], b"junk\r\nB: 2\r\n\r\nbody"),
        (b"A: 1\r\nB C: 2\r\n\r\nbody", [b"A"], b"B C: 2\r\n\r\nbody"),
        (b" fold first\r\nA: 1\r\n\r\n", [], b" fold first\r\nA: 1\r\n\r\n"),
        (b": no name\r\n\r\n", [], b": no name\r\n\r\n"),
        (b"A: 1\r\n \r\nB: 2\r\n\r\nbody", [b"A", b"B"], b"body"),  # blanks are a fold
        (b"From ann Thu Jan  1 00:00:00 1970\r\nA: 1\r\n\r\nbody", [b"A"], b"body"),
        (b">From ann Thu Jan  1\nA: 1\n\nbody", [b"A"], b"body"),
        (b"From : ann@a.example\r\n\r\nbody", [b"From"], b"body"),
        (b"A: bare\rreturn\r\n\r\nbody", [b"A"], b"body"),
        (b"A\x00B: 1\r\n\r\n", [], b"A\x00B: 1\r\n\r\n"),
        (b"A: 1\n\r\nbody", [b"A"], b"body"),
    ],
)
def test_where_a_block_ends(source: bytes, found: list[bytes], body: bytes) -> None:
    block = headers.scan(source)
    assert names(block) == found
    assert source[block.end :] == body


def test_a_part_of_a_message_is_scanned_in_its_place() -> None:
    source = b"--b\r\nA: 1\r\n\r\nx\r\n--b\r\nB: 2\r\n"
    block = headers.scan(source, 5, 13)
    assert (names(block), block.end) == ([b"A"], 13)
    block = headers.scan(source, 21)
    assert (names(block), block.end, block.first(b"b")) == ([b"B"], len(source), b"2")
    assert headers.scan(source, 5, 9).first(b"a") == b"1"


def test_too_many_fields_are_left_opaque() -> None:
    source = b"A: 1\r\n" * 6_000 + b"\r\nbody"
    block = headers.scan(source)
    assert block.over_cap
    assert len(block.fields) == 5_000
    assert source[block.end :] == b"body"


@pytest.mark.parametrize("end", [b"\r\n\r\nbody", b"\n\nbody"])
def test_too_many_bytes_are_left_opaque(end: bytes) -> None:
    source = b"A: 1\r\nB: " + b"x" * (1 << 20) + b"\r\nC: 3" + end
    block = headers.scan(source)
    assert block.over_cap
    assert names(block) == [b"A"]
    assert source[block.end :] == b"body"
    assert headers.scan(source[: -len(end)]).end == len(source) - len(end)


@given(st.binary(max_size=300), st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_fields_side_by_side(source: bytes, start: int) -> None:
    block = headers.scan(source, start)
    at = None
    for field in block.fields:
        assert field.start == (field.start if at is None else at)
        assert field.start < field.value_start <= field.end <= block.end
        assert source[field.start : field.value_start].rstrip(b" \t:") == field.name
        at = field.end
    assert block.end <= max(len(source), start)


_line = st.sampled_from(
    [b"A: 1", b"Long-Name:  v ", b" fold", b"\tfold", b"B:", b"C: x: y", b"D: =?utf-8?q?a?="]
)


@given(st.lists(_line, max_size=12), st.sampled_from([b"\r\n", b"\n"]))
@settings(max_examples=200, deadline=None)
def test_agrees_with_the_stdlib(lines: list[bytes], newline: bytes) -> None:
    # They differ where a block begins with a fold: the stdlib drops the line, we start the body.
    lines = [b"First: x", *lines]
    source = newline.join([*lines, b"", b"body"])
    block = headers.scan(source)
    oracle = email.message_from_bytes(source, policy=email.policy.compat32)
    theirs = [(name, value) for name, value in oracle.items()]
    ours = [
        (field.name.decode(), field.raw_value(source).decode().lstrip(" \t"))
        for field in block.fields
    ]
    assert ours == [(name, value.lstrip(" \t")) for name, value in theirs]
    assert source[block.end :].decode() == oracle.get_payload()


@pytest.mark.parametrize(
    "unit", [b"A: 1\r\n", b"A", b"A:", b" ", b"A: \r\n \r\n", b"\r", b"A \t", b"A: 1\n ", b"From "]
)
def test_scanning_is_linear(unit: bytes) -> None:
    small = b"A: " + unit * (30_000 // len(unit))
    large = b"A: " + unit * (300_000 // len(unit))
    assert grows_linearly(headers.scan, small, large, 10)


def test_unfolding_keeps_blanks_and_shows_what_is_no_fold() -> None:
    assert headers.unfold(b"a\r\n b\n\tc\r\n") == b"a b\tc"
    assert headers.unfold(b"a\r\nb") == b"a\r\nb"
    assert headers.unfold(b"a\rb") == b"a\rb"


# --- field -------------------------------------------------------------------------------------


def _one_field(wire: bytes, name: str) -> headers.Headers:
    """Whatever reads it sees one field and then the body."""
    block = headers.scan(wire + b"\r\nbody")
    assert names(block) == [name.encode("ascii")]
    assert block.end == len(wire) + 2
    assert wire.endswith(b"\r\n")
    assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")
    assert b"\x00" not in wire
    first, *folds = wire[:-2].split(b"\r\n")
    for line in folds:
        assert line[:1] in b" \t" and line.strip()
    assert all(len(line) <= 998 for line in [first, *folds])
    naive = email.message_from_bytes(wire + b"\r\nbody", policy=email.policy.compat32)
    assert naive.keys() == [name] and naive.get_payload() == "body"
    return block


any_text = st.one_of(
    st.text(max_size=120),
    st.text(st.characters(codec="utf-8"), max_size=300),
    st.text('ab ,<>@"\\:;()=?\r\n\t\x00é\u2028\x85\ud800', max_size=60),
)
some_names = st.one_of(
    st.sampled_from(["Subject", "To", "From", "Message-ID", "Content-Type", "X-" + "n" * 90]),
    st.text(max_size=12),
)


@given(some_names, any_text, st.booleans())
@example("Subject", "a\r\nBcc: victim@example.org", False)
@example("Subject", "a\n\nbody", False)
@example("Subject", "\r\n", True)
@example("Subject: x\r\nBcc", "v", False)
@example("To", '"a\r\n" <x@example.org>', False)
@example("Subject", "x" * 3_000, False)
@example("Subject", "é" * 3_000, True)
@example("Subject", "a" + " " * 3_000 + "b", True)
@example("References", "x" * 3_000, False)
@settings(max_examples=600, deadline=None)
def test_attack_03_any_text_is_refused_or_becomes_one_field(
    name: str, value: str, utf8: bool
) -> None:
    try:
        wire = headers.field(name, value, utf8=utf8)
    except Malformed:
        return
    _one_field(wire, name)
    assert utf8 or wire.isascii()


@pytest.mark.parametrize("control", [chr(n) for n in (*range(9), *range(10, 32), *range(127, 160))])
def test_attack_03_controls_are_refused_everywhere(control: str) -> None:
    for name in ("Subject", "To", "Content-Type", "X-Other"):
        for utf8 in (True, False):
            with pytest.raises(Malformed):
                headers.field(name, f"a{control}b", utf8=utf8)
    with pytest.raises(Malformed):
        headers.field(f"Sub{control}ject", "a")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=300), st.booleans())
@settings(max_examples=300, deadline=None)
def test_free_text_round_trip(text: str, utf8: bool) -> None:
    wire = headers.field("Subject", text, utf8=utf8)
    block = _one_field(wire, "Subject")
    assert words.decode_words(block.first(b"subject") or b"") == text.strip(" \t")


def test_lines_stay_short_where_they_can() -> None:
    wire = headers.field("References", " ".join(f"<{n:040}@example.org>" for n in range(20)))
    assert all(len(line) <= 78 for line in wire.split(b"\r\n"))
    wire = headers.field("Subject", "Grüße aus " * 40)
    assert all(len(line) <= 76 for line in wire.split(b"\r\n"))
    assert headers.field("Subject", "plain") == b"Subject: plain\r\n"
    assert headers.field("Subject", "") == b"Subject:\r\n"


def test_names_in_address_fields_are_encoded_and_addresses_are_not() -> None:
    wire = headers.field(
        "To", "Jörg Müller <j@example.org>, Ärzte: Zoë <z@example.org>, a@b.example;"
    )
    assert wire.isascii()
    block = _one_field(wire, "To")
    mailbox, group = parse_address_list(block.first(b"to") or b"")
    assert isinstance(mailbox, Mailbox) and isinstance(group, Group)
    assert (mailbox.name, mailbox.local, mailbox.domain) == ("Jörg Müller", "j", "example.org")
    assert group.name == "Ärzte"
    assert [(each.name, each.local) for each in group.members] == [("Zoë", "z"), ("", "a")]


def test_text_without_a_place_in_the_syntax_is_refused() -> None:
    with pytest.raises(Malformed):
        headers.field("Message-ID", "<é@example.org>")
    with pytest.raises(Malformed):
        headers.field("To", "jörg@example.org")  # a local part cannot be encoded
    assert headers.field("To", "jörg@example.org", utf8=True) == "To: jörg@example.org\r\n".encode()


def _greedy(name: str, value: str) -> bytes:
    """Words put into lines of 78 octets, one after the other. RFC 5322 §2.1.1."""
    first, *rest = value.split(" ")
    lines = [f"{name}: {first}"]
    for piece in rest:
        if len(lines[-1]) + 1 + len(piece) > 78:
            lines.append("")
        lines[-1] += f" {piece}"
    return "\r\n".join(lines).encode() + b"\r\n"


@given(st.lists(st.text("ab;=.", min_size=1, max_size=100), min_size=1, max_size=60))
@settings(max_examples=200)
def test_words_fill_lines(pieces: list[str]) -> None:
    value = " ".join(pieces)
    assert headers.field("Received-SPF", value) == _greedy("Received-SPF", value)


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "main", "raw"),
    [
        (b"text/plain; charset=utf-8", b"text/plain", [(b"charset", b"utf-8")]),
        (b' Text/HTML ;\r\n Charset="a\\"b;c" ', b"Text/HTML", [(b"Charset", b'a"b;c')]),
        (b"text/plain; charset=us-ascii (Plain text)", b"text/plain", [(b"charset", b"us-ascii")]),
        (b'text/plain (a;(b)"); x="(no)"', b"text/plain", [(b"x", b"(no)")]),
        (b"a/b; filename=report (1).pdf", b"a/b", [(b"filename", b"report (1).pdf")]),
        (b"text/plain charset=utf-8", b"text/plain", [(b"charset", b"utf-8")]),
        (b"text/plain;; ;a=1;", b"text/plain", [(b"a", b"1")]),
        (b"charset=utf-8", b"", [(b"charset", b"utf-8")]),
        (b'a/b; x="open; y=1', b"a/b", [(b"x", b"open; y=1")]),
        (b'a/b; x="q"junk; y=1', b"a/b", [(b"x", b"q"), (b"y", b"1")]),
        (b"a/b; x=; y", b"a/b", [(b"x", b"")]),
        (b'a/b; "x"=1; y=2', b"a/b", [(b"y", b"2")]),
        (b"a/b; x = 1 ; y\t=\t2", b"a/b", [(b"x", b"1"), (b"y", b"2")]),
        (b"a/b; x=(never closed; y=2", b"a/b", [(b"x", b"(never closed"), (b"y", b"2")]),
        (
            b"a/b; name*0*=utf-8''a; name*1=b",
            b"a/b",
            [(b"name*0*", b"utf-8''a"), (b"name*1", b"b")],
        ),
        (b"attachment", b"attachment", []),
        (b"", b"", []),
    ],
)
def test_parameters_as_sent(value: bytes, main: bytes, raw: list[tuple[bytes, bytes]]) -> None:
    assert headers.raw_parameters(value) == (main, raw)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        # RFC 2231 §3, §4, §4.1
        (
            b'message/external-body; access-type=URL;\r\n URL*0="ftp://";\r\n'
            b' URL*1="cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"',
            {"access-type": "URL", "url": "ftp://cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"},
        ),
        (
            b"application/x-stuff; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A",
            {"title": "This is ***fun***"},
        ),
        (
            b"application/x-stuff; title*0*=us-ascii'en'This%20is%20even%20more%20;\r\n"
            b' title*1*=%2A%2A%2Afun%2A%2A%2A%20;\r\n title*2="isn\'t it!"',
            {"title": "This is even more ***fun*** isn't it!"},
        ),
        (b"a; name*1=b; name*0=a", {"name": "ab"}),
        (b"a; name*=iso-8859-1''Andr%E9; name=Andre", {"name": "André"}),
        (b"a; name=Andre; name*=iso-8859-1''Andr%E9", {"name": "André"}),
        (b"a; name*0*=utf-8''%C3; name*1*=%A9", {"name": "é"}),
        (b"a; name*=%C3%A9", {"name": "é"}),
        (b"a; name*=nonsense''%C3%A9", {"name": "é"}),
        (b'a; name="=?utf-8?Q?caf=C3=A9?="', {"name": "café"}),
        (b'a; name*0="=?utf-8?Q?caf"; name*1="=C3=A9?="', {"name": "café"}),
        ("a; name=café".encode(), {"name": "café"}),
        (b"a; name=caf\xe9", {"name": "café"}),
        (b"a; A=1; a=2", {"a": "1"}),
        (b"a; name*=utf-8''a%0D%0Ab%00", {"name": "ab"}),
        (b"a; *=x; **=y; name*x=1", {"*": "x", "**": "y", "name*x": "1"}),
    ],
)
def test_parameters_as_text(value: bytes, found: dict[str, str]) -> None:
    assert headers.parameterised(value)[1] == found


def test_the_main_value_is_lower_case_without_blanks() -> None:
    assert headers.parameterised(b" Text / Plain (c) ; x=1")[0] == b"text/plain"


def test_a_flood_of_sections_is_cut_at_128() -> None:
    value = b"a/b; " + b"; ".join(b"name*%d=x" % n for n in range(100_000))
    start = time.thread_time()
    assert headers.parameterised(value)[1] == {"name": "x" * 128}
    assert len(headers.raw_parameters(value)[1]) == 128
    assert time.thread_time() - start < 0.1


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_parameters(value: bytes) -> None:
    main, found = headers.parameterised(b"text/plain; " + value)
    assert main
    for name, text in found.items():
        (name + text).encode("utf-8")
        assert "\r" not in text and "\n" not in text


@given(
    st.lists(
        st.sampled_from([b";", b"=", b'"', b"\\", b"(", b")", b"a", b"*", b"0", b" ", b"'", b"%4"]),
        max_size=40,
    )
)
@settings(max_examples=400, deadline=None)
def test_near_parameters_never_raise(parts: list[bytes]) -> None:
    headers.parameterised(b"".join(parts))


@given(
    st.dictionaries(
        st.sampled_from(["charset", "name", "format", "boundary"]),
        st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=40),
        max_size=4,
    )
)
@settings(max_examples=200, deadline=None)
def test_quoted_parameters_agree_with_the_stdlib(given_: dict[str, str]) -> None:
    # The stdlib does not undo a pair of anything but quote and backslash; we write no other.
    value = "text/plain"
    for name, text in given_.items():
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        value += f'; {name}="{quoted}"'
    main, raw = headers.raw_parameters(value.encode())
    assert main == b"text/plain"
    assert {name.decode(): text.decode() for name, text in raw} == given_
    message = email.message_from_string(f"Content-Type: {value}\n\n")
    oracle = message.get_params(failobj=[], unquote=True)[1:]
    # It splits at semicolons inside of quotes that hold escaped quotes, and strips blanks.
    if not any(c in text for text in given_.values() for c in '";\\'):
        assert [(name, str(text).strip()) for name, text in oracle] == [
            (name, text.strip()) for name, text in given_.items()
        ]


@pytest.mark.parametrize(
    "unit",
    [
        *(
            b"(",
            b"()",
            b'"',
            b'\\"',
            b'"\\',
            b";",
            b"a",
            b"a ",
            b"a=",
            b"a=(",
            b'a="',
            b"a=b;",
            b"=",
        ),
        *(b"name*0=a;", b"%", b"'", b"a/ ", b" ", b"\r\n ", b"=?utf-8?q?", b"a=\xe9;"),
    ],
)
def test_parameters_are_linear(unit: bytes) -> None:
    small = b"text/plain; x=" + unit * (20_000 // len(unit))
    large = b"text/plain; x=" + unit * (200_000 // len(unit))
    assert grows_linearly(headers.parameterised, small, large, 10)
