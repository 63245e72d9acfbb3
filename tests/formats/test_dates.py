"""postroom.formats.dates: dates as they arrive, round trips, and the stdlib as oracle."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.formats import dates

moments = st.integers(-2_208_902_400, 253_370_678_400).map(
    lambda seconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)  # 1900-01-02 to 9998-12-30
zones = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda n: timezone(timedelta(minutes=n)))


def at(*parts: int, east: float = 0) -> datetime:
    year, month, day, hour, minute, second = parts
    zone = timezone(timedelta(hours=east))
    return datetime(year, month, day, hour, minute, second, tzinfo=zone)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (b"Fri, 21 Nov 1997 09:55:06 -0600", at(1997, 11, 21, 9, 55, 6, east=-6)),
        (b" Tue, 1 Jul 2003 10:52:37 +0200\r\n", at(2003, 7, 1, 10, 52, 37, east=2)),
        # RFC 5322 Appendix A.5 and A.6.2
        (
            b"Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n"
            b"               -0330 (Newfoundland Time)",
            at(1969, 2, 13, 23, 32, 0, east=-3.5),
        ),
        (b"21 Nov 97 09:55:06 GMT", at(1997, 11, 21, 9, 55, 6)),
        (b"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", None),  # no mailer writes that
        (b"01 Jan 49 00:00 EST", at(2049, 1, 1, 0, 0, 0, east=-5)),
        (b"01 Jan 50 00:00 EST", at(1950, 1, 1, 0, 0, 0, east=-5)),
        (b"01 Jan 107 00:00 EST", at(2007, 1, 1, 0, 0, 0, east=-5)),
        (b"Wed, 09 Jan 2002 19:47:50 MST", at(2002, 1, 9, 19, 47, 50, east=-7)),
        (b"Tue, 04 Dec 2001 17:11:25 A", at(2001, 12, 4, 17, 11, 25)),  # §4.3: as -0000
        (b"Tue, 04 Dec 2001 17:11:25 -0000", at(2001, 12, 4, 17, 11, 25)),
        (b"Tue, 04 Dec 2001 17:11:25 +9959", at(2001, 12, 4, 17, 11, 25)),
        (b"Tue, 04 Dec 2001 17:11:25", at(2001, 12, 4, 17, 11, 25)),
        (b"Tue, 04 Dec 2001 17:11", at(2001, 12, 4, 17, 11, 0)),
        (b"Tue, 04 Dec 2001", at(2001, 12, 4, 0, 0, 0)),
        (b"Tue, 12 Oct 2010 16:21:05 H0500", at(2010, 10, 12, 16, 21, 5)),
        (b"Tue, 12 Oct 2010 16:21:60 +0000", at(2010, 10, 12, 16, 21, 59)),
        (b"Tue, 12 Oct 2010 16:21:05 GMT+0100", at(2010, 10, 12, 16, 21, 5, east=1)),
        (b"Tue, 12 Oct 2010 16:21:05 UTC+1", at(2010, 10, 12, 16, 21, 5, east=1)),
        (b"Tue, 12 Oct 2010 16:21:05 +05:30", at(2010, 10, 12, 16, 21, 5, east=5.5)),
        (b"Tue, 12 Oct 2010 16:21:05 +100", at(2010, 10, 12, 16, 21, 5, east=1)),
        (b"Tue, 12 Oct 2010 16:21:05 +0200 (CEST)", at(2010, 10, 12, 16, 21, 5, east=2)),
        (b"Tue, 12 Oct 2010 16:21:05 MET DST", at(2010, 10, 12, 16, 21, 5, east=2)),
        (b"(a (nested) one) 12 Oct 2010 (b) 16:21:05 +0200", at(2010, 10, 12, 16, 21, 5, east=2)),
        (b"Tuesday, 12-Oct-10 16:21:05 GMT", at(2010, 10, 12, 16, 21, 5)),
        (b"Tue Oct 12 16:21:05 2010", at(2010, 10, 12, 16, 21, 5)),
        (b"Tue Oct 12 16:21:05 2010 -0400", at(2010, 10, 12, 16, 21, 5, east=-4)),
        (b"Tue Oct 12 16:21:05 EDT 2010", at(2010, 10, 12, 16, 21, 5, east=-4)),
        (b"October 12, 2010 4:21 PM", at(2010, 10, 12, 16, 21, 0)),
        (b"12 October 2010 12:05 AM +0100", at(2010, 10, 12, 0, 5, 0, east=1)),
        (b"2010-10-12T16:21:05Z", at(2010, 10, 12, 16, 21, 5)),
        (b"2010-10-12T16:21:05.123+02:00", at(2010, 10, 12, 16, 21, 5, east=2)),
        (b"2010-10-12 16:21:05 +0200", at(2010, 10, 12, 16, 21, 5, east=2)),
        (b"16:21:05 12 Oct 2010", at(2010, 10, 12, 16, 21, 5)),
        (b"Mon, 12 Oct 2010 16.21.05 +0200", at(2010, 10, 12, 16, 21, 5, east=2)),
        (b"Wed, 15 Dec 2010    59:10 -0500", None),
        (b"Wed, 31 Feb 2010 10:10 -0500", None),
        (b"Pn, 29 paX 2007 21:13:00 +0100", None),
        (b"Mon, 12 Xyz 2010 16:21:05 +0200", None),
        (b"1 Jan 1899 00:00:00 +0000", None),
        (b"1 Jan 9999 00:00:00 +0000", None),
        (b"10/12/2010 16:21:05", None),  # whose tenth month?
        (b"Whenever", None),
        (b"<HR>", None),
        (b"", None),
    ],
)
def test_dates_as_they_arrive(sent: bytes, meant: datetime | None) -> None:
    found = dates.parse_date(sent)
    assert found == meant
    assert (found and found.utcoffset()) == (meant and meant.utcoffset())


@given(moments, zones)
@settings(max_examples=200, deadline=None)
def test_round_trip(moment: datetime, zone: timezone) -> None:
    local = moment.astimezone(zone)
    found = dates.parse_date(dates.format_date(local).encode())
    assert found == local
    assert found is not None
    assert found.utcoffset() == local.utcoffset()
    assert dates.parse_internaldate(dates.format_internaldate(local)) == local


@given(moments, zones)
@settings(max_examples=200, deadline=None)
def test_the_form_is_what_the_stdlib_writes_and_reads(moment: datetime, zone: timezone) -> None:
    local = moment.astimezone(zone)
    assert dates.format_date(local) == format_datetime(local)
    assert parsedate_to_datetime(dates.format_date(local)) == local


def _oracle(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@given(
    st.sampled_from(["", "Mon, ", "Tue,"]),
    st.integers(1, 28),
    st.sampled_from(["Jan", "feb", "MAR", "December"]),
    st.sampled_from(["2024", "99", "07"]),
    st.sampled_from(["10:20:30", "1:02", "23:59:59"]),
    st.sampled_from(["+0100", "-0330", "EST", "GMT", "PDT", "Z", "(x) +0000"]),
)
@settings(max_examples=200, deadline=None)
def test_agrees_with_the_stdlib(
    weekday: str, day: int, month: str, year: str, clock: str, zone: str
) -> None:
    # Years of two digits agree for these: the stdlib splits at 69, RFC 5322 §4.3 at 50.
    text = f"{weekday}{day} {month} {year} {clock} {zone}"
    assert dates.parse_date(text.encode()) == _oracle(text)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_bytes_of_any_kind_never_raise(data: bytes) -> None:
    found = dates.parse_date(data)
    assert found is None or found.astimezone(UTC).tzinfo is UTC


@given(st.text('0123456789 :+-.,TZJanFeb()"apm/', max_size=60))
@settings(max_examples=500, deadline=None)
def test_near_dates_never_raise(text: str) -> None:
    found = dates.parse_date(text.encode())
    assert found is None or found.astimezone(UTC).tzinfo is UTC


@pytest.mark.parametrize("unit", [b"(", b"()", b"1:", b"1 ", b"+", b"a", b"2010-10-12", b"jan "])
def test_long_input_costs_no_more_than_short(unit: bytes) -> None:
    start = time.thread_time()
    for _ in range(20):
        dates.parse_date(unit * 500_000)
    assert time.thread_time() - start < 2


def test_offsets_of_seconds_become_whole_minutes_and_the_instant_stays() -> None:
    amsterdam = timezone(timedelta(minutes=19, seconds=32))
    moment = datetime(1930, 1, 1, 12, 0, 0, tzinfo=amsterdam)
    found = dates.parse_date(dates.format_date(moment).encode())
    assert found == moment


def test_naive_datetimes_are_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        dates.format_date(datetime(2024, 1, 1))  # noqa: DTZ001 # what the test is about
    with pytest.raises(ValueError, match="naive"):
        dates.format_internaldate(datetime(2024, 1, 1))  # noqa: DTZ001


def test_internaldate_is_the_grammar_with_its_quotes() -> None:
    moment = at(1996, 7, 7, 2, 44, 25, east=-7)
    assert dates.format_internaldate(moment) == b'" 7-Jul-1996 02:44:25 -0700"'
    assert dates.parse_internaldate(b'" 7-Jul-1996 02:44:25 -0700"') == moment
    assert dates.parse_internaldate(b"07-JUL-1996 02:44:25 -0700") == moment


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b'"17-Jul-1996 02:44:25 -0700', b"7-Jul-1996 02:44:25 -0700", b"17-Jul-1996"),
        *(b"31-Feb-1996 02:44:25 -0700", b"17-Xyz-1996 02:44:25 -0700"),
        *(b"17-Jul-1996 24:44:25 -0700", b"17-Jul-1996 02:44:25 -0760", b"17-Jul-1996 02:44:25"),
        *(
            b"17-Jul-1996 02:44:25 +2400",
            b" 0-Jul-1996 02:44:25 +0000",
            b"17-Jul-0000 00:00:00 +0000",
        ),
        b"17-Jul-1996 02:44:25 -0700\r\n",
    ],
)
def test_internaldate_is_strict(value: bytes) -> None:
    with pytest.raises(Malformed):
        dates.parse_internaldate(value)
