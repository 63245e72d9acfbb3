"""What we send: commands, dot-stuffed messages, and that nothing breaks out of them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.clock import Instant
from postroom.formats.address import Address, NotAscii
from postroom.wire.smtp import (
    Auth,
    BadArgument,
    BareLineEnd,
    Bdat,
    Body,
    ByMode,
    Command,
    DataChunk,
    DataEnd,
    DeliverBy,
    DotStuffer,
    Mail,
    Notify,
    OriginalRecipient,
    Rcpt,
    Receiver,
    Return,
    Submitter,
    auth_command,
    auth_line,
    bdat_command,
    command,
    dot_stuff,
    limits,
    mail_command,
    parse_auth,
    parse_bdat,
    parse_mail,
    parse_rcpt,
    rcpt_command,
)

ANN = Address("ann", "a.example")


def heard(line: bytes) -> Command:
    """The line as our own server hears it."""
    receiver = Receiver()
    receiver.feed(line)
    event = receiver.next()
    assert isinstance(event, Command)
    assert receiver.empty
    return event


# --- commands -----------------------------------------------------------------------------


def test_command_lines() -> None:
    assert command("QUIT") == b"QUIT\r\n"
    assert command("EHLO", b"mx.a.example") == b"EHLO mx.a.example\r\n"


@pytest.mark.parametrize("octet", [*range(32), 127])
def test_attack_03_a_command_holds_no_control_character(octet: int) -> None:
    with pytest.raises(BadArgument):
        command("NOOP", b"a%cQUIT" % octet)


@pytest.mark.parametrize("verb", ["", "NO OP", "QUIT\r\n", "NOOP1", "ÉHLO"])
def test_a_verb_is_letters(verb: str) -> None:
    with pytest.raises(BadArgument):
        command(verb)


def test_a_command_fits_what_our_server_takes() -> None:
    longest = command("NOOP", b"x" * (limits.COMMAND_LINE_CAP - 7))
    assert heard(longest).verb == b"NOOP"
    with pytest.raises(BadArgument):
        command("NOOP", b"x" * (limits.COMMAND_LINE_CAP - 6))


@pytest.mark.parametrize(
    ("mail", "line"),
    [
        (Mail(None), b"MAIL FROM:<>\r\n"),
        (
            Mail(ANN, size=10, body=Body.EIGHT_BIT),
            b"MAIL FROM:<ann@a.example> SIZE=10 BODY=8BITMIME\r\n",
        ),
        (
            Mail(Address("zoë", "a.example"), smtputf8=True),
            "MAIL FROM:<zoë@a.example> SMTPUTF8\r\n".encode(),
        ),
        (Mail(ANN, auth=Submitter(None)), b"MAIL FROM:<ann@a.example> AUTH=<>\r\n"),
        (
            Mail(ANN, auth=Submitter(Address("a+b", "c.example"))),
            b"MAIL FROM:<ann@a.example> AUTH=a+2Bb@c.example\r\n",
        ),
        (
            Mail(ANN, ret=Return.HEADERS, envid="a b+c"),
            b"MAIL FROM:<ann@a.example> RET=HDRS ENVID=a+20b+2Bc\r\n",
        ),
        (Mail(ANN, requiretls=True), b"MAIL FROM:<ann@a.example> REQUIRETLS\r\n"),
        (Mail(ANN, hold_for=60), b"MAIL FROM:<ann@a.example> HOLDFOR=60\r\n"),
        (
            Mail(ANN, hold_until=Instant(1795360680000)),
            b"MAIL FROM:<ann@a.example> HOLDUNTIL=2026-11-22T15:18:00.000Z\r\n",
        ),
        (Mail(ANN, priority=-9), b"MAIL FROM:<ann@a.example> MT-PRIORITY=-9\r\n"),
        (
            Mail(ANN, deliver_by=DeliverBy(-5, ByMode.NOTIFY, trace=True)),
            b"MAIL FROM:<ann@a.example> BY=-5;NT\r\n",
        ),
    ],
)
def test_mail_command_is_what_our_server_understands(mail: Mail, line: bytes) -> None:
    assert mail_command(mail) == line
    assert parse_mail(heard(line).argument) == mail


@pytest.mark.parametrize(
    ("rcpt", "line"),
    [
        (Rcpt(ANN), b"RCPT TO:<ann@a.example>\r\n"),
        (Rcpt(Address("postmaster", "")), b"RCPT TO:<postmaster>\r\n"),
        (Rcpt(Address("a b", "a.example")), b'RCPT TO:<"a b"@a.example>\r\n'),
        (Rcpt(ANN, notify=Notify.NEVER), b"RCPT TO:<ann@a.example> NOTIFY=NEVER\r\n"),
        (
            Rcpt(ANN, notify=Notify.FAILURE | Notify.DELAY),
            b"RCPT TO:<ann@a.example> NOTIFY=FAILURE,DELAY\r\n",
        ),
        (
            Rcpt(ANN, orcpt=OriginalRecipient("rfc822", "a+b=c@d")),
            b"RCPT TO:<ann@a.example> ORCPT=rfc822;a+2Bb+3Dc@d\r\n",
        ),
        (
            Rcpt(ANN, orcpt=OriginalRecipient("utf-8", "zoë+\\x@d")),
            b"RCPT TO:<ann@a.example> ORCPT=utf-8;zo\\x{EB}\\x{2B}\\x{5C}x@d\r\n",
        ),
    ],
)
def test_rcpt_command_is_what_our_server_understands(rcpt: Rcpt, line: bytes) -> None:
    assert rcpt_command(rcpt) == line
    assert parse_rcpt(heard(line).argument, utf8=False) == rcpt


def test_non_ascii_addresses_are_not_sent_unasked() -> None:
    zoe = Address("zoë", "a.example")
    with pytest.raises(NotAscii):
        mail_command(Mail(zoe))
    with pytest.raises(NotAscii):
        rcpt_command(Rcpt(zoe))
    assert rcpt_command(Rcpt(zoe), utf8=True) == "RCPT TO:<zoë@a.example>\r\n".encode()


@pytest.mark.parametrize("envid", ["", "a\r\nb", "zoë", "\0"])
def test_attack_03_an_envid_that_cannot_be_said_is_refused(envid: str) -> None:
    with pytest.raises(BadArgument):
        mail_command(Mail(ANN, envid=envid))


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("", "a"),
        ("rfc822", ""),
        ("utf-8", ""),
        ("rfc822", "a\r\nb"),
        ("rfc822", "zoë"),
        ("rfc;822", "a"),
        ("é", "a"),
        ("utf-8", "a\nb"),
        ("a b", "c"),
        ("utf-8", "\ud800"),
    ],
)
def test_attack_03_an_orcpt_that_cannot_be_said_is_refused(kind: str, address: str) -> None:
    with pytest.raises(BadArgument):
        rcpt_command(Rcpt(ANN, orcpt=OriginalRecipient(kind, address)))


@pytest.mark.parametrize("bdat", [Bdat(0, last=True), Bdat(86)])
def test_bdat_round_trip(bdat: Bdat) -> None:
    assert parse_bdat(heard(bdat_command(bdat)).argument) == bdat


@pytest.mark.parametrize("auth", [Auth("PLAIN"), Auth("EXTERNAL", b""), Auth("PLAIN", b"\0a\0b")])
def test_auth_round_trip(auth: Auth) -> None:
    assert parse_auth(heard(auth_command(auth)).argument) == auth


def test_auth_lines() -> None:
    assert auth_line(None) == b"*\r\n"
    assert auth_line(b"") == b"\r\n"
    assert auth_line(b"\0ann") == b"AGFubg==\r\n"


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)
MAILS = st.builds(
    Mail,
    st.sampled_from([None, ANN, Address("a b", "c.example")]),
    size=st.none() | st.integers(0, 10**20 - 1),
    body=st.sampled_from(Body),
    smtputf8=st.booleans(),
    auth=st.sampled_from([None, Submitter(None), Submitter(ANN)]),
    ret=st.none() | st.sampled_from(Return),
    envid=st.none() | PRINTABLE,
    requiretls=st.booleans(),
    hold_for=st.none() | st.integers(0, 999_999_999),
    priority=st.none() | st.integers(-9, 9),
    deliver_by=st.none()
    | st.builds(DeliverBy, st.integers(1, 999_999_999), st.sampled_from(ByMode), st.booleans()),
)
RCPTS = st.builds(
    Rcpt,
    st.sampled_from([ANN, Address('"\\', "c.example")]),
    notify=st.none() | st.integers(0, 7).map(Notify),
    orcpt=st.none()
    | st.builds(OriginalRecipient, st.just("rfc822"), PRINTABLE)
    | st.builds(
        OriginalRecipient,
        st.just("utf-8"),
        st.text(min_size=1, max_size=30).filter(str.isprintable),
    ),
)


@given(MAILS)
@settings(deadline=None)
def test_mail_round_trip(mail: Mail) -> None:
    assert parse_mail(heard(mail_command(mail)).argument) == mail


@given(RCPTS)
@settings(deadline=None)
def test_rcpt_round_trip(rcpt: Rcpt) -> None:
    assert parse_rcpt(heard(rcpt_command(rcpt)).argument, utf8=False) == rcpt


# --- messages -----------------------------------------------------------------------------


def received(wire: bytes) -> tuple[bytes, DataEnd]:
    """The message as our own server gets it; nothing may be left over."""
    receiver = Receiver()
    receiver.expect_data()
    receiver.feed(wire)
    message = b""
    while (event := receiver.next()) is not None:
        if isinstance(event, DataChunk):
            message += event.data
        else:
            assert isinstance(event, DataEnd)
            assert receiver.empty
            return message, event
    raise AssertionError("no end")


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n..b.c\r\n", b"a\r\n...b.c\r\n.\r\n"),
        (b"\r\n\r\n.a\r\n", b"\r\n\r\n..a\r\n.\r\n"),
    ],
)
def test_dot_stuffing_at_every_split(message: bytes, wire: bytes) -> None:
    for n in range(len(message) + 1):
        assert b"".join(dot_stuff([message[:n], message[n:]])) == wire
    assert b"".join(dot_stuff(message[n : n + 1] for n in range(len(message)))) == wire


@pytest.mark.parametrize(
    "message",
    [
        b"a\n",
        b"a\r",
        b"a\rb\r\n",
        b"a\r\r\n",
        b"\n.\n",
        b"a\r\n.\nMAIL FROM:<x>\r\n",
        b"\r.\r",
        b"\n",
        b"a\n.\r\nb\r\n",
        b"a\r\n.\rb\r\n",
        b"\n\r",
        b"a\r\n\n",
    ],
)
def test_attack_01_a_bare_line_end_never_leaves_as_a_message(message: bytes) -> None:
    for n in range(len(message) + 1):
        stuffer = DotStuffer()
        sent = b""
        with pytest.raises(BareLineEnd):
            sent += stuffer.feed(message[:n])
            sent += stuffer.feed(message[n:])
            sent += stuffer.finish()
        assert naive_messages(sent) == 0


def naive_messages(wire: bytes) -> int:
    """How many ends of DATA a server sees that takes any line end for one."""
    text = b"\n" + wire.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text.count(b"\n.\n")


PIECES = st.sampled_from([b"\r\n", b".", b"..", b"a", b"\0", b"\r\n.", b"text", b"x" * 1000])


@given(st.lists(PIECES, max_size=30))
@settings(max_examples=300, deadline=None)
def test_attack_01_strict_and_naive_servers_see_one_message(pieces: list[bytes]) -> None:
    message = b"".join(pieces)
    wire = b"".join(dot_stuff(pieces))
    got, end = received(wire)
    whole = not message or message.endswith(b"\r\n")
    assert got == (message if whole else message + b"\r\n")
    assert not end.bare_cr
    assert not end.bare_lf
    assert naive_messages(wire) == 1


ANY = st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"\r\n.", b"\0"])


@given(st.lists(ANY, max_size=20))
@settings(max_examples=300, deadline=None)
def test_what_is_refused_does_not_depend_on_the_chopping(pieces: list[bytes]) -> None:
    message = b"".join(pieces)
    bare = b"\r" in message.replace(b"\r\n", b"") or b"\n" in message.replace(b"\r\n", b"")
    for chunks in (pieces, [message], [message[n : n + 1] for n in range(len(message))]):
        if bare:
            with pytest.raises(BareLineEnd):
                list(dot_stuff(chunks))
        else:
            list(dot_stuff(chunks))


def test_long_lines_are_told_to_the_sender() -> None:
    stuffer = DotStuffer()
    stuffer.feed(b"x" * 1500 + b"\r\n")
    assert stuffer.longest_line == 1502


@pytest.mark.parametrize("unit", [b"\r\n.", b".", b"\r\n", b"x", b"\r\n.\r\n"], ids=repr)
def test_hostile_messages_cost_linear_time(unit: bytes) -> None:
    block = unit * (65_536 // len(unit))
    stuffer = DotStuffer()
    before = time.thread_time()
    for _ in range(32):
        stuffer.feed(block)
    assert time.thread_time() - before < 1.0
