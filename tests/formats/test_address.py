"""postroom.formats.address: the envelope's addresses, strictly; the header's, as they come."""

from __future__ import annotations

import html
import re
import unicodedata
from email.utils import getaddresses, parseaddr
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.formats import address, address_list, headers
from postroom.formats.address import (
    Address,
    BadAddress,
    BadSender,
    Group,
    Mailbox,
    NotAscii,
    canonical_domain,
    format_address_list,
    format_mailbox,
    parse_address_list,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    to_address,
)
from postroom.testing.scaling import grows_linearly

# --- published vectors -------------------------------------------------------------------------

VECTORS = Path(__file__).parent.parent / "vectors" / "address" / "tests.xml"

# The suite's categories that RFC 5321 accepts; DNSWARN is syntax without fault.
ACCEPTED = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}

EXCEPTIONS = {
    71: "'::' for one group: RFC 4291 §2.2 allows it, RFC 5952 §4.2.2 only advises against",
}


def _vectors() -> list[tuple[int, str, str]]:
    found = []
    text = VECTORS.read_text(encoding="utf-8")
    for number, body in re.findall(r'<test id="(\d+)">(.*?)</test>', text, re.DOTALL):
        sent = re.search(r"<address>(.*?)</address>", body, re.DOTALL)
        category = re.search(r"<category>(.*?)</category>", body)
        assert category is not None
        plain = html.unescape(sent[1]) if sent else ""
        # Pictures of control characters stand for them (note 1 in the file).
        plain = re.sub("[\u2400-\u241f]", lambda c: chr(ord(c[0]) - 0x2400), plain)
        found.append((int(number), plain, category[1]))
    return found


def test_the_whole_suite_is_here() -> None:
    assert len(_vectors()) == 164


@pytest.mark.parametrize(("number", "text", "category"), _vectors())
def test_isemail(number: int, text: str, category: str) -> None:
    expected = (category in ACCEPTED) != (number in EXCEPTIONS)
    try:
        found = parse_mailbox(text)
    except BadAddress:
        assert not expected
        return
    assert expected
    assert parse_mailbox(str(found)) == found
    assert parse_forward_path(f"<{text}>".encode(), utf8=False) == (found, b"")


# --- the strict address ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "local", "domain", "wire"),
    [
        ("Ann.Lee@Example.ORG", "Ann.Lee", "example.org", "Ann.Lee@example.org"),
        ('"ann"@a.example', "ann", "a.example", "ann@a.example"),
        (r'"a\"b\\ c"@a.example', 'a"b\\ c', "a.example", r'"a\"b\\ c"@a.example'),
        ('"a@b"@a.example', "a@b", "a.example", '"a@b"@a.example'),
        ('""@a.example', "", "a.example", '""@a.example'),
        ("a@bücher.example", "a", "xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("a@faß.example", "a", "xn--fa-hia.example", "a@xn--fa-hia.example"),
        ("a@ＥＸ。example", "a", "ex.example", "a@ex.example"),
        ("a@XN--BCHER-KVA.example", "a", "xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[ipv6:2001:DB8:0:0::1]", "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
        ("a@[IPv6:::ffff:192.0.2.1]", "a", "[IPv6:::ffff:c000:201]", "a@[IPv6:::ffff:c000:201]"),
        ("jo\u0308rg@a.example", "jörg", "a.example", "jörg@a.example"),
        ("用户@例子.example", "用户", "xn--fsqu00a.example", "用户@xn--fsqu00a.example"),
    ],
)
def test_canonical_form(text: str, local: str, domain: str, wire: str) -> None:
    found = parse_mailbox(text)
    assert (found.local, found.domain, str(found)) == (local, domain, wire)
    assert parse_mailbox(wire) == found
    assert found.ascii == local.isascii()


def test_equal_mailboxes_share_a_key() -> None:
    assert parse_mailbox("ANN@Bücher.example").key == parse_mailbox("ann@xn--bcher-kva.example").key
    assert parse_mailbox("Straße@a.example").key == parse_mailbox("STRASSE@a.example").key
    assert parse_mailbox('"ann"@a.example').key == "ann@a.example"


@pytest.mark.parametrize(
    ("local", "parts"),
    [
        ("ann", ("ann", None)),
        ("ann+lists", ("ann", "lists")),
        ("ann+a+b", ("ann", "a+b")),
        ("ann+", ("ann", "")),
        ("+ann", ("+ann", None)),
    ],
)
def test_subaddresses(local: str, parts: tuple[str, str | None]) -> None:
    assert Address(local, "a.example").subaddress() == parts


@pytest.mark.parametrize(
    "text",
    [
        *("a@b_c.example", "a@-b.example", "a@b..example", "a@.example", "a@b.example.", "a@"),
        *("a b@c.example", "a@b.example ", " a@b.example", "<a@b.example>", "a@b@c.example"),
        *("a@[192.0.2.256]", "a@[192.0.2.01]", "a@[IPv6:fe80::1%eth0]", "a@[tag:x]", "a@[]", "a@["),
        *(
            "a\r\n@b.example",
            "a@b.example\n",
            '"a\n"@b.example',
            '"a\\\n"@b.example',
            "a\x00@b.example",
        ),
        *("a\x85@b.example", "a\u2028b@b.example", "a\u202eb@b.example", "a\u00a0b@b.example"),
        *("\ud800@b.example", "a@\ud800.example", "a@b\u2028c.example", "é" * 33 + "@b.example"),
        *("x" * 65 + "@b.example", "a@" + "b." * 130 + "example", "a@" + "ü" * 300, "a@☃.example"),
        *('"' + "x" * 63 + '"@b.example', "x" * 64 + "@" + ".".join(["y" * 63] * 3), "@b.example"),
    ],
)
def test_what_is_no_mailbox(text: str) -> None:
    with pytest.raises(BadAddress):
        parse_mailbox(text)


@given(st.text(max_size=40), st.text(max_size=20))
@example("a\r\nRCPT TO:<b@c.example>", "a.example")
@example("a", "a.example>\r\nDATA")
@settings(max_examples=200, deadline=None)
def test_attack_03_no_address_breaks_out_of_its_line(local: str, domain: str) -> None:
    try:
        made = Address(local, domain)
    except BadAddress:
        return
    wire = str(made)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", wire)
    try:
        field = headers.field("To", format_mailbox("Ann", made, utf8=True), utf8=True)
    except Malformed:
        return
    assert len(headers.scan(field).fields) == 1 and field.count(b"\n") == field.count(b"\r\n ") + 1


locals_ = st.one_of(
    st.from_regex(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~.-]{1,20}", fullmatch=True),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20),
    st.text(st.sampled_from('añß用é ʻ"\\@.\u0301'), max_size=12),
)
domains = st.sampled_from(
    ["a.example", "bücher.example", "[192.0.2.9]", "[IPv6:2001:db8::9]", "X.Y"]
)


@given(locals_, domains)
@settings(max_examples=200, deadline=None)
def test_wire_form_round_trip(local: str, domain: str) -> None:
    made = Address(unicodedata.normalize("NFC", local), canonical_domain(domain))
    assume(len(str(made).encode()) - len(made.domain) <= 65)
    assert parse_mailbox(str(made)) == made
    path = f"<{made}> SIZE=1".encode()
    assert parse_forward_path(path, utf8=True) == (made, b" SIZE=1")
    assert parse_reverse_path(path, utf8=True) == (made, b" SIZE=1")
    if made.ascii:
        assert parse_forward_path(path, utf8=False) == (made, b" SIZE=1")
    else:
        with pytest.raises(NotAscii):
            parse_forward_path(path, utf8=False)
    assert made.key == parse_mailbox(str(made)).key


def test_reverse_paths() -> None:
    assert parse_reverse_path(b"<>", utf8=False) == (None, b"")
    assert parse_reverse_path(b"<> RET=HDRS", utf8=False) == (None, b" RET=HDRS")
    ann = Address("ann", "a.example")
    assert parse_reverse_path(b"<ann@a.example>", utf8=False) == (ann, b"")
    # RFC 5321 Appendix C: a source route is accepted and ignored
    routed = b"<@one.example,@two.example:ann@a.example> X"
    assert parse_reverse_path(routed, utf8=False) == (ann, b" X")


def test_postmaster_needs_no_domain() -> None:
    found, rest = parse_forward_path(b"<POSTmaster> NOTIFY=NEVER", utf8=False)
    assert (str(found), found.domain, rest) == ("postmaster", "", b" NOTIFY=NEVER")
    with pytest.raises(BadSender):
        parse_reverse_path(b"<Postmaster>", utf8=False)


@pytest.mark.parametrize(
    "path",
    [
        *(
            b"",
            b"<",
            b"ann@a.example",
            b" <ann@a.example>",
            b"<ann@a.example",
            b"<ann>",
            b"<@a.example>",
        ),
        *(b"<ann@a.example\r\n>", b"<ann@a.example\x00>", b'<"ann@a.example>', b'<an"n@a.example>'),
        *(b"<ann @a.example>", b"<ann@ a.example>", b"< ann@a.example>", b"<<ann@a.example>>"),
        *(b"<ann@a.example,bob@a.example>", b"<@:ann@a.example>", b"<@-x:ann@a.example>"),
        *(b"<one.example:ann@a.example>", b"<@one.example ann@a.example>", b"<ann@a@a.example>"),
        b"<" + b"@one.example," * 200 + b"@two.example:ann@a.example>",
        b"<" + b"x" * 65 + b"@a.example>",
        b"<ann@" + b"x" * 300 + b">",
    ],
)
def test_what_is_no_path(path: bytes) -> None:
    with pytest.raises(BadAddress) as forward:
        parse_forward_path(path, utf8=False)
    assert str(forward.value.status) == "5.1.3"
    with pytest.raises(BadSender) as reverse:
        parse_reverse_path(path, utf8=True)
    assert str(reverse.value.status) == "5.1.7"


def test_eight_bit_paths_need_smtputf8_and_valid_utf8() -> None:
    path = "<jörg@bücher.example>".encode()
    found, _ = parse_forward_path(path, utf8=True)
    assert str(found) == "jörg@xn--bcher-kva.example"
    with pytest.raises(NotAscii):
        parse_forward_path(path, utf8=False)
    with pytest.raises(NotAscii):
        parse_reverse_path(path, utf8=False)
    for broken in (b"<j\xf6rg@a.example>", b"<a@b\xff.example>", b"<\xed\xa0\x80@a.example>"):
        with pytest.raises(BadAddress):
            parse_forward_path(broken, utf8=True)


@given(st.binary(max_size=80), st.booleans())
@settings(max_examples=200, deadline=None)
def test_paths_of_any_bytes_parse_or_are_refused(data: bytes, utf8: bool) -> None:
    for sent in (data, b"<" + data + b">"):
        try:
            found, _ = parse_reverse_path(sent, utf8=utf8)
        except BadAddress:
            continue
        if found is not None:
            assert parse_mailbox(str(found)) == found


# --- the header's lists ------------------------------------------------------------------------


def box(
    name: str, local: str, domain: str, raw: bytes | None = None, route: bytes = b""
) -> Mailbox:
    return Mailbox(name, local, domain, name.encode() if raw is None else raw, route)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        # RFC 5322 Appendix A
        (b"John Doe <jdoe@machine.example>", [box("John Doe", "jdoe", "machine.example")]),
        (
            b'"Joe Q. Public" <john.q.public@example.com>',
            [box("Joe Q. Public", "john.q.public", "example.com")],
        ),
        (
            b"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
            [
                box("Mary Smith", "mary", "x.test"),
                box("", "jdoe", "example.org"),
                box("Who?", "one", "y.test"),
            ],
        ),
        (
            b'<boss@nil.test>, "Giant; \\"Big\\" Box" <sysservices@example.net>',
            [box("", "boss", "nil.test"), box('Giant; "Big" Box', "sysservices", "example.net")],
        ),
        (
            b"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
            [
                Group(
                    "A Group",
                    [
                        box("Ed Jones", "c", "a.test"),
                        box("", "joe", "where.test"),
                        box("John", "jdoe", "one.test"),
                    ],
                    b"A Group",
                )
            ],
        ),
        (
            b"Undisclosed recipients:;",
            [Group("Undisclosed recipients", [], b"Undisclosed recipients")],
        ),
        (
            b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
            [box("Pete", "pete", "silly.test")],
        ),
        (
            b"A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n"
            b"  joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end)",
            [
                Group(
                    "A Group",
                    [
                        box("Chris Jones", "c", "public.example"),
                        box("", "joe", "example.org"),
                        box("John", "jdoe", "one.test"),
                    ],
                    b"A Group",
                )
            ],
        ),
        (
            b"Joe Q. Public <john.q.public@example.com>",
            [box("Joe Q. Public", "john.q.public", "example.com")],
        ),
        (
            b"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
            [
                box("Mary Smith", "mary", "example.net", route=b"@node.test"),
                box("", "jdoe", "test.example"),
            ],
        ),
        (b"<@a.test,@b.test:c@d.test>", [box("", "c", "d.test", route=b"@a.test,@b.test")]),
        # names
        (b"jdoe@example.org (John Doe)", [box("John Doe", "jdoe", "example.org")]),
        (b"jdoe@example.org (John (Jack) Doe)", [box("John (Jack) Doe", "jdoe", "example.org")]),
        (b"jdoe@example.org John Doe", [box("John Doe", "jdoe", "example.org")]),
        (b"<jdoe@example.org> John Doe", [box("John Doe", "jdoe", "example.org")]),
        (b"John Doe jdoe@example.org", [box("John Doe", "jdoe", "example.org")]),
        (b"jdoe@a.test <jdoe@a.test>", [box("jdoe@a.test", "jdoe", "a.test")]),
        (b'Joe "the man" Doe <j@a.test>', [box("Joe the man Doe", "j", "a.test")]),
        (b"[SPAM] Joe <j@a.test>", [box("[SPAM] Joe", "j", "a.test")]),
        (
            b"=?utf-8?Q?Doe,_J=C3=B6?= <j@a.test>",
            [box("Doe, Jö", "j", "a.test", b"=?utf-8?Q?Doe,_J=C3=B6?=")],
        ),
        (b'"=?utf-8?Q?J=C3=B6?=" <j@a.test>', [box("Jö", "j", "a.test", b"=?utf-8?Q?J=C3=B6?=")]),
        (
            b"=?utf-8?B?w?=\r\n =?utf-8?B?6k=?= <j@a.test>",
            [box("é", "j", "a.test", b"=?utf-8?B?w?= =?utf-8?B?6k=?=")],
        ),
        ("Jörg <jörg@bücher.test>".encode(), [box("Jörg", "jörg", "bücher.test")]),
        (b"J\xf6rg <j@a.test>", [box("Jörg", "j", "a.test", b"J\xf6rg")]),
        # blanks around the dots of a domain, RFC 5322 §4.4; those of a name part words
        (b"a@b .test", [box("", "a", "b.test")]),
        (b"a@b. test, <a@b .test>", [box("", "a", "b.test"), box("", "a", "b.test")]),
        (b"J. R. Doe a@b.test", [box("J. R. Doe", "a", "b.test")]),
        (b"Doe J. a@b.test", [box("Doe J.", "a", "b.test")]),
        # damage
        (b", , j@a.test,", [box("", "j", "a.test")]),
        (b"a@b.test c@d.test", [box("", "a", "b.test"), box("", "c", "d.test")]),
        (b"<a@b.test> <c@d.test>", [box("", "a", "b.test"), box("", "c", "d.test")]),
        (b"<a@b.test> Carl <c@d.test>", [box("", "a", "b.test"), box("Carl", "c", "d.test")]),
        (b"a@b.test; c@d.test", [box("", "a", "b.test"), box("", "c", "d.test")]),
        (b"Joe <a@b.test, Bob <c@d.test>", [box("Joe", "a", "b.test"), box("Bob", "c", "d.test")]),
        (b"Joe <a@b.test", [box("Joe", "a", "b.test")]),
        (b"Joe <<a@b.test>>", [box("Joe", "a", "b.test")]),
        (b"Joe <Doe <a@b.test>", [box("Joe Doe", "a", "b.test")]),
        (b'"Joe <a@b.test>, c@d.test', [box("Joe", "a", "b.test"), box("", "c", "d.test")]),
        (b"Joe (home <a@b.test>", [box("Joe home", "a", "b.test")]),
        (b"mailto:a@b.test", [box("", "a", "b.test")]),
        (b"<mailto:a@b.test>", [box("", "a", "b.test")]),
        (b"a@b@c.test", [box("", "a@b", "c.test")]),
        (b'"a b"@c.test', [box("", "a b", "c.test")]),
        (b"<a b@c.test>", [box("", "a b", "c.test")]),
        (b"a@[IPv6:::1]", [box("", "a", "[IPv6:::1]")]),
        (
            b"<Undisclosed-Recipient:@a.test;>",
            [Group("Undisclosed-Recipient", [], b"Undisclosed-Recipient")],
        ),
        (b"undisclosed-recipients", [box("", "undisclosed-recipients", "")]),
        (b"root (Cron)", [box("Cron", "root", "")]),
        (b"Joe Doe", [box("Joe Doe", "", "")]),
        (b'"Joe"', [box("Joe", "", "")]),
        (b'"KLAUS" <>', [box("KLAUS", "", "")]),
        (b"Joe <joe>", [box("Joe", "joe", "")]),
        (b"list: a@b.test", [Group("list", [box("", "a", "b.test")], b"list")]),
        (b"x:;y:a@b.test;", [Group("x", [], b"x"), Group("y", [box("", "a", "b.test")], b"y")]),
        (b"<>", []),
        (b"", []),
        (b" ,;: \r\n", []),
    ],
)
def test_lists_as_they_arrive(value: bytes, found: list[Mailbox | Group]) -> None:
    assert parse_address_list(value) == found


simple_names = st.text("abc XY.-'\"\\,()é", max_size=20)


@given(simple_names, st.text("ab.-+", min_size=1, max_size=8), st.sampled_from(["", " ", "\t"]))
@example("a  b", "a", "")
@settings(max_examples=200, deadline=None)
def test_the_short_way_reads_what_the_long_way_reads(name: str, local: str, blank: str) -> None:
    for value in (
        f"{name} <{local}@a.example>{blank}",
        f'{blank}"{name}"{blank}<{local}@a.example>',
        f"{blank}{local}@a.example",
        f"<{local}@a.example>\r\n",
    ):
        data = value.encode()
        assert parse_address_list(data) == address_list._ListReader(data).read()


strict_addresses = st.builds(
    Address,
    st.one_of(
        st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,8}(\.[a-z]{1,5}){0,2}", fullmatch=True),
        st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12),
    ),
    st.sampled_from(["a.example", "xn--bcher-kva.example", "[192.0.2.9]", "[IPv6:2001:db8::9]"]),
)
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30)


@given(
    st.lists(
        st.tuples(names, st.lists(st.tuples(names, strict_addresses), max_size=3)), max_size=3
    ),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_lists_that_we_compose_come_back(
    groups: list[tuple[str, list[tuple[str, Address]]]], utf8: bool
) -> None:
    """Groups with a name, mailboxes without one; through a folded field."""
    parts = []
    meant: list[tuple[str, list[tuple[str, Address]]]] = []
    for group, members in groups:
        listed = ", ".join(format_mailbox(name, each, utf8=utf8) for name, each in members)
        if group.strip():
            parts.append(f"{address.format_phrase(group, utf8=utf8)}: {listed};")
            meant.append((group.strip(), members))
        elif listed:
            parts.append(listed)
            meant += [("", [member]) for member in members]
    wire = headers.field("To", ", ".join(parts), utf8=utf8)
    found = parse_address_list(headers.scan(wire).first(b"to") or b"")
    seen = []
    for each in found:
        boxes = each.members if isinstance(each, Group) else [each]
        group_name = each.name if isinstance(each, Group) else ""
        seen.append((group_name, [(one.name, to_address(one)) for one in boxes]))
    assert seen == [
        (group, [(name.strip(), each) for name, each in members]) for group, members in meant
    ]


@given(st.lists(st.tuples(st.text("abc XY", max_size=12), strict_addresses), max_size=4))
@settings(max_examples=200, deadline=None)
def test_well_formed_lists_agree_with_the_stdlib(pairs: list[tuple[str, Address]]) -> None:
    # It does not undo quotes in local parts, and joins lone blanks: both are left out here.
    pairs = [(" ".join(name.split()), each) for name, each in pairs if '"' not in str(each)]
    value = ", ".join(format_mailbox(name, each) for name, each in pairs)
    ours = parse_address_list(value.encode())
    assert all(isinstance(each, Mailbox) for each in ours)
    assert [
        (each.name, f"{each.local}@{each.domain}") for each in ours if isinstance(each, Mailbox)
    ] == [pair for pair in getaddresses([value]) if pair != ("", "")]


@pytest.mark.parametrize(
    ("value", "ours", "theirs", "why"),
    [
        ("a@b.test c@d.test", ("", "a@b.test"), ("", ""), "it gives up; we see a missing comma"),
        ("a@b@c.test", ("", "a@b@c.test"), ("", ""), "it refuses; for us the last @ counts"),
        ("Joe <a@b.test", ("Joe", "a@b.test"), ("Joe", "a@b.test"), "both forgive"),
        ("a@b.test (Joe)", ("Joe", "a@b.test"), ("Joe", "a@b.test"), "both know the old form"),
        ("Joe Doe a@b.test", ("Joe Doe", "a@b.test"), ("", "Joe Doe a@b.test"), "it joins words"),
    ],
)
def test_where_the_stdlib_reads_otherwise(
    value: str, ours: tuple[str, str], theirs: tuple[str, str], why: str
) -> None:
    first = parse_address_list(value.encode())[0]
    assert isinstance(first, Mailbox)
    assert (first.name, f"{first.local}@{first.domain}") == ours, why
    # Its answer differs between patch releases; what matters is that it is not a third reading.
    assert parseaddr(value) in {theirs, ours, ("", ""), ("", value.replace(" ", ""))}, why


SPECIALS = b'< > @ , : ; " ( ) [ ] \\ . a \xff \xc3\xa9 =? =?utf-8?q?x?= mailto b@c.d'.split(b" ")
specials = st.lists(st.sampled_from([*SPECIALS, b" ", b"\r\n ", b"\x00"]), max_size=40).map(
    b"".join
)


@given(st.one_of(specials, st.binary(max_size=200)))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_list_that_can_be_sent_on(value: bytes) -> None:
    for each in parse_address_list(value):
        boxes = each.members if isinstance(each, Group) else [each]
        for text in [each.name, *(one.name + one.local + one.domain for one in boxes)]:
            text.encode("utf-8")
            assert not re.search("[\x00-\x08\x0a-\x1f\x7f]", text)
        for one in boxes:
            assert one.name_raw or one.local or one.domain
            made = to_address(one)
            assert made is None or parse_mailbox(str(made)) == made


def test_at_most_5000_addresses() -> None:
    found = parse_address_list(b"a@b.test, " * 6_000)
    assert len(found) == 5_000
    found = parse_address_list(b"g: " + b"a@b.test, " * 6_000)
    assert isinstance(found[0], Group) and len(found[0].members) < 5_000
    assert len(parse_address_list(b"g:;" * 6_000)) <= 5_000


def test_composing_refuses_what_has_no_address() -> None:
    with pytest.raises(BadAddress):
        format_address_list([Mailbox("Joe", "", "")])
    with pytest.raises(NotAscii):
        format_mailbox("", Address("jörg", "a.example"))
    with pytest.raises(Malformed):
        format_mailbox("a\r\nBcc: x@y.example", Address("a", "a.example"))


@pytest.mark.parametrize(
    "unit",
    [
        *(b"(", b")", b"()", b"((", b'"', b'\\"', b'"\\', b"<", b">", b"@", b",", b":", b";", b"["),
        *(
            b"[]",
            b"\\",
            b" ",
            b"a ",
            b"a@",
            b"a@b ",
            b"a@b. ",
            b"<a@b>",
            b"<@a,",
            b"=?a?q?",
            b"=?a?q?,",
            b".",
        ),
        *(b"a.", b". ", b"a:;", b"<a:", b"\xe9 ", b"\xe9@b,", b"\r\n ", b'"a"', b"=?utf-8?q?a?= "),
    ],
)
def test_lists_are_linear(unit: bytes) -> None:
    small = unit * (5_000 // len(unit))
    large = unit * (50_000 // len(unit))
    assert grows_linearly(parse_address_list, small, large, 10)


@pytest.mark.parametrize("unit", [b"a", b"a.", b'"', b"\\", b"@a,", b"@", b"<", "é".encode()])
def test_paths_are_linear(unit: bytes) -> None:
    def refuse(data: bytes) -> None:
        with pytest.raises(BadAddress):
            parse_forward_path(data, utf8=True)

    small = b"<" + unit * 2_000
    large = b"<" + unit * 20_000
    assert grows_linearly(refuse, small, large, 10)
