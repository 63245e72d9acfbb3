"""SEARCH, SORT, THREAD: the key tree."""

from __future__ import annotations

import time
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.imap import (
    All,
    And,
    BadCharset,
    BadFilterCharset,
    BadSyntax,
    BodyContains,
    DateIs,
    DateOf,
    EmailIdIs,
    HasFlag,
    HeaderContains,
    InFilter,
    Larger,
    ModSeqFrom,
    Not,
    Older,
    Or,
    SaveDateSupported,
    Search,
    SearchKey,
    SearchReturn,
    SequenceIn,
    SequenceSet,
    Smaller,
    Sort,
    SortCriterion,
    SortKey,
    TextContains,
    Thread,
    ThreadIdIs,
    UidIn,
    When,
    Younger,
    astring,
    parse_criteria,
)
from postroom.wire.imap.dates import render_date
from tests.wire.imap.commands.reading import read

SET = SequenceSet.parse
SEEN, RECENT = HasFlag("\\Seen"), HasFlag("\\Recent")
DAY = date(1994, 2, 1)

# --- round trips -------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
KEYWORD = st.from_regex(r"\A[a-z$][a-z0-9]{0,6}\Z")
SETS = st.sets(st.integers(1, 99), min_size=1, max_size=4).map(SequenceSet.of)
LEAVES: st.SearchStrategy[SearchKey] = st.one_of(
    st.just(All()),
    st.sampled_from(["\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "\\Seen"]).map(HasFlag),
    KEYWORD.map(HasFlag),
    st.builds(HeaderContains, TEXT, TEXT),
    TEXT.map(BodyContains),
    TEXT.map(TextContains),
    st.integers(0, 2**63 - 1).map(Larger),
    st.integers(0, 2**63 - 1).map(Smaller),
    st.builds(DateIs, st.sampled_from(DateOf), st.sampled_from(When), st.dates()),
    st.integers(1, 2**32 - 1).map(Older),
    st.integers(1, 2**32 - 1).map(Younger),
    SETS.map(SequenceIn),
    SETS.map(UidIn),
    st.integers(0, 2**63 - 1).map(ModSeqFrom),
    KEYWORD.map(EmailIdIs),
    KEYWORD.map(ThreadIdIs),
    st.just(SaveDateSupported()),
    KEYWORD.map(InFilter),
)


def grow(keys: st.SearchStrategy[SearchKey]) -> st.SearchStrategy[SearchKey]:
    several = st.lists(keys, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        several.map(And),
        keys.filter(lambda key: not isinstance(key, Not)).map(Not),
        st.tuples(keys, keys).filter(lambda two: not any(isinstance(k, Or) for k in two)).map(Or),
    )


KEYS = st.recursive(st.deferred(lambda: LEAVES), grow, max_leaves=12)
DATES = {DateOf.INTERNAL: "", DateOf.SENT: "SENT", DateOf.SAVED: "SAVED"}


def written(key: SearchKey) -> bytes:
    """The key as a client writes it."""
    match key:
        case And(keys):
            return b"(" + b" ".join(map(written, keys)) + b")"
        case Or((one, two)):
            return b"OR " + written(one) + b" " + written(two)
        case Not(inner):
            return b"NOT " + written(inner)
        case HasFlag(flag):
            return flag[1:].encode() if flag[0] == "\\" else b"KEYWORD " + flag.encode()
        case HeaderContains(name, text):
            return b"HEADER " + astring(name.encode()) + b" " + astring(text.encode())
        case DateIs(of, when, day):
            return f"{DATES[of]}{when.value} ".encode() + render_date(day)
        case BodyContains(text):
            return b"BODY " + astring(text.encode())
        case TextContains(text):
            return b"TEXT " + astring(text.encode())
        case SequenceIn(messages):
            return messages.render()
        case UidIn(messages):
            return b"UID " + messages.render()
        case All():
            return b"ALL"
        case SaveDateSupported():
            return b"SAVEDATESUPPORTED"
        case InFilter(name):
            return b"FILTER " + name.encode()
        case Larger(n):
            return b"LARGER %d" % n
        case Smaller(n):
            return b"SMALLER %d" % n
        case Older(n):
            return b"OLDER %d" % n
        case Younger(n):
            return b"YOUNGER %d" % n
        case ModSeqFrom(n):
            return b"MODSEQ %d" % n
        case EmailIdIs(text):
            return b"EMAILID " + text.encode()
        case ThreadIdIs(text):
            return b"THREADID " + text.encode()
        case _:
            raise AssertionError(key)


@settings(max_examples=200)
@given(KEYS)
def test_trees_round_trip(key: SearchKey) -> None:
    assert read(b"SEARCH " + written(key)) == Search(key)
    assert read(b"UID SEARCH RETURN () CHARSET UTF-8 " + written(key)) == Search(
        key, frozenset({SearchReturn.ALL})
    )
    assert parse_criteria(written(key), 50) == key


# --- filters: RFC 5466 ---------------------------------------------------------------------------


def test_a_filter_is_named_by_an_atom_without_a_slash_in_any_case() -> None:
    assert read(b"SEARCH FILTER On-the-Road SEEN") == Search(And((InFilter("on-the-road"), SEEN)))
    for wrong in (b"FILTER", b"FILTER ", b'FILTER "a"', b"FILTER a/b", b"FILTER a*", b"FILTER (a)"):
        with pytest.raises(BadSyntax):
            read(b"SEARCH " + wrong)


@pytest.mark.parametrize("charset", [b"ISO-8859-1", b"windows-1252"])
def test_beside_a_filter_strings_are_utf_8(charset: bytes) -> None:
    with pytest.raises(BadFilterCharset):
        read(b"SEARCH CHARSET " + charset + b" SUBJECT a FILTER b")
    with pytest.raises(BadFilterCharset):
        read(b"SORT (SIZE) " + charset + b" FILTER b")
    assert read(b"SEARCH CHARSET us-ascii FILTER b") == Search(InFilter("b"))


def test_literals_of_a_filter_stand_as_in_a_command() -> None:
    raw = "SUBJECT {7}\r\nGrüße OR BODY {5+}\r\n{3}\r\n SEEN".encode()
    holding = Or((BodyContains("{3}\r\n"), SEEN))
    assert parse_criteria(raw, 1) == And((HeaderContains("Subject", "Grüße"), holding))
    for wrong in (b"BODY {1}", b"BODY {1}\r\n", b"BODY {1}\r\nab", b"SEEN\r\n", b"BODY {}\r\n",
                  b"BODY {99999999}\r\na", b"BODY ~{1}\r\na", b"BODY {1}x\r\na", b""):  # fmt: skip
        with pytest.raises(BadSyntax):
            parse_criteria(wrong, 1)


def test_a_filter_nests_as_deep_as_it_may() -> None:
    assert parse_criteria(b"((SEEN))", 2) == SEEN
    with pytest.raises(BadSyntax, match="deeply"):
        parse_criteria(b"(((SEEN)))", 2)


# --- examples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "tree"),
    [
        (b'FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"',
         And((HasFlag("\\Flagged"), DateIs(DateOf.INTERNAL, When.SINCE, DAY),
              Not(HeaderContains("From", "Smith"))))),  # RFC 9051 §6.4.4
        (b'TEXT "string not in mailbox"', TextContains("string not in mailbox")),
        (b"all", All()),
        (b"NEW", And((RECENT, Not(SEEN)))),
        (b"OLD", Not(RECENT)),
        (b"RECENT", RECENT),
        (b"UNSEEN", Not(SEEN)),
        (b"UNANSWERED UNDELETED UNDRAFT UNFLAGGED",
         And(tuple(Not(HasFlag(f)) for f in ("\\Answered", "\\Deleted", "\\Draft", "\\Flagged")))),
        (b"UNKEYWORD $Junk", Not(HasFlag("$Junk"))),
        (b'SENTON "1-Feb-1994"', DateIs(DateOf.SENT, When.ON, DAY)),
        (b"SAVEDSINCE 1-Feb-1994", DateIs(DateOf.SAVED, When.SINCE, DAY)),  # RFC 8514 §4.3
        (b"TO a CC b BCC c SUBJECT d",
         And(tuple(map(HeaderContains, ("To", "Cc", "Bcc", "Subject"), "abcd")))),
        (b'HEADER Message-ID ""', HeaderContains("Message-ID", "")),
        (b"5:7,9", SequenceIn(SET(b"5:7,9"))),
        (b"*", SequenceIn(SET(b"*"))),
        (b"$ SMALLER 4096", And((SequenceIn(SET(b"$")), Smaller(4096)))),  # RFC 5182 §2.4
        (b"UID $", UidIn(SET(b"$"))),
        (b"UNSEEN YOUNGER 259200", And((Not(SEEN), Younger(259200)))),  # RFC 5032 §3
        (b'MODSEQ "/flags/\\\\draft" all 620162338',
         ModSeqFrom(620162338, "/flags/\\draft")),  # RFC 7162 §3.1.5
        (b"MODSEQ 620162338 LARGER 50000", And((ModSeqFrom(620162338), Larger(50000)))),
        (b"EMAILID M6d99ac3275bb4e", EmailIdIs("M6d99ac3275bb4e")),  # RFC 8474 §5.3
        (b"(ALL)", All()),
        (b"((SEEN ALL) 1)", And((And((SEEN, All())), SequenceIn(SET(b"1"))))),
        (b"NOT NOT SEEN", SEEN),
        (b"NOT NOT NOT SEEN", Not(SEEN)),
        (b"NOT (SEEN ALL)", Not(And((SEEN, All())))),
        (b"OR SEEN OR ALL RECENT", Or((SEEN, All(), RECENT))),
        (b"OR OR SEEN ALL RECENT", Or((SEEN, All(), RECENT))),
        (b"OR (OR SEEN ALL) RECENT", Or((Or((SEEN, All())), RECENT))),
        (b"OR NOT SEEN (ALL RECENT) DRAFT",
         And((Or((Not(SEEN), And((All(), RECENT)))), HasFlag("\\Draft")))),
        (b"BODY {8+}\r\nA (B) \r\n NOT TEXT {0+}\r\n",
         And((BodyContains("A (B) \r\n"), Not(TextContains(""))))),
    ],
)  # fmt: skip
def test_keys(keys: bytes, tree: SearchKey) -> None:
    assert read(b"SEARCH " + keys) == Search(tree)


def test_returns() -> None:
    both = frozenset({SearchReturn.MIN, SearchReturn.COUNT})
    assert read(b"SEARCH RETURN (MIN count) DELETED") == Search(HasFlag("\\Deleted"), both)
    assert read(b"UID SEARCH RETURN (SAVE) ALL") == Search(All(), frozenset({SearchReturn.SAVE}))
    assert read(b"search return () all") == Search(All(), frozenset({SearchReturn.ALL}))
    assert read(b"SEARCH ALL") == Search(All(), None)


def test_charsets() -> None:
    assert read(
        b"SEARCH CHARSET utf-8 TEXT {12+}\r\n\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82"
    ) == (Search(TextContains("Привет")))
    assert read(b'SEARCH CHARSET "ISO-8859-1" BODY {1+}\r\n\xe9') == Search(BodyContains("é"))
    assert read(b'SEARCH BODY "\xc3\xa9"') == Search(BodyContains("é"))
    with pytest.raises(BadCharset):
        read(b"SEARCH CHARSET KLINGON TEXT x")
    for line in (b'SEARCH TEXT "\xff"', b'SEARCH CHARSET US-ASCII TEXT "\xc3\xa9"'):
        with pytest.raises(BadSyntax):
            read(line)


def test_sort() -> None:
    """RFC 5256 §3."""
    assert read(b"SORT (SUBJECT REVERSE DATE) UTF-8 ALL") == Sort(
        (SortCriterion(SortKey.SUBJECT), SortCriterion(SortKey.DATE, True)), All()
    )
    assert read(b"UID SORT RETURN (COUNT) (REVERSE ARRIVAL) US-ASCII SEEN 1") == Sort(
        (SortCriterion(SortKey.ARRIVAL, True),),
        And((SEEN, SequenceIn(SET(b"1")))),
        frozenset({SearchReturn.COUNT}),
    )
    assert read(b"SORT (displayfrom) utf-8 ALL") == Sort(
        (SortCriterion(SortKey.DISPLAYFROM),), All()
    )


def test_thread() -> None:
    """RFC 5256 §3."""
    assert read(b'THREAD REFERENCES US-ASCII SINCE 1-FEB-1994 TEXT "gewp"') == Thread(
        "REFERENCES", And((DateIs(DateOf.INTERNAL, When.SINCE, DAY), TextContains("gewp")))
    )
    assert read(b"UID THREAD orderedsubject UTF-8 ALL") == Thread("ORDEREDSUBJECT", All())


@pytest.mark.parametrize(
    "line",
    [
        b"SEARCH",
        b"SEARCH ",
        b"SEARCH FOO",
        b"SEARCH ALL ",
        b"SEARCH  ALL",
        b"SEARCH ()",
        b"SEARCH (ALL",
        b"SEARCH ALL)",
        b"SEARCH (ALL )",
        b"SEARCH ( ALL)",
        b"SEARCH (ALL)(ALL)",
        b"SEARCH NOT",
        b"SEARCH NOT ",
        b"SEARCH OR ALL",
        b"SEARCH OR ALL ",
        b"SEARCH OR ALL (ALL",
        b"SEARCH (NOT) ALL",
        b"SEARCH (OR ALL) ALL",
        b"SEARCH KEYWORD",
        b"SEARCH KEYWORD \\Seen",
        b"SEARCH HEADER x",
        b"SEARCH SINCE x",
        b"SEARCH SINCE 31-Feb-2000",
        b"SEARCH OLDER 0",
        b"SEARCH LARGER -1",
        b"SEARCH LARGER 9223372036854775808",
        b"SEARCH UID",
        b"SEARCH UID x",
        b"SEARCH 1:",
        b"SEARCH 0",
        b'SEARCH MODSEQ "x" 5',
        b'SEARCH MODSEQ "x" foo 5',
        b"SEARCH RETURN ALL",
        b"SEARCH RETURN (FOO) ALL",
        b"SEARCH RETURN (ALL)",
        b"SEARCH RETURN (ALL) CHARSET",
        b"SEARCH CHARSET UTF-8",
        b"SEARCH CHARSET UTF-8 ",
        b"SORT ALL",
        b"SORT () UTF-8 ALL",
        b"SORT (FOO) UTF-8 ALL",
        b"SORT (REVERSE) UTF-8 ALL",
        b"SORT (DATE) UTF-8",
        b"SORT (DATE) ALL",
        b"THREAD",
        b"THREAD REFERENCES UTF-8",
        b"THREAD REFERENCES",
    ],
)
def test_what_follows_no_grammar_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


# --- attack class 8 ------------------------------------------------------------------------------


def test_attack_08_parentheses_nest_to_a_limit() -> None:
    def nested(depth: int) -> bytes:
        return b"SEARCH " + b"(" * depth + b"ALL" + b")" * depth

    assert read(nested(50)) == Search(All())
    for depth in (51, 20_000):
        with pytest.raises(BadSyntax, match="nested too deeply"):
            read(nested(depth))


def test_attack_08_not_and_or_nest_to_the_same_limit() -> None:
    def nested(depth: int) -> bytes:
        return b"SEARCH " + b"OR ALL NOT " * (depth // 2) + b"ALL"

    assert isinstance(read(nested(50)), Search)
    for depth in (52, 5_000):
        with pytest.raises(BadSyntax, match="nested too deeply"):
            read(nested(depth))


def test_a_long_choice_is_flat_and_linear() -> None:
    many = 5_000
    start = time.process_time()
    for line in (
        b"SEARCH " + b"OR ALL " * many + b"ALL",
        b"SEARCH " + b"OR " * many + b"ALL " * many + b"ALL",
    ):
        assert read(line) == Search(Or((All(),) * (many + 1)))
    assert read(b"SEARCH " + b"NOT " * 10_000 + b"ALL") == Search(All())
    assert time.process_time() - start < 3  # about 0.1
