"""Replies as octets, and octets as replies."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Status
from postroom.wire.smtp import BadReply, Reply, ReplyReader, ehlo_keywords, ehlo_reply

OK = Reply(250, Status(2, 1, 0), ("Sender ok",))


def read(stream: bytes, size: int = 1_000_000) -> list[Reply]:
    reader = ReplyReader()
    replies = []
    for n in range(0, len(stream), size):
        reader.feed(stream[n : n + size])
        while (reply := reader.next()) is not None:
            replies.append(reply)
    return replies


# --- rendering ----------------------------------------------------------------------------


def test_a_reply_of_one_line() -> None:
    assert OK.render() == b"250 2.1.0 Sender ok\r\n"
    assert Reply(354, None, ("Go ahead",)).render() == b"354 Go ahead\r\n"


def test_the_status_stands_in_each_line() -> None:
    reply = Reply(550, Status(5, 7, 1), ("No.", "See https://a.example/", "Bye"))
    assert reply.render() == (
        b"550-5.7.1 No.\r\n550-5.7.1 See https://a.example/\r\n550 5.7.1 Bye\r\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "a\r\n250 ok",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\x7fb",
        "a\u2028b",
        "zoë",
        "a\tb",
        "\ud800",
        "a\x85b",
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_attack_03_text_cannot_start_a_line_of_its_own(text: str, utf8: bool) -> None:
    wire = Reply(550, Status(5, 7, 1), (text,)).render(utf8=utf8)
    assert wire.endswith(b"\r\n")
    text_back = wire[:-2].decode("utf-8")
    assert text_back.isprintable()
    assert utf8 or text_back.isascii()
    assert len(wire[:-2].splitlines()) == 1


def test_utf8_only_where_it_was_asked_for() -> None:
    reply = Reply(252, Status(2, 5, 0), ("zoë",))
    assert reply.render() == b"252 2.5.0 zo?\r\n"
    assert reply.render(utf8=True) == "252 2.5.0 zoë\r\n".encode()


def test_long_text_is_wrapped_at_spaces() -> None:
    wire = Reply(550, Status(5, 7, 1), (" ".join(["word"] * 300),)).render()
    lines = wire.split(b"\r\n")[:-1]
    assert len(lines) == 3
    assert all(line.endswith(b"word") for line in lines)
    assert b" ".join(line[10:] for line in lines) == b" ".join([b"word"] * 300)


@pytest.mark.parametrize("text", ["x" * 2000, "ë" * 2000, "\U0001f426" * 700, "x" * 501 + "ëë"])
def test_no_line_is_over_512_octets_nor_cut_within_a_character(text: str) -> None:
    wire = Reply(550, Status(5, 7, 1), (text,)).render(utf8=True)
    lines = wire.split(b"\r\n")[:-1]
    assert max(map(len, lines)) <= 510
    assert "".join(line[10:].decode("utf-8") for line in lines) == text


@pytest.mark.parametrize("length", range(496, 506))
def test_the_border_of_512_octets(length: int) -> None:
    wire = Reply(550, Status(5, 7, 1), ("x" * length,)).render()
    lines = wire.split(b"\r\n")[:-1]
    assert len(lines) == (1 if length <= 500 else 2)
    assert max(map(len, lines)) <= 510


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (199, None),
        (600, None),
        (250, Status(5, 0, 0)),
        (550, Status(4, 0, 0)),
        (354, Status(2, 0, 0)),
    ],
)
def test_a_reply_that_contradicts_itself_cannot_be_made(code: int, status: Status | None) -> None:
    with pytest.raises(ValueError, match=r"reply|go with"):
        Reply(code, status, ("x",))


def test_a_reply_has_a_line() -> None:
    with pytest.raises(ValueError, match="line"):
        Reply(250, None, ())


def test_kinds_of_reply() -> None:
    kinds = [
        (r.positive, r.intermediate, r.transient, r.permanent)
        for r in (Reply(code, None, ("x",)) for code in (250, 354, 451, 550))
    ]
    assert kinds == [tuple(n == m for m in range(4)) for n in range(4)]
    assert str(OK) == "250 2.1.0 Sender ok"


def test_ehlo_reply_of_rfc_5321_appendix_d() -> None:
    reply = ehlo_reply("foo.com", "greets bar.com", ["8BITMIME", "SIZE 50000000", "DSN", "HELP"])
    assert reply.render() == (
        b"250-foo.com greets bar.com\r\n250-8BITMIME\r\n250-SIZE 50000000\r\n"
        b"250-DSN\r\n250 HELP\r\n"
    )
    assert ehlo_keywords(reply) == {"8BITMIME": "", "SIZE": "50000000", "DSN": "", "HELP": ""}


@pytest.mark.parametrize("keyword", ["", "A\r\nB", "É", "X" * 507])
def test_a_keyword_that_would_not_arrive_is_refused(keyword: str) -> None:
    with pytest.raises(ValueError, match="keyword"):
        ehlo_reply("a.example", "", [keyword])


def test_keywords_of_other_servers() -> None:
    stream = b"250-mx\r\n250-auth=LOGIN PLAIN\r\n250-pipelining \r\n250 Size 10 \r\n"
    assert ehlo_keywords(read(stream)[0]) == {"AUTH": "LOGIN PLAIN", "PIPELINING": "", "SIZE": "10"}
    stream = b"250-mx\r\n250-AUTH=LOGIN\r\n250 AUTH PLAIN\r\n"
    assert ehlo_keywords(read(stream)[0]) == {"AUTH": "PLAIN"}
    assert ehlo_keywords(read(b"250 mx\r\n")[0]) == {}


# --- reading ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "reply"),
    [
        (b"220 mx.a.example ESMTP\r\n", Reply(220, None, ("mx.a.example ESMTP",))),
        (b"250\r\n", Reply(250, None, ("",))),
        (b"250 \r\n", Reply(250, None, ("",))),
        (b"250-\r\n250\r\n", Reply(250, None, ("", ""))),
        (b"250 2.1.0 Sender ok\r\n", OK),
        (b"250 2.1.0\r\n", Reply(250, Status(2, 1, 0), ("",))),
        (b"250 2.1.0 Sender ok\n", OK),
        (b"250 5.1.0 odd\r\n", Reply(250, None, ("5.1.0 odd",))),
        (b"250 2.1.0x\r\n", Reply(250, None, ("2.1.0x",))),
        (b"354 2.0.0 go\r\n", Reply(354, None, ("2.0.0 go",))),
        (
            b"550-5.7.1 a\r\n550-5.7.1 b\r\n550 5.7.1 c\r\n",
            Reply(550, Status(5, 7, 1), ("a", "b", "c")),
        ),
        (b"550-first\r\n550 5.7.1 last\r\n", Reply(550, Status(5, 7, 1), ("first", "last"))),
        (b"250-a\r\n450 b\r\n", Reply(450, None, ("a", "b"))),
        (b"550 zo\xc3\xab \xff \x1b[1m\0\r\n", Reply(550, None, ("zoë \ufffd ?[1m?",))),
    ],
)
def test_a_reply_is_read_at_any_chopping(stream: bytes, reply: Reply) -> None:
    for size in range(1, len(stream) + 1):
        assert read(stream, size) == [reply]


def test_pipelined_replies_come_one_by_one() -> None:
    reader = ReplyReader()
    reader.feed(b"250 a\r\n250-b\r\n250 c\r\n354 d\r\n5")
    assert [reader.next() for _ in range(4)] == [
        Reply(250, None, ("a",)),
        Reply(250, None, ("b", "c")),
        Reply(354, None, ("d",)),
        None,
    ]
    assert reader.buffered == 1


def test_attack_02_a_reply_added_before_tls_is_seen() -> None:
    for extra in (b"250 ok\r\n", b"2", b"250-x\r\n"):
        reader = ReplyReader()
        reader.feed(b"220 2.0.0 Ready\r\n" + extra)
        assert reader.next() == Reply(220, Status(2, 0, 0), ("Ready",))
        assert not reader.empty
    reader = ReplyReader()
    reader.feed(b"250-x\r\n")
    assert reader.next() is None
    assert not reader.empty
    reader = ReplyReader()
    reader.feed(b"220 2.0.0 Ready\r\n")
    assert reader.next() is not None
    assert reader.empty


@pytest.mark.parametrize(
    "stream",
    [
        b"hello\r\n",
        b"\r\n",
        b"25\r\n",
        b"25 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"2500 ok\r\n",
        b"250_ok\r\n",
        b"250-a\r\n\r\n250 b\r\n",
        b"SSH-2.0-x\r\n",
        b"250 " + b"x" * 4096,
        b"250-x\r\n" * 100,
        "٢٥٠ ok\r\n".encode(),
    ],
)
def test_what_is_no_reply_is_an_error_for_good(stream: bytes) -> None:
    for size in (1, 7, len(stream)):
        reader = ReplyReader()
        with pytest.raises(BadReply):
            for n in range(0, len(stream), size):
                reader.feed(stream[n : n + size])
                while reader.next() is not None:
                    pass
        reader.feed(b"250 ok\r\n")
        assert reader.buffered == 0
        with pytest.raises(BadReply):
            reader.next()


def test_the_largest_reply_passes() -> None:
    line = b"x" * (4096 - 6)
    stream = (b"250-" + line + b"\r\n") * 99 + b"250 " + line + b"\r\n"
    assert read(stream, 5000) == [Reply(250, None, (line.decode(),) * 100)]


def test_a_reply_that_drips_costs_linear_time() -> None:
    before = time.thread_time()
    assert len(read(b"250 " + b"x" * 4000 + b"\r\n", 1)) == 1
    assert time.thread_time() - before < 0.5


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80).map(str.strip)


@given(st.sampled_from([250, 421, 550]), st.booleans(), st.lists(TEXT, min_size=1, max_size=5))
@settings(deadline=None)
def test_what_is_rendered_is_read(code: int, enhanced: bool, lines: list[str]) -> None:
    status = Status(code // 100, 7, 25) if enhanced else None
    reply = Reply(code, status, tuple(f"x{line}" for line in lines))
    for size in (1, 3, 10_000):
        assert read(reply.render(), size) == [reply]
