"""The corpus is strict, the same every time, of the promised size, and as mixed as promised."""

from __future__ import annotations

import email
import email.policy
import hashlib
import re
from collections import Counter
from email.utils import parsedate_to_datetime

import pytest

from postroom.testing.corpus import MEAN, average_10k, messages

SAMPLE = list(average_10k(600, 42))


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_every_line_ends_in_crlf_and_none_is_too_long(seed: int) -> None:
    for message in messages(500, seed):
        assert message.endswith(b"\r\n")
        assert message.count(b"\n") == message.count(b"\r") == message.count(b"\r\n")
        assert b"\0" not in message
        assert max(map(len, message.split(b"\r\n"))) <= 998


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert list(messages(50, 5)) == list(messages(50, 5))
    assert list(messages(50, 5)) != list(messages(50, 6))


def test_the_bytes_do_not_depend_on_process_or_hash_seed() -> None:
    digest = hashlib.sha256(b"".join(messages(50, 5))).hexdigest()
    assert digest == "7a923488621d82cfd7f2957e20aecb2980e6f3ced63c2c37cbcdcbbb18f1350f"


@pytest.mark.parametrize("n", [50, 300, 2000])
def test_average_10k_keeps_its_mean(n: int) -> None:
    sizes = [len(message) for message in average_10k(n, 9)]
    assert len(sizes) == n
    assert abs(sum(sizes) / n - MEAN) < MEAN * 0.02
    assert max(sizes) < 200_000


def test_average_10k_of_nothing_is_empty() -> None:
    assert list(average_10k(0, 1)) == []


def test_the_whole_mix_has_a_few_very_large_messages_and_a_mean_near_10k() -> None:
    sizes = [len(message) for message in messages(4_000, 3)]
    assert sum(size > 2_000_000 for size in sizes) == 1
    assert sum(100_000 < size <= 2_000_000 for size in sizes) >= 10
    assert 0.7 * MEAN < sum(sizes) / len(sizes) < 1.4 * MEAN


def test_no_two_messages_are_equal_or_share_a_message_id() -> None:
    ids = [re.search(rb"\r\nMessage-ID: (<[^>]+>)\r\n", message) for message in SAMPLE]
    assert len({found.group(1) for found in ids if found}) == len(SAMPLE)


def test_the_mix_has_every_shape_and_encoding() -> None:
    kinds: Counter[str] = Counter()
    for message in SAMPLE:
        for part in email.message_from_bytes(message, policy=email.policy.default).walk():
            kinds[part.get_content_type()] += 1
            kinds[f"{part.get_content_charset()}"] += 1
            kinds[str(part["Content-Transfer-Encoding"])] += 1
            assert not part.defects, part.defects
    for kind in (
        *("multipart/alternative", "multipart/mixed", "multipart/related", "multipart/report"),
        *("multipart/signed", "message/rfc822", "message/delivery-status", "text/calendar"),
        *("text/html", "application/pdf", "image/jpeg", "utf-8", "iso-8859-1", "iso-2022-jp"),
        *("7bit", "8bit", "base64", "quoted-printable"),
    ):
        assert kinds[kind] > 0, kind


def test_every_text_decodes_in_its_charset() -> None:
    for message in SAMPLE[:200]:
        for part in email.message_from_bytes(message).walk():
            content = part.get_payload(decode=True)
            if part.get_content_maintype() == "text" and isinstance(content, bytes):
                content.decode(part.get_content_charset() or "us-ascii", errors="strict")


def test_replies_refer_to_messages_that_came_before() -> None:
    seen: set[bytes] = set()
    replies = 0
    for message in SAMPLE:
        head = message.split(b"\r\n\r\n", 1)[0]
        parent = re.search(rb"\r\nIn-Reply-To: (<[^>]+>)", head)
        if parent:
            replies += 1
            assert parent.group(1) in seen
            assert b"\r\nReferences: " in head
        own = re.search(rb"\r\nMessage-ID: (<[^>]+>)", head)
        assert own
        seen.add(own.group(1))
    assert replies > len(SAMPLE) / 4


def test_a_date_names_its_own_day_of_the_week() -> None:
    for message in SAMPLE[::20]:
        found = re.search(rb"\r\nDate: (.+)\r\n", message)
        assert found
        text = found.group(1).decode()
        assert parsedate_to_datetime(text).strftime("%a") == text[:3]


def test_some_lines_begin_with_a_dot_and_some_received_chains_are_long() -> None:
    assert any(b"\r\n.\r\n" in message for message in SAMPLE)
    assert max(message.count(b"\r\nReceived: ") for message in SAMPLE) >= 8
