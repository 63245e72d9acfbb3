"""The sender policy as an operator walks it: lines set and tried, mail refused, held and let go,
and nothing of what is held lost when everything dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.walking import Account, Walking, eventually, fetched, is_installed

LINES = """
sender=shut.example refuse "Not from there"
dmarc!=pass author=held.example quarantine
spf=none score 2
"""

pytestmark = pytest.mark.skipif(not is_installed("swaks"), reason="swaks missing")


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walking]:
    walking = Walking(tmp_path_factory.mktemp("policy"))
    try:
        walking.start()
        walking.postroom("settings", "set", "sender.rules", LINES)
        yield walking
    finally:
        walking.close()


@pytest.fixture(scope="module")
def bea(walk: Walking) -> Account:
    return walk.account("bea")


def test_lines_are_shown_and_tried(walk: Walking) -> None:
    shown = walk.postroom("sender", "show").text
    assert '  1  sender=shut.example refuse "Not from there"' in shown
    tried = walk.postroom("sender", "test", "sender=eve@shut.example", "spf=pass").text
    assert "It is refused by sender.rules line 1." in tried
    assert "The peer is told: 550 5.7.1 Not from there, by rule sender.rules line 1" in tried
    wrong = walk.postroom("settings", "set", "sender.rules", "spff=x junk", code=None)
    assert wrong.code != 0
    assert 'sender.rules, entry 1: There is no condition "spff"' in wrong.text


def test_a_refusal_names_the_line_and_can_be_looked_up(walk: Walking, bea: Account) -> None:
    refused = walk.swaks("--from", "eve@shut.example", to=bea)
    assert refused.code != 0
    assert "550 5.7.1 Not from there, by rule sender.rules line 1 (r" in refused.text
    told = ""

    def is_told() -> bool:
        nonlocal told
        told = walk.postroom("trace", refused.trace_id, code=None).text
        return "line 1 holds" in told

    eventually(is_told)
    assert "(the setting sender.rules, from server)" in told


def test_what_is_held_survives_a_kill_and_is_delivered_when_it_is_let_go(
    walk: Walking, bea: Account
) -> None:
    taken = walk.swaks("--header", f"From: x@held.example\nTo: {bea.address}", to=bea)
    assert taken.code == 0, taken.text
    number = taken.trace_id
    (line,) = walk.operation("queue list", quarantined=True)
    assert (line["id"], line["recipient"], line["due"]) == (number, bea.address, "quarantined")
    assert "line 2 holds" in line["reply"]
    walk.server.kill_group()
    walk.close()
    walk.start()
    assert walk.operation("queue list", quarantined=True) == [line]
    with walk.imaplib(bea) as box:
        box.select("INBOX")
        assert not fetched(box)
    assert "1 recipient" in walk.postroom("queue", "release", number).text

    eventually(lambda: not walk.operation("queue list"))
    with walk.imaplib(bea) as box:
        box.select("INBOX")
        (content,) = fetched(box)
    assert b"From: x@held.example" in content
