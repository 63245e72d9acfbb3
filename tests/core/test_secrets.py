"""postroom.core.secrets: sealed texts tell nothing, and open where they were sealed alone."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.core import secrets
from postroom.core.errors import Misuse, SecretUnreadable
from postroom.core.secrets import Keyring, is_sealed, key_of, veiled

OF = "setting domain:example.org relay.smart_host_password"


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    made = Keyring(str(tmp_path / "secrets.keys"))
    made.make()
    return made


def content(keys: Keyring) -> str:
    return Path(keys.path).read_text()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=500), st.text(max_size=50))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_sealed_opens(keys: Keyring, text: str, of: str) -> None:
    of = of.encode(errors="replace").decode()
    sealed = keys.seal(text, of)
    assert is_sealed(sealed)
    assert sealed.isascii()
    assert keys.open(sealed, of) == text
    assert key_of(sealed) == keys.ids()[0]


def test_a_sealed_text_shows_nothing_but_that_it_is_the_same(keys: Keyring) -> None:
    sealed = keys.seal("swordfish", OF)
    assert "swordfish" not in sealed
    assert veiled(sealed) == "[hidden]"
    assert [veiled(each) for each in ("swordfish", "", 5, True)] == ["swordfish", "", 5, True]
    assert keys.seal("swordfish", OF) == sealed
    others = [keys.seal("swordfisk", OF), keys.seal("swordfish", OF + "2"), keys.seal("", OF)]
    keys.rotate()
    nonces = {each.rpartition(":")[2][:16] for each in (sealed, *others, keys.seal("", OF))}
    assert len(nonces) == 5


def test_moved_elsewhere_it_does_not_open(keys: Keyring) -> None:
    sealed = keys.seal("swordfish", OF)
    for other in (
        "setting domain:other.org relay.smart_host_password",
        "setting server relay.smart_host_password",
        "",
    ):
        with pytest.raises(SecretUnreadable, match="moved"):
            keys.open(sealed, other)


def test_no_octet_of_it_can_be_changed(keys: Keyring) -> None:
    sealed = keys.seal("swordfish", OF)
    for at in range(len(sealed)):
        for other in {"A", "B", ":", ""} - {sealed[at]}:
            with pytest.raises(SecretUnreadable):
                keys.open(sealed[:at] + other + sealed[at + 1 :], OF)


@given(st.text(max_size=100))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_sealed_or_none(keys: Keyring, text: str) -> None:
    for each in (text, secrets.PREFIX + text, f"{secrets.PREFIX}{keys.ids()[0]}:{text}"):
        with pytest.raises(SecretUnreadable):
            keys.open(each, OF)


def test_a_secret_is_not_long(keys: Keyring) -> None:
    assert keys.open(keys.seal("é" * 2_048, OF), OF) == "é" * 2_048
    with pytest.raises(Misuse, match="4,096 octets"):
        keys.seal("é" * 2_049, OF)


# --- the file -----------------------------------------------------------------------------------


def test_the_file_is_the_owners_alone_and_made_once(keys: Keyring) -> None:
    before = content(keys)
    assert stat.S_IMODE(os.stat(keys.path).st_mode) == 0o600
    sealed = keys.seal("swordfish", OF)
    again = Keyring(keys.path)
    again.make()
    assert content(keys) == before
    assert again.open(sealed, OF) == "swordfish"
    assert not os.path.exists(f"{keys.path}.new")


def test_without_a_path_or_a_file_nothing_is_sealed_or_opened(tmp_path: Path) -> None:
    for keys in (Keyring(), Keyring(str(tmp_path / "none"))):
        assert not keys.exists()
        with pytest.raises(SecretUnreadable):
            keys.seal("swordfish", OF)
        with pytest.raises(SecretUnreadable):
            keys.open(secrets.PREFIX + "0123abcd:AAAA", OF)
        with pytest.raises(SecretUnreadable):
            keys.rotate()


def test_a_file_that_others_can_read_is_not_used(keys: Keyring) -> None:
    sealed = keys.seal("swordfish", OF)
    for mode in (0o640, 0o604, 0o620):
        os.chmod(keys.path, mode)
        with pytest.raises(SecretUnreadable, match=f"mode {mode:o}"):
            keys.open(sealed, OF)
    os.chmod(keys.path, 0o600)
    assert keys.open(sealed, OF) == "swordfish"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else_is_not_used(keys: Keyring) -> None:
    os.chown(keys.path, 12345, 12345)
    with pytest.raises(SecretUnreadable, match="another user"):
        keys.ids()


def test_what_is_no_file_is_not_used(keys: Keyring, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(keys.path)
    with pytest.raises(SecretUnreadable, match="cannot be read"):
        Keyring(str(tmp_path / "link")).ids()
    with pytest.raises(SecretUnreadable):
        Keyring(str(tmp_path)).ids()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "0123abcd AAAA\n",
        "0123abcd " + "A" * 43 + "=\n",  # a key, but not that id's
        "\x00\xff",
        "one two three\n",
    ],
)
def test_a_damaged_file_is_said_to_be_damaged(keys: Keyring, text: str) -> None:
    Path(keys.path).write_text(text, encoding="latin-1")
    with pytest.raises(SecretUnreadable, match=r"damaged|no key"):
        keys.ids()


def test_a_key_whose_octets_changed_is_noticed(keys: Keyring) -> None:
    text = content(keys).splitlines()
    id_, _, key = text[-1].partition(" ")
    other = key.replace(key[5], "A" if key[5] != "A" else "B")
    Path(keys.path).write_text("\n".join((*text[:-1], f"{id_} {other}\n")))
    with pytest.raises(SecretUnreadable, match="damaged"):
        keys.ids()


def test_another_servers_file_does_not_open_what_ours_sealed(keys: Keyring, tmp_path: Path) -> None:
    sealed = keys.seal("swordfish", OF)
    other = Keyring(str(tmp_path / "other"))
    other.make()
    with pytest.raises(SecretUnreadable, match=f"the key {key_of(sealed)}, which is not in"):
        other.open(sealed, OF)


# --- rotation -----------------------------------------------------------------------------------


def test_after_a_rotation_the_former_key_still_opens_everywhere(keys: Keyring) -> None:
    elsewhere = Keyring(keys.path)  # another worker
    before = keys.seal("swordfish", OF)
    assert elsewhere.open(before, OF) == "swordfish"
    fresh = keys.rotate()
    after = elsewhere.seal("swordfish", OF)
    assert key_of(after) == fresh
    assert keys.open(before, OF) == keys.open(after, OF) == "swordfish"
    assert keys.ids() == (fresh, key_of(before))


def test_keys_are_let_go_of_when_nothing_needs_them(keys: Keyring) -> None:
    (first,) = keys.ids()
    second, third, fourth = keys.rotate(), keys.rotate(), keys.rotate()
    assert keys.retire({first}) == (second,)
    assert keys.ids() == (fourth, third, first)
    assert keys.retire(()) == (first,)
    assert keys.retire(()) == ()  # the one before the current stays


def test_the_number_of_keys_is_bounded(keys: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "KEYS", 2)
    keys.rotate()
    with pytest.raises(Misuse, match="2 keys"):
        keys.rotate()


def test_two_that_rotate_at_once_lose_no_key(keys: Keyring) -> None:
    def rotate() -> None:
        for _ in range(5):
            Keyring(keys.path).rotate()

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(keys.ids())) == 21
