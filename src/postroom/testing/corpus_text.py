"""The words of `corpus`: names, subjects and prose in several languages.

Prose is drawn from a pool of lines made once from the words below with a fixed seed: real enough
to compress and to search as mail does, and fast to draw.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Final

__all__ = ["DAYS", "DOMAINS", "JAPANESE", "LISTS", "MONTHS", "PEOPLE", "Prose", "prose"]

DAYS: Final = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
MONTHS: Final = tuple(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
DOMAINS: Final = (
    "example.com",
    "example.org",
    "partner.example",
    "news.example",
    "shop.example",
    "university.example",
    "bank.example",
    "xn--bcher-kva.example",
)
LISTS: Final = ("announce", "devel", "users", "board", "choir")
PEOPLE: Final = (
    ("Ann Archer", "ann"),
    ("Bob Baker", "bob.baker"),
    ("Carol Chandler", "carol"),
    ("Dave Draper", "dave+mail"),
    ("Jürgen Müller", "juergen.mueller"),
    ("Zoë Lefèvre", "zoe"),
    ("山田 太郎", "yamada"),
    ("Мария Иванова", "maria"),
    ("Billing", "billing"),
    ("No Reply", "no-reply"),
    ('"Smith, John"', "john.smith"),
    ("José Ñúñez", "jose"),
    ("Site Monitor", "monitor"),
)
JAPANESE: Final = (
    "お世話になっております。",
    "会議の資料を添付いたします。",
    "ご確認のほどよろしくお願いいたします。",
    "来週の火曜日はいかがでしょうか。",
    "先日はありがとうございました。",
    "予算について相談したいことがあります。",
    "詳細は後ほどご連絡いたします。",
)

_ENGLISH_WORDS: Final = (
    "the of and to in a is that for it as was with be by on not he his but at are this have from "
    "or had an they which one you were all her she there would their we him been has when who "
    "will no more if out so said what up its about than into them can only other time new some "
    "could these two may first then do any like my now over such our man me even most made after "
    "also did many meeting budget invoice project report quarter schedule delivery contract "
    "customer server backup release branch review question answer attached please regards "
    "tomorrow yesterday thursday morning ticket order number account payment shipping address "
    "version update network password office travel hotel flight concert garden bicycle kitchen "
    "weather holiday proposal draft chapter figure table result sample measure engine window "
    "bridge station letter parcel"
)
_ENGLISH: Final = _ENGLISH_WORDS.split()
_WESTERN_WORDS: Final = (
    "über für möchte können Grüße Straße nächste Übersicht gemäß höflich größer déjà été "
    "français où à très réunion année señor mañana también corazón ação não å være "
    "die der und mit von les des une para con como que det og ikke för att som"
)
_WESTERN: Final = _WESTERN_WORDS.split()
_EASTERN_WORDS: Final = (
    "отчёт встреча завтра спасибо пожалуйста документ счёт привет вопрос ответ 会议 报告 明天 "
    "谢谢 请确认 合同 발표 회의 감사합니다 내일 😀 📎 ελληνικά καλημέρα שלום مرحبا"
)
_EASTERN: Final = _EASTERN_WORDS.split()
_POOL: Final = 3_000  # lines of each language


class Prose:
    """A pool of lines and how to draw from it. Sizes are octets, met within one line."""

    def __init__(self, rng: Random) -> None:
        weights = [1.0 / (rank + 3) for rank in range(len(_ENGLISH))]
        self._english = [
            _line(rng.choices(_ENGLISH, weights, k=rng.randint(6, 12))) for _ in range(_POOL)
        ]
        both = _ENGLISH[:60] + _WESTERN * 2
        self._western = [_line(rng.choices(both, k=rng.randint(6, 11))) for _ in range(_POOL)]
        every = _ENGLISH[:40] + _WESTERN + _EASTERN * 3
        self._european = [_line(rng.choices(every, k=rng.randint(5, 10))) for _ in range(_POOL)]
        self._english_bytes = [line.encode() for line in self._english]

    def subject(self, rng: Random) -> str:
        """Three to six words; one in six is not ASCII."""
        pool = self._european if rng.random() < 1 / 6 else self._english
        return " ".join(rng.choice(pool).rstrip(".").split()[: rng.randint(3, 6)])

    def english(self, rng: Random, size: int) -> bytes:
        """ASCII lines in paragraphs."""
        lines = rng.choices(self._english_bytes, k=max(1, size // 49))
        for at in range(5, len(lines), 7):
            lines[at] += b"\r\n"
        return b"\r\n".join(lines) + b"\r\n"

    def western(self, rng: Random, size: int) -> str:
        """Lines that ISO 8859-1 can carry."""
        return "\r\n".join(rng.choices(self._western, k=max(1, size // 55))) + "\r\n"

    def european(self, rng: Random, size: int) -> bytes:
        """UTF-8 lines in several scripts."""
        text = "\r\n".join(rng.choices(self._european, k=max(1, size // 70))) + "\r\n"
        return text.encode()

    def html(self, rng: Random, size: int) -> bytes:
        """An HTML document with inline styles, links and a remote picture."""
        rows = "\r\n".join(
            f'<tr><td style="padding:8px;font-family:Arial">{line}'
            f'<a href="https://news.example/c/{number:x}">more</a></td></tr>'
            for number, line in enumerate(rng.choices(self._english, k=max(1, size // 142)))
        )
        return (
            "<!DOCTYPE html>\r\n<html><head><meta charset=utf-8><title>News</title></head>"
            f'<body><table width="600">\r\n{rows}\r\n</table>'
            '<img src="https://news.example/pixel.gif" width=1 height=1 alt="é"></body></html>\r\n'
        ).encode()


def _line(words: list[str]) -> str:
    text = " ".join(words)
    return text[0].upper() + text[1:] + "."


@cache
def prose() -> Prose:
    """The one pool, the same in every process."""
    return Prose(Random(5322))
