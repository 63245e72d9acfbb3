"""The keys of secrets over the life of a served directory, as an operator meets them."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from postroom.core.errors import SecretUnreadable
from postroom.core.secrets import Keyring
from postroom.core.settings import SERVER
from postroom.domain import policy
from postroom.domain.policy import Assignment
from postroom.domain.policy.secrets import secret_of
from postroom.mailflow.house import MailHouse
from postroom.server.first_start import keys_of_secrets
from postroom.server.house import Bootstrap, migrate, open_house
from postroom.server.instance import Layout
from tests.walking import Walking

NAME = "relay.smart_host_password"
SECRET = "open sesame 4711"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walking]:
    walking = Walking(tmp_path_factory.mktemp("secrets"))
    try:
        walking.start()
        walking.postroom("settings", "secret", NAME, "--value-stdin", stdin=f"{SECRET}\n")
        yield walking
    finally:
        walking.close()


def refused(house: Walking) -> str:
    """What a start says that comes to nothing."""
    server = house.serve()
    try:
        assert server.wait(20) == 1
        return server.stderr()
    finally:
        server.close()


def test_the_first_start_makes_the_keys_and_nothing_holds_the_secret(house: Walking) -> None:
    keys = Path(house.layout.secrets)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert house.operation("settings get", name=NAME)["value"] == "[hidden]"
    assert house.operation("secrets list")[0]["readable"] == "yes"
    assert SECRET not in house.log_text()
    assert SECRET not in str(house.operation("log tail"))
    house.stop()
    for root, _, files in os.walk(house.data):
        for name in files:
            assert SECRET.encode() not in (Path(root) / name).read_bytes(), name
    with sqlite3.connect(house.data / "mail.db") as db:
        ((value,),) = db.execute("SELECT value FROM setting WHERE name = ?", (NAME,)).fetchall()
    assert value.startswith('"sealed:1:')


def test_a_start_without_the_keys_says_so_and_there_is_a_way_out(house: Walking) -> None:
    if house._server is not None:
        house.stop()
    keys = Path(house.layout.secrets)
    os.unlink(keys)
    said = refused(house)
    assert f"{keys} is missing" in said
    assert f"setting server {NAME}" in said
    assert not keys.exists()  # no new keys over a loss that may be made good
    house.postroom("settings", "unset", NAME)  # a stopped server, and no keys
    house.start()
    assert keys.exists()
    assert house.operation("secrets list") == []


# --- what a start looks at ----------------------------------------------------------------------


@pytest.fixture
async def flow(tmp_path: Path) -> AsyncIterator[MailHouse]:
    layout = Layout(str(tmp_path / "data"))
    layout.create()
    migrate(layout, Bootstrap())
    async with open_house(layout) as opened:
        yield opened


async def put(flow: MailHouse, text: str) -> None:
    """Set the secret, as `settings secret` does."""
    sealed = flow.secrets.seal(text, secret_of(SERVER, NAME))
    value = [Assignment(SERVER, NAME, sealed)]
    await flow.mail.write(policy.change, value, flow.ids.new(), flow.clock.now(), 0, "")


async def test_keys_are_made_where_nothing_was_sealed_and_then_kept(flow: MailHouse) -> None:
    await keys_of_secrets(flow)
    before = Path(flow.secrets.path).read_bytes()
    await keys_of_secrets(flow)
    await put(flow, SECRET)
    await keys_of_secrets(flow)
    assert Path(flow.secrets.path).read_bytes() == before


async def test_other_keys_and_bad_files_are_told_apart(flow: MailHouse) -> None:
    await keys_of_secrets(flow)
    await put(flow, SECRET)
    keys = Path(flow.secrets.path)
    good = keys.read_bytes()
    os.chmod(keys, 0o644)
    with pytest.raises(SecretUnreadable, match=r"can be read by others \(mode 644\)"):
        await keys_of_secrets(flow)
    os.unlink(keys)
    with pytest.raises(SecretUnreadable, match=f"is missing.*the setting server {NAME} cannot"):
        await keys_of_secrets(flow)
    Keyring(str(keys)).make()
    with pytest.raises(SecretUnreadable, match="holds other keys"):
        await keys_of_secrets(flow)
    keys.write_bytes(b"not keys at all\n")
    with pytest.raises(SecretUnreadable, match="damaged"):
        await keys_of_secrets(flow)
    keys.write_bytes(good)
    await keys_of_secrets(flow)
