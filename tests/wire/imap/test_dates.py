"""Dates on the wire."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import BadSyntax, Cursor, internal_date
from postroom.wire.imap.dates import render_date

ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))


@given(
    st.datetimes(
        min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31), timezones=ZONES  # noqa: DTZ001  # bounds, which Hypothesis wants naive
    )
)  # fmt: skip
def test_date_times_round_trip(at: datetime) -> None:
    rendered = internal_date(at)
    read = Cursor(rendered).date_time()
    assert read == at.replace(microsecond=0)
    assert read.utcoffset() == at.utcoffset()
    assert len(rendered) == 28


@given(st.dates())
def test_days_round_trip(day: date) -> None:
    rendered = render_date(day)
    assert Cursor(rendered).date() == day
    assert Cursor(b'"' + rendered + b'"').date() == day


def test_the_examples_of_the_rfc() -> None:
    at = Cursor(b'"17-Jul-1996 02:44:25 -0700"').date_time()
    assert at.astimezone(UTC) == datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)
    assert internal_date(at) == b'"17-Jul-1996 02:44:25 -0700"'
    assert Cursor(b'" 7-feb-1994 21:52:25 -0800"').date_time().day == 7
    assert Cursor(b"1-FEB-1994").date() == date(1994, 2, 1)


def test_an_offset_of_seconds_is_rounded_and_the_instant_kept() -> None:
    odd = timezone(timedelta(hours=-1, seconds=-30))
    at = datetime(2000, 1, 1, tzinfo=odd)
    assert Cursor(internal_date(at)).date_time() == at
    with pytest.raises(ValueError):
        internal_date(datetime(2000, 1, 1))  # noqa: DTZ001  # naive on purpose


@pytest.mark.parametrize(
    "text",
    [
        b'"31-Feb-2000 00:00:00 +0000"',
        b'"17-Jul-1996 24:00:00 +0000"',
        b'"17-Jul-1996 02:44:25"',
        b'"17-Jul-0000 02:44:25 +0000"',
        b'"17-Jux-1996 02:44:25 +0000"',
        b'"7-Jul-1996 02:44:25 +0000"',
        b'"17-Jul-1996 02:44:25 +0060"',
        b'"17-Jul-1996 02:44:25 +2400"',
        b"17-Jul-1996 02:44:25 +0000",
        b'" 1-Jan-0001 00:00:00 +2359"',
        b'"31-Dec-9999 23:59:59 -0100"',
        b'"17-Jul-1996 02:44:25 +0000',
    ],
)
def test_what_is_no_date_time_is_refused(text: bytes) -> None:
    with pytest.raises(BadSyntax):
        Cursor(text).date_time()


@pytest.mark.parametrize(
    "text", [b"30-Feb-1994", b"1-Fob-1994", b"1-Feb-94", b'"1-Feb-1994', b"1 Feb 1994", b""]
)
def test_what_is_no_day_is_refused(text: bytes) -> None:
    with pytest.raises(BadSyntax):
        Cursor(text).date()
