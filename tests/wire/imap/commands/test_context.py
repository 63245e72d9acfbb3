"""UPDATE, CONTEXT and CANCELUPDATE. RFC 5267 §5, RFC 5465 §8."""

from __future__ import annotations

import pytest

from postroom.wire.imap import (
    BadSyntax,
    CancelUpdate,
    Cursor,
    FetchAttribute,
    FetchBody,
    Partial,
    SearchReturn,
    Section,
    Update,
    parse_cancelupdate,
    parse_search,
    parse_sort,
)


def test_update_and_context_stand_beside_what_is_returned() -> None:
    asked = parse_search(Cursor(b" RETURN (UPDATE COUNT) ALL"))
    assert (asked.returns, asked.update) == (frozenset({SearchReturn.COUNT}), Update())
    asked = parse_search(Cursor(b" RETURN (context partial 1:2 update) ALL"))
    assert (asked.returns, asked.partial) == (frozenset(), Partial(1, 2))
    assert asked.update == Update()
    assert parse_search(Cursor(b" RETURN (UPDATE) ALL")).returns == frozenset()
    asked = parse_search(Cursor(b" RETURN (CONTEXT) ALL"))
    assert (asked.returns, asked.update) == (frozenset(), None)
    assert parse_search(Cursor(b" RETURN () ALL")).update is None
    assert parse_search(Cursor(b" ALL")).update is None
    assert parse_sort(Cursor(b" RETURN (UPDATE) (DATE) UTF-8 ALL")).update == Update()


def test_update_may_say_what_to_fetch() -> None:
    words = b" RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (TO SUBJECT)] UID) ALL) SEEN"
    asked = parse_search(Cursor(words))
    assert asked.returns == frozenset({SearchReturn.COUNT, SearchReturn.ALL})
    assert asked.update is not None
    uid, fields = asked.update.items
    assert uid is FetchAttribute.UID
    assert isinstance(fields, FetchBody)
    assert fields.section is Section.HEADER_FIELDS


@pytest.mark.parametrize(
    "wrong",
    [
        b" RETURN (UPDATE UPDATE) ALL",
        b" RETURN (UPDATE ()) ALL",
        b" RETURN (UPDATE (ALL)) ALL",
        b" RETURN (UPDATE(UID)) ALL",
        b" RETURN (UPDATE (UID) ALL",
        b" RETURN (CONTEXT 1) ALL",
    ],
)
def test_what_is_no_update(wrong: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse_search(Cursor(wrong))


def test_cancelupdate_names_tags() -> None:
    assert parse_cancelupdate(Cursor(b' "B01"')) == CancelUpdate((b"B01",))
    assert parse_cancelupdate(Cursor(b' "a" "b"')) == CancelUpdate((b"a", b"b"))
    for wrong in (b"", b" ", b' "a"  "b"', b" B01", b' "a'):
        with pytest.raises(BadSyntax):
            parse_cancelupdate(Cursor(wrong))
