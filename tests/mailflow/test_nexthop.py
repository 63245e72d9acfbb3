"""A host as an administrator writes it: what is taken, as what, and what is refused with a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import Malformed, Misuse
from postroom.core.settings import SETTINGS
from postroom.mailflow.nexthop import parse_host, parse_next_hop

HOST = SETTINGS["relay.smart_host"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("hub.example", "host:hub.example"),
        ("Hub.Example.", "host:hub.example"),
        ("hub", "host:hub"),
        ("localhost:2525", "host:localhost:2525"),
        ("hub.example:587", "host:hub.example:587"),
        ("bücher.example:25", "host:xn--bcher-kva.example:25"),
        ("192.0.2.1", "host:[192.0.2.1]"),
        ("192.0.2.1:2525", "host:[192.0.2.1]:2525"),
        ("[192.0.2.1]:2525", "host:[192.0.2.1]:2525"),
        ("2001:db8::1", "host:[IPv6:2001:db8::1]"),
        ("[2001:DB8:0::1]", "host:[IPv6:2001:db8::1]"),
        ("[2001:db8::1]:587", "host:[IPv6:2001:db8::1]:587"),
        ("[IPv6:2001:db8::1]:26", "host:[IPv6:2001:db8::1]:26"),
    ],
)
def test_a_name_or_an_address_is_a_host_with_a_port_or_without(written: str, meant: str) -> None:
    assert str(parse_host(written)) == meant
    assert parse_next_hop(meant) == parse_host(written)
    assert HOST.parse(written) == written


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("hub.example:", "A port is a number"),
        ("hub.example:smtp", "A port is a number"),
        ("hub.example:0", "A port is a number"),
        ("hub.example:65536", "A port is a number"),
        ("192.0.2.1:99999999999", "A port is a number"),
        ("[2001:db8::1]:", "A port is a number"),
        ("smtp://hub.example", "A port is a number"),
        ("hub.example hub2.example", "no name of a host"),
        ("hub.example,hub2.example", "no name of a host"),
        ("me@hub.example", "no name of a host"),
        ("-hub.example", "no name of a host"),
        (":25", "no name of a host"),
        (".", "no name of a host"),
        ("256.1.1.1", "neither a name nor an address"),
        ("192.0.2", "neither a name nor an address"),
        ("hub.1:25", "neither a name nor an address"),
        ("[hub.example]", "Brackets hold an address"),
        ("[192.0.2.1", "Brackets hold an address"),
        ("[192.0.2.1]25", "Brackets hold an address"),
        ("0.0.0.0", "no host at this address"),
        ("[::]:25", "no host at this address"),
        ("224.0.0.1", "no host at this address"),
        ("fe80::1%eth0", "no host at this address"),
    ],
)
def test_what_is_no_host_is_refused_with_a_word_of_what_is_right(written: str, why: str) -> None:
    with pytest.raises(Misuse) as refused:
        HOST.parse(written)
    said = str(refused.value)
    assert said.startswith("relay.smart_host: ")
    assert why in said
    assert "192.0.2.1:587" in said
    assert "[2001:db8::1]:587" in said


@given(st.text(st.sampled_from("[]:.%1a a9f-"), max_size=30))
def test_whatever_is_written_is_a_host_that_is_read_back_or_refused(written: str) -> None:
    try:
        found = parse_host(written)
    except Malformed:
        return
    assert parse_next_hop(str(found)) == found
