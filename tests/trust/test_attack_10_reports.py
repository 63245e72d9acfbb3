"""Attack class 10: XML that expands, reads files, nests or is wide, as a report."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from postroom.core.errors import MailError, Malformed, TooLarge
from postroom.testing.scaling import cpu_seconds
from postroom.trust.dmarc.reading import DEEPEST, LONGEST_TAG, MOST_TAGS, read
from tests.trust.refusing import refuses

HEAD = "<feedback><policy_published><domain>a.example</domain></policy_published>"


def entities(text: str, declared: str) -> bytes:
    name = f"<report_metadata><org_name>{text}</org_name></report_metadata>"
    return f'<?xml version="1.0"?><!DOCTYPE feedback [{declared}]>{HEAD}{name}</feedback>'.encode()


LAUGHS = '<!ENTITY a0 "ha">' + "".join(
    f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)
)


def test_billion_laughs_are_refused_before_they_are_parsed() -> None:
    with refuses(Malformed, "document type"):
        read(entities("&a9;", LAUGHS))


def test_a_file_of_ours_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden", encoding="ascii")
    for declared in (
        f'<!ENTITY x SYSTEM "{secret.as_uri()}">',
        f'<!ENTITY % x SYSTEM "{secret.as_uri()}"> %x;',
    ):
        with refuses(Malformed, "document type"):
            read(entities("&x;", declared))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_document_type_does_not_hide_in_another_encoding(encoding: str) -> None:
    text = entities("&a9;", LAUGHS).decode()
    with refuses(Malformed, "document type"):
        read(f"\ufeff{text}".encode(encoding))
    with pytest.raises(Malformed):
        read(text.encode(encoding))


def test_an_entity_that_was_not_declared_is_malformed() -> None:
    with pytest.raises(Malformed):
        read(f"{HEAD}<x>&unknown;</x></feedback>".encode())


def test_a_million_attributes_never_reach_the_parser() -> None:
    wide = " ".join(f'a{n}="1"' for n in range(1_000_000))
    content = f"<feedback {wide}>".encode()

    def refuse() -> None:
        with refuses(TooLarge, "a tag or value"):
            read(content)

    assert cpu_seconds(refuse, enough=0.5) < 2.0


def test_a_tag_of_just_the_bound_is_read_and_one_octet_more_is_not() -> None:
    text = f'<x a="{{}}"/>{HEAD[len("<feedback>") :]}'
    room = LONGEST_TAG - len('<x a=""/>')
    assert read(f"<feedback>{text.format('y' * room)}</feedback>".encode()).rows == ()
    with pytest.raises(TooLarge):
        read(f"<feedback>{text.format('y' * (room + 1))}</feedback>".encode())


def test_nesting_past_the_bound_is_malformed() -> None:
    held = "<x>" * (DEEPEST - 1) + "</x>" * (DEEPEST - 1)
    assert read(f"{HEAD}{held}</feedback>".encode()).rows == ()
    with refuses(Malformed, "nested"):
        read(f"{HEAD}{'<x>' * 100_000}".encode())


def test_more_tags_than_a_report_needs_are_refused() -> None:
    with refuses(TooLarge, "tags"):
        read(f"{HEAD}{'<x/>' * (MOST_TAGS + 1)}</feedback>".encode())


@pytest.mark.parametrize(
    "part",
    ["<x{n}/>", "<x a{n}='1'/>", "<x xmlns:a{n}='u'/>", "<x xmlns='urn:{n}'/>", "<?x{n} y?>"],
    ids=["element", "attribute", "prefix", "namespace", "instruction"],
)
def test_names_that_differ_are_few(part: str) -> None:
    """The parser keeps each for as long as its thread lives."""
    many = "".join(part.format(n=n) for n in range(100_000))
    with refuses(TooLarge, "names"):
        read(f"{HEAD}{many}</feedback>".encode())
    assert read(f"{HEAD}{part.format(n=1) * 100_000}</feedback>".encode()).rows == ()


def test_names_that_differ_do_not_stay_in_memory() -> None:
    """A hundred such reports would have kept 100 MB."""

    def hostile(n: int) -> bytes:
        names = "".join(f"<n{n}x{i}{'y' * 40}/>" for i in range(20_000))
        return f"{HEAD}{names}</feedback>".encode()

    def resident() -> int:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize()

    for n in range(20):
        with refuses(TooLarge, "names"):
            read(hostile(n))
    before = resident()
    for n in range(20, 120):
        with refuses(TooLarge, "names"):
            read(hostile(n))
    assert resident() - before < 30 * 1024 * 1024


def test_text_in_a_hundred_thousand_pieces_is_short_in_the_end() -> None:
    text = "a<!-- -->" * 100_000
    name = f"<report_metadata><org_name>{text}</org_name></report_metadata>"
    assert len(read(f"{HEAD}{name}</feedback>".encode()).organisation) <= 255


def test_nothing_of_cdata_is_markup() -> None:
    name = "<org_name><![CDATA[</org_name><org_name>x]]></org_name>"
    report = read(f"{HEAD}<report_metadata>{name}</report_metadata></feedback>".encode())
    assert report.organisation == "</org_name><org_name>x"


def test_whatever_is_refused_is_refused_with_an_error_of_ours() -> None:
    for content in (b"<", b"<a", b"<a b", b"<!--", b"<?xml", b"<![CDATA[", b"</a>", b"\xff\xfe<"):
        with pytest.raises(MailError):
            read(content)
