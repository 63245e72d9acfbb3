"""Folders of other servers, and the mailboxes that they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.domain.mailboxes import folders
from postroom.mailflow.transfer.names import targets

OWN = {
    "inbox": "INBOX",
    "sent": "Sent",
    "drafts": "Drafts",
    "junk": "Junk",
    "trash": "Trash",
    "archive": "Archive",
}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Sent Items", "sent"),
        ("Sent Messages", "sent"),
        ("sent-mail", "sent"),
        ("Gesendete Elemente", "sent"),
        ("Éléments envoyés", "sent"),
        ("Deleted Items", "trash"),
        ("Papierkorb", "trash"),
        ("Junk E-mail", "junk"),
        ("SPAM", "junk"),
        ("Entwürfe", "drafts"),
        ("Entwu\u0308rfe", "drafts"),
        ("Archives", "archive"),
    ],
)
def test_special_folders_go_to_the_accounts_own(name: str, role: str) -> None:
    own = {**OWN, role: "Something/Else"}
    assert targets([(name,)], own) == {(name,): "Something/Else"}


def test_of_two_for_one_use_the_likelier_wins_and_the_other_keeps_its_name() -> None:
    paths = [("Sent Items",), ("Sent",), ("Sent Messages",)]
    assert targets(paths, OWN) == {
        ("Sent",): "Sent",
        ("Sent Items",): "Sent Items",
        ("Sent Messages",): "Sent Messages",
    }
    assert targets(paths[:1], OWN) == {("Sent Items",): "Sent"}


def test_an_account_without_that_use_gets_the_name() -> None:
    assert targets([("Spam",)], {"inbox": "INBOX"}) == {("Spam",): "Spam"}


def test_names_below_others_are_no_special_use() -> None:
    assert targets([("Work", "Sent")], OWN) == {("Work", "Sent"): "Work/Sent"}
    assert targets([("[Gmail]", "Sent Mail")], OWN) == {("[Gmail]", "Sent Mail"): "Sent"}


def test_inbox_in_any_spelling_is_inbox() -> None:
    paths = [(), ("INBOX",), ("Inbox", "Sub")]
    assert targets(paths, OWN) == {
        (): "INBOX",
        ("INBOX",): "INBOX",
        ("Inbox", "Sub"): "INBOX/Sub",
    }


def test_into_a_mailbox_all_keep_their_names_below_it() -> None:
    paths = [(), ("Sent Items",), ("a", "b")]
    assert targets(paths, OWN, "Old") == {
        (): "Old",
        ("Sent Items",): "Old/Sent Items",
        ("a", "b"): "Old/a/b",
    }


_NAMES = st.text(min_size=1, max_size=300) | st.text("é/\0\n ", min_size=1, max_size=200)


@given(st.lists(_NAMES, min_size=1, max_size=40).map(tuple))
def test_every_name_becomes_one_that_a_mailbox_may_have(path: tuple[str, ...]) -> None:
    for into in ("", "Old"):
        (made,) = targets([path], OWN, into).values()
        assert folders.split(made)
