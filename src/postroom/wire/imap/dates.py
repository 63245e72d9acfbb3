"""Dates of the wire: `date` and `date-time`. RFC 9051 §9."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final

from postroom.core.errors import Malformed

_MONTHS: Final = (
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"
)  # fmt: skip
_MONTH: Final = {name.upper(): n for n, name in enumerate(_MONTHS, 1)}

DATE: Final = re.compile(rb"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})")
DATE_TIME: Final = re.compile(
    rb"([0-9 ][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) "
    rb"([+-])([0-9]{2})([0-9]{2})"
)


def read_date(match: re.Match[bytes]) -> date:
    """The day that `DATE` matched; raises Malformed if the calendar has none such."""
    day, month, year = match.groups()
    try:
        return date(int(year), _MONTH[month.upper()], int(day))
    except (KeyError, ValueError):
        raise Malformed("No such date") from None


def read_date_time(match: re.Match[bytes]) -> datetime:
    """The aware instant that `DATE_TIME` matched; raises Malformed if there is none such."""
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
    if int(zone_minutes) > 59:
        raise Malformed("No such time zone")
    offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
    try:
        zone = timezone(-offset if sign == b"-" else offset)
        at = datetime(
            int(year), _MONTH[month.upper()], int(day), int(hour), int(minute), int(second),
            tzinfo=zone,
        )  # fmt: skip
        at.astimezone(UTC)  # the first and last day of the calendar have no instant everywhere
    except (KeyError, ValueError, OverflowError):
        raise Malformed("No such date and time") from None
    return at


def render_date(day: date) -> bytes:
    """`1-Feb-1994`, as SEARCH takes it."""
    return b"%d-%b-%04d" % (day.day, _MONTHS[day.month - 1], day.year)


def render_date_time(at: datetime) -> bytes:
    """`"17-Jul-1996 02:44:25 -0700"` with its quotes; raises ValueError for a naive time.

    Zones are whole minutes on the wire; seconds of an offset are dropped with the time
    moved to match.
    """
    offset = at.utcoffset()
    if offset is None:
        raise ValueError("a naive datetime names no instant")
    minutes = int(offset.total_seconds() // 60)
    at = at.astimezone(timezone(timedelta(minutes=minutes)))
    sign = b"-" if minutes < 0 else b"+"
    hours, minutes = divmod(abs(minutes), 60)
    return b'"%2d-%b-%04d %02d:%02d:%02d %b%02d%02d"' % (
        at.day, _MONTHS[at.month - 1], at.year, at.hour, at.minute, at.second, sign, hours, minutes
    )  # fmt: skip
