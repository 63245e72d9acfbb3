"""Mailbox access keys on both engines: whose they are, and with what they go. RFC 4467 §2."""

from __future__ import annotations

import pytest

from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.mailboxes import cleaning, folders, urlkeys
from postroom.domain.mailboxes.urlkeys import UrlKey
from postroom.formats.address import parse_mailbox
from tests.domain.making import DAY, NOW, Town, checked


def key(town: Town, name: int, box: int, *, of: int | None = None, secret: str = "") -> UrlKey:
    return UrlKey(name, town.ann.id if of is None else of, box, secret or f"sealed {name}")


def kept(town: Town, *keys: UrlKey) -> dict[int, UrlKey]:
    return town.store.write(urlkeys.keep, keys[0].account, keys)


def bob_of(town: Town) -> Account:
    """Bob, who comes to town with the first that is said of him."""
    address = parse_mailbox("bob@a.test")
    found = town.store.read(people.find_account, address)
    return found if found is not None else town.person(str(address))


def boxes(town: Town, of: Account) -> dict[str, int]:
    tree = town.store.read(folders.tree, of.id)
    return {path: box.id for path, box in tree.by_path.items()}


def test_who_comes_second_gets_the_key_that_is_there(town: Town) -> None:
    inbox, sent = (boxes(town, town.ann)[path] for path in ("INBOX", "Sent"))
    first = key(town, 5, inbox)
    assert kept(town, first) == {inbox: first}
    late, other = key(town, 6, inbox), key(town, 7, sent)
    assert kept(town, late, other) == {inbox: first, sent: other}
    assert town.store.read(urlkeys.named, 5) == first
    assert town.store.read(urlkeys.named, 6) is None
    largest = key(town, urlkeys.NAMES - 1, boxes(town, town.ann)["Drafts"])
    kept(town, largest)
    assert town.store.read(urlkeys.named, urlkeys.NAMES - 1) == largest


def test_a_key_that_takes_anothers_place_leaves_nothing_of_it(town: Town) -> None:
    inbox = boxes(town, town.ann)["INBOX"]
    kept(town, key(town, 5, inbox))
    for name in (6, 7):
        fresh = key(town, name, inbox)
        town.store.write(urlkeys.replace, fresh)
        assert town.store.read(urlkeys.of_mailboxes, town.ann.id, [inbox]) == {inbox: fresh}
        assert town.store.read(urlkeys.named, name - 1) is None
    sent = key(town, 8, boxes(town, town.ann)["Sent"])
    town.store.write(urlkeys.replace, sent)
    assert town.store.read(urlkeys.named, 8) == sent, "where there was none"


def test_two_accounts_have_two_keys_of_one_mailbox(town: Town) -> None:
    inbox = boxes(town, town.ann)["INBOX"]
    mine, his = key(town, 5, inbox), key(town, 6, inbox, of=bob_of(town).id)
    kept(town, mine)
    kept(town, his)
    assert town.store.write(urlkeys.forget, town.ann.id) == 1
    assert town.store.read(urlkeys.named, 5) is None
    assert town.store.read(urlkeys.of_mailboxes, bob_of(town).id, [inbox]) == {inbox: his}


def test_a_key_goes_with_its_mailbox_whose_ever_it_is(town: Town) -> None:
    ids = iter(range(9_000, 9_100))
    box = town.store.write(folders.create, town.ann.id, "Plans", ids, NOW, town.ann.id)
    kept(town, key(town, 5, box))
    kept(town, key(town, 6, box, of=bob_of(town).id))
    kept(town, key(town, 7, boxes(town, town.ann)["INBOX"]))
    town.store.write(folders.delete, town.ann.id, "Plans", NOW, town.ann.id)
    while town.store.write(cleaning.empty_doomed, NOW, DAY):
        pass
    assert set(town.store.read(urlkeys.sealed)) == {"urlauth 7"}


def test_a_key_goes_with_its_account_of_mailboxes_of_others_too(town: Town) -> None:
    inbox = boxes(town, town.ann)["INBOX"]
    kept(town, key(town, 5, boxes(town, bob_of(town))["INBOX"], of=bob_of(town).id))
    kept(town, key(town, 6, inbox, of=bob_of(town).id))
    kept(town, key(town, 7, inbox))
    bob = bob_of(town)
    town.store.write(people.delete_account, bob)
    while town.store.write(cleaning.empty_gone, bob.id, NOW):
        pass
    assert set(town.store.read(urlkeys.sealed)) == {"urlauth 7"}


def test_keys_are_sealed_anew_in_pieces(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urlkeys, "RESEALED", 2)
    paths = list(boxes(town, town.ann).values())[:5]
    kept(town, *(key(town, 100 + n, box) for n, box in enumerate(paths)))

    def again(was: str, of: str) -> str:
        return was if of == "urlauth 101" else f"{was} of {of}"

    done = 0
    after: int | None = 0
    while after is not None:
        more, after = town.store.write(urlkeys.reseal, again, after)
        done += more
    assert done == len(paths) - 1
    assert town.store.read(urlkeys.sealed) == {
        f"urlauth {n}": f"sealed {n}" if n == 101 else f"sealed {n} of urlauth {n}"
        for n in range(100, 100 + len(paths))
    }


def test_a_store_with_keys_is_sound(town: Town) -> None:
    kept(town, key(town, 5, boxes(town, town.ann)["INBOX"]))
    assert checked(town.store).clean
