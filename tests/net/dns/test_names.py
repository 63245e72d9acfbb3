"""Names as text: one form for each, and every name of the wire has one."""

from __future__ import annotations

from ipaddress import ip_address

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.net.dns.names import canonical_name, from_labels, reverse_name, to_wire

LABELS = st.lists(st.binary(min_size=1, max_size=63), min_size=1, max_size=4).filter(
    lambda labels: sum(map(len, labels)) + len(labels) < 255
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A.Example", "a.example"),
        ("a.example.", "a.example"),
        ("_25._tcp.mx.a.example", "_25._tcp.mx.a.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa"),
        (r"a\.b.example", r"a\.b.example"),
        (r"\065.example", "a.example"),
        (r"a\032b.example", r"a\032b.example"),
        (r"a\\.example", r"a\\.example"),
        (r"a\..example.", r"a\..example"),
        (r"a\..", r"a\."),
    ],
)
def test_a_name_has_one_text(text: str, name: str) -> None:
    assert canonical_name(text) == name
    assert canonical_name(name) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        ".a.example",
        "a..example",
        "a.example..",
        "a b.example",
        "a.example\n",
        "a\x00.example",
        "bücher.example",
        f"{'a' * 64}.example",
        f"{'a.' * 127}aa",
        "a." * 1000,
        "a\\",
        r"\25.example",
        r"\256.example",
        r"\..\...",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        canonical_name(text)


def test_the_longest_name_fits() -> None:
    name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(to_wire(canonical_name(name))) == 255
    with pytest.raises(Malformed):
        canonical_name(name + "d")


@given(LABELS)
def test_any_labels_survive_text_and_wire(labels: list[bytes]) -> None:
    text = from_labels(labels)
    assert canonical_name(text) == text
    assert text.isascii() and text.isprintable()
    wire = to_wire(text)
    lower = [label.lower() for label in labels]
    assert wire == dns.name.Name([*lower, b""]).to_wire()


@given(st.text(alphabet="aA0.\\-_ é", max_size=300))
def test_text_is_a_name_or_malformed(text: str) -> None:
    try:
        name = canonical_name(text)
    except Malformed:
        return
    assert dns.name.from_text(text).canonicalize().to_wire() == to_wire(name)


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"),
        ("fe80::1%eth0", "1." + "0." * 28 + "8.e.f.ip6.arpa"),
    ],
)
def test_addresses_have_reverse_names(ip: str, name: str) -> None:
    assert reverse_name(ip_address(ip)) == name
    assert canonical_name(name) == name
