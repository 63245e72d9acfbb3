"""Mailbox access keys when the keys that seal secrets are rotated. RFC 4467 §2."""

from __future__ import annotations

from postroom.core.secrets import key_of
from postroom.domain.directory import people
from postroom.domain.mailboxes import folders, urlkeys
from postroom.domain.mailboxes.urlkeys import UrlKey
from postroom.formats.address import parse_mailbox
from tests.admin.housing import Admin


async def test_rotation_seals_mailbox_access_keys_too_and_lets_go_of_what_none_needs(
    admin: Admin,
) -> None:
    flow = admin.house.flow
    await admin.do("account create", address="una@example.org", password="a long enough one")
    una = await flow.mail.read(people.account, parse_mailbox("una@example.org"))
    box = (await flow.mail.read(folders.tree, una.id)).find("INBOX").id
    clear = bytes(32).hex()
    sealed = flow.secrets.seal(clear, urlkeys.secret_of(7))
    await flow.mail.write(urlkeys.keep, una.id, [UrlKey(7, una.id, box, sealed)])
    first = key_of(sealed)
    gone: list[str] = []
    for _ in range(3):  # the one before stays for a turn
        done = await admin.do("secrets rotate")
        assert (done.sealed, done.unreadable) == (1, 0)
        gone += done.retired
    assert first in gone
    after = await flow.mail.read(urlkeys.named, 7)
    assert after is not None
    assert key_of(after.secret) == flow.secrets.ids()[0]
    assert flow.secrets.open(after.secret, urlkeys.secret_of(7)) == clear


async def test_a_mailbox_access_key_that_cannot_be_read_keeps_what_sealed_it(admin: Admin) -> None:
    flow = admin.house.flow
    await admin.do("account create", address="una@example.org", password="a long enough one")
    una = await flow.mail.read(people.account, parse_mailbox("una@example.org"))
    box = (await flow.mail.read(folders.tree, una.id)).find("INBOX").id
    moved = flow.secrets.seal(bytes(32).hex(), urlkeys.secret_of(8))
    await flow.mail.write(urlkeys.keep, una.id, [UrlKey(7, una.id, box, moved)])
    for _ in range(3):
        done = await admin.do("secrets rotate")
        assert (done.sealed, done.unreadable) == (0, 1)
        assert key_of(moved) not in done.retired
