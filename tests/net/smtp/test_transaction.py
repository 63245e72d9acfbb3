"""One transaction, without a socket: what is said in which order, and who fares how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from postroom.core.errors import Corrupt, StoreFailed
from postroom.net.smtp import Fate, Phase, Result, Session
from postroom.net.smtp.framing import BLOCK
from postroom.net.smtp.transaction import WINDOW
from postroom.wire.smtp import (
    ByMode,
    DeliverBy,
    Mail,
    Notify,
    OriginalRecipient,
    Rcpt,
    Return,
)

from .sending import SENDER, Octets, Script, address, codes, fates, play, rcpts, ready, script

D, T, P = Fate.DELIVERED, Fate.TEMPORARY, Fate.PERMANENT
HI = Octets()
OK = "250 ok"
MAIL = b"MAIL FROM:<sam@a.example>\r\n"


def rcpt(name: str) -> bytes:
    return f"RCPT TO:<{name}@b.example>\r\n".encode()


def send(
    session: Session,
    server: Script,
    *names: str,
    mail: Mail = SENDER,
    content: Octets = HI,
) -> Result:
    return play(session.transact(mail, rcpts(*names), content), server)


# --- the order of things ---------------------------------------------------------------------


def test_step_by_step_without_pipelining() -> None:
    server = script(OK, OK, OK, "354 go", "250 2.0.0 queued")
    result = send(ready(), server, "ann", "bob")
    assert server.said == [
        MAIL,
        rcpt("ann"),
        rcpt("bob"),
        b"DATA\r\n",
        b"Subject: hi\r\n\r\nhello\r\n.\r\n",
    ]
    assert list(fates(result).values()) == [D, D]
    assert str(result.outcomes[0].answer) == "250 2.0.0 queued"
    assert (result.octets, result.chunked, result.stale) == (22, False, False)


def test_all_at_once_with_pipelining() -> None:
    """RFC 2920 §3.1"""
    server = script([OK, OK, OK, "354 go"], "250 queued")
    send(ready("PIPELINING"), server, "ann", "bob")
    assert server.said[0] == MAIL + rcpt("ann") + rcpt("bob") + b"DATA\r\n"


def test_bdat_is_preferred_and_waits_until_somebody_is_accepted() -> None:
    server = script([OK, OK], "250 queued")
    result = send(ready("PIPELINING", "CHUNKING"), server, "ann")
    assert server.said == [
        MAIL + rcpt("ann"),
        b"BDAT 22 LAST\r\nSubject: hi\r\n\r\nhello\r\n",
    ]
    assert result.chunked


def test_no_content_leaves_for_nobody_with_bdat() -> None:
    server = script([OK, "550 no"])
    result = send(ready("PIPELINING", "CHUNKING"), server, "ann")
    assert len(server.said) == 1
    assert fates(result) == {"ann@b.example": P}
    assert result.octets == 0


def test_an_empty_message_where_data_was_taken_for_nobody() -> None:
    """RFC 2920 §3.1: the 354 must be answered, and with nothing."""
    server = script([OK, "550 no", "450 later", "354 go"], "554 no recipients")
    session = ready("PIPELINING")
    result = send(session, server, "ann", "bob")
    assert server.said[-1] == b".\r\n"
    assert codes(result) == [550, 450]
    assert list(fates(result).values()) == [P, T]
    assert not session.over


def test_a_250_for_nobody_delivers_to_nobody() -> None:
    result = send(ready("PIPELINING"), script([OK, "550 no", "354 go"], "250 thank you"), "ann")
    assert fates(result) == {"ann@b.example": P}


def test_lmtp_that_takes_data_for_nobody_is_left() -> None:
    session = ready("PIPELINING", lmtp=True)
    result = send(session, script([OK, "550 no", "354 go"]), "ann")
    assert fates(result) == {"ann@b.example": P}
    assert session.over


def test_data_is_not_said_when_nobody_was_accepted() -> None:
    server = script(OK, "550 no")
    send(ready(), server, "ann")
    assert server.said == [MAIL, rcpt("ann")]


def test_many_recipients_go_in_windows() -> None:
    """Both sides' buffers must hold what is under way. RFC 2920 §3.1"""
    names = [f"user{n:04}" for n in range(2_000)]

    def server(octets: bytes) -> bytes:
        assert len(octets) <= WINDOW
        return b"250 ok\r\n" * octets.count(b"\r\n") if b"BDAT" not in octets else b"250 ok\r\n"

    result = play(ready("PIPELINING", "CHUNKING").transact(SENDER, rcpts(*names), HI), server)
    assert len(result.outcomes) == 2_000
    assert set(fates(result).values()) == {D}


def test_a_refused_sender_stops_the_windows() -> None:
    names = [f"user{n:04}" for n in range(2_000)]
    written = []

    def server(octets: bytes) -> bytes:
        written.append(octets)
        return b"550 5.1.8 no\r\n" + b"503 what\r\n" * (octets.count(b"\r\n") - 1)

    result = play(ready("PIPELINING").transact(SENDER, rcpts(*names), HI), server)
    assert len(written) == 1
    assert set(codes(result)) == {550}


def test_a_large_content_goes_in_blocks_whatever_its_slices() -> None:
    octets = (b"x" * 98 + b"\r\n") * 3_000
    for step in (7, 1_000, BLOCK, 1 << 20):
        server = Script([b"250 ok\r\n", b"250 ok\r\n", *[b""] * 4, b"250 ok\r\n"])
        result = send(ready("CHUNKING"), server, "ann", content=Octets(octets, step=step))
        content = server.said[2:]
        assert b"".join(content) == b"BDAT 300000 LAST\r\n" + octets
        assert max(map(len, content)) <= BLOCK + 18
        assert len(content) == 5
        assert result.octets == 300_000
        assert fates(result) == {"ann@b.example": D}


def test_an_empty_message() -> None:
    server = script(OK, OK, "250 fine")
    send(ready("CHUNKING"), server, "ann", content=Octets(b""))
    assert server.said[-1] == b"BDAT 0 LAST\r\n"
    server = script(OK, OK, "354 go", "250 fine")
    send(ready(), server, "ann", content=Octets(b""))
    assert server.said[-1] == b".\r\n"


# --- who fares how ---------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")])
def test_each_recipient_has_its_own_reply(offers: tuple[str, ...]) -> None:
    def server(octets: bytes) -> bytes:
        told = b""
        for line in octets.split(b"\r\n")[:-1]:
            if b"bob" in line:
                told += b"550 5.1.1 no bob\r\n"
            elif b"eve" in line:
                told += b"450 4.2.0 later\r\n"
            elif line == b"DATA":
                told += b"354 go\r\n"
            elif line.startswith((b"MAIL", b"RCPT", b"BDAT")) or line == b".":
                told += b"250 ok\r\n"
        return told

    result = play(ready(*offers).transact(SENDER, rcpts("ann", "bob", "eve"), HI), server)
    assert list(fates(result).values()) == [D, P, T]
    assert codes(result) == [250, 550, 450]
    assert [str(each.answer.status) for each in result.outcomes] == ["2.0.0", "5.1.1", "4.2.0"]
    assert [each.phase for each in result.outcomes] == [Phase.END, Phase.RCPT, Phase.RCPT]


@pytest.mark.parametrize(("code", "fate"), [(451, T), (550, P), (553, P)])
def test_a_refused_sender_fails_everyone(code: int, fate: Fate) -> None:
    pipelined = [f"{code} no", "503 first MAIL", "503 what", "503 what"]
    for session, server in (
        (ready(), script(f"{code} no")),
        (ready("PIPELINING"), script(pipelined)),
    ):
        result = send(session, server, "ann", "bob")
        assert list(fates(result).values()) == [fate, fate]
        assert codes(result) == [code, code]
        assert {each.phase for each in result.outcomes} == {Phase.MAIL}
        assert not session.over


@pytest.mark.parametrize(("code", "fate"), [(451, T), (554, P)])
def test_a_refused_data_and_a_refused_message(code: int, fate: Fate) -> None:
    result = send(ready(), script(OK, OK, f"{code} no"), "ann")
    assert (fates(result), result.outcomes[0].phase) == ({"ann@b.example": fate}, Phase.DATA)
    result = send(ready(), script(OK, OK, "354 go", f"{code} no"), "ann")
    assert (fates(result), result.outcomes[0].phase) == ({"ann@b.example": fate}, Phase.END)


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_421_anywhere_is_temporary_and_the_end(at: int) -> None:
    replies = [OK, OK, "250 ok", "354 go", "250 ok"]
    replies[at] = "421 4.3.2 closing"
    session = ready()
    result = send(session, Script([f"{each}\r\n".encode() for each in replies]), "ann", "bob")
    assert set(fates(result).values()) == {T}
    assert codes(result) == [421, 421]
    assert session.over


def test_who_was_refused_before_a_421_stays_refused() -> None:
    result = send(ready(), script(OK, "550 no", "421 bye"), "ann", "bob", "eve")
    assert codes(result) == [550, 421, 421]
    assert list(fates(result).values()) == [P, T, T]


@pytest.mark.parametrize("code", ["452", "452 4.5.3", "552", "552 5.5.3"])
def test_too_many_recipients_are_for_another_transaction(code: str) -> None:
    """RFC 5321 §4.5.3.1.10"""
    result = send(ready(), script(OK, OK, f"{code} enough", "354 go", OK), "ann", "bob")
    assert fates(result) == {"ann@b.example": D}
    assert result.untried == tuple(rcpts("bob"))


def test_too_many_when_there_is_one_is_temporary() -> None:
    result = send(ready(), script(OK, "552 too many"), "ann")
    assert fates(result) == {"ann@b.example": T}
    assert result.untried == ()


def test_a_full_mailbox_is_not_too_many() -> None:
    result = send(ready(), script(OK, OK, "552 5.2.2 full", "354 go", OK), "ann", "bob")
    assert list(fates(result).values()) == [D, P]


def test_any_positive_code_accepts() -> None:
    result = send(ready(), script("251 a", "252 b", "350 go", "200 c"), "ann")
    assert fates(result) == {"ann@b.example": D}


@pytest.mark.parametrize(
    ("at", "garbage"),
    [
        *[(at, text) for at in range(5) for text in ("HTTP/1.1 400", "199 x", "2 x", "250ok")],
        *[(at, "354 go") for at in (0, 1, 2, 4)],
    ],
)
def test_what_means_nothing_is_temporary_and_the_end(at: int, garbage: str) -> None:
    replies = [OK, OK, OK, "354 go", OK]
    replies[at] = garbage
    session = ready()
    result = send(session, Script([f"{each}\r\n".encode() for each in replies]), "ann", "bob")
    assert set(fates(result).values()) == {T}
    assert session.over


def test_a_positive_reply_to_data_is_no_leave_to_send() -> None:
    server = script(OK, OK, "250 done already", OK)
    assert fates(send(ready(), server, "ann")) == {"ann@b.example": T}
    assert server.said[-1] == b"DATA\r\n"


@pytest.mark.parametrize("at", range(5))
def test_a_lost_connection_is_temporary_and_in_doubt_only_at_the_end(at: int) -> None:
    replies = [b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 ok\r\n"]
    result = send(ready(), Script(replies[:at]), "ann", "bob")
    assert set(fates(result).values()) == {T}
    assert {each.answer.code for each in result.outcomes} == {None}
    assert {each.in_doubt for each in result.outcomes} == {at == 4}


def test_lmtp_replies_to_each_recipient() -> None:
    """RFC 2033 §4.2"""
    ends = ["250 ann", "452 4.2.2 full", "550 5.7.1 no"]
    server = script([OK, OK, "550 no", OK, OK, "354 go"], ends)
    session = ready("PIPELINING", lmtp=True)
    result = send(session, server, "ann", "bob", "eve", "joe")
    assert codes(result) == [250, 550, 452, 550]
    assert list(fates(result).values()) == [D, P, T, P]
    assert not session.over


def test_lmtp_that_hangs_up_between_its_replies() -> None:
    server = script(OK, OK, OK, "250 ann")
    result = send(ready("CHUNKING", lmtp=True), server, "ann", "bob")
    assert list(fates(result).values()) == [D, T]
    assert [each.in_doubt for each in result.outcomes] == [False, True]


def test_lmtp_that_closes_between_its_replies() -> None:
    server = script(OK, OK, OK, OK, ["250 ann", "421 4.3.2 bye"])
    result = send(ready("CHUNKING", lmtp=True), server, "ann", "bob", "eve")
    assert list(fates(result).values()) == [D, T, T]
    assert [each.in_doubt for each in result.outcomes] == [False, False, True]


def test_a_reply_is_kept_with_a_cap() -> None:
    long = [f"550-5.7.1 {'x' * 500}"] * 50 + ["550 5.7.1 end"]
    result = send(ready(), Script(["\r\n".join([*long, ""]).encode()]), "ann")
    assert len(result.outcomes[0].answer.text) == 1_024


# --- out of turn -----------------------------------------------------------------------------


def test_a_250_before_the_content_is_no_delivery() -> None:
    """A server, or somebody on the way, answers a message that was not sent."""
    session = ready()
    server = script(OK, OK, ["354 go", "250 taken"], "250 really")
    result = send(session, server, "ann")
    assert fates(result) == {"ann@b.example": T}
    assert server.said[-1] == b"DATA\r\n"
    assert not result.outcomes[0].in_doubt
    assert session.over


def test_a_250_in_the_middle_of_the_content_is_no_delivery() -> None:
    content = Octets(b"x" * 98 + b"\r\n", step=10)
    large = Octets(content.octets * 5_000)
    server = Script([b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"", b"250 t", b"aken\r\n"])
    result = send(ready(), server, "ann", content=large)
    assert fates(result) == {"ann@b.example": T}
    assert not any(b"\r\n.\r\n" in each for each in server.said)


@pytest.mark.parametrize(("code", "fate"), [(552, P), (451, T), (421, T)])
def test_a_refusal_in_the_middle_of_the_content_counts(code: int, fate: Fate) -> None:
    large = Octets((b"x" * 98 + b"\r\n") * 5_000)
    session = ready()
    server = Script([b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", f"{code} no\r\n".encode()])
    result = send(session, server, "ann", content=large)
    assert (fates(result), codes(result)) == ({"ann@b.example": fate}, [code])
    assert len(server.said) == 4
    assert session.over


@pytest.mark.parametrize(
    ("waiting", "code"), [(b"421 idle\r\n", 421), (b"250 ok\r\n", None), (b"250-", None)]
)
def test_a_word_that_waited_before_mail_is_the_end(waiting: bytes, code: int | None) -> None:
    session, server = ready(), script(OK, OK, "354 go", OK)
    result = play(session.transact(SENDER, rcpts("ann"), HI), server, waiting)
    assert (fates(result), codes(result)) == ({"ann@b.example": T}, [code])
    assert not result.stale  # it had not served before
    assert server.said == []
    assert session.over


# --- one after the other -----------------------------------------------------------------------


def test_a_second_message_needs_no_rset() -> None:
    session = ready("PIPELINING", "CHUNKING")
    send(session, script([OK, OK], OK), "ann")
    server = script([OK, OK], OK)
    send(session, server, "bob")
    assert server.said[0] == MAIL + rcpt("bob")
    assert session.transactions == 2


@pytest.mark.parametrize(
    "first",
    [
        (OK, "550 no"),
        (OK, OK, "451 no bdat"),
    ],
)
def test_a_transaction_left_open_is_ended_first(first: tuple[str, ...]) -> None:
    """After a refused BDAT too: RFC 3030 §2."""
    session = ready("CHUNKING")
    send(session, script(*first), "ann")
    server = script(OK, OK, OK, OK)
    result = send(session, server, "bob")
    assert server.said[:2] == [b"RSET\r\n", MAIL]
    assert fates(result) == {"bob@b.example": D}


def test_a_refused_rset_is_the_end() -> None:
    session = ready()
    send(session, script(OK, "550 no"), "ann")
    assert fates(send(session, script("500 what"), "bob")) == {"bob@b.example": T}
    assert session.over


def test_a_used_connection_that_fails_before_mail_is_stale() -> None:
    for replies in ([], ["421 idle too long"]):
        session = ready()
        send(session, script(OK, OK, "354 go", OK), "ann")
        result = send(session, script(*replies), "bob")
        assert result.stale
        assert fates(result) == {"bob@b.example": T}


def test_a_used_connection_that_fails_after_mail_is_not_stale() -> None:
    session = ready()
    send(session, script(OK, OK, "354 go", OK), "ann")
    assert not send(session, script(OK), "bob").stale


def test_a_connection_knows_when_it_is_full() -> None:
    """RFC 9422"""
    session = ready("LIMITS MAILMAX=2", "CHUNKING")
    assert not session.full
    for _ in range(2):
        send(session, script(OK, OK, OK), "ann")
    assert session.full


def test_no_more_recipients_than_the_server_takes() -> None:
    """RFC 9422"""
    result = send(
        ready("LIMITS RCPTMAX=2", "CHUNKING"), script(OK, OK, OK, OK), "ann", "bob", "eve"
    )
    assert list(fates(result)) == ["ann@b.example", "bob@b.example"]
    assert result.untried == tuple(rcpts("eve"))


def test_no_more_domains_than_the_server_takes() -> None:
    """RFC 9422"""
    result = send(
        ready("LIMITS RCPTDOMAINMAX=1", "CHUNKING"),
        script(OK, OK, OK, OK),
        *("ann@b.example", "bob@c.example", "eve@b.example"),
    )
    assert list(fates(result)) == ["ann@b.example", "eve@b.example"]
    assert result.untried == tuple(rcpts("bob@c.example"))


# --- what is offered ---------------------------------------------------------------------------


def test_everything_wanted_is_said_where_it_is_offered() -> None:
    mail = replace(
        SENDER,
        ret=Return.HEADERS,
        envid="e+1",
        requiretls=True,
        priority=3,
        deliver_by=DeliverBy(60, ByMode.NOTIFY),
    )
    to = [
        Rcpt(
            address("ann@b.example"),
            Notify.SUCCESS | Notify.DELAY,
            OriginalRecipient("rfc822", "orig@c.example"),
        )
    ]
    everything = ("DSN", "REQUIRETLS", "MT-PRIORITY", "DELIVERBY", "SIZE", "8BITMIME", "SMTPUTF8")
    server = script(OK, OK, "354 go", OK)
    result = play(
        ready(*everything, secured=True).transact(mail, to, Octets("é\r\n".encode())), server
    )
    assert server.said[0] == (
        b"MAIL FROM:<sam@a.example> SIZE=4 BODY=8BITMIME RET=HDRS ENVID=e+2B1 REQUIRETLS "
        b"MT-PRIORITY=3 BY=60;N\r\n"
    )
    assert server.said[1] == (
        b"RCPT TO:<ann@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;orig@c.example\r\n"
    )
    assert result.dsn


def test_what_is_not_offered_is_left_out_and_told() -> None:
    mail = replace(SENDER, ret=Return.FULL, envid="e", priority=1, hold_for=60)
    to = [Rcpt(address("ann@b.example"), Notify.SUCCESS)]
    server = script(OK, OK, "354 go", OK)
    result = play(ready().transact(mail, to, HI), server)
    assert server.said[:2] == [MAIL, rcpt("ann")]
    assert not result.dsn
    assert result.outcomes[0].recipient is to[0]


def only(result: Result) -> tuple[str, Phase, Fate]:
    (outcome,) = result.outcomes
    return str(outcome.answer.status), outcome.phase, outcome.fate


@pytest.mark.parametrize(
    ("mail", "content", "offers", "status"),
    [
        (SENDER, Octets(b"x" * 98 + b"\r\n"), ("SIZE 99",), "5.3.4"),
        (replace(SENDER, requiretls=True), HI, ("REQUIRETLS",), "5.7.10"),
        (Mail(address("sám@a.example")), HI, ("8BITMIME",), "5.6.7"),
        (replace(SENDER, smtputf8=True), HI, ("8BITMIME",), "5.6.9"),
        (SENDER, Octets("é\r\n".encode()), ("CHUNKING", "BINARYMIME"), "5.6.3"),
        (SENDER, Octets(b"\n", binary=True), ("8BITMIME", "CHUNKING"), "5.6.3"),
        (SENDER, Octets(b"\n", binary=True), ("8BITMIME", "BINARYMIME"), "5.6.3"),
        (replace(SENDER, deliver_by=DeliverBy(60, ByMode.RETURN)), HI, (), "5.3.3"),
    ],
)
def test_what_cannot_be_sent_to_this_server_fails_unsaid(
    mail: Mail, content: Octets, offers: tuple[str, ...], status: str
) -> None:
    server, session = script(), ready(*offers)
    result = play(session.transact(mail, rcpts("ann"), content), server)
    assert only(result) == (status, Phase.OFFER, P)
    assert server.said == []
    assert not session.over


def test_a_message_of_just_the_size() -> None:
    server = script(OK, OK, "354 go", OK)
    result = send(ready("SIZE 22"), server, "ann")
    assert server.said[0] == b"MAIL FROM:<sam@a.example> SIZE=22\r\n"
    assert fates(result) == {"ann@b.example": D}


def test_requiretls_needs_the_promise_of_the_server() -> None:
    """RFC 8689 §4.2.1"""
    mail = replace(SENDER, requiretls=True)
    result = send(ready("SIZE", secured=True), script(), "ann", mail=mail)
    assert only(result) == ("5.7.30", Phase.OFFER, P)


def test_a_bounce_goes_without_the_promise() -> None:
    """RFC 8689 §5"""
    mail = Mail(None, requiretls=True)
    server = script(OK, OK, "354 go", OK)
    assert fates(send(ready(), server, "ann", mail=mail)) == {"ann@b.example": D}
    assert server.said[0] == b"MAIL FROM:<>\r\n"


def test_one_address_beyond_ascii_fails_alone() -> None:
    server = script(OK, OK, OK, "354 go", OK)
    result = send(ready(), server, "ann", "bøb", "eve")
    assert server.said[:3] == [MAIL, rcpt("ann"), rcpt("eve")]
    assert list(fates(result).values()) == [D, P, D]
    assert str(result.outcomes[1].answer.status) == "5.6.7"


def test_one_address_beyond_ascii_makes_it_smtputf8() -> None:
    server = script(OK, OK, OK, "354 go", OK)
    result = send(ready("SMTPUTF8", "8BITMIME"), server, "ann", "bøb")
    assert server.said[0] == b"MAIL FROM:<sam@a.example> SMTPUTF8\r\n"
    assert server.said[2] == "RCPT TO:<bøb@b.example>\r\n".encode()
    assert set(fates(result).values()) == {D}


def test_only_addresses_that_cannot_be_said() -> None:
    server, session = script(), ready()
    assert fates(send(session, server, "bøb")) == {"bøb@b.example": P}
    assert server.said == []


def test_binary_goes_by_bdat_as_it_is() -> None:
    content = Octets(b"\0\n\r\r\n.\r\n\n.\n", binary=True)
    server = script(OK, OK, OK)
    result = send(ready("CHUNKING", "BINARYMIME"), server, "ann", content=content)
    assert server.said[0] == b"MAIL FROM:<sam@a.example> BODY=BINARYMIME\r\n"
    assert server.said[2] == b"BDAT %d LAST\r\n%b" % (content.size, content.octets)
    assert fates(result) == {"ann@b.example": D}


# --- a content that is not what it says ----------------------------------------------------------


@dataclass(frozen=True)
class Failing(Octets):
    """Its store breaks after the first slice."""

    def slices(self) -> Iterator[bytes]:
        yield self.octets * BLOCK
        raise StoreFailed


@pytest.mark.parametrize("offers", [(), ("CHUNKING",)])
@pytest.mark.parametrize(
    "content",
    [
        Octets(HI.octets, claims=10),
        Octets(HI.octets, claims=100),
        Octets(HI.octets * 9_999, claims=BLOCK),
        Failing(claims=1 << 30),
    ],
)
def test_a_content_that_breaks_is_never_a_message(content: Octets, offers: tuple[str, ...]) -> None:
    session = ready(*offers)
    server = Script([b"250 ok\r\n", b"250 ok\r\n", *([] if offers else [b"354 go\r\n"])])
    result = send(session, server, "ann", content=content)
    (outcome,) = result.outcomes
    assert (outcome.fate, outcome.phase, outcome.in_doubt) == (T, Phase.CONTENT, False)
    assert outcome.answer.status in (Corrupt.status, StoreFailed.status)
    assert session.over
    whole = b"".join(server.said)
    assert b"\r\n.\r\n" not in whole
    if offers:
        _, _, chunk = whole.partition(b" LAST\r\n")
        assert len(chunk) < content.size
