"""postroom.admin.document: the configuration as a text reads back, and only what fits is read."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.admin import document
from postroom.core.errors import Malformed
from postroom.core.settings import Role, Value
from postroom.domain.changes.configuration import Configuration, Person
from postroom.domain.directory import former, people
from postroom.formats.address import parse_mailbox

_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_VISIBLE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=12)
_DOMAINS = st.sampled_from(["example.org", "b.example", "xn--bcher-kva.example"])
_LOCALS = st.sampled_from(["ann", "Bob", '"two words"', '"a@b"', "grüße", "o'neil", '"back\\\\"'])
_ADDRESSES = st.builds("{}@{}".format, _LOCALS, _DOMAINS)
_VALUES: st.SearchStrategy[Value] = st.one_of(
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False),
    _TEXT,
    st.lists(_TEXT, max_size=3).map(tuple),
)
_PEOPLE = st.builds(
    Person,
    _ADDRESSES.map(parse_mailbox),
    st.none() | _VISIBLE,
    st.none() | st.sampled_from(Role),
    st.none() | st.sampled_from(people.STATES),
    st.none()
    | st.dictionaries(st.sampled_from(former.KINDS), st.text("aZ$=,/+", max_size=9), max_size=2),
)
_ALIASES = st.tuples(
    st.sampled_from(["info@example.org", "sa*l?s@b.example", '"a b"@example.org']),
    _ADDRESSES.map(lambda text: people.written(parse_mailbox(text))),
)
_CONFIGURATIONS = st.builds(
    Configuration,
    st.none() | st.sets(_DOMAINS).map(sorted).map(tuple),
    st.none()
    | st.lists(_PEOPLE, max_size=4, unique_by=lambda p: people.written(p.address)).map(tuple),
    st.none() | st.sets(_ALIASES, max_size=5).map(sorted).map(tuple),
    st.none()
    | st.dictionaries(_TEXT, st.dictionaries(_TEXT, _VALUES, min_size=1, max_size=3), max_size=3),
)


def plain(told: Configuration) -> Configuration:
    """As a document has it: in its order, lists for tuples."""
    accounts = told.accounts
    if accounts is not None:
        accounts = tuple(sorted(accounts, key=document._order))
    values = told.settings
    if values is not None:
        values = {
            place: {n: list(v) if isinstance(v, tuple) else v for n, v in held.items()}  # type: ignore[misc]  # as TOML has it
            for place, held in values.items()
        }
    return Configuration(told.domains, accounts, told.aliases, values)


@given(_CONFIGURATIONS)
@settings(max_examples=150, deadline=None)
def test_what_is_written_reads_back(configuration: Configuration) -> None:
    text = document.render(configuration)
    assert document.parse(text) == plain(configuration)
    assert all(c.isprintable() or c == "\n" for c in text)


def test_a_document_is_easy_to_read_and_always_in_one_order() -> None:
    ann = Person(parse_mailbox("ann@example.org"), "Ann", Role.ADMIN, "active")
    told = Configuration(
        domains=("example.org", "b.example"),
        accounts=(Person(parse_mailbox("bob@example.org"), "", Role.USER, "frozen"), ann),
        aliases=(("info@example.org", "bob@example.org"), ("info@example.org", "ann@example.org")),
        settings={"server": {"smtp.max_hops": 30}, "domain:b.example": {"x.names": ("a",)}},
    )
    assert (
        document.render(told)
        == """\
format = 1
domains = [
  "b.example",
  "example.org",
]

[settings]

[settings."domain:b.example"]
"x.names" = ["a"]

[settings."server"]
"smtp.max_hops" = 30

[[accounts]]
address = "ann@example.org"
name = "Ann"
role = "admin"
state = "active"

[[accounts]]
address = "bob@example.org"
name = ""
role = "user"
state = "frozen"

[[aliases]]
address = "info@example.org"
targets = [
  "ann@example.org",
  "bob@example.org",
]
"""
    )


def test_sections_that_are_empty_are_told_from_those_that_are_missing() -> None:
    empty = Configuration((), (), (), {})
    assert document.parse(document.render(empty)) == empty
    assert document.parse("format = 1") == Configuration()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format = ", "no TOML"),
        ("x = " + "[" * 5000, "TOML|nested"),
        ("", "format = 1"),
        ("format = 2", "format = 1"),
        ("format = 1\nlists = []", "may hold .*domains.*, but not lists"),
        ("format = 1\ndomains = 'a.example'", "domains is a list"),
        ("format = 1\ndomains = [1]", "is a text"),
        ("format = 1\ndomains = ['[192.0.2.1]']", "no domain"),
        ("format = 1\ndomains = ['a b']", "not a valid domain"),
        ("format = 1\ndomains = ['a.example', 'A.EXAMPLE']", "twice"),
        ("format = 1\naccounts = ['ann']", "is a table"),
        ("format = 1\n[[accounts]]\nname = 'Ann'", "address of an account"),
        ("format = 1\n[[accounts]]\naddress = 'a@b.example'\ncolour = 1", "but not colour"),
        ("format = 1\n[[accounts]]\naddress = 'a b@b.example'", "a b@b.example is not a valid"),
        ("format = 1\n[settings.server]\nsmtp.max_hops = 5", 'in quotes: "smtp.max_hops"'),
        ("format = 1\n[[accounts]]\naddress = 'a*@b.example'", "pattern"),
        ("format = 1\n[[accounts]]\naddress = 'a@b.example'\nrole = 'king'", "role of a@b"),
        ("format = 1\n[[accounts]]\naddress = 'a@b.example'\nstate = 'gone'", "state of a@b"),
        ("format = 1\n[[accounts]]\naddress = 'a@b.example'\nname = \"\\u001b\"", "visible"),
        ("format = 1\n[[accounts]]\naddress = 'a@b.example'\npassword = 'x'", "never a password"),
        ("format = 1\n[[accounts]]\naddress = 'a@b.example'\npassword = {md5='x'}", "not md5"),
        ("format = 1\n[[accounts]]\naddress = 'a@b.example'\npassword = {password=1}", "verifier"),
        ("format = 1\n[[aliases]]\naddress = 'a@b.example'", "targets of"),
        ("format = 1\n[[aliases]]\naddress = 'nobody'\ntargets = []", "an address"),
        ("format = 1\nsettings = 1", "settings is a table"),
        ("format = 1\n[settings]\nserver = 1", "settings of server"),
    ],
)
def test_what_does_not_fit_is_malformed_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        document.parse(text)


def test_what_is_no_text_cannot_be_written() -> None:
    with pytest.raises(Malformed):
        document.render(Configuration(settings={"server": {"x": "\ud800"}}))


def test_what_is_written_is_toml() -> None:
    assert tomllib.loads(document.render(Configuration((), (), (), {}))) == {
        "format": 1,
        "domains": [],
        "accounts": [],
        "aliases": [],
        "settings": {},
    }
