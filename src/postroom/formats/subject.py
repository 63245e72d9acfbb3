"""The base subject of RFC 5256 §2.1: what is left of a subject without Re:, Fwd: and [lists].

Threads and SORT compare it. Linear: two marks that only move towards each other.
"""

from __future__ import annotations

import re
from typing import Final

_SPACES: Final = re.compile(r"[ \t\r\n]+")
# subj-refwd, without the blob that may stand before its colon
_REFWD: Final = re.compile(r"(?:re|fwd?) *+", re.IGNORECASE | re.ASCII)
# subj-blob; a second "[" before the "]" means that it is none
_BLOB: Final = re.compile(r"\[[^\[\]]*+\] *+")
_FWD_TRAILER: Final = "(fwd)"
_FWD_HEADER: Final = "[fwd:"


def base_subject(text: str) -> tuple[str, bool]:
    """The base subject of a decoded subject, and whether it is a reply or forward.

    The steps are those of RFC 5256 §2.1; (1), decoding to Unicode, is the caller's.
    """
    text = _SPACES.sub(" ", text)
    low, high = 0, len(text)
    answer = False
    while True:
        high, trimmed = _without_trailers(text, low, high)  # (2)
        low, replied = _without_leaders(text, low, high)  # (3) to (5)
        answer = answer or trimmed or replied
        # (6) [fwd: ... ]
        if not (
            high - low > len(_FWD_HEADER)
            and text[high - 1] == "]"
            and text[low : low + len(_FWD_HEADER)].lower() == _FWD_HEADER
        ):
            return text[low:high], answer
        low += len(_FWD_HEADER)
        high -= 1
        answer = True


def _without_trailers(text: str, low: int, high: int) -> tuple[int, bool]:
    """Step (2): the mark before every subj-trailer, and whether one was "(fwd)"."""
    forwarded = False
    while high > low:
        if text[high - 1] == " ":
            high -= 1
        elif high - low >= len(_FWD_TRAILER) and text[high - 5 : high].lower() == _FWD_TRAILER:
            high -= len(_FWD_TRAILER)
            forwarded = True
        else:
            break
    return high, forwarded


def _without_leaders(text: str, low: int, high: int) -> tuple[int, bool]:
    """Steps (3) to (5): the mark after every leader and blob, and whether one was a refwd.

    Blobs are walked once: a refwd after them takes them all; else each goes unless nothing would
    be left, so the last stays where the subject ends with it.
    """
    replied = False
    while low < high:
        if text[low] == " ":
            low += 1
            continue
        last, at = low, low
        while blob := _BLOB.match(text, at, high):
            last, at = at, blob.end()
        if after := _after_refwd(text, at, high):
            low = after
            replied = True
            continue
        low = at if at < high else last
        break
    return low, replied


def _after_refwd(text: str, at: int, high: int) -> int:
    """The mark after a subj-refwd at `at`: "re", "fw" or "fwd", a blob perhaps, a colon; or 0."""
    word = _REFWD.match(text, at, high)
    if word is None:
        return 0
    at = word.end()
    if blob := _BLOB.match(text, at, high):
        at = blob.end()
    return at + 1 if at < high and text[at] == ":" else 0
