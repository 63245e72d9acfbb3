"""What both servers are asked. Words in braces are filled in: `{validity}` and `{modseq}` are what
each said at the beginning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_ITEMS: Final = (
    "FLAGS",
    "INTERNALDATE",
    "RFC822.SIZE",
    "ENVELOPE",
    "BODY",
    "BODYSTRUCTURE",
    "BODY.PEEK[]",
    "BODY.PEEK[HEADER]",
    "BODY.PEEK[TEXT]",
    "BODY.PEEK[]<10.200>",
    "BODY.PEEK[TEXT]<0.64>",
    "BODY.PEEK[TEXT]<100000.10>",
    "BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT)]",
    "BODY.PEEK[HEADER.FIELDS (X-NOBODY)]",
    "BODY.PEEK[HEADER.FIELDS.NOT (RECEIVED FROM)]",
    *(f"BODY.PEEK[{path}]" for path in ("1", "2", "3", "1.1", "1.2", "2.1", "1.1.1", "9.9")),
    *(f"BODY.PEEK[{path}.MIME]" for path in ("1", "2", "1.1", "2.1")),
    *(f"BODY.PEEK[{path}.HEADER]" for path in ("1", "2", "1.1")),
    *(f"BODY.PEEK[{path}.TEXT]" for path in ("1", "2", "2.1")),
    "BODY.PEEK[1.HEADER.FIELDS (SUBJECT)]",
    "BODY.PEEK[1]<5.20>",
    "RFC822.HEADER",
)
_WORDS: Final = ("hello", "the", "ann", "example", "line 1", "zzz-nobody", "a", "of", "=", "(fwd)")
_SEARCHES: Final = (
    *("ALL", "ANSWERED", "FLAGGED", "SEEN", "UNSEEN", "DELETED", "UNDELETED", "UNANSWERED"),
    *("KEYWORD work", "UNKEYWORD work", "KEYWORD nobody", "DRAFT", "UNFLAGGED UNSEEN"),
    *("BEFORE 10-Jan-2026", "ON 10-Jan-2026", "SINCE 10-Jan-2026", "NOT ON 3-Jan-2026"),
    *("SENTBEFORE 10-Feb-2026", "SENTON 2-Feb-2026", "SENTSINCE 10-Feb-2026"),
    *("LARGER 2000", "SMALLER 2000", "LARGER 0", "SMALLER 100000", "LARGER 1000 SMALLER 9000"),
    *(f"{key} {{{word}}}" for key in ("FROM", "TO", "CC", "BCC", "SUBJECT") for word in _WORDS),
    *(f"{key} {{{word}}}" for key in ("BODY", "TEXT") for word in _WORDS),
    *("HEADER Message-ID {}", "HEADER X-Nobody {}", "HEADER Content-Type {multipart}"),
    *("HEADER References {1@x}", "HEADER Received {by}"),
    *("OR SEEN FLAGGED", "NOT (SEEN FLAGGED)", "OR (SEEN) (NOT FLAGGED LARGER 3000)"),
    *("1:10", "*", "10:*", "UID 5:20", "NOT 1:100", "1,3,5 UNSEEN", "UID 100000:*"),
)
_RETURNS: Final = ("MIN", "MAX", "COUNT", "ALL", "MIN MAX COUNT", "")
_KEYS: Final = (
    *("ARRIVAL", "DATE", "SIZE", "SUBJECT", "FROM", "TO", "CC", "REVERSE SIZE"),
    *("REVERSE SUBJECT", "SUBJECT REVERSE DATE", "REVERSE FROM SUBJECT", "REVERSE ARRIVAL"),
)


@dataclass(frozen=True, slots=True)
class Script:
    """Commands in turn; `again`: both sides sign in anew first."""

    name: str
    commands: tuple[str, ...]
    again: bool = False


def scripts(count: int) -> Sequence[Script]:
    """All of them, for a mailbox of `count` messages; the later ones change it. `{alike}` are the
    UIDs of messages whose header section both read alike: they alone have the same order."""
    half, most = count // 2, count - 20
    return (
        Script("FETCH", ("SELECT INBOX", *(f"UID FETCH 1:* (UID {item})" for item in _ITEMS))),
        Script("SEARCH", tuple(_search(key) for key in _SEARCHES)),
        Script(
            "ESEARCH",
            tuple(
                f"UID SEARCH RETURN ({what}) {key}"
                for what in _RETURNS
                for key in ("ALL", "FLAGGED", "1:30 SEEN", "DELETED", "UID {alike} SUBJECT hello")
            ),
        ),
        Script(
            "SORT",
            tuple(
                f"UID SORT ({key}) UTF-8 UID {{alike}} {which}"
                for key in _KEYS
                for which in ("ALL", "SEEN", f"7:{half}")
            ),
        ),
        Script(
            "THREAD",
            tuple(
                f"UID THREAD {how} UTF-8 UID {{alike}} {which}"
                for how in ("REFERENCES", "REFS", "ORDEREDSUBJECT")
                for which in ("ALL", "UNSEEN", f"5:{half}")
            ),
        ),
        Script("STORE", (*_stores(half), "UID FETCH 1:* (UID FLAGS)")),
        Script(
            "COPY and MOVE",
            (
                "CREATE Other",
                "UID COPY 1:40 Other",
                f"UID COPY {half}:{half + 5},3 Other",
                f"UID MOVE {most}:* Other",
                "UID MOVE 2,4,6 Other",
                "UID COPY 1 Nowhere",
                "UID FETCH 1:* (UID FLAGS)",
                "SELECT Other",
                "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)",
                "SELECT INBOX",
            ),
        ),
        Script(
            "EXPUNGE",
            (
                "UID STORE 10:30,50 +FLAGS.SILENT (\\Deleted)",
                "UID EXPUNGE 10:15",
                "UID EXPUNGE 90000",
                "UID SEARCH DELETED",
                "EXPUNGE",
                "UID SEARCH ALL",
                "UID FETCH 1:* (UID FLAGS)",
            ),
        ),
        Script(
            "QRESYNC",
            (
                "ENABLE QRESYNC",
                "SELECT INBOX (QRESYNC ({validity} {modseq}))",
                "SELECT INBOX (QRESYNC ({validity} {modseq} 1:60))",
                "UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE {modseq} VANISHED)",
                "UID STORE 60:70 +FLAGS (\\Deleted)",
                "UID EXPUNGE 61:64",
                "EXPUNGE",
            ),
            again=True,
        ),
        Script(
            "FETCH that marks as read",
            (
                "SELECT INBOX",
                "UID FETCH 70:90 (UID RFC822.TEXT)",
                "UID FETCH 80:100 (UID BODY[TEXT]<0.10>)",
                "UID FETCH 95:99 (UID RFC822)",
                "UID FETCH 1:* (UID FLAGS)",
            ),
            again=True,
        ),
    )


def _search(key: str) -> str:
    text = key.replace("{", '"').replace("}", '"')
    return f"UID SEARCH {text}"


def _stores(half: int) -> Sequence[str]:
    return (
        "UID STORE 1:10 FLAGS (\\Seen)",
        "UID STORE 5:15 +FLAGS (\\Flagged later)",
        "UID STORE 5:8 -FLAGS (\\Seen)",
        f"UID STORE {half}:* +FLAGS.SILENT (\\Answered)",
        "UID STORE 3 FLAGS ()",
        "STORE 1:3 +FLAGS (\\Draft)",
        "UID STORE 99999 +FLAGS (\\Seen)",
        "STORE 1:* -FLAGS (nobody)",
    )
