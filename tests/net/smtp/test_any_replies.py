"""Whatever a server says, in whatever pieces: no crash, no hang, and no delivery that was not
promised after the whole content was out."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.net.smtp import Credentials, Fate, OpenFailed, Phase, Result, Session
from postroom.wire.smtp import BadReply, ReplyReader

from .sending import HELLO, SENDER, Octets, play, rcpts

WORDS = st.sampled_from(
    [
        *(b"220 hi\r\n", b"250 ok\r\n", b"354 go\r\n", b"421 bye\r\n", b"450 later\r\n"),
        *(b"452 many\r\n", b"550 5.1.1 no\r\n", b"500 what\r\n", b"552 full\r\n", b"221 x\r\n"),
        *(b"334 \r\n", b"334 YQ==\r\n", b"235 in\r\n", b"250-x\r\n250 AUTH PLAIN LOGIN\r\n"),
        *(b"250-", b"2", b"\r\n", b"\xff\xfe", b"HTTP/1.1 200 OK\r\n", b"250-x\r\n" * 120),
    ]
)
OFFERS = st.lists(
    st.sampled_from(
        [
            *(b"PIPELINING", b"CHUNKING", b"8BITMIME", b"DSN", b"SIZE 9999", b"SIZE 1"),
            *(b"LIMITS RCPTMAX=1", b"LIMITS MAILMAX=1", b"AUTH PLAIN", b"AUTH LOGIN"),
        ]
    ),
    max_size=5,
)
# What the server does at its next chances to speak: mostly what it should.
MOODS = st.lists(
    st.tuples(
        st.sampled_from(["right"] * 6 + ["before", "behind", "instead", "twice", "nothing"]), WORDS
    ),
    max_size=14,
)
CONTENT = Octets(b"Subject: x\r\n\r\n.\r\n" + b"y" * 90 + b"\r\n")


@dataclass
class Server:
    """Answers as it should, but for its moods; notes what it said once the content was whole."""

    moods: list[tuple[str, bytes]]
    offers: list[bytes]
    lmtp: bool
    written: bytearray = field(default_factory=bytearray)
    after_end: bytearray = field(default_factory=bytearray)

    def __call__(self, octets: bytes) -> bytes | None:
        self.written += octets
        right = self.right(octets)
        mood, word = self.moods.pop(0) if self.moods else ("right", b"")
        said = {
            "right": right,
            "before": word + right,
            "behind": right + word,
            "instead": word,
            "twice": right * 2,
            "nothing": b"",
        }[mood]
        if self.ended:
            self.after_end += said
        return said

    def right(self, octets: bytes) -> bytes:
        if octets.startswith((b"Subject", b"BDAT")):
            return b"250 taken\r\n" * (3 if self.lmtp else 1)
        told = b""
        for line in octets.split(b"\r\n")[:-1]:
            if line.startswith((b"EHLO", b"LHLO")):
                lines = [b"mx.example", *self.offers]
                told += b"".join(b"250-%b\r\n" % each for each in lines[:-1])
                told += b"250 %b\r\n" % lines[-1]
            else:
                told += {b"DATA": b"354 go\r\n", b"AUTH": b"235 in\r\n", b".": b"554 no\r\n"}.get(
                    line[:4], b"250 ok\r\n"
                )
        return told

    @property
    def ended(self) -> bool:
        return b"y\r\n.\r\n" in self.written or b" LAST\r\n" in self.written


def promised(server: Server) -> int:
    """How many good replies came after the content was out; what is garbled ends the count."""
    reader = ReplyReader()
    reader.feed(bytes(server.after_end))
    count = 0
    try:
        while (reply := reader.next()) is not None:
            count += reply.positive
    except BadReply:
        pass
    return count


def check(result: Result, server: Server) -> None:
    delivered = [each for each in result.outcomes if each.fate is Fate.DELIVERED]
    assert len(result.outcomes) + len(result.untried) == 3
    assert result.outcomes
    for outcome in delivered:
        assert outcome.phase is Phase.END
        assert outcome.answer.code is not None
        assert 200 <= outcome.answer.code < 300
    if delivered:
        assert server.ended
        assert promised(server) >= (len(delivered) if server.lmtp else 1)
    for outcome in result.outcomes:
        assert not outcome.in_doubt or server.ended
        assert not (outcome.in_doubt and outcome.fate is not Fate.TEMPORARY)
        assert len(outcome.answer.text) <= 1_024
        assert outcome.answer.text.isprintable()
        if outcome.fate is not Fate.TEMPORARY:  # an old 552 to RCPT is temporary
            assert outcome.answer.status.klass == (2 if outcome.fate is Fate.DELIVERED else 5)


@given(MOODS, OFFERS, st.booleans(), st.integers(1, 50))
@settings(max_examples=500, deadline=None)
def test_a_whole_conversation_with_anybody(
    moods: list[tuple[str, bytes]], offers: list[bytes], lmtp: bool, step: int
) -> None:
    server = Server(list(moods), offers, lmtp)
    session = Session("mx.example", HELLO, lmtp=lmtp, secured=True)
    try:
        play(session.greeting(), server, b"220 hi\r\n")
        play(session.hello(), server)
        if "AUTH" in session.offers:
            play(session.authenticate(Credentials("ann", "secret")), server)
    except OpenFailed as failed:
        assert failed.fate is not Fate.DELIVERED
        return
    for _ in range(3):
        if session.over or session.full:
            break
        server.written.clear()
        server.after_end.clear()
        content = Octets(CONTENT.octets, step=step)
        steps = session.transact(SENDER, rcpts("ann", "bob", "eve"), content)
        check(play(steps, server), server)
    play(session.quit(), server)
    assert session.over


@given(st.lists(st.lists(WORDS, max_size=6).map(b"".join), max_size=14), OFFERS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_transaction_with_noise(pieces: list[bytes], offers: list[bytes], lmtp: bool) -> None:
    """As above, but nothing it says fits, unless by chance."""
    session = Session("mx.example", HELLO, lmtp=lmtp)
    play(session.greeting(), Server([], offers, lmtp), b"220 hi\r\n")
    play(session.hello(), Server([], offers, lmtp))
    server = Server([("instead", piece) for piece in [*pieces, *[b""] * 9]], offers, lmtp)
    check(play(session.transact(SENDER, rcpts("ann", "bob", "eve"), CONTENT), server), server)
