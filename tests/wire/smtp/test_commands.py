"""What the arguments of commands mean, and what is refused with which code."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.clock import Instant
from postroom.core.errors import MailError, Status
from postroom.formats.address import Address, BadAddress, BadSender, NotAscii
from postroom.wire.smtp import (
    EXTENSIONS,
    Auth,
    BadArgument,
    BadBase64,
    Bdat,
    Body,
    ByMode,
    CommandError,
    DeliverBy,
    Hello,
    Mail,
    Notify,
    OriginalRecipient,
    Query,
    Rcpt,
    Return,
    Submitter,
    UnknownParameter,
    decode_xtext,
    encode_xtext,
    parse_auth,
    parse_auth_line,
    parse_bdat,
    parse_hello,
    parse_mail,
    parse_nothing,
    parse_query,
    parse_rcpt,
)

ANN = Address("ann", "a.example")
BOB = Address("bob", "b.example")

# --- HELO, EHLO, LHLO ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["mail.a.example", "localhost", "WIN_HOST-7.corp", "a.example.", "192.0.2.1", "-x-"]
)
def test_hello_takes_names_as_they_are(name: str) -> None:
    assert parse_hello(name.encode()) == Hello(name)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ("[ipv6:::ffff:192.0.2.1]", "::ffff:192.0.2.1"),
    ],
)
def test_hello_takes_address_literals(text: str, address: str) -> None:
    assert parse_hello(text.encode()) == Hello(text, ip_address(address))


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"two words",
        b"a..example",
        b".a",
        b"a.example (comment)",
        b"a;b",
        b"a\nb",
        b"a\0",
        "ünï.example".encode(),
        b"[192.0.2.1",
        b"[192.0.2]",
        b"[999.0.2.1]",
        b"[2001:db8::1]",
        b"[IPv6:192.0.2.1]",
        b"[IPv6:fe80::1%eth0]",
        b"[]",
        b"[",
        b"[x-tag:abc]",
        b"a" * 64 + b".example",
        b"a." * 127 + b"aa",
    ],
)
def test_hello_refuses_what_could_break_a_received_field(argument: bytes) -> None:
    with pytest.raises(BadArgument):
        parse_hello(argument)


def test_hello_takes_255_octets() -> None:
    name = b"a." * 127 + b"a"
    assert parse_hello(name).name == name.decode()


# --- MAIL ---------------------------------------------------------------------------------


def test_mail_alone() -> None:
    assert parse_mail(b"FROM:<ann@a.example>") == Mail(ANN)


def test_mail_of_a_notice() -> None:
    assert parse_mail(b"FROM:<>") == Mail(None)


def test_mail_in_any_case_and_with_a_space_after_the_colon() -> None:
    assert parse_mail(b"from: <ann@a.example>  body=8bitmime ") == Mail(ANN, body=Body.EIGHT_BIT)


def test_mail_with_all_parameters() -> None:
    assert parse_mail(
        b"FROM:<ann@a.example> SIZE=1000 BODY=BINARYMIME SMTPUTF8 AUTH=bob+2Bx@b.example"
        b" RET=HDRS ENVID=QQ314159+20x REQUIRETLS HOLDFOR=3600 MT-PRIORITY=-3 BY=120;RT"
    ) == Mail(
        ANN,
        size=1000,
        body=Body.BINARY,
        smtputf8=True,
        auth=Submitter(Address("bob+x", "b.example")),
        ret=Return.HEADERS,
        envid="QQ314159 x",
        requiretls=True,
        hold_for=3600,
        priority=-3,
        deliver_by=DeliverBy(120, ByMode.RETURN, trace=True),
    )


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        (b"SIZE=0", "size", 0),
        (b"SIZE=99999999999999999999", "size", 99999999999999999999),
        (b"BODY=7bit", "body", Body.SEVEN_BIT),
        (b"AUTH=<>", "auth", Submitter(None)),
        (b"AUTH=zo+C3+AB@b.example", "auth", Submitter(Address("zoë", "b.example"))),
        (b"RET=full", "ret", Return.FULL),
        (b"ENVID=a=b", "envid", "a=b"),
        (b"HOLDUNTIL=2026-11-22T15:18:00Z", "hold_until", Instant(1795360680000)),
        (b"HOLDUNTIL=2026-11-22T16:18:00.5+01:00", "hold_until", Instant(1795360680000)),
        (b"HOLDUNTIL=2016-12-31t23:59:60z", "hold_until", Instant(1483228800000)),
        (b"MT-PRIORITY=9", "priority", 9),
        (b"MT-PRIORITY=0", "priority", 0),
        (b"BY=-30;N", "deliver_by", DeliverBy(-30, ByMode.NOTIFY)),
        (b"BY=+999999999;nt", "deliver_by", DeliverBy(999999999, ByMode.NOTIFY, trace=True)),
    ],
)
def test_mail_parameters_one_by_one(word: bytes, field: str, value: object) -> None:
    mail = parse_mail(b"FROM:<ann@a.example> " + word)
    assert {field: value}.items() <= {name: getattr(mail, name) for name in mail.__slots__}.items()


@pytest.mark.parametrize(
    "words",
    [
        b"SIZE",
        b"SIZE=",
        b"SIZE=-1",
        b"SIZE=1e3",
        b"SIZE=999999999999999999999",
        "SIZE=٣".encode(),
        b"SIZE=1 SIZE=1",
        b"SIZE=1 size=2",
        b"BODY=16BIT",
        b"BODY",
        b"SMTPUTF8=1",
        b"SMTPUTF8=",
        b"REQUIRETLS=YES",
        b"AUTH=",
        b"AUTH=ann",
        b"AUTH=<ann@a.example>",
        b"AUTH=+0",
        b"AUTH=a+ff@b.example",
        b"AUTH=a+FF@b.example",
        b"AUTH=a+0D+0A@b.example",
        b"RET=BODY",
        b"ENVID=",
        b"ENVID=" + b"x" * 101,
        b"ENVID=" + b"=" * 34,
        b"HOLDFOR=-1",
        b"HOLDFOR=1234567890",
        b"HOLDFOR=1 HOLDUNTIL=2026-11-22T15:18:00Z",
        b"HOLDUNTIL=2026-11-22",
        b"HOLDUNTIL=2026-13-22T15:18:00Z",
        b"HOLDUNTIL=2026-11-22T25:18:00Z",
        b"HOLDUNTIL=2026-11-22T15:18:61Z",
        b"HOLDUNTIL=9999-12-31T23:59:60Z",
        b"HOLDUNTIL=9999-12-31T23:59:59-01:00",
        b"HOLDUNTIL=0026-11-22T15:18:00+01:00",
        b"HOLDUNTIL=1969-12-31T23:59:59Z",
        b"HOLDUNTIL=0001-01-01T00:00:00+24:00",
        b"MT-PRIORITY=10",
        b"MT-PRIORITY=-0",
        b"MT-PRIORITY=+1",
        b"BY=0;R",
        b"BY=-1;R",
        b"BY=120",
        b"BY=120;X",
        b"BY=1234567890;N",
        b"=1",
        b"-X=1",
        b"X_Y=1",
        b"X\tSIZE=1",
    ],
)
def test_malformed_mail_parameters_are_501(words: bytes) -> None:
    with pytest.raises(BadArgument) as caught:
        parse_mail(b"FROM:<ann@a.example> " + words)
    assert caught.value.code == 501
    assert caught.value.status == Status(5, 5, 4)


@pytest.mark.parametrize("word", [b"XYZZY", b"XYZZY=1", b"NOTIFY=NEVER", b"ORCPT=rfc822;a@b"])
def test_unknown_mail_parameters_are_555(word: bytes) -> None:
    with pytest.raises(UnknownParameter) as caught:
        parse_mail(b"FROM:<ann@a.example> " + word)
    assert caught.value.code == 555
    assert caught.value.status == Status(5, 5, 4)


@pytest.mark.parametrize(
    ("word", "extension"),
    [
        (b"SIZE=1", "SIZE"),
        (b"BODY=8BITMIME", "8BITMIME"),
        (b"BODY=BINARYMIME", "BINARYMIME"),
        (b"SMTPUTF8", "SMTPUTF8"),
        (b"AUTH=<>", "AUTH"),
        (b"RET=FULL", "DSN"),
        (b"ENVID=x", "DSN"),
        (b"REQUIRETLS", "REQUIRETLS"),
        (b"HOLDFOR=1", "FUTURERELEASE"),
        (b"MT-PRIORITY=1", "MT-PRIORITY"),
        (b"BY=1;N", "DELIVERBY"),
    ],
)
def test_what_was_not_offered_is_555(word: bytes, extension: str) -> None:
    argument = b"FROM:<ann@a.example> " + word
    parse_mail(argument, offered=EXTENSIONS)
    with pytest.raises(UnknownParameter):
        parse_mail(argument, offered=EXTENSIONS - {extension})


@pytest.mark.parametrize(
    "argument",
    [b"", b"<ann@a.example>", b"FROM <ann@a.example>", b"FROM :<ann@a.example>", b"TO:<a@b.c>"],
)
def test_mail_needs_its_prefix(argument: bytes) -> None:
    with pytest.raises(BadArgument):
        parse_mail(argument)


def test_a_word_glued_to_the_path_is_refused() -> None:
    with pytest.raises(BadArgument):
        parse_mail(b"FROM:<ann@a.example>SIZE=1")
    with pytest.raises(BadArgument):
        parse_mail(b"FROM:<>BODY=7BIT")


@pytest.mark.parametrize("path", [b"", b"ann@a.example", b"<ann", b"<@>", b"<a@b@c>", b"<<a@b.c>>"])
def test_a_bad_sender_is_told_apart(path: bytes) -> None:
    with pytest.raises(BadSender) as caught:
        parse_mail(b"FROM:" + path)
    assert caught.value.status == Status(5, 1, 7)


def test_a_utf8_sender_needs_the_parameter_behind_it() -> None:
    argument = "FROM:<zoë@b.example>".encode()
    assert parse_mail(argument + b" SMTPUTF8") == Mail(Address("zoë", "b.example"), smtputf8=True)
    with pytest.raises(NotAscii) as caught:
        parse_mail(argument)
    assert caught.value.status == Status(5, 6, 7)
    with pytest.raises(UnknownParameter):
        parse_mail(argument + b" SMTPUTF8", offered=EXTENSIONS - {"SMTPUTF8"})
    with pytest.raises(BadAddress):
        parse_mail(b"FROM:<zo\xff@b.example> SMTPUTF8")


def test_a_u_label_needs_smtputf8_too() -> None:
    argument = "FROM:<ann@ünï.example>".encode()
    assert parse_mail(argument + b" SMTPUTF8").reverse_path == Address("ann", "xn--n-nga1b.example")
    with pytest.raises(NotAscii):
        parse_mail(argument)


# --- RCPT ---------------------------------------------------------------------------------


def test_rcpt_alone() -> None:
    assert parse_rcpt(b"TO:<bob@b.example>", utf8=False) == Rcpt(BOB)
    assert parse_rcpt(b"to: <bob@b.example>", utf8=False) == Rcpt(BOB)


def test_rcpt_postmaster_needs_no_domain() -> None:
    rcpt = parse_rcpt(b"TO:<Postmaster>", utf8=False)
    assert rcpt.forward_path.local.lower() == "postmaster"
    assert rcpt.forward_path.domain == ""


@pytest.mark.parametrize(
    ("word", "notify"),
    [
        (b"NOTIFY=NEVER", Notify.NEVER),
        (b"notify=success", Notify.SUCCESS),
        (b"NOTIFY=FAILURE,DELAY", Notify.FAILURE | Notify.DELAY),
        (b"NOTIFY=DELAY,SUCCESS,FAILURE", Notify.SUCCESS | Notify.FAILURE | Notify.DELAY),
    ],
)
def test_rcpt_notify(word: bytes, notify: Notify) -> None:
    assert parse_rcpt(b"TO:<bob@b.example> " + word, utf8=False) == Rcpt(BOB, notify=notify)


@pytest.mark.parametrize(
    ("word", "kind", "address"),
    [
        (b"ORCPT=rfc822;Bob@b.example", "rfc822", "Bob@b.example"),
        (b"ORCPT=rfc822;bob+2Bx+3Dy@b.example", "rfc822", "bob+x=y@b.example"),
        (b"ORCPT=rfc822;b=x@b.example", "rfc822", "b=x@b.example"),
        (b"ORCPT=x400;+2FS+3Da+20b+2F", "x400", "/S=a b/"),
        (b"ORCPT=utf-8;zo\\x{EB}@b.example", "utf-8", "zoë@b.example"),
        (b"ORCPT=UTF-8;\\x{1F426}@b.example", "UTF-8", "\U0001f426@b.example"),
    ],
)
def test_rcpt_orcpt(word: bytes, kind: str, address: str) -> None:
    assert parse_rcpt(b"TO:<bob@b.example> " + word, utf8=False) == Rcpt(
        BOB, orcpt=OriginalRecipient(kind, address)
    )


def test_rcpt_orcpt_in_plain_utf8_needs_smtputf8() -> None:
    argument = "TO:<bob@b.example> ORCPT=utf-8;zoë@b.example".encode()
    assert parse_rcpt(argument, utf8=True).orcpt == OriginalRecipient("utf-8", "zoë@b.example")
    with pytest.raises(NotAscii):
        parse_rcpt(argument, utf8=False)


def test_a_utf8_recipient_needs_smtputf8() -> None:
    argument = "TO:<zoë@b.example>".encode()
    assert parse_rcpt(argument, utf8=True) == Rcpt(Address("zoë", "b.example"))
    with pytest.raises(NotAscii):
        parse_rcpt(argument, utf8=False)


@pytest.mark.parametrize(
    "words",
    [
        b"NOTIFY",
        b"NOTIFY=",
        b"NOTIFY=ALWAYS",
        b"NOTIFY=NEVER,DELAY",
        b"NOTIFY=DELAY,DELAY",
        b"NOTIFY=DELAY,",
        b"NOTIFY=DELAY NOTIFY=DELAY",
        b"ORCPT=rfc822",
        b"ORCPT=rfc822;",
        b"ORCPT=;a@b",
        b"ORCPT=rfc 822;a@b",
        b"ORCPT=rfc822;a+b@c",
        b"ORCPT=rfc822;a+C3+AB",
        b"ORCPT=rfc822;" + b"x" * 494,
        b"ORCPT=utf-8;\\x{110000}",
        b"ORCPT=utf-8;\\x{D800}",
        b"ORCPT=utf-8;\\x{}",
        b"ORCPT=utf-8;a\\b",
        b"ORCPT=utf-8;" + b"\\x{4E00}" * 300,
    ],
)
def test_malformed_rcpt_parameters_are_501(words: bytes) -> None:
    with pytest.raises(BadArgument):
        parse_rcpt(b"TO:<bob@b.example> " + words, utf8=False)


@pytest.mark.parametrize(
    "word",
    [
        b"ORCPT=rfc822;a+0D+0AX:+20y",
        b"ORCPT=rfc822;a+00",
        b"ORCPT=rfc822;a+7F",
        b"ORCPT=utf-8;a\\x{0A}b",
        b"ORCPT=utf-8;a\\x{2028}b",
        b"ORCPT=utf-8;a\\x{85}b",
    ],
)
def test_attack_03_orcpt_cannot_add_a_field_to_a_notice(word: bytes) -> None:
    with pytest.raises(BadArgument):
        parse_rcpt(b"TO:<bob@b.example> " + word, utf8=True)


@pytest.mark.parametrize("value", [b"a+0D+0AX:+20y", b"a+0A", b"a+00", b"a+7F", b"a+09"])
def test_attack_03_envid_cannot_add_a_field_to_a_notice(value: bytes) -> None:
    with pytest.raises(BadArgument):
        parse_mail(b"FROM:<ann@a.example> ENVID=" + value)


def test_unknown_rcpt_parameters_are_555() -> None:
    with pytest.raises(UnknownParameter):
        parse_rcpt(b"TO:<bob@b.example> SIZE=1", utf8=False)
    with pytest.raises(UnknownParameter):
        parse_rcpt(b"TO:<bob@b.example> NOTIFY=NEVER", utf8=False, offered=frozenset())


@pytest.mark.parametrize("path", [b"<>", b"", b"bob", b"<bob>", b"<bob@b.example"])
def test_a_bad_recipient_is_an_address_error(path: bytes) -> None:
    with pytest.raises(BadAddress) as caught:
        parse_rcpt(b"TO:" + path, utf8=False)
    assert caught.value.status == Status(5, 1, 3)


# --- the others -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "bdat"),
    [
        (b"0", Bdat(0)),
        (b"86 LAST", Bdat(86, last=True)),
        (b"86  last", Bdat(86, last=True)),
        (b"99999999999999999999", Bdat(99999999999999999999)),
    ],
)
def test_bdat(argument: bytes, bdat: Bdat) -> None:
    assert parse_bdat(argument) == bdat


@pytest.mark.parametrize(
    "argument", [b"", b"LAST", b"-1", b"+1", b"1 FIRST", b"1LAST", b"9" * 21, b"1_0", b"0x10"]
)
def test_bad_bdat(argument: bytes) -> None:
    with pytest.raises(BadArgument):
        parse_bdat(argument)


def test_query() -> None:
    assert parse_query(b"Ann Smith") == Query("Ann Smith")
    assert parse_query("zoë SMTPUTF8".encode()) == Query("zoë", smtputf8=True)
    assert parse_query(b"SMTPUTF8") == Query("SMTPUTF8")
    for bad in (b"", b" ", b"a\0", b"a\xffSMTPUTF8 SMTPUTF8"):
        with pytest.raises(BadArgument):
            parse_query(bad)
    with pytest.raises(NotAscii):
        parse_query("zoë".encode())


@pytest.mark.parametrize(
    ("argument", "auth"),
    [
        (b"plain", Auth("PLAIN")),
        (b"SCRAM-SHA-256-PLUS", Auth("SCRAM-SHA-256-PLUS")),
        (b"PLAIN =", Auth("PLAIN", b"")),
        (b"PLAIN AGFubgBzZWNyZXQ=", Auth("PLAIN", b"\0ann\0secret")),
    ],
)
def test_auth(argument: bytes, auth: Auth) -> None:
    assert parse_auth(argument) == auth


@pytest.mark.parametrize("argument", [b"", b"a b c", b"X" * 21, b"PL.AIN", "PLÄIN".encode()])
def test_bad_auth(argument: bytes) -> None:
    with pytest.raises(CommandError) as caught:
        parse_auth(argument)
    assert caught.value.code == 501


@pytest.mark.parametrize("text", [b"?", b"A", b"AA", b"AA=", b"AA==A", b"=", b" AA==", b"A\0=="])
def test_base64_is_strict(text: bytes) -> None:
    with pytest.raises(BadBase64) as caught:
        parse_auth_line(text)
    assert (caught.value.code, caught.value.status) == (501, Status(5, 5, 2))
    if text != b"=":
        with pytest.raises(BadBase64):
            parse_auth(b"PLAIN " + text)


def test_an_empty_initial_response_is_not_nothing() -> None:
    with pytest.raises(BadBase64):
        parse_auth(b"PLAIN ")


def test_auth_line() -> None:
    assert parse_auth_line(b"") == b""
    assert parse_auth_line(b"*") is None
    assert parse_auth_line(b"AGFubg==") == b"\0ann"


def test_nothing_is_nothing() -> None:
    parse_nothing(b"")
    with pytest.raises(BadArgument):
        parse_nothing(b"x")


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_octets_give_a_value_or_a_mail_error(octets: bytes) -> None:
    for parse in (parse_hello, parse_bdat, parse_query, parse_auth, parse_auth_line, parse_mail):
        try:
            parse(octets)
        except MailError:
            continue
    for prefix in (b"FROM:<a@b.example> ", b"FROM:<>", b"FROM:<a"):
        try:
            parse_mail(prefix + octets)
        except MailError:
            continue
    for prefix in (b"TO:<a@b.example> ORCPT=utf-8;", b"TO:<a@b.example> ", b"TO:<"):
        try:
            parse_rcpt(prefix + octets, utf8=True)
        except MailError:
            continue


@pytest.mark.parametrize(
    "argument",
    [
        b"FROM:<a@b.example>" + b" " * 4000,
        b"FROM:<a@b.example> ENVID=" + b"+" * 4000,
        b"FROM:<a@b.example>" + b" =" * 2000,
        b"FROM:<a@b.example> BY=" + b"1" * 4000,
        b"FROM:<" + b"a." * 2000,
        b"FROM:<" + b'"\\' * 2000,
    ],
)
def test_hostile_arguments_cost_little(argument: bytes) -> None:
    before = time.thread_time()
    for _ in range(20):
        try:
            parse_mail(argument)
        except MailError:
            continue
    assert time.thread_time() - before < 0.2


# --- xtext ----------------------------------------------------------------------------------


def test_xtext_of_rfc_3461_section_4() -> None:
    assert encode_xtext(b"a+b=c d\r\n\xff") == b"a+2Bb+3Dc+20d+0D+0A+FF"
    assert encode_xtext(b"plain@a.example") == b"plain@a.example"


@pytest.mark.parametrize("text", [b"a b", b"a+", b"a+2", b"a+2g", b"a+2b", b"\xff", b"\t"])
def test_bad_xtext(text: bytes) -> None:
    with pytest.raises(BadArgument):
        decode_xtext(text)


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_xtext_round_trip(data: bytes) -> None:
    text = encode_xtext(data)
    assert decode_xtext(text) == data
    assert all(33 <= c <= 126 and c != ord("=") for c in text)
