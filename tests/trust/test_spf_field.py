"""Received-SPF holds whatever strangers chose, as one field. RFC 7208 §9.1, attack class 3."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats import headers
from postroom.formats.address import Address, BadAddress, parse_mailbox
from postroom.trust.spf import Client, Identity, Result, SpfResult, received_spf


def test_a_pass_as_people_and_programs_read_it() -> None:
    result = SpfResult(Result.PASS, "a.example", Identity.MAIL_FROM, "ip6:2001:db8::/32")
    client = Client(ip_address("2001:db8::1"), "mail.a.example", "mx.example.test")
    field = received_spf(result, client, parse_mailbox("ann@a.example"))
    assert headers.unfold(field) == (
        b"Received-SPF: pass (mx.example.test: a.example names 2001:db8::1 as a permitted sender) "
        b'receiver=mx.example.test; client-ip="2001:db8::1"; envelope-from="ann@a.example"; '
        b'helo=mail.a.example; identity=mailfrom; mechanism="ip6:2001:db8::/32"'
    )


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(Result),
    st.sampled_from(Identity),
    st.text(max_size=400),
    st.text(max_size=400),
    st.text(min_size=1, max_size=60),
    st.booleans(),
)
def test_strangers_add_no_field(
    result: Result, identity: Identity, text: str, helo: str, local: str, utf8: bool
) -> None:
    try:
        sender = Address(local, "a.example")
    except BadAddress:
        sender = None
    client = Client(ip_address("192.0.2.1"), helo, "mx.example.test")
    made = received_spf(SpfResult(result, text, identity, text), client, sender, utf8=utf8)
    found = headers.scan(made + b"\r\nbody")
    assert [field.name for field in found.fields] == [b"Received-SPF"]
    assert found.fields[0].end == len(made)
    assert utf8 or made.isascii()
    assert all(len(line) <= 998 for line in made.split(b"\r\n"))
    assert found.all(b"received-spf")[0].startswith(str(result).encode() + b" (mx.example.test: ")
