"""Deterministic realistic mail, thousands of messages a second, without a mail library.

Used by bench/ and by tests that want many messages. The mix follows what a mailbox of a small
company holds: conversations, notifications in HTML, lists, attachments, a few bounces and
invitations, several languages and encodings, long header sections. The same `(n, seed)` yields
the same bytes on every machine and Python version that keeps `random.Random` stable.

Every message is strict: lines end in CRLF, no bare CR or LF, no NUL, no line over 998 octets
(RFC 5322 §2.1.1), and the last line is terminated. Some lines begin with a dot, so that
transparency (RFC 5321 §4.5.2) is exercised.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from postroom.testing.corpus_text import (
    DAYS,
    DOMAINS,
    JAPANESE,
    LISTS,
    MONTHS,
    PEOPLE,
    Prose,
    prose,
)

__all__ = ["MEAN", "average_10k", "messages"]

MEAN: Final = 10_240  # octets; the average of both mixes
_SMALLEST: Final = 1_400  # octets; headers alone take about this much
_LARGE_EVERY: Final = 400  # one in so many is 100 to 700 KB
_HUGE_EVERY: Final = 4_000  # one in so many is 2 to 6 MB
_OPEN_THREADS: Final = 64  # conversations that a reply may continue
_BEGIN: Final = datetime(2026, 1, 12, 8, tzinfo=UTC)
_STEP: Final = timedelta(minutes=7)


def messages(n: int, seed: int) -> Iterator[bytes]:
    """Yield `n` messages of the whole mix, the few very large ones included.

    The mean is about `MEAN` for `n` in the thousands.
    """
    rng = Random(seed)
    writer = _Writer(rng)
    for number in range(n):
        if number % _HUGE_EVERY == _HUGE_EVERY // 2:
            yield writer.write(rng.randint(2_000_000, 6_000_000), _with_attachments)
        elif number % _LARGE_EVERY == _LARGE_EVERY // 2:
            yield writer.write(rng.randint(100_000, 700_000), _with_attachments)
        else:
            yield writer.write(_size(rng, 8_300))


def average_10k(n: int, seed: int) -> Iterator[bytes]:
    """Yield `n` messages of at most about 160 KB whose mean is `MEAN` within 2 % for n >= 50.

    What one message is too long or too short is made up for by those that follow, so that two
    runs of a bench move the same number of octets.
    """
    rng = Random(seed)
    writer = _Writer(rng)
    owed = 0
    sizes = [_size(rng, MEAN) for _ in range(n)]
    scale = MEAN * n / sum(sizes) if n else 1.0
    for size in sizes:
        target = max(_SMALLEST, int(size * scale) + owed)
        message = writer.write(target)
        owed += int(size * scale) - len(message)
        yield message


def _size(rng: Random, mean: int) -> int:
    """A size in octets: log-normal, so half are under 0.6 of the mean and few are over ten."""
    sigma = 1.05
    median_over_mean = 0.576  # exp(-sigma^2 / 2)
    size = rng.lognormvariate(0.0, sigma) * median_over_mean * mean
    return int(min(max(size, _SMALLEST), 16 * mean))


@dataclass(slots=True)
class _Thread:
    """A conversation that a later message may reply to."""

    subject: str
    ids: list[bytes]
    mailing_list: str | None


@dataclass(slots=True)
class _Draft:
    """A message while it is written: what the body builders need and what they leave."""

    rng: Random
    prose: Prose
    size: int  # octets wanted of the body
    boundary: bytes
    reply: bool


_Body = tuple[list[bytes], list[bytes]]  # header fields that describe the body, the body's parts


class _Writer:
    """Writes one message after another and remembers the conversations."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._prose = prose()
        self._threads: list[_Thread] = []
        self._number = 0
        self._builders = [builder for builder, weight in _MIX for _ in range(weight)]

    def write(self, size: int, build: Callable[[_Draft], _Body] | None = None) -> bytes:
        """Return one message of about `size` octets, of the kind `build` or of any kind."""
        rng = self._rng
        self._number += 1
        thread, reply = self._conversation()
        head = self._header(thread, reply)
        taken = sum(map(len, head)) + 160
        draft = _Draft(
            rng,
            self._prose,
            max(120, size - taken),
            b"=_%032x" % rng.getrandbits(128),
            reply,
        )
        fields, body = (build or rng.choice(self._builders))(draft)
        return b"".join((*head, b"MIME-Version: 1.0\r\n", *fields, b"\r\n", *body))

    def _conversation(self) -> tuple[_Thread, bool]:
        rng = self._rng
        if self._threads and rng.random() < 0.45:
            return rng.choice(self._threads), True
        thread = _Thread(
            self._prose.subject(rng),
            [],
            rng.choice(LISTS) if rng.random() < 0.18 else None,
        )
        if len(self._threads) < _OPEN_THREADS:
            self._threads.append(thread)
        else:
            self._threads[rng.randrange(_OPEN_THREADS)] = thread
        return thread, False

    def _header(self, thread: _Thread, reply: bool) -> list[bytes]:
        """The fields from Return-Path to Subject, trace first. RFC 5322 §3.6."""
        rng = self._rng
        name, local = rng.choice(PEOPLE)
        domain = rng.choice(DOMAINS)
        sender = f"{local}@{domain}".encode()
        date = self._date()
        message_id = b"<%x.%x@%s>" % (self._number, rng.getrandbits(64), domain.encode())
        head = _trace(rng, domain.encode(), sender, date)
        head.append(b"Message-ID: " + message_id + b"\r\n")
        if reply and thread.ids:
            head.append(b"In-Reply-To: " + thread.ids[-1] + b"\r\n")
            head.append(b"References: " + b"\r\n ".join(thread.ids[-12:]) + b"\r\n")
        thread.ids.append(message_id)
        head.append(b"Date: " + date + b"\r\n")
        head.append(b"From: " + _display(name) + b" <" + sender + b">\r\n")
        if thread.mailing_list is not None:
            head += _list_fields(thread.mailing_list)
        else:
            head.append(b"To: " + _recipients(rng, 1 + int(rng.expovariate(1.4))) + b"\r\n")
            if rng.random() < 0.3:
                head.append(b"Cc: " + _recipients(rng, rng.randint(1, 6)) + b"\r\n")
        prefix = "Re: " if reply else ""
        if thread.mailing_list is not None:
            prefix += f"[{thread.mailing_list}] "
        head.append(b"Subject: " + _display(prefix + thread.subject) + b"\r\n")
        if rng.random() < 0.4:
            head.append(rng.choice(_CLIENTS))
        return head

    def _date(self) -> bytes:
        """Dates rise by seven minutes for each message. RFC 5322 §3.3."""
        at = _BEGIN + _STEP * self._number
        return b"%s, %d %s %d %02d:%02d:%02d %s" % (
            DAYS[at.weekday()],
            at.day,
            MONTHS[at.month - 1],
            at.year,
            at.hour,
            at.minute,
            self._number % 60,
            self._rng.choice((b"+0000", b"+0100", b"-0500", b"+0900", b"-0800")),
        )


_CLIENTS: Final = (
    b"User-Agent: Mozilla Thunderbird\r\n",
    b"X-Mailer: Apple Mail (2.3776)\r\n",
    b"X-Mailer: Microsoft Outlook 16.0\r\nThread-Index: AQHbBQ2mJ8v0mUuWvE2Yb4pJ3hGZ0Q==\r\n"
    b"Content-Language: en-GB\r\nX-MS-Has-Attach:\r\nX-MS-TNEF-Correlator:\r\n",
    b"X-Priority: 3\r\nPrecedence: bulk\r\nAuto-Submitted: auto-generated\r\n"
    b"List-Unsubscribe: <https://news.example/u/8f3a>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
)


def _trace(rng: Random, domain: bytes, sender: bytes, date: bytes) -> list[bytes]:
    """Return-Path, one to nine Received, authentication results and signatures."""
    head = [b"Return-Path: <" + sender + b">\r\n"]
    head += [
        _received(rng, hop, domain, date) for hop in range(1 + min(8, int(rng.expovariate(0.45))))
    ]
    if rng.random() < 0.7:
        head.append(
            b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%s; s=s2026;\r\n"
            b"\th=From:To:Subject:Date:Message-ID:MIME-Version:Content-Type;\r\n\tbh=%s;\r\n\tb=%s\r\n"
            % (domain, _token(rng, 32), b"\r\n\t ".join(_folded(_token(rng, 256), 70)))
        )
    if rng.random() < 0.5:
        head.append(
            b"Authentication-Results: relay0.example.net;\r\n\tdkim=pass header.d=%s;\r\n"
            b"\tspf=pass smtp.mailfrom=%s;\r\n\tdmarc=pass header.from=%s\r\n"
            % (domain, sender, domain)
        )
    if rng.random() < 0.15:
        head.append(
            b"ARC-Seal: i=1; a=rsa-sha256; t=1768000000; cv=none; d=lists.example; s=arc;\r\n"
            b"\tb=%s\r\n" % b"\r\n\t ".join(_folded(_token(rng, 256), 70))
        )
    return head


def _received(rng: Random, hop: int, domain: bytes, date: bytes) -> bytes:
    """One hop's trace field. RFC 5321 §4.4."""
    return (
        b"Received: from mx%d.%s (mx%d.%s [192.0.2.%d])\r\n"
        b"\tby relay%d.example.net (MTA) with ESMTPS id %012X\r\n"
        b"\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384)\r\n"
        b"\tfor <%s@example.net>; %s\r\n"
        % (
            hop,
            domain,
            hop,
            domain,
            rng.randint(1, 254),
            hop,
            rng.getrandbits(48),
            rng.choice(PEOPLE)[1].encode(),
            date,
        )
    )


def _list_fields(name: str) -> list[bytes]:
    """What a mailing list adds. RFC 2369, RFC 2919."""
    listed = name.encode()
    return [
        b"To: " + listed + b"@lists.example\r\n",
        b"List-Id: The " + listed + b" list <" + listed + b".lists.example>\r\n",
        b"List-Post: <mailto:" + listed + b"@lists.example>\r\n",
        b"List-Unsubscribe: <https://lists.example/options/" + listed + b">,\r\n <mailto:"
        b"" + listed + b"-leave@lists.example>\r\n",
        b"List-Archive: <https://lists.example/archive/" + listed + b">\r\nPrecedence: list\r\n",
    ]


def _recipients(rng: Random, count: int) -> bytes:
    chosen = (rng.choice(PEOPLE) for _ in range(count))
    return b",\r\n ".join(
        _display(name) + b" <" + local.encode() + b"@example.net>" for name, local in chosen
    )


def _display(text: str) -> bytes:
    """Text for a field: as it is if ASCII, else folded encoded-words. RFC 2047 §2."""
    if text.isascii():
        return text.encode()
    words: list[bytes] = []
    for start in range(0, len(text), 12):
        piece = base64.b64encode(text[start : start + 12].encode())
        words.append(b"=?UTF-8?B?" + piece + b"?=")
    return b"\r\n ".join(words)


def _token(rng: Random, octets: int) -> bytes:
    return base64.b64encode(rng.randbytes(octets))


def _folded(value: bytes, width: int) -> list[bytes]:
    return [value[start : start + width] for start in range(0, len(value), width)]


# --- bodies -------------------------------------------------------------------------------------


def _ascii(draft: _Draft) -> _Body:
    """A conversation in ASCII, format=flowed now and then. RFC 3676."""
    flowed = b"; format=flowed" if draft.rng.random() < 0.4 else b""
    return (
        [
            b"Content-Type: text/plain; charset=us-ascii" + flowed + b"\r\n",
            b"Content-Transfer-Encoding: 7bit\r\n",
        ],
        [_text(draft, draft.size)],
    )


def _utf8(draft: _Draft) -> _Body:
    text = draft.prose.european(draft.rng, draft.size)
    return (
        [
            b"Content-Type: text/plain; charset=utf-8\r\n",
            b"Content-Transfer-Encoding: 8bit\r\n",
        ],
        [text],
    )


def _quoted_printable(draft: _Draft) -> _Body:
    """Western text in UTF-8 or ISO 8859-1, quoted-printable. RFC 2045 §6.7."""
    charset = draft.rng.choice(("utf-8", "iso-8859-1"))
    text = draft.prose.western(draft.rng, draft.size * 9 // 10)
    return (
        [
            b"Content-Type: text/plain; charset=" + charset.encode() + b"\r\n",
            b"Content-Transfer-Encoding: quoted-printable\r\n",
        ],
        [_qp(text.encode(charset))],
    )


def _iso_2022_jp(draft: _Draft) -> _Body:
    """Japanese as it still travels. RFC 1468."""
    lines: list[bytes] = []
    length = 0
    while length < draft.size:
        line = "".join(draft.rng.choices(JAPANESE, k=3)).encode("iso-2022-jp") + b"\r\n"
        lines.append(line)
        length += len(line)
    return (
        [
            b"Content-Type: text/plain; charset=ISO-2022-JP\r\n",
            b"Content-Transfer-Encoding: 7bit\r\n",
        ],
        lines,
    )


def _alternative(draft: _Draft) -> _Body:
    """Plain and HTML, the commonest shape of all. RFC 2046 §5.1.4."""
    plain = _text(draft, draft.size // 4)
    html = _qp(draft.prose.html(draft.rng, draft.size * 6 // 10))
    return (
        [_multipart(b"alternative", draft.boundary)],
        _parts(
            draft.boundary,
            (b"text/plain; charset=utf-8", b"7bit", b"", plain),
            (b"text/html; charset=utf-8", b"quoted-printable", b"", html),
        ),
    )


def _related(draft: _Draft) -> _Body:
    """HTML with pictures inside. RFC 2387."""
    html = _qp(draft.prose.html(draft.rng, draft.size // 3))
    picture = draft.rng.randbytes(draft.size * 11 // 24)
    return (
        [_multipart(b'related; type="text/html"', draft.boundary)],
        _parts(
            draft.boundary,
            (b"text/html; charset=utf-8", b"quoted-printable", b"", html),
            (
                b'image/png; name="logo.png"',
                b"base64",
                b"Content-ID: <logo@news.example>\r\nContent-Disposition: inline\r\n",
                _base64(picture),
            ),
        ),
    )


def _with_attachments(draft: _Draft) -> _Body:
    """A few words and one to three files, incompressible as PDF and JPEG are."""
    text = _text(draft, min(draft.size // 5, 6_000))
    count = draft.rng.randint(1, 3)
    each = max(60, (draft.size - len(text) - 200 * count) * 11 // (15 * count))
    files = (
        (
            kind,
            b"base64",
            b"Content-Disposition: attachment;\r\n " + name + b"\r\n",
            _base64(draft.rng.randbytes(each)),
        )
        for kind, name in draft.rng.sample(_FILES, count)
    )
    return (
        [_multipart(b"mixed", draft.boundary)],
        _parts(draft.boundary, (b"text/plain; charset=utf-8", b"7bit", b"", text), *files),
    )


_FILES: Final = (
    (b"application/pdf", b'filename="Invoice 2026-0117.pdf"'),
    (b"image/jpeg", b'filename="IMG_2041.jpg"'),
    (b"application/zip", b'filename="=?UTF-8?Q?Pl=C3=A4ne=2Ezip?="'),  # wrong and common
    (
        b"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        b"filename=Offer.docx",
    ),
    (b"application/octet-stream", b"filename*=UTF-8''%C3%9Cbersicht.bin"),  # RFC 2231 §4
)


def _report(draft: _Draft) -> _Body:
    """A bounce. RFC 3464."""
    text = _text(draft, draft.size // 2)
    returned = (
        b"From: someone@example.net\r\nTo: gone@nowhere.example\r\nSubject: Hello\r\n"
        b"Message-ID: <1@example.net>\r\n\r\n" + _text(draft, draft.size // 3)
    )
    status = (
        b"Reporting-MTA: dns; relay0.example.net\r\n\r\nFinal-Recipient: rfc822; "
        b"gone@nowhere.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        b"Diagnostic-Code: smtp; 550 5.1.1 no such mailbox\r\n"
    )
    return (
        [_multipart(b"report; report-type=delivery-status", draft.boundary)],
        _parts(
            draft.boundary,
            (b"text/plain; charset=us-ascii", b"7bit", b"", text),
            (b"message/delivery-status", b"7bit", b"", status),
            (b"message/rfc822", b"7bit", b"", returned),
        ),
    )


def _invitation(draft: _Draft) -> _Body:
    """An iTIP request beside its text. RFC 6047."""
    text = _text(draft, draft.size * 2 // 3)
    event = (
        b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Example//EN\r\nMETHOD:REQUEST\r\n"
        b"BEGIN:VEVENT\r\nUID:%x@example.net\r\nDTSTAMP:20260112T080000Z\r\n"
        b"DTSTART:20260119T090000Z\r\nDTEND:20260119T100000Z\r\nSUMMARY:Review\r\n"
        b"ORGANIZER:mailto:ann@example.net\r\nATTENDEE;RSVP=TRUE:mailto:bob@example.net\r\n"
        b"END:VEVENT\r\nEND:VCALENDAR\r\n" % draft.rng.getrandbits(64)
    )
    return (
        [_multipart(b"alternative", draft.boundary)],
        _parts(
            draft.boundary,
            (b"text/plain; charset=utf-8", b"7bit", b"", text),
            (b"text/calendar; charset=utf-8; method=REQUEST", b"7bit", b"", event),
        ),
    )


def _signed(draft: _Draft) -> _Body:
    """An S/MIME signature beside its text. RFC 8551 §3.5.3."""
    text = _text(draft, max(400, draft.size - 3_000))
    return (
        [
            _multipart(
                b'signed; protocol="application/pkcs7-signature"; micalg=sha-256', draft.boundary
            )
        ],
        _parts(
            draft.boundary,
            (b"text/plain; charset=utf-8", b"7bit", b"", text),
            (
                b'application/pkcs7-signature; name="smime.p7s"',
                b"base64",
                b'Content-Disposition: attachment; filename="smime.p7s"\r\n',
                _base64(draft.rng.randbytes(1_900)),
            ),
        ),
    )


def _forwarded(draft: _Draft) -> _Body:
    """A message inside a message, with an alternative inside it. RFC 2046 §5.2.1."""
    inner = _Draft(draft.rng, draft.prose, draft.size // 2, draft.boundary + b"i", False)
    fields, body = _alternative(inner)
    whole = b"".join(
        (
            b"From: Carol <carol@partner.example>\r\nTo: dave@example.net\r\nSubject: ",
            _display(draft.prose.subject(draft.rng)),
            b"\r\nDate: Mon, 12 Jan 2026 08:00:00 +0000\r\nMIME-Version: 1.0\r\n",
            *fields,
            b"\r\n",
            *body,
        )
    )
    return (
        [_multipart(b"mixed", draft.boundary)],
        _parts(
            draft.boundary,
            (b"text/plain; charset=utf-8", b"7bit", b"", _text(draft, draft.size // 3)),
            (b"message/rfc822", b"7bit", b"Content-Disposition: inline\r\n", whole),
        ),
    )


_MIX: Final[tuple[tuple[Callable[[_Draft], _Body], int], ...]] = (
    (_ascii, 22),  # the weights are hundredths
    (_utf8, 8),
    (_quoted_printable, 10),
    (_iso_2022_jp, 4),
    (_alternative, 32),
    (_related, 5),
    (_with_attachments, 11),
    (_report, 2),
    (_invitation, 2),
    (_signed, 2),
    (_forwarded, 2),
)


def _text(draft: _Draft, size: int) -> bytes:
    """ASCII prose of about `size` octets; a reply quotes first. Some lines begin with a dot."""
    text = draft.prose.english(draft.rng, size)
    if draft.reply and size > 600:
        cut = text.find(b"\r\n", size // 3)
        quoted = b"> " + text[:cut].replace(b"\r\n", b"\r\n> ") + b"\r\n"
        text = b"Ann wrote:\r\n" + quoted + text[cut + 2 :]
    if draft.rng.random() < 0.1:
        text += b"..and one line that begins with dots\r\n.\r\n.profile\r\n"
    return text


def _multipart(kind: bytes, boundary: bytes) -> bytes:
    return b"Content-Type: multipart/" + kind + b';\r\n boundary="' + boundary + b'"\r\n'


def _parts(boundary: bytes, *parts: tuple[bytes, bytes, bytes, bytes]) -> list[bytes]:
    """Join (type, encoding, further fields, content ending in CRLF) into a multipart body."""
    body = [b"This is a multi-part message in MIME format.\r\n"]
    for kind, encoding, fields, content in parts:
        body += (
            b"--",
            boundary,
            b"\r\nContent-Type: ",
            kind,
            b"\r\nContent-Transfer-Encoding: ",
            encoding,
            b"\r\n",
            fields,
            b"\r\n",
            content,
        )
    body += (b"\r\n--", boundary, b"--\r\n")
    return body


def _base64(data: bytes) -> bytes:
    """Lines of 76 characters. RFC 2045 §6.8."""
    encoded = binascii.b2a_base64(data, newline=False)
    return b"\r\n".join(_folded(encoded, 76)) + b"\r\n"


def _qp(data: bytes) -> bytes:
    """Quoted-printable, lines of at most 76 with CRLF. RFC 2045 §6.7.

    `binascii` copies the kind of the first line end that it meets, which is CRLF here.
    """
    encoded = binascii.b2a_qp(data, istext=True)
    return encoded if encoded.endswith(b"\r\n") else encoded + b"\r\n"
