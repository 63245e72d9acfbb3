"""The language of sender.rules: what it takes, what it says of the rest, and one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import MailError, Malformed, Misuse
from postroom.core.settings import declared
from postroom.mailflow.sender import language
from postroom.mailflow.sender.language import (
    CONDITIONS_MAX,
    LINE_MAX,
    POINTS_MAX,
    PROBES,
    RESULTS,
    VALUES_MAX,
    Condition,
    Line,
    Verb,
    canonical,
    parse,
)
from postroom.testing.scaling import grows_linearly


@pytest.mark.parametrize(
    ("written", "kept"),
    (
        ("spf=fail junk", "spf=fail junk"),
        ("  SPF=Fail|SOFTFAIL\tdkim!=pass   Junk ", "spf=fail|softfail dkim!=pass junk"),
        ("spf=fail|fail junk", "spf=fail junk"),
        ("spf=fail spf!=pass junk", "spf=fail spf!=pass junk"),
        ("peer=192.0.2.77/24|2001:DB8::1 accept", "peer=192.0.2.0/24|2001:db8::1/128 accept"),
        ("sender=<>|Ann@Example.ORG|bücher.example defer", None),
        ("author!=Example.ORG. quarantine", "author!=example.org quarantine"),
        ("signer=example.org score +05", "signer=example.org score 5"),
        ('spf=fail score -3 "an old friend"', 'spf=fail score -3 "an old friend"'),
        ("late=spf|dmarc tag $Doubtful", "late=spf|dmarc tag $Doubtful"),
        ('dmarc=fail tag " X-Doubt: yes, = both "', 'dmarc=fail tag "X-Doubt: yes, = both"'),
        ('wish=reject refuse "Ask postmaster@example.org"', None),
        ("arc=unknown helo!=unknown close", "arc=unknown helo!=unknown close"),
    ),
)
def test_a_line_has_one_spelling(written: str, kept: str | None) -> None:
    spelled = canonical(written)
    if kept is not None:
        assert spelled == kept
    assert canonical(spelled) == spelled
    assert parse(spelled) == parse(written)


def test_names_are_kept_as_they_travel() -> None:
    line = parse("sender=<>|Ann@Example.ORG|bücher.example defer")
    assert line.conditions == (
        Condition("sender", ("<>", "ann@example.org", "xn--bcher-kva.example")),
    )


@pytest.mark.parametrize(
    ("written", "said"),
    (
        ("", "begins with conditions"),
        ("junk", "begins with conditions, such as spf=fail"),
        ("spf=fail", "What is to be done is missing: accept, junk, quarantine, defer, refuse"),
        ("spff=fail junk", 'no condition "spff": write spf, helo, iprev, dkim, dmarc, wish'),
        ("spf=bad junk", 'spf is one of none, neutral, pass, fail, .*, unknown, not "bad"'),
        ("spf= junk", "A value of spf is missing"),
        ("spf=pass||fail junk", "A value of spf is missing"),
        ("spf=pass spf=fail junk", r"stands twice: write spf=fail\|softfail"),
        ("spf=fail bounce", '"bounce" is neither a condition nor what is to be done: accept'),
        ("spf=fail junk now", 'After junk nothing but a reason in quotes may stand, not "now"'),
        ('spf=fail junk "a" "b"', 'reason in quotes may stand, not "b"'),
        ('spf=fail "junk"', '"junk" is neither a condition nor what is to be done'),
        ('spf=fail refuse "why', "The quotes are not closed"),
        ('spf=fail refuse ""', "A reason has 1 to 200 printable characters of ASCII"),
        ('spf=fail refuse "für"', "printable characters of ASCII"),
        ("spf=fail\x00 junk", "no control characters"),
        ("spf=fail\njunk", "no control characters"),
        ("spf=fail score", "The points are missing"),
        ('spf=fail score "3"', "The points are missing"),
        ("spf=fail score many", '"many" is no number of points: write score 3 or score -3'),
        ("spf=fail score 0", '"0" is no number of points'),
        ("spf=fail score 1001", '"1001" is no number of points: .*up to 1000'),
        ("spf=fail score ٣", "is no number of points"),
        ("spf=fail tag", "The tag is missing: write tag Doubtful for a keyword"),
        ("spf=fail tag \\Deleted", "is no keyword"),
        ("spf=fail tag (a", "is no keyword"),
        ('spf=fail tag "From: eve@example.net"', "whose name begins with X-"),
        ('spf=fail tag "X-Doubt:yes"', "whose name begins with X-"),
        ('spf=fail tag "X-Postroom-Sender-Score: 0"', "are the server's own"),
        ("peer=192.0.2.0/33 junk", '"192.0.2.0/33" is no network: write 192.0.2.0/24'),
        ("peer=example.org junk", '"example.org" is no network'),
        ("sender=a@b@c junk", '"a@b@c" is no address, such as ann@example.org'),
        ("author=-x-.example junk", '"-x-.example" is no domain, such as example.org'),
        ("author=<> junk", '"<>" is no domain'),
        ("signer=ann@example.org junk", "is no domain"),
        ("late=bayes junk", 'late is one of spf, iprev, dkim, dmarc, vbr, replay, not "bayes"'),
        ("x" * (LINE_MAX + 1), f"A line has at most {LINE_MAX} characters"),
        ("spf=fail " * (CONDITIONS_MAX + 1) + "junk", f"at most {CONDITIONS_MAX} conditions"),
        ("spf=" + "fail|" * VALUES_MAX + "fail junk", f"spf has at most {VALUES_MAX} values"),
    ),
)
def test_what_is_no_line_is_told_precisely(written: str, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        parse(written)


def test_a_setting_says_which_line_is_wrong() -> None:
    rules = declared("sender.rules")
    taken = rules.parse('spf=fail   junk\n\n dmarc=fail refuse "one, two" \n')
    assert taken == ("spf=fail junk", 'dmarc=fail refuse "one, two"')
    with pytest.raises(Misuse, match=r"sender\.rules, entry 2: There is no condition"):
        rules.parse("spf=fail junk\nspff=fail junk")
    with pytest.raises(Misuse, match=r"sender\.rules has at most 200 entries"):
        rules.check(["spf=fail junk"] * 201)


# --- round trips ----------------------------------------------------------------------------------

_labels = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)
_domains = st.builds(lambda a, b: f"{a}.{b}", _labels, _labels)
_parties = st.one_of(_domains, st.builds(lambda a, b: f"{a}@{b}", _labels, _domains))
_networks = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: f"{ip}/32"),
    st.ip_addresses(v=6).map(lambda ip: f"{ip}/128"),
)


def _some(values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(values, min_size=1, max_size=4, unique=True).map(tuple)


def _conditions() -> st.SearchStrategy[Condition]:
    kinds: list[st.SearchStrategy[Condition]] = [
        st.builds(Condition, st.just(name), _some(st.sampled_from(values)), st.booleans())
        for name, values in RESULTS.items()
    ]
    for name, values in (
        ("peer", _networks),
        ("host", _domains),
        ("sender", st.one_of(st.just("<>"), _parties)),
        ("author", _parties),
        ("signer", _domains),
        ("late", st.sampled_from(PROBES)),
    ):
        kinds.append(st.builds(Condition, st.just(name), _some(values), st.booleans()))
    return st.one_of(kinds)


_reasons = st.one_of(
    st.just(""),
    st.text(
        st.characters(codec="ascii", exclude_characters='"', min_codepoint=32, max_codepoint=126)
    ).map(lambda text: text.strip()[:60].strip()),
)
_points = st.integers(-POINTS_MAX, POINTS_MAX).filter(bool)
_tags = st.sampled_from(("$Phishing", "Doubtful", "X-Doubt: yes", "X-A: b = c"))


@st.composite
def lines(draw: st.DrawFn) -> Line:
    drawn = draw(
        st.lists(
            _conditions(), min_size=1, max_size=5, unique_by=lambda each: (each.name, each.negated)
        )
    )
    verb = draw(st.sampled_from(Verb))
    tag = draw(_tags) if verb is Verb.TAG else ""
    points = draw(_points) if verb is Verb.SCORE else 0
    return Line(tuple(drawn), verb, tag, points, draw(_reasons))


@given(lines())
def test_what_was_read_is_written_as_it_was(line: Line) -> None:
    assert parse(str(line)) == line


@given(st.text(max_size=120) | st.text('spf=fail|!"junk tag score 3 \\\t', max_size=120))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        spelled = canonical(text)
    except MailError:
        return
    assert canonical(spelled) == spelled


def test_reading_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "LINE_MAX", 1 << 20)

    def read(text: str) -> None:
        with pytest.raises(Malformed):
            parse.__wrapped__(text)

    for piece in ('"', '"" ', "= ", "a ", " ", "|", 'x" '):
        small, large = f"spf=fail junk {piece * 2_000}x", f"spf=fail junk {piece * 20_000}x"
        assert grows_linearly(read, small, large, 10), piece
