"""protocols.imap.searching and .text: what a search finds in messages that others wrote."""

from __future__ import annotations

import array
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached
from postroom.core.ids import MESSAGE, THREAD, external
from postroom.domain.mailboxes.flags import Registry
from postroom.domain.mailboxes.reading import Brief, Searched
from postroom.formats import texts
from postroom.formats.folding import fold
from postroom.formats.parsed import parse
from postroom.protocols.imap.commands.search import Hits, esearch
from postroom.protocols.imap.searching import (
    STRINGS_MOST,
    About,
    Candidate,
    Level,
    matches,
    question,
    sift,
)
from postroom.protocols.imap.text import HeaderText, look
from postroom.protocols.imap.view import Ranges, View
from postroom.wire.imap import (
    All,
    And,
    BodyContains,
    Cursor,
    DateIs,
    DateOf,
    HasFlag,
    HeaderContains,
    Larger,
    Not,
    Or,
    SearchKey,
    SearchReturn,
    SequenceIn,
    SequenceSet,
    Smaller,
    TextContains,
    UidIn,
    When,
    parse_search,
)

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 10, 12, 0, 0, tzinfo=UTC)
REGISTRY = Registry([(10, "$Work"), (11, "later")])
UIDS = [2, 3, 5, 8, 13, 21]


def about(uids: list[int] | None = None, recent: tuple[tuple[int, int], ...] = ()) -> About:
    seen = View.of(array.array("I", UIDS if uids is None else uids), 1)
    return About(seen, REGISTRY, recent, instant(NOW))


def instant(at: datetime) -> Instant:
    return Instant(int(at.timestamp() * 1000))


def keys(words: str) -> SearchKey:
    return parse_search(Cursor(b" " + words.encode())).key


def letter(**said: str) -> EmailMessage:
    made = EmailMessage(policy=policy.SMTP)
    made["From"] = said.get("from_", "Zoë Müller <zoe@elsewhere.example>")
    made["To"] = said.get("to", "Ann <ann@example.test>")
    made["Subject"] = said.get("subject", "Grüße aus Köln")
    made["Date"] = said.get("date", format_datetime(NOW - 3 * DAY))
    made["Message-ID"] = "<1@elsewhere.example>"
    made.set_content(said.get("body", "Wir sehen uns am Bahnhof.\nBis morgen!\n"))
    return made


def candidate(
    raw: bytes,
    *,
    uid: int = 5,
    flags: tuple[str, ...] = (),
    received: datetime = NOW,
    saved: datetime = NOW,
    modseq: int = 7,
    asked: SearchKey | None = None,
) -> Candidate:
    """A message that was read wholly, for the strings of `asked`."""
    parsed = parse(raw)
    bits = REGISTRY.known(flags)
    row = Searched(
        uid,
        bits,
        modseq,
        len(raw),
        instant(received),
        instant(saved),
        400,
        900,
        parsed.subject,
        parsed.sent_at,
        parsed.header_size,
    )
    wanted = question(asked, about()) if asked is not None else None
    found = look(raw, wanted.in_header, wanted.in_body) if wanted is not None else None
    return Candidate(Brief._make(row[:8]), row, 77, HeaderText(raw), found)


def does(words: str, message: EmailMessage | bytes, **facts: object) -> bool:
    raw = message if isinstance(message, bytes) else message.as_bytes()
    key = keys(words)
    got = matches(key, candidate(raw, asked=key, **facts), about())  # type: ignore[arg-type]  # facts are candidate's own keywords
    assert got is not None, "a message that was read wholly is decided"
    return got


# --- flags, sizes, dates, ids -------------------------------------------------------------------


def test_flags_and_keywords() -> None:
    raw = letter().as_bytes()
    seen = ("\\Seen", "$Work")
    assert does("SEEN KEYWORD $work", raw, flags=seen)
    assert does("UNANSWERED UNFLAGGED UNDELETED UNDRAFT UNKEYWORD later", raw, flags=seen)
    assert not does("UNSEEN", raw, flags=seen)
    assert not does("KEYWORD never-seen-before", raw, flags=seen)
    assert does("UNKEYWORD never-seen-before", raw, flags=seen)


def test_recent_new_and_old() -> None:
    raw = letter().as_bytes()
    here = about(recent=((8, 8), (3, 6)))
    fresh, known, seen = (
        candidate(raw, uid=5),
        candidate(raw, uid=13),
        candidate(raw, uid=5, flags=("\\Seen",)),
    )
    expected = {"RECENT": (True, False, True), "NEW": (True, False, False)}
    expected["OLD"] = (False, True, False)
    for words, answers in expected.items():
        for message, answer in zip((fresh, known, seen), answers, strict=True):
            assert matches(keys(words), message, here) is answer


def test_sizes_exclude_the_bound() -> None:
    raw = letter().as_bytes()
    assert does(f"LARGER {len(raw) - 1} SMALLER {len(raw) + 1}", raw)
    assert not does(f"LARGER {len(raw)}", raw) and not does(f"SMALLER {len(raw)}", raw)


def test_internal_and_saved_dates_are_days_in_utc() -> None:
    late = datetime(2026, 2, 1, 23, 59, 59, tzinfo=UTC)
    raw = letter().as_bytes()
    for words in ("ON 1-Feb-2026", "SINCE 1-Feb-2026", "BEFORE 2-Feb-2026"):
        assert does(words, raw, received=late)
        assert does(words.replace("ON", "SAVEDON").replace("SIN", "SAVEDSIN").replace(
            "BEF", "SAVEDBEF"), raw, saved=late)  # fmt: skip
    for words in ("ON 2-Feb-2026", "SINCE 2-Feb-2026", "BEFORE 1-Feb-2026"):
        assert not does(words, raw, received=late)
    assert does("SAVEDATESUPPORTED", raw)


def test_older_and_younger_both_include_the_very_second() -> None:
    raw = letter().as_bytes()
    at = NOW - timedelta(seconds=100)
    assert does("OLDER 100", raw, received=at) and does("YOUNGER 100", raw, received=at)
    assert not does("OLDER 101", raw, received=at) and not does("YOUNGER 99", raw, received=at)


def test_modseq_and_object_ids() -> None:
    raw = letter().as_bytes()
    assert does("MODSEQ 7", raw) and not does("MODSEQ 8", raw)
    assert does(f"EMAILID {external(MESSAGE, 400)}", raw)
    assert does(f"THREADID {external(THREAD, 77)}", raw)
    assert not does(f"EMAILID {external(THREAD, 400)}", raw)
    assert not does("THREADID nonsense", raw)
    assert question(keys("NOT MODSEQ 3"), about()).asks_modseq
    assert not question(keys("ALL"), about()).asks_modseq


@settings(max_examples=200)
@given(
    st.integers(-26, 26),  # half hours around midnight of the day that is asked for
    st.integers(-14 * 4, 14 * 4),  # quarters of an hour east
    st.sampled_from(When),
)
def test_sent_dates_are_days_of_the_date_fields_own_zone(
    hours: int, quarters: int, when: When
) -> None:
    zone = timezone(timedelta(minutes=15 * quarters))
    day = date(2026, 5, 17)
    sent = datetime(2026, 5, 17, tzinfo=UTC) + timedelta(hours=2 * hours)
    local = sent.astimezone(zone)
    raw = letter(date=format_datetime(local)).as_bytes()
    key = DateIs(DateOf.SENT, when, day)
    read = candidate(raw)
    expected = {
        When.BEFORE: local.date() < day,
        When.ON: local.date() == day,
        When.SINCE: local.date() >= day,
    }[when]
    assert matches(key, read, about()) is expected
    # What the column alone can say is never wrong.
    assert matches(key, Candidate(read.placed, parsed=read.parsed), about()) in (None, expected)


def test_a_message_without_a_date_was_sent_on_no_day() -> None:
    raw = b"Subject: x\r\n\r\nx\r\n"
    assert not does("SENTBEFORE 1-Jan-2030", raw) and not does("SENTSINCE 1-Jan-1990", raw)


# --- sets ---------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 24)), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.sampled_from(UIDS),
)
def test_sets_of_numbers_and_uids(
    ranges: list[tuple[int, int]], by_uid: bool, negated: bool, uid: int
) -> None:
    text_ = b",".join(b"%d:%d" % pair for pair in ranges)
    chosen = SequenceSet.parse(text_)
    key: SearchKey = UidIn(chosen) if by_uid else SequenceIn(chosen)
    own = uid if by_uid else UIDS.index(uid) + 1
    inside = any(min(pair) <= own <= max(pair) for pair in ranges)
    read = candidate(b"\r\n", uid=uid)
    assert matches(Not(key) if negated else key, read, about()) is (inside is not negated)
    asked = question(And((key, key)), about())
    number = UIDS.index(uid) + 1
    assert any(lo <= number <= hi for lo, hi in asked.ranges) is inside
    assert asked.levels == set(), "sets alone are answered without reading"


def test_a_star_is_the_last_message_and_nothing_in_an_empty_mailbox() -> None:
    assert question(keys("UID 4000:*"), about()).ranges == [(6, 6)]
    assert question(keys("*"), about()).ranges == [(6, 6)]
    assert question(keys("ALL"), about()).ranges == [(1, 6)]
    assert question(keys("1:*"), about([])).ranges == []
    assert question(keys("2:3 UID 5:8"), about()).ranges == [(3, 3)]
    assert question(keys("2:3 UID 21"), about()).ranges == []


def test_a_saved_result_is_a_set_of_uids() -> None:
    """RFC 5182 §2.1: whether it stands for numbers or for UIDs."""
    here = replace(about(), result=Ranges([UIDS[1], UIDS[2], UIDS[4]]))
    for words in ("$", "UID $", "$ UID $", "$ ALL"):
        assert question(keys(words), here).ranges == [(2, 3), (5, 5)]
    assert question(keys("$"), about()).ranges == []
    assert matches(keys("OR $ SEEN"), candidate(b"\r\n", uid=UIDS[1]), here) is True
    assert matches(keys("NOT $"), candidate(b"\r\n", uid=UIDS[0]), here) is True


# --- headers ------------------------------------------------------------------------------------


def test_header_fields_are_found_decoded_and_without_case() -> None:
    made = letter()
    made["Cc"] = "Bob <BOB@example.test>"
    made["X-Note"] = "ÄPFEL und Birnen"
    assert does('SUBJECT "GRÜßE"', made)
    assert does('SUBJECT "KÖLN"', made)
    assert does('FROM "müller" TO ann@ CC bob', made)
    assert does("FROM zoe@elsewhere", made)
    assert does('HEADER x-note "äpfel"', made)
    assert not does("BCC bob", made)
    assert not does('SUBJECT "=?utf-8"', made), "what is shown is searched, not what is sent"


def test_an_accent_is_found_however_it_is_encoded_and_needs_none() -> None:
    """RFC 5051 §2, RFC 5255 §4.1: what is compared is decomposed."""
    made = letter(subject="Caf\u00e9")
    assert does('SUBJECT "cafe\u0301"', made)
    assert does("SUBJECT cafe", made)
    assert not does('SUBJECT "Caf\u00e9"', letter(subject="cafe"))


def test_the_empty_string_asks_for_the_field() -> None:
    raw = b"Subject:\r\nX-Empty:\r\n\r\n"
    assert does('HEADER x-empty ""', raw) and does('SUBJECT ""', raw)
    assert not does('HEADER x-other ""', raw) and not does('CC ""', raw)


def test_every_field_of_a_name_counts_but_the_first_subject() -> None:
    raw = b"Subject: one\r\nSubject: two\r\nReceived: from a\r\nReceived: from b\r\n\r\n"
    assert does('HEADER Received "from a" HEADER Received "from b"', raw)
    assert does("SUBJECT one", raw) and not does("SUBJECT two", raw)


def test_the_kept_subject_and_the_field_itself_answer_alike() -> None:
    raw = letter(subject="long " * 2000 + "end").as_bytes()
    whole = candidate(raw)
    assert whole.parsed is not None
    missing = Candidate(
        whole.placed, parsed=whole.parsed._replace(subject=None), header=whole.header
    )
    for words in ("SUBJECT end", 'SUBJECT "long long"', "SUBJECT x"):
        assert matches(keys(words), whole, about()) is matches(keys(words), missing, about())


def test_a_folded_field_is_one_line() -> None:
    raw = b"Subject: one\r\n two\r\nX-A: b\r\n\tc\r\n\r\n"
    assert does('SUBJECT "one two"', raw) and does('HEADER X-A "b\tc"', raw)


# --- bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
def test_bodies_are_found_decoded(encoding: str, charset: str) -> None:
    made = letter()
    long = "Käse, Brot und Wein; " * 9 + "das Ende der Zeile"
    made.set_content(long, charset=charset, cte=encoding)
    assert does('BODY "KÄSE, brot"', made)
    assert does('TEXT "ende DER zeile"', made)
    assert not does('BODY "Kohl"', made)


def test_body_leaves_the_header_out_and_text_does_not() -> None:
    made = letter(subject="Unikum")
    assert does("TEXT unikum", made) and not does("BODY unikum", made)
    assert does('TEXT "subject: unikum"', made)
    assert does('BODY "" TEXT ""', made)


def test_attachments_are_searched_by_name_and_messages_by_content() -> None:
    inner = letter(subject="Drinnen", body="Der Schatz liegt unter der Eiche.\n")
    made = letter(subject="Draussen")
    made.add_attachment(b"secret words", maintype="application", subtype="pdf", filename="plan.pdf")
    made.add_attachment(inner)
    assert does("BODY plan.pdf", made)
    assert not does('BODY "secret words"', made)
    assert does("BODY schatz BODY drinnen", made)
    assert not does("BODY draussen", made)


def test_both_alternatives_are_searched() -> None:
    made = letter(body="schlicht\n")
    made.add_alternative("<p>pr\u00e4chtig</p>", subtype="html")
    assert does('BODY schlicht BODY "prächtig"', made)


def test_a_string_does_not_reach_from_one_part_into_the_next() -> None:
    made = letter(body="Anfang")
    made.add_alternative("Ende", subtype="html")
    assert does("BODY anfang BODY ende", made)
    assert not does("BODY anfangende", made)


@settings(max_examples=150, deadline=None)
@given(
    st.text("ab\n é\u0301ßЖ", max_size=300),
    st.data(),
    st.sampled_from(["base64", "quoted-printable", "8bit"]),
)
def test_a_text_in_pieces_is_searched_like_the_whole(
    body: str, data: st.DataObject, encoding: str
) -> None:
    made = letter()
    made.set_content(body, cte=encoding)
    raw = made.as_bytes()
    stored = body.replace("\n", "\r\n")
    lo = data.draw(st.integers(0, len(stored)))
    hi = data.draw(st.integers(lo, len(stored)))
    wanted = {fold(stored[lo:hi]), fold(stored), "zz"} - {""}
    with pytest.MonkeyPatch.context() as patched:
        whole = look(raw, (), wanted)
        patched.setattr(texts, "PIECE", 16)
        assert look(raw, (), wanted) == whole
    expected = fold(stored)
    for each in wanted - {"zz"}:
        assert (each in whole.body) is (each in expected)
    assert "zz" not in whole.body


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-32-be", "shift_jis", "koi8-r"])
def test_every_charset_survives_being_cut(charset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "PIECE", 40)
    words = "привет мир\r\nвсе здесь\r\n" * 20 + "конец"
    head = f"Content-Type: text/plain; charset={charset}\r\n\r\n".encode()
    wanted = {fold("мир\r\nвсе"), fold("конец")}
    assert look(head + words.encode(charset), (), wanted).body == wanted


def test_what_a_machine_reported_is_text() -> None:
    """RFC 3464 §2: the reason of a bounce is what people look for."""
    raw = (
        b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n"
        b"Content-Type: message/delivery-status\r\n\r\nDiagnostic-Code: smtp; 550 No Such\r\n"
        b"--b\r\nContent-Type: application/x-own\r\n\r\nhidden\r\n--b--\r\n"
    )
    assert does('BODY "550 no such"', raw)
    assert not does("BODY hidden", raw)


def test_a_message_of_one_endless_line_is_searched_in_bounded_pieces() -> None:
    raw = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + b"a" * 3_000_000 + b" needle"
    pieces = [len(piece.text) for each in texts.body_texts(raw) for piece in each]
    assert max(pieces) <= 1_400_000 and sum(pieces) == 3_000_007
    assert look(raw, (), {"NEEDLE"}).body == {"NEEDLE"}


# --- the tree -----------------------------------------------------------------------------------

CORPUS = [
    (letter().as_bytes(), ("\\Seen",)),
    (letter(subject="Invoice 7", body="Please pay.\n").as_bytes(), ("\\Flagged", "$Work")),
    (letter(from_="bob@example.test", body="Köln, Köln\n").as_bytes(), ()),
    (b"\r\nno header at all\r\n", ("\\Seen", "\\Deleted")),
]
leaves: st.SearchStrategy[SearchKey] = st.one_of(
    st.sampled_from(["\\Seen", "\\Deleted", "$Work"]).map(HasFlag),
    st.integers(0, 600).map(Larger),
    st.integers(0, 600).map(Smaller),
    st.sampled_from(["köln", "pay", "header", ""]).map(BodyContains),
    st.sampled_from(["köln", "invoice", "bob"]).map(TextContains),
    st.builds(
        HeaderContains,
        st.sampled_from(["Subject", "From", "Cc"]),
        st.sampled_from(["köln", "bob", ""]),
    ),
    st.builds(
        DateIs,
        st.just(DateOf.SENT),
        st.sampled_from(When),
        st.sampled_from([NOW.date(), (NOW - 3 * DAY).date()]),
    ),
    st.sampled_from([b"1:2", b"3:*", b"2"]).map(SequenceSet.parse).map(SequenceIn),
    st.just(All()),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(tuple).map(And),
        st.lists(inner, min_size=2, max_size=3).map(tuple).map(Or),
    ),
    max_leaves=8,
)


def by_definition(key: SearchKey, read: Candidate) -> bool:
    match key:
        case And(inner):
            return all(by_definition(each, read) for each in inner)
        case Or(inner):
            return any(by_definition(each, read) for each in inner)
        case Not(one):
            return not by_definition(one, read)
        case _:
            got = matches(key, read, about())
            assert got is not None
            return got


@settings(max_examples=300, deadline=None)
@given(trees, st.integers(0, len(CORPUS) - 1), st.sampled_from(UIDS))
def test_what_is_known_early_is_what_is_known_in_the_end(
    key: SearchKey, which: int, uid: int
) -> None:
    raw, flags = CORPUS[which]
    asked = question(key, about())
    whole = candidate(raw, uid=uid, flags=flags, asked=And((key, TextContains("köln"))))
    whole.found = look(
        raw,
        set(map(fold, ("köln", "invoice", "bob"))),
        set(map(fold, ("köln", "pay", "header"))),
    )
    expected = by_definition(key, whole)
    assert asked.test(whole) is expected
    number = UIDS.index(uid) + 1
    if expected:
        assert any(lo <= number <= hi for lo, hi in asked.ranges)
    elif not asked.levels:
        assert not any(lo <= number <= hi for lo, hi in asked.ranges)
    # Read level by level, only as far as the question says: the same answer, and never another.
    read = Candidate(whole.placed)
    steps = (
        (Level.PARSED, "parsed", whole.parsed),
        (Level.HEADER, "header", whole.header),
        (Level.CONTENT, "found", look(raw, asked.in_header, asked.in_body)),
    )
    answers = [asked.test(read)]
    for level, name, value in steps:
        if level in asked.levels or (level is Level.HEADER and Level.CONTENT in asked.levels):
            setattr(read, name, value)
        answers.append(asked.test(read))
    known = [answer for answer in answers if answer is not None]
    assert known and set(known) == {expected} and answers[-1] is expected


def test_nothing_is_read_that_cannot_change_the_answer() -> None:
    raw = letter().as_bytes()
    placed = Candidate(candidate(raw, flags=("\\Seen",)).placed)
    assert matches(keys("UNSEEN BODY pay"), placed, about()) is False
    assert matches(keys("OR SEEN BODY pay"), placed, about()) is True
    assert matches(keys("BODY pay UNSEEN"), placed, about()) is False
    assert matches(keys("SEEN BODY pay"), placed, about()) is None
    assert matches(keys("NOT (SEEN BODY pay)"), placed, about()) is None


def test_sifting_parts_the_decided_from_the_rest() -> None:
    raw = letter().as_bytes()
    seen = Candidate(candidate(raw, uid=2, flags=("\\Seen",)).placed)
    flagged = Candidate(candidate(raw, uid=3, flags=("\\Flagged",)).placed)
    plain = Candidate(candidate(raw, uid=5).placed)
    asked = question(keys("OR SEEN (FLAGGED BODY x)"), about())
    assert sift(asked, [seen, flagged, plain]) == ([seen], [flagged])


def test_a_search_for_too_many_strings_is_refused() -> None:
    strings: tuple[SearchKey, ...] = tuple(BodyContains(f"x{n}") for n in range(STRINGS_MOST))
    assert question(Or(strings), about()).in_body == {f"X{n}" for n in range(STRINGS_MOST)}
    with pytest.raises(LimitReached):
        question(Or((*strings, TextContains("one more"))), about())


# --- the answer ---------------------------------------------------------------------------------


def returning(*options: str) -> frozenset[SearchReturn]:
    return frozenset(map(SearchReturn, options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("ALL",), b"ALL 2:4,9"),
        (("COUNT",), b"COUNT 4"),
        (("MIN", "MAX", "COUNT"), b"MIN 2 MAX 9 COUNT 4"),
    ],
)
def test_esearch_tells_what_was_asked_for(options: tuple[str, ...], expected: bytes) -> None:
    told = esearch(b"a1", Hits([2, 3, 4, 9]), returning(*options), uid=True)
    assert told == b'* ESEARCH (TAG "a1") UID ' + expected + b"\r\n"


def test_esearch_without_a_match_tells_only_a_count() -> None:
    every = returning("MIN", "MAX", "ALL", "COUNT")
    assert esearch(b"a1", Hits([], []), every, uid=False) == b'* ESEARCH (TAG "a1") COUNT 0\r\n'
    assert esearch(b"a", Hits(), returning("MIN"), uid=False) == b'* ESEARCH (TAG "a")\r\n'


@pytest.mark.parametrize(
    ("options", "modseq"),
    [(("ALL",), 50), (("COUNT",), 50), (("MIN",), 7), (("MAX",), 9), (("MIN", "MAX"), 9)],
)
def test_esearch_tells_the_modseq_of_what_it_tells(options: tuple[str, ...], modseq: int) -> None:
    # RFC 4731 §3.2: that of the messages named, the highest of all for ALL and COUNT.
    told = esearch(b"a1", Hits([1, 2, 3], [7, 50, 9]), returning(*options), uid=False)
    assert told.endswith(b"MODSEQ %d\r\n" % modseq)
