"""postroom.formats.subject: RFC 5256 §2.1, and the RFC's own algorithm, step by step, as oracle."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.formats.subject import base_subject
from postroom.testing.scaling import grows_linearly


@pytest.mark.parametrize(
    ("subject", "base", "answer"),
    [
        ("hello", "hello", False),
        ("", "", False),
        ("  hello \t world  ", "hello world", False),
        ("Re: hello", "hello", True),
        ("RE : hello", "hello", True),
        ("Re: re: Fw: FWD: hello", "hello", True),
        ("Re[2]: hello", "hello", True),
        ("Re [list] : hello", "hello", True),
        ("[list] hello", "hello", False),
        ("[list] Re: hello", "hello", True),
        ("Re: [list] Re: [other] hello", "hello", True),
        ("[a] [b] hello", "hello", False),
        ("[only]", "[only]", False),
        ("[a] [only]", "[only]", False),
        ("Re: [only]", "[only]", True),
        ("hello (fwd)", "hello", True),
        ("hello (FWD) (fwd) ", "hello", True),
        ("[fwd: hello]", "hello", True),
        ("[Fwd: Re: [fwd: hello (fwd)] ]", "hello", True),
        ("[fwd: ]", "", True),
        ("[fwd:]", "", True),
        ("Re:", "", True),
        ("Re: Re:", "", True),
        ("(fwd)", "", True),
        ("really: no", "really: no", False),
        ("forward: no", "forward: no", False),
        ("Re hello", "Re hello", False),
        ("[un[closed] hello", "[un[closed] hello", False),
        ("[] hello", "hello", False),
        ("Aw: hello", "Aw: hello", False),  # no language but the RFC's
        ("Re: grüße", "grüße", True),
        ("Re:\r\n hello", "hello", True),
        ("Reſ: x", "Reſ: x", False),  # a letter that only Unicode folds
    ],
)
def test_the_base_of_a_subject(subject: str, base: str, answer: bool) -> None:
    assert base_subject(subject) == (base, answer)


BLOB = r"\[[^\[\]]*\] *"
REFWD = rf"(?:re|fwd?) *(?:{BLOB})?:"
FLAGS = re.IGNORECASE | re.ASCII


def by_the_letter(text: str) -> tuple[str, bool]:
    """RFC 5256 §2.1 as it is written; nobody cares how slow."""
    text = re.sub(r"[ \t\r\n]+", " ", text)
    answer = False
    while True:
        while found := re.search(r"(?:\(fwd\)| )\Z", text, FLAGS):  # (2)
            answer |= found[0] != " "
            text = text[: found.start()]
        while True:
            before = text
            if found := re.match(rf"(?:{BLOB})*{REFWD}| ", text, FLAGS):  # (3)
                answer |= found[0] != " "
                text = text[found.end() :]
            elif (found := re.match(BLOB, text, FLAGS)) and text[found.end() :]:  # (4)
                text = text[found.end() :]
            if text == before:  # (5)
                break
        if not re.fullmatch(r"\[fwd:.*\]", text, FLAGS | re.DOTALL):  # (6)
            return text, answer
        text = text[5:-1]
        answer = True


PIECES = st.lists(
    st.sampled_from(
        [*("Re", "re:", "FW", "fwd:", ":", " ", "[fwd:", "]", "[", "[a]", "(fwd)", "x", "ü", "\t")]
    ),
    max_size=14,
).map("".join)


@given(PIECES)
@example("[fwd: [a]")
@example("[a][fwd:x]")
@example("re [a][b]: x")
@settings(max_examples=800, deadline=None)
def test_it_is_what_the_rfc_says_by_the_letter(text: str) -> None:
    assert base_subject(text) == by_the_letter(text)


@given(PIECES)
@settings(max_examples=300, deadline=None)
def test_the_base_of_a_base_is_itself(text: str) -> None:
    base, _ = base_subject(text)
    assert base_subject(base) == (base, False)


@pytest.mark.parametrize("piece", ["[a]", "[fwd:", "Re:", "(fwd)", "[", "re [a]", " ", "[fwd: [a]"])
def test_attack_06_floods_cost_linear_time(piece: str) -> None:
    def flood(count: int) -> str:
        return piece * count + "]" * count

    assert grows_linearly(base_subject, flood(10_000), flood(40_000), 4)
