"""Names in From that show somebody else's address: judged and mended as mail programs show them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats import envelope, headers
from postroom.formats.address import Mailbox, format_mailbox, parse_address_list, parse_mailbox
from postroom.formats.lookalike import addresses_in, visible
from tests.mailflow.serving import Mx
from tests.mailflow.test_authentication import ANN, BOB
from tests.mailflow.test_dmarc import written_by

REAL = parse_mailbox("eve@b.example")
SHOW_ANOTHER = (
    '"boss@a.example" <eve@b.example>',
    "boss@a.example <eve@b.example>",
    '"The Boss (boss@a.example)" <eve@b.example>',
    '"boss @ a.example" <eve@b.example>',
    '"boss (at) a.example" <eve@b.example>',
    "=?utf-8?q?boss=40a=2Eexample?= <eve@b.example>",
    '"=?utf-8?b?Ym9zc0BhLmV4YW1wbGU=?=" <eve@b.example>',
    "=?utf-8?q?boss=EF=BC=A0a=2Eexample?= <eve@b.example>",
    "=?utf-8?q?bo=E2=80=8Bss=40a=2Eexample?= <eve@b.example>",
)


def shown(content: bytes) -> list[Mailbox]:
    """The authors as an ENVELOPE tells them; none of them is a group."""
    found = headers.scan(content)
    read = envelope.read(found, content)
    return [each for each in read.from_ or () if isinstance(each, Mailbox)]


@pytest.mark.parametrize("author", SHOW_ANOTHER)
async def test_the_reader_sees_the_real_address_and_nobody_elses(mx: Mx, author: str) -> None:
    bob = await mx.account(BOB)
    await mx.set("from.replace_mismatch", True)
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], written_by(author))).accepted
    (content,) = await mx.content(bob)
    (fields,) = headers.scan(content).all(b"from")
    (one,) = parse_address_list(fields)
    assert isinstance(one, Mailbox)
    assert (one.local, one.domain) == ("eve", "b.example")
    assert "eve@b.example" in one.name
    assert "boss" not in one.name
    assert [(each.local, each.domain) for each in shown(content)] == [("eve", "b.example")]


@pytest.mark.parametrize("author", SHOW_ANOTHER)
async def test_it_can_be_refused(mx: Mx, author: str) -> None:
    bob = await mx.account(BOB)
    await mx.set("from.on_mismatch", "refuse")
    async with mx.connect() as client:
        done = await client.deliver(ANN, [BOB], written_by(author))
    assert done.end is not None and done.end.code == 550
    assert not await mx.content(bob)


@pytest.mark.parametrize(
    "author",
    (
        '"boss@a.example" <eve@b.example>, carl@b.example',
        'Friends: "boss@a.example" <eve@b.example>;',
        "Bob @ Work <eve@b.example>",
        '"eve@b.example" <eve@b.example>',
        "eve@b.example",
    ),
)
async def test_what_is_honest_or_has_no_single_author_stays_as_it_came(mx: Mx, author: str) -> None:
    bob = await mx.account(BOB)
    await mx.set("from.replace_mismatch", True)
    sent = written_by(author)
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], sent)).accepted
    (content,) = await mx.content(bob)
    assert content.endswith(sent)


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=80))
@settings(max_examples=80, deadline=None)
def test_a_name_with_the_address_added_still_leads_to_that_address_alone(name: str) -> None:
    made = headers.field("From", format_mailbox(f"{visible(name)} ({REAL})", REAL))
    (one,) = parse_address_list(headers.scan(made + b"\r\n").all(b"from")[0])
    assert isinstance(one, Mailbox)
    assert (one.local, one.domain) == ("eve", "b.example")


@given(st.text("a@.() tAT-", max_size=60))
@settings(max_examples=80, deadline=None)
def test_addresses_in_a_name_lie_beside_each_other_in_order(name: str) -> None:
    text, past = visible(name), 0
    for each in addresses_in(text):
        assert past <= each.start < each.end <= len(text)
        past = each.end
