from __future__ import annotations

import pytest

from postroom.core.errors import LimitReached, Malformed
from postroom.domain.mailboxes import flags
from postroom.domain.mailboxes.flags import FIRST_KEYWORD, KEYWORD_BITS, SYSTEM, Registry
from tests.domain.making import Town


def bits(town: Town, *names: str) -> int:
    return town.store.write(flags.bits_for, town.ann.id, names)


def test_a_keyword_keeps_its_first_case_and_compares_without(town: Town) -> None:
    blue = bits(town, "Blue")
    assert bits(town, "bLUE") == blue == 1 << FIRST_KEYWORD
    assert bits(town, "\\sEEN", "$FORWARDED", "$junk") == 1 | 1 << 5 | 1 << 7
    registry = town.store.read(flags.registry, town.ann.id)
    assert registry.flags(blue | 1) == ("\\Seen", "Blue")
    assert registry.names == (*SYSTEM, "Blue")
    assert registry.known(["BLUE", "nothing", "\\flagged"]) == blue | 4
    assert registry.missing(["a", "A", "blue", "b"]) == ["a", "b"]


def test_a_registry_belongs_to_its_account(town: Town) -> None:
    bits(town, "a", "b")
    root = town.store.write(flags.bits_for, town.root.id, ["b"])
    assert root == 1 << FIRST_KEYWORD
    assert bits(town, "b") == 1 << (FIRST_KEYWORD + 1)


def test_one_account_holds_a_set_of_63_bits(town: Town) -> None:
    room = KEYWORD_BITS - FIRST_KEYWORD
    names = [f"k{n}" for n in range(room)]
    assert bits(town, *names[:-1]) < 1 << (KEYWORD_BITS - 1)
    assert not town.store.read(flags.registry, town.ann.id).full
    with pytest.raises(LimitReached):
        bits(town, names[-1], "one-too-many")
    with pytest.raises(LimitReached):
        bits(town, names[-1], "another")
    assert bits(town, names[-1]) == 1 << (KEYWORD_BITS - 1)
    assert town.store.read(flags.registry, town.ann.id).full
    everything = bits(town, *names) | bits(town, *SYSTEM)
    assert everything == (1 << 63) - 1
    with pytest.raises(LimitReached):
        bits(town, "late")
    # A message can carry all of them, and gives them back.
    town.append(town.box(), flags=(*SYSTEM, *names))
    assert town.store.read(flags.registry, town.ann.id).flags(everything) == (*SYSTEM, *names)


@pytest.mark.parametrize(
    "name", ["", "\\Recent", "\\Own", "a b", "(", ")", "{", "%", "*", '"', "]", "a\\", "é", "a\x00",
             "\x7f", "x" * 101]
)  # fmt: skip
def test_what_is_no_keyword_is_refused_and_nothing_is_kept(name: str) -> None:
    """RFC 3501 §9: flag-keyword is an atom."""

    class Tx:
        def all(self, statement: object, **params: object) -> list[object]:
            return []

        def run(self, statement: object, **params: object) -> int:
            raise AssertionError("it was kept")

    with pytest.raises(Malformed):
        flags.bits_for(Tx(), 1, [name])  # type: ignore[arg-type]  # all that it may call


def test_every_atom_is_a_keyword(town: Town) -> None:
    for name in ("$Label1", "a.b", "[x", "NonJunk", "x" * 100, "!#$&'+,-./0:;<=>?@^_`|}~"):
        assert bits(town, name) >> FIRST_KEYWORD


def test_an_empty_registry_knows_the_system_flags() -> None:
    assert Registry(()).known(["\\SEEN", "$phishing"]) == 1 | 1 << 9
    assert Registry(()).flags(0) == ()
