"""Dates of messages (RFC 5322 §3.3, §4.3) and of IMAP (RFC 9051 §9 `date-time`)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from postroom.core.errors import Malformed

_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH: Final = {name.lower(): n for n, name in enumerate(_MONTHS, 1)}

# Minutes east of Greenwich. RFC 5322 §4.3 names the American ones; the others are common use.
# Military letters were used with both signs, so they say nothing (§4.3).
_ZONES: Final = {
    **{"ut": 0, "utc": 0, "gmt": 0, "z": 0, "wet": 0},
    **{"est": -300, "edt": -240, "cst": -360, "cdt": -300},
    **{"mst": -420, "mdt": -360, "pst": -480, "pdt": -420},
    **{"akst": -540, "akdt": -480, "hst": -600, "ast": -240, "adt": -180, "nst": -210, "ndt": -150},
    **{"bst": 60, "west": 60, "cet": 60, "met": 60, "mez": 60},
    **{"cest": 120, "mest": 120, "mesz": 120, "eet": 120, "sast": 120},
    **{"eest": 180, "msk": 180, "msd": 240, "ist": 330, "sgt": 480, "hkt": 480, "awst": 480},
    **{"jst": 540, "kst": 540, "acst": 570, "aest": 600, "aedt": 660, "nzst": 720, "nzdt": 780},
}

_LONGEST: Final = 256
"""What a date may take, in bytes, once its comments are gone."""

_USUAL: Final = re.compile(
    r"\s*(?:[a-z]{3}\s*,\s*)?(\d{1,2})\s+([a-z]{3})\s+(\d{4})\s+"
    r"(\d{1,2}):(\d\d)(?::(\d\d))?\s+([+-]\d{4}|[a-z]{1,5})\s*"
)
_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[t ]\s*(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?)?"
)
_TIME: Final = re.compile(
    r"(?<![\d:.])(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2})(?:[.,]\d+)?)?(?![\d:])\s*([ap]m\b)?"
)
_ZONE: Final = re.compile(r"([+-])\s?(\d{1,2}):?(\d\d)?(?!\d)|\b([a-z]{1,5})\b(?:\s+(dst)\b)?")
_SIGNED: Final = re.compile(r"[+-]\d+")
_YEAR: Final = re.compile(r"(?<![+\-\d])\d{4}(?!\d)")
_DATE_WORD: Final = re.compile(r"[a-z]+|\d+")


def parse_date(value: bytes) -> datetime | None:
    """The instant that a Date field means, aware; None where no sense can be made of it.

    Beside RFC 5322 with its obsolete forms: comments anywhere, two-digit years (§4.3), missing
    seconds or zone, asctime, ISO 8601, hyphens, full month names, American order with a named
    month, AM and PM. An unknown zone is UTC, as -0000 is. A leap second is :59.
    """
    text = _plain(value)
    usual = _USUAL.fullmatch(text)
    if usual is not None:
        day, month, year, hour, minute, second, zone = usual.groups()
        number = _MONTH.get(month)
        if number is None:
            return None
        return _made(int(year), number, int(day), (hour, minute, second, None), _zone_at(zone))
    return _lenient(text)


def _plain(value: bytes) -> str:
    """Lower case without comments. RFC 5322 §3.2.2."""
    if b"(" in value:
        out = []
        depth = 0
        for part in re.split(rb"([()])", value[: 4 * _LONGEST]):
            if part == b"(":
                depth += 1
            elif part == b")":
                depth = max(0, depth - 1)
            elif not depth:
                out.append(part)
        value = b" ".join(out)
    return value[:_LONGEST].decode("latin-1").lower().strip(" \t\r\n\"'")


def _lenient(text: str) -> datetime | None:
    iso = _ISO.search(text)
    if iso is not None:
        year, month, day, hour, minute, second = iso.groups()
        zone = _zone_at(text[iso.end() :]) if hour else 0
        return _made(
            int(year), int(month), int(day), (hour or "0", minute or "0", second, None), zone
        )
    clock: tuple[str, str, str | None, str | None]
    time = _TIME.search(text)
    if time is None:
        if ":" in text:
            return None
        before, after, clock = text, "", ("0", "0", None, None)
    else:
        before, after = text[: time.start()], text[time.end() :]
        clock = (time[1], time[2], time[3], time[4])
    date = _calendar(before, after)
    if date is None:
        return None
    year_number, month_number, day_number = date
    return _made(year_number, month_number, day_number, clock, _zone_at(after))


def _calendar(before: str, after: str) -> tuple[int, int, int] | None:
    """Year, month and day from what stands around the time of day."""
    month = 0
    numbers: list[str] = []
    for word in _DATE_WORD.findall(before):
        if word.isdigit():
            numbers.append(word)
        elif not month:
            month = _MONTH.get(word[:3], 0)
    if len(numbers) == 1:  # asctime has its year after the time
        late = _YEAR.search(after)
        if late is not None:
            numbers.append(late[0])
    if not month and _SIGNED.sub("", after).strip():
        return _calendar(_SIGNED.sub("", after), "")  # the time of day came first
    if not month or len(numbers) != 2:
        return None
    day, year = numbers
    if len(day) > 2 and len(year) <= 2:
        day, year = year, day
    if len(year) > 4:
        return None
    number = int(year)
    if len(year) <= 2:  # RFC 5322 §4.3
        number += 2000 if number < 50 else 1900
    elif len(year) == 3:
        number += 1900
    return number, month, int(day)


def _zone_at(text: str) -> int:
    """Minutes east of UTC of the first zone in the text; 0 for none or an unknown one."""
    minutes = 0
    for found in _ZONE.finditer(text):
        sign, hours, rest, name, summer = found.groups()
        if sign:
            east = int(hours) * 60 + int(rest or "0")
            return (-east if sign == "-" else east) if east < 24 * 60 else 0
        if name in _ZONES and not minutes:
            minutes = _ZONES[name] + (60 if summer else 0)
            if name not in ("gmt", "utc", "ut"):  # "GMT+0100" goes on
                return minutes
    return minutes


def _made(
    year: int,
    month: int,
    day: int,
    clock: tuple[str, str, str | None, str | None],
    zone: int,
) -> datetime | None:
    hour, minute, second = int(clock[0]), int(clock[1]), int(clock[2] or "0")
    if clock[3] and hour <= 12:
        hour = hour % 12 + (12 if clock[3] == "pm" else 0)
    # From 1900 (RFC 5322 §3.3), and not so late that a zone leads out of the calendar.
    if not 1900 <= year <= 9998 or second > 60:
        return None
    place = UTC if zone == 0 else timezone(timedelta(minutes=zone))
    try:
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=place)
    except (ValueError, OverflowError):  # a day of eleven digits is no C int
        return None


def _with_offset(at: datetime) -> tuple[datetime, str]:
    """The same instant in a zone of whole minutes, as old local times were not; and `+hhmm`."""
    east = at.utcoffset()
    if east is None:
        raise ValueError("a naive datetime names no instant")
    minutes = int(east.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    if east.total_seconds() % 60:
        at = at.astimezone(timezone(timedelta(minutes=minutes)))
    return at, f"{sign}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


def format_date(at: datetime) -> str:
    """`Sun, 22 Nov 2026 15:18:00 +0000`, in the datetime's own zone. RFC 5322 §3.3.

    Raises ValueError for a naive datetime.
    """
    at, offset = _with_offset(at)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02d} {_MONTHS[at.month - 1]} {at.year:04d} "
        f"{at.hour:02d}:{at.minute:02d}:{at.second:02d} {offset}"
    )


_INTERNAL: Final = re.compile(
    rb'("?)( \d|\d\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)([0-5]\d)\1'
)


def parse_internaldate(value: bytes) -> datetime:
    """An IMAP `date-time`, with its quotes or without. RFC 9051 §9. Raises Malformed."""
    found = _INTERNAL.fullmatch(value)
    month = found and _MONTH.get(found[3].decode("ascii").lower())
    if found is None or not month:
        raise Malformed("This is no date-time")
    hours, minutes = int(found[9]), int(found[10])
    if hours > 23:
        raise Malformed("This is no date-time")
    east = timedelta(hours=hours, minutes=minutes) * (-1 if found[8] == b"-" else 1)
    clock = (found[5].decode("ascii"), found[6].decode("ascii"), found[7].decode("ascii"), None)
    at = _made(int(found[4]), month, int(found[2]), clock, int(east.total_seconds()) // 60)
    if at is None:
        raise Malformed("This is no date-time")
    return at


def format_internaldate(at: datetime) -> bytes:
    """`"17-Jul-1996 02:44:25 -0700"`, quotes included, in the datetime's own zone. RFC 9051 §9.

    Raises ValueError for a naive datetime.
    """
    at, offset = _with_offset(at)
    return (
        f'"{at.day:2d}-{_MONTHS[at.month - 1]}-{at.year:04d} '
        f'{at.hour:02d}:{at.minute:02d}:{at.second:02d} {offset}"'
    ).encode("ascii")
