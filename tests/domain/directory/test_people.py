from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, InUse, Malformed, NotAllowed, NotFound
from postroom.core.settings import Role
from postroom.domain.directory import people
from postroom.domain.directory.aliases import create_alias, delete_alias, resolve
from postroom.domain.directory.people import NewAccount, Verifiers
from postroom.domain.events import DirectoryChanged
from postroom.formats.address import parse_mailbox
from postroom.store.sql import Statement, Tx
from tests.domain.making import NOW, Direct, Town

ONE = Verifiers("argon of one", "scram of one")
TWO = Verifiers("argon of two", "scram of two")


def kept(secret: Verifiers) -> dict[str, str]:
    """How the store holds verifiers."""
    return {people.PASSWORD: secret.password, people.SCRAM: secret.scram}


# --- domains ------------------------------------------------------------------------------


def test_a_domain_has_one_canonical_name(town: Town) -> None:
    made = town.store.write(people.create_domain, next(town.ids), "B\u00fccher.Test", NOW)
    assert made.name == "xn--bcher-kva.test"
    assert town.store.read(people.domain, "b\u00fccher.test") == made
    assert town.store.read(people.find_domain, "xn--bcher-kva.test") == made
    for again in ("XN--BCHER-KVA.test", "b\u00fccher.TEST"):
        with pytest.raises(AlreadyExists):
            town.store.write(people.create_domain, next(town.ids), again, NOW)
    assert [d.name for d in town.store.read(people.domains)] == ["a.test", made.name]


@pytest.mark.parametrize("name", ["", "a b", "-a.test", "[192.0.2.1]", "x" * 300, "a..b"])
def test_what_is_no_domain_is_refused(name: str) -> None:
    class Tx:
        def one(self, statement: object, **params: object) -> None:
            return None

    with pytest.raises(Malformed):
        people.create_domain(Tx(), 1, name, NOW)  # type: ignore[arg-type]  # all that it may call


def test_a_domain_in_use_stays(town: Town) -> None:
    with pytest.raises(InUse, match="2 accounts and 0 aliases"):
        town.store.write(people.delete_domain, "a.test")
    town.store.write(people.create_domain, next(town.ids), "b.test", NOW)
    town.store.write(create_alias, "x@b.test", "ann@a.test", town.ids, NOW)
    with pytest.raises(InUse, match=r"0 accounts and 1 alias$"):
        town.store.write(people.delete_domain, "b.test")
    town.store.write(delete_alias, "x@b.test")
    town.store.write(people.delete_domain, "B.test")
    with pytest.raises(NotFound):
        town.store.write(people.delete_domain, "b.test")


# --- accounts -----------------------------------------------------------------------------


def test_an_account_keeps_the_case_of_its_name_and_compares_without(town: Town) -> None:
    town.person("Bob.Smith@a.test")
    found = town.store.read(people.account, parse_mailbox("bob.smith@A.TEST"))
    assert (str(found.address), found.role, found.state) == (
        "Bob.Smith@a.test",
        Role.USER,
        "active",
    )
    with pytest.raises(AlreadyExists):
        town.person("BOB.SMITH@a.test")
    with pytest.raises(NotFound):
        town.store.read(people.account, parse_mailbox("bob@a.test"))
    with pytest.raises(NotFound):
        town.person("bob@elsewhere.test")
    with pytest.raises(Malformed):
        town.person("bob*@a.test")


def test_accounts_are_listed_by_domain(town: Town) -> None:
    town.store.write(people.create_domain, next(town.ids), "b.test", NOW)
    town.person("zoe@b.test")
    listed = town.store.read(people.accounts)
    assert [str(a.address) for a in listed] == ["ann@a.test", "root@a.test", "zoe@b.test"]
    assert [a.local for a in town.store.read(people.accounts, "b.test")] == ["zoe"]
    assert len(town.store.read(people.accounts, "", 2)) == 2


def test_a_change_of_rights_raises_the_epoch(town: Town) -> None:
    def epoch() -> int:
        return town.store.read(people.epoch, town.ann.id)[0]

    seen = [epoch()]
    town.store.write(people.set_state, town.ann, "frozen")
    seen.append(epoch())
    town.store.write(people.set_role, town.ann, Role.DOMAIN_ADMIN)
    seen.append(epoch())
    town.store.write(people.set_secret, town.ann.id, ONE, town.ids, NOW)
    seen.append(epoch())
    assert seen == sorted(set(seen))
    town.store.write(people.set_name, town.ann, "Ann Other")
    assert epoch() == seen[-1]
    assert town.store.read(people.by_id, town.ann.id).name == "Ann Other"
    with pytest.raises(NotFound):
        town.store.read(people.epoch, 5)
    with pytest.raises(Malformed):
        town.store.write(people.set_state, town.ann, "asleep")


def test_a_principal_has_one_password_and_two_verifiers_of_it(town: Town) -> None:
    for secret in (ONE, TWO):
        town.store.write(people.set_secret, town.ann.id, secret, town.ids, NOW)
    assert town.store.read(people.secrets, town.ann.id) == kept(TWO)
    assert "argon" not in repr(TWO)


def test_verifiers_are_renewed_only_of_the_password_that_was_right(town: Town) -> None:
    def renew(proved: str) -> None:
        fresh = Verifiers("argon, renewed", "scram, renewed")
        town.store.write(people.renew_secret, town.ann.id, proved, fresh, town.ids, NOW)

    renew("argon of nothing")  # she has no password
    assert town.store.read(people.secrets, town.ann.id) == {}
    town.store.write(people.set_secret, town.ann.id, TWO, town.ids, NOW)
    epoch = town.store.read(people.epoch, town.ann.id)
    renew(ONE.password)
    assert town.store.read(people.secrets, town.ann.id) == kept(TWO)
    renew(TWO.password)
    assert town.store.read(people.secrets, town.ann.id) == kept(
        Verifiers("argon, renewed", "scram, renewed")
    )
    assert town.store.read(people.epoch, town.ann.id) == epoch  # open sessions stay


def test_too_few_ids_leave_the_password_as_it_was(town: Town) -> None:
    town.store.write(people.set_secret, town.ann.id, ONE, town.ids, NOW)
    with pytest.raises(StopIteration):
        town.store.write(people.set_secret, town.ann.id, TWO, [next(town.ids)], NOW)
    assert town.store.read(people.secrets, town.ann.id) == kept(ONE)


def test_a_sign_in_is_told_all_at_once(town: Town) -> None:
    address = parse_mailbox("ANN@a.test")
    found = town.store.read(people.sign_in, address)
    assert found is not None
    assert (found.account, str(found.address), found.role, found.state, found.secrets) == (
        town.ann.id,
        "ann@a.test",
        Role.USER,
        "active",
        {},
    )
    town.store.write(people.set_secret, town.ann.id, ONE, town.ids, NOW)
    town.store.write(people.set_state, town.ann, "frozen")
    found = town.store.read(people.sign_in, address)
    assert found is not None
    assert (found.epoch, found.state) == town.store.read(people.epoch, town.ann.id)
    assert found.state == "frozen"
    assert found.secrets == kept(ONE)
    assert "argon" not in repr(found)
    for nobody in ("bob@a.test", "ann@b.test", "ann+x@a.test"):
        assert town.store.read(people.sign_in, parse_mailbox(nobody)) is None


def test_a_key_of_the_house_is_made_once(town: Town) -> None:
    assert town.store.read(people.house_key, "salt") is None
    assert town.store.write(people.make_house_key, "salt", b"first", NOW) == b"first"
    assert town.store.write(people.make_house_key, "salt", b"second", NOW) == b"first"
    assert town.store.read(people.house_key, "salt") == b"first"
    assert town.store.read(people.house_key, "pepper") is None


# --- the last administrator ---------------------------------------------------------------

_TAKINGS: list[Callable[[Tx, people.Account], None]] = [
    lambda tx, of: people.set_role(tx, of, Role.DOMAIN_ADMIN),
    lambda tx, of: people.set_state(tx, of, "frozen"),
    lambda tx, of: people.set_state(tx, of, "disabled"),
    people.delete_account,
]


def test_somebody_is_left_to_administer(town: Town) -> None:
    for take in _TAKINGS:
        with pytest.raises(NotAllowed):
            town.store.write(take, town.root)
    other = town.person("other@a.test", Role.ADMIN)
    for n, take in enumerate(_TAKINGS):
        extra = town.person(f"extra{n}@a.test", Role.ADMIN)
        town.store.write(take, extra)
    town.store.write(people.set_state, other, "frozen")
    with pytest.raises(NotAllowed):
        town.store.write(people.delete_account, town.root)
    # Who has no part in administration goes at any time, also one frozen before.
    town.store.write(people.delete_account, town.store.read(people.by_id, other.id))
    town.store.write(people.delete_account, town.ann)


def at_once(store: Direct, *units: Callable[[Tx], object]) -> list[object]:
    """What units answer that run on connections of their own, each begun before any ends."""
    answers: list[object] = [None] * len(units)
    together = threading.Barrier(len(units), timeout=10)

    def run(n: int) -> None:
        own = Direct(store.engine, store.place, migrated=True)
        try:
            together.wait()
            answers[n] = own.write(units[n])
        except Exception as error:
            answers[n] = error
        finally:
            own.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(units))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return answers


def test_two_who_take_each_other_away_do_not_both_succeed(town: Town) -> None:
    for n in range(8):
        other = town.person(f"other{n}@a.test", Role.ADMIN)
        units = [lambda tx, of=of: people.set_role(tx, of, Role.USER) for of in (town.root, other)]
        answers = at_once(town.store, *units)
        assert sorted(type(a).__name__ for a in answers) == ["NoneType", "NotAllowed"]
        town.store.write(people.set_role, town.root, Role.ADMIN)
        town.store.write(people.set_role, other, Role.USER)


def test_one_address_is_given_out_once(town: Town) -> None:
    """Account or alias: even where several administrators are quick."""
    for n in range(5):
        address = f"new{n}@a.test"
        new = NewAccount(parse_mailbox(address), "", Role.USER, None)
        ids = iter(range(10_000 * (n + 1), 10_000 * (n + 2)))
        units: list[Callable[[Tx], object]] = []
        for _ in range(2):
            own = iter([next(ids), next(ids)])
            units.append(lambda tx, own=own, new=new: people.create_account(tx, new, own, NOW))  # type: ignore[misc]  # bound
            other = iter([next(ids), next(ids)])
            units.append(
                lambda tx, o=other, a=address: create_alias(tx, a, "ann@a.test", o, NOW)  # type: ignore[misc]  # bound
            )
        answers = at_once(town.store, *units)
        kept = [a for a in answers if not isinstance(a, Exception)]
        assert len(kept) == 1, answers
        assert all(isinstance(a, AlreadyExists) for a in answers if a not in kept), answers
        assert len(town.store.read(resolve, parse_mailbox(address)).destinations) == 1


# --- deletion -----------------------------------------------------------------------------


def test_a_deleted_account_is_gone_from_every_sight(town: Town) -> None:
    town.store.write(people.set_secret, town.ann.id, ONE, town.ids, NOW)
    town.store.write(create_alias, "sales@a.test", "Ann@a.test", town.ids, NOW)
    town.store.write(create_alias, "sales@a.test", "root@a.test", town.ids, NOW)
    town.store.write(create_alias, "only@a.test", "ann@a.test", town.ids, NOW)
    epoch = town.store.read(people.epoch, town.ann.id)[0]
    town.store.events.clear()
    town.store.write(people.delete_account, town.ann)
    assert town.store.events
    assert all(isinstance(e, DirectoryChanged) for e in town.store.events)
    assert town.store.read(people.find_account, parse_mailbox("ann@a.test")) is None
    assert [a.local for a in town.store.read(people.accounts)] == ["root"]
    assert town.store.read(people.secrets, town.ann.id) == {}
    assert town.store.read(people.epoch, town.ann.id)[0] > epoch, "open sessions notice"
    for address, count in (("ann@a.test", 0), ("only@a.test", 0), ("sales@a.test", 1)):
        found = town.store.read(resolve, parse_mailbox(address))
        assert len(found.destinations) == count
        assert "disabled" not in found.problem, "a stranger learns nothing of it"
    assert town.store.read(people.gone_accounts, 9, NOW) == [town.ann.id]
    assert town.store.write(people.begin_erasing, town.ann.id, NOW)
    assert not town.store.write(people.begin_erasing, town.root.id, NOW)


def test_its_address_is_free_at_once_and_again(town: Town) -> None:
    for n in range(3):
        account = town.store.read(people.account, parse_mailbox("ann@a.test"))
        town.store.write(people.delete_account, account)
        town.person("ann@a.test")
        assert len(town.store.read(people.gone_accounts, 9, NOW)) == n + 1
    found = town.store.read(resolve, parse_mailbox("ann@a.test"))
    assert len(found.destinations) == 1


def test_the_key_of_a_gone_account_is_no_address(town: Town) -> None:
    """Whatever a client may quote, it does not meet what was deleted."""
    town.store.write(people.delete_account, town.ann)
    statement = Statement("SELECT local_key FROM account WHERE id = :id")
    row = town.store.read(lambda tx: tx.one(statement, id=town.ann.id))
    assert row is not None
    quoted = row[0].replace("\\", "\\\\").replace('"', '\\"')
    with pytest.raises(Malformed):
        parse_mailbox(f'"{quoted}"@a.test')


def test_the_last_step_takes_account_and_principal(town: Town) -> None:
    town.store.write(people.delete_account, town.person("bob@a.test"))
    gone = town.store.read(people.gone_accounts, 9, NOW)[0]
    boxes = Statement("DELETE FROM mailbox WHERE account = :id")
    town.store.write(lambda tx: tx.run(boxes, id=gone))
    town.store.write(people.forget_account, gone)
    assert town.store.read(people.gone_accounts, 9, NOW) == []
    for function in (people.by_id, people.epoch):
        with pytest.raises(NotFound):
            town.store.read(function, gone)


# --- bringing back ------------------------------------------------------------------------

LATER = Instant(NOW + 1_000)


def test_a_deleted_account_keeps_its_password_until_it_is_erased(town: Town) -> None:
    secret = people.Verifiers("argon", "scram")
    town.store.write(people.set_secret, town.ann.id, secret, town.ids, NOW)
    town.store.write(people.delete_account, town.ann, LATER)
    assert len(town.store.read(people.secrets, town.ann.id)) == 2
    assert town.store.read(people.sign_in, town.ann.address) is None
    assert town.store.read(people.gone_accounts, 9, NOW) == []
    (held,) = town.store.read(people.returnable, NOW, 9)
    assert (held.account.id, held.address, held.until) == (town.ann.id, town.ann.address, LATER)
    assert town.store.read(people.returnable, LATER, 9) == []
    assert town.store.read(people.gone_accounts, 9, LATER) == [town.ann.id]


def test_it_comes_back_as_what_it_was_and_where_it_is_told_to(town: Town) -> None:
    town.store.write(people.delete_account, town.ann, LATER)
    epoch = town.store.read(people.epoch, town.ann.id)[0]
    to = parse_mailbox("Anna@a.test")
    town.store.write(people.return_account, town.ann.id, to, Role.DOMAIN_ADMIN, "frozen", NOW)
    found = town.store.read(people.account, to)
    assert (found.id, found.role, found.state) == (town.ann.id, Role.DOMAIN_ADMIN, "frozen")
    assert town.store.read(people.epoch, town.ann.id)[0] > epoch
    assert town.store.read(people.returnable, NOW, 9) == []
    assert not town.store.write(people.begin_erasing, town.ann.id, LATER)


def test_what_is_being_erased_does_not_come_back(town: Town) -> None:
    town.store.write(people.delete_account, town.ann, LATER)
    back = (town.ann.id, town.ann.address, Role.USER, "active")
    assert not town.store.write(people.begin_erasing, town.ann.id, NOW)
    assert town.store.write(people.begin_erasing, town.ann.id, LATER)
    with pytest.raises(NotAllowed, match="erased"):
        town.store.write(people.return_account, *back, NOW)
    assert not town.store.write(people.erase_now, town.ann.id, NOW)
    with pytest.raises(NotAllowed, match="erased"):
        town.store.write(people.return_account, 5, town.ann.address, Role.USER, "active", NOW)


def test_of_who_erases_and_who_brings_back_one_succeeds(town: Town) -> None:
    for n in range(6):
        account = town.person(f"new{n}@a.test")
        town.store.write(people.delete_account, account, LATER)
        answers = at_once(
            town.store,
            lambda tx, of=account: people.begin_erasing(tx, of.id, LATER),  # type: ignore[misc]  # bound
            lambda tx, of=account: people.return_account(  # type: ignore[misc]  # bound
                tx, of.id, of.address, Role.USER, "active", NOW
            ),
        )
        erased = answers[0] is True
        assert isinstance(answers[1], NotAllowed) == erased, answers
        assert (town.store.read(people.by_id, account.id).kind == people.GONE) == erased


def test_a_domain_of_deleted_accounts_goes_and_leaves_its_name(town: Town) -> None:
    town.store.write(people.create_domain, next(town.ids), "b.test", NOW)
    of = town.store.read(people.domain, "b.test")
    account = town.person("zoe@b.test")
    town.store.write(people.delete_account, account, LATER)
    assert town.store.read(people.domain_use, of) == (0, 0)
    town.store.write(people.delete_domain, "b.test")
    assert [each.name for each in town.store.read(people.domains)] == ["a.test"]
    assert town.store.read(people.domain_by_id, of.id) is None
    (held,) = town.store.read(people.returnable, NOW, 9)
    assert str(held.address) == "zoe@b.test"
    town.store.write(people.create_domain, next(town.ids), "b.test", NOW)
    with pytest.raises(AlreadyExists):
        town.store.write(people.return_domain, of.id, "b.test", NOW)
    town.store.write(people.delete_domain, "b.test")
    town.store.write(people.return_domain, of.id, "b.test", NOW)
    assert town.store.read(people.domain_by_id, of.id) == of


def test_an_account_takes_another_address(town: Town) -> None:
    town.store.write(create_alias, "sales@a.test", "ann@a.test", town.ids, NOW)
    for taken in ("root@a.test", "Sales@a.test"):
        with pytest.raises(AlreadyExists):
            town.store.write(people.readdress, town.ann, parse_mailbox(taken))
    for address in ("ANN@a.test", "anna@a.test"):
        found = town.store.read(people.by_id, town.ann.id)
        town.store.write(people.readdress, found, parse_mailbox(address))
        assert str(town.store.read(people.by_id, town.ann.id).address) == address
    assert town.store.read(people.find_account, parse_mailbox("ann@a.test")) is None
