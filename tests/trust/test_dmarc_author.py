"""Who wrote it, as DMARC and its reader see it. attacks.md 4."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats import headers
from postroom.formats.address import Group, parse_address_list, to_address
from postroom.testing.scaling import grows_linearly
from postroom.trust.dmarc import Authors, authors, authors_of
from postroom.trust.dmarc.author import MOST_DOMAINS, hides


def read(*values: str, whole: bool = True) -> Authors:
    return authors([value.encode() for value in values], whole=whole)


@pytest.mark.parametrize(
    ("value", "domains"),
    (
        ("ann@a.example", ("a.example",)),
        ("Ann <ann@A.Example>", ("a.example",)),
        ('"bank@bank.example" <x@evil.example>', ("evil.example",)),
        ("bank@bank.example <x@evil.example>", ("evil.example",)),
        ("x@evil.example (bank@bank.example)", ("evil.example",)),
        ('"x@evil.example"@bank.example', ("bank.example",)),
        ("ann@a.example, bob@b.example, carl@A.EXAMPLE", ("a.example", "b.example")),
        ("staff: ann@a.example, bob@b.example;", ("a.example", "b.example")),
        ("ann@bücher.example", ("xn--bcher-kva.example",)),
        ("<@relay.example:ann@a.example>", ("a.example",)),
        ("ann@[192.0.2.1]", ("[192.0.2.1]",)),
    ),
)
def test_attack_04_the_domain_is_that_of_the_address(value: str, domains: tuple[str, ...]) -> None:
    found = read(value)
    assert found.domains == domains
    assert not found.problem and not found.missing


@pytest.mark.parametrize("values", ((), ("",), ("root",), ("undisclosed:;",), ("Ann",)))
def test_a_message_may_name_nobody(values: tuple[str, ...]) -> None:
    found = read(*values)
    assert found.missing and not found.domains and not found.problem


@pytest.mark.parametrize(
    "values",
    (
        ("ann@a.example", "bob@b.example"),
        ("ann@a.example", "ann@a.example"),
        ("root", "ann@a.example"),
        ("ann@-bad-.example",),
        ("ann@a..example, bob@b.example",),
        ("a@good.example@evil.example",),
        ("<a@good.example@evil.example>",),
        (", ".join(f"x@a{n}.example" for n in range(MOST_DOMAINS + 1)),),
        (", ".join(f"x{n}@a.example" for n in range(200)),),
    ),
)
def test_attack_04_what_readers_may_see_otherwise_is_a_problem(values: tuple[str, ...]) -> None:
    found = read(*values)
    assert found.problem and not found.missing
    assert len(found.domains) <= MOST_DOMAINS


def test_attack_04_all_from_fields_are_read_though_one_is_allowed() -> None:
    found = read("ann@evil.example", "ann@bank.example")
    assert found.domains == ("evil.example", "bank.example")
    assert found.problem == "it has 2 From fields"


@pytest.mark.parametrize(
    ("content", "found"),
    (
        (b"From: a@a.example\r\n\r\nFrom: b@b.example\r\n", False),
        (b"From: a@a.example\n\nFrom: b@b.example\n", False),
        (b"From: a@a.example\r\n", False),
        (b"\r\nFrom: b@b.example\r\n\r\n", False),
        (b"", False),
        (b"From: a@a.example\r\nno field\r\n\r\nFrom: b@b.example\r\n", False),
        (b"From: a@a.example\r\nno field\r\nX-From: b@b.example\r\n\r\n", False),
        (b"From: a@a.example\r\nno field\r\nfROM \t: b@b.example", True),
        (b"From: a@a.example\n: x\nTo: c\nFrom: b@b.example\n\n", True),
        (b"no field\r\nFrom: b@b.example\r\n", True),
        (b" folded\r\nFrom: b@b.example\r\n", True),
    ),
)
def test_attack_04_a_from_field_behind_the_end_of_a_header_is_found(
    content: bytes, found: bool
) -> None:
    """It is one for readers that pass over a line that is no field."""
    assert hides(headers.scan(content)) is found
    assert bool(authors_of(headers.scan(content)).problem) is found


@pytest.mark.parametrize("unit", (b"no field\r\n", b"From\t", b"\r\n \r\n", b"from: \n"))
def test_looking_behind_the_end_is_linear(unit: bytes) -> None:
    def run(size: int) -> None:
        hides(headers.scan(b"To: x\r\nno field\r\n" + unit * (size // len(unit))))

    assert grows_linearly(run, 50_000, 400_000, 8)


@pytest.mark.parametrize(
    "value",
    (
        "=?utf-8?b?Ym9zc0BiYW5rLmV4YW1wbGU=?=",
        "<boss@bank.example: x@evil.example;>",
        "=?utf-8?q?boss=40bank=2Eexample?=: x@evil.example;",
        "x@",
    ),
)
def test_attack_04_what_looks_like_an_address_and_is_none_is_a_problem(value: str) -> None:
    assert read(value).problem == "its From field has an address that cannot be read"


def test_a_header_that_was_not_read_to_its_end_is_a_problem() -> None:
    assert read("ann@a.example", whole=False).problem


@given(st.text(alphabet='ab@.,:;<>()"\\ []=?é', max_size=60))
@settings(max_examples=300, deadline=None)
def test_attack_04_the_checked_domains_are_those_that_are_shown(value: str) -> None:
    shown = []
    for entry in parse_address_list(value.encode()):
        shown += entry.members if isinstance(entry, Group) else [entry]
    found = read(value)
    seen = {made.domain for made in map(to_address, shown) if made is not None and made.domain}
    assert found.problem or seen <= set(found.domains)
