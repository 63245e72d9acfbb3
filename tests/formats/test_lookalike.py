"""Names that are made to be taken for others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.formats.lookalike import (
    NAME_MOST,
    SHOWN_MOST,
    Lookalikes,
    addresses_in,
    skeleton,
    visible,
)
from postroom.testing.scaling import grows_linearly

OURS = ("acme-corp.example", "example.org", "ibm.example", "müller.example".encode("idna").decode())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("boss@a.example", ["boss@a.example"]),
        ("Boss <boss@A.Example>", ["boss@a.example"]),
        ("boss@a.example via List", ["boss@a.example"]),
        ("Boss (at) a.example", ["Boss@a.example"]),
        ("boss [AT] mail.a.example", ["boss@mail.a.example"]),
        ("boss @ a.example", ["boss@a.example"]),
        ("boss\uff20a\uff0eexample", ["boss@a.example"]),
        ("b\u200boss@a.ex\u2060ample", ["boss@a.example"]),
        ("chef@bücher.example", ["chef@bücher.example"]),
        ("a@b.example, c@d.example", ["a@b.example", "c@d.example"]),
        ("first.last+tag@a.example;", ["first.last+tag@a.example"]),
        ("x@y@a.example", ["y@a.example"]),
        ("Ann at home", []),
        ("@acme", []),
        ("5@10.50", []),
        ("a@b", []),
        ("version 1.2@3", []),
        ("", []),
    ],
)
def test_what_reads_as_an_address(name: str, shown: list[str]) -> None:
    found = addresses_in(visible(name))
    assert [f"{each.local}@{each.domain}" for each in found] == shown


@given(st.text(alphabet="ab.@-(at)[] \uff20\u200b", max_size=200))
def test_places_are_those_of_the_text(name: str) -> None:
    seen = visible(name)
    end = 0
    for each in addresses_in(seen):
        assert end <= each.start < each.end <= len(seen)
        assert seen[each.start : each.end].startswith(each.local)
        end = each.end


@pytest.mark.parametrize("unit", ["a@", "a.", "@a.example ", "(at)", "a@a-", "\u200b", "x (at "])
def test_a_long_name_costs_no_more_than_its_length(unit: str) -> None:
    assert grows_linearly(
        lambda name: addresses_in(visible(name)), unit * 10_000, unit * 100_000, 10
    )
    found = addresses_in(visible(unit * 100_000))
    assert len(visible(unit * 100_000)) <= NAME_MOST and len(found) <= SHOWN_MOST


# --- domains ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "ours"),
    [
        ("acrne-corp.example", "acme-corp.example"),
        ("acmecorp.example", "acme-corp.example"),
        ("acme-c0rp.example", "acme-corp.example"),
        ("examp1e.org", "example.org"),
        ("exampIe.org", "example.org"),
        ("ex\u0430mple.org".encode("idna").decode(), "example.org"),
        ("\u0435\u0445\u0430mple.org", "example.org"),
        ("exámple.org".encode("idna").decode(), "example.org"),
        ("exampe.org", "example.org"),
        ("examplee.org", "example.org"),
        ("exanple.org", "example.org"),
        ("exmaple.org", "example.org"),
        ("mail.login.examp1e.org", "example.org"),
        ("1bm.example", "ibm.example"),
        ("muller.example", "xn--mller-kva.example"),
    ],
)
def test_domains_that_may_be_taken_for_ours(other: str, ours: str) -> None:
    found = Lookalikes(OURS).like(other)
    assert found is not None and found.domain == ours


@pytest.mark.parametrize(
    "other",
    [
        *OURS,
        "mail.example.org",
        "EXAMPLE.ORG",
        "example.com",  # another name under another label
        "example.net",
        "ibn.example",  # too short to be one letter away by design
        "other.example",
        "org",
        "",
        "xn--a\u20ac",
        "xn--999999999999",
        "." * 300,
    ],
)
def test_others_are_others(other: str) -> None:
    assert Lookalikes(OURS).like(other) is None


def test_nobody_is_like_nothing() -> None:
    assert Lookalikes().like("example.org") is None


@given(st.text(max_size=80))
def test_any_name_has_a_skeleton(name: str) -> None:
    assert skeleton(skeleton(name)) == skeleton(skeleton(skeleton(name)))
    Lookalikes(["example.org"]).like(name)
