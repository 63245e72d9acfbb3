"""From fields of strangers that mislead: what is found, what becomes of it, what our users see."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed, Status
from postroom.domain.directory import people
from postroom.formats import headers, mime
from postroom.formats.address import format_mailbox, parse_address_list, parse_mailbox
from postroom.formats.address_list import Mailbox
from postroom.formats.envelope import read
from postroom.mailflow import screening
from postroom.testing.smtp import SmtpClient
from postroom.wire.smtp import Reply
from tests.mailflow.doors import ANN, Doors
from tests.mailflow.serving import DOMAIN, OTHER, Mx
from tests.mailflow.test_authentication import checking

BOB = f"bob@{DOMAIN}"
STRANGER = "x@far.example"


def written(author: str, more: str = "") -> bytes:
    return f"From: {author}\r\nSubject: Hello\r\n{more}\r\nGood morning.\r\n".encode()


async def bring(mx: Mx, author: str, more: str = "") -> Reply:
    async with mx.connect() as client:
        return await _bring(client, author, more)


async def _bring(client: SmtpClient, author: str, more: str = "") -> Reply:
    return (await client.deliver(STRANGER, (BOB,), written(author, more))).last


async def fact(mx: Mx) -> dict[str, object]:
    told = (await mx.traces())[-1]["facts"]["from"]
    assert isinstance(told, dict)
    return told


# --- what is found ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("author", "result", "shown"),
    [
        (f"Ann <{STRANGER}>", "none", ""),
        (STRANGER, "none", ""),
        (f'"boss@{DOMAIN}" <{STRANGER}>', "mismatch", f"boss@{DOMAIN}"),
        (f"boss@bank.example <{STRANGER}>", "mismatch", "boss@bank.example"),
        (f"{STRANGER} (boss@bank.example)", "mismatch", "boss@bank.example"),
        (f"=?utf-8?q?boss=40bank=2Eexample?= <{STRANGER}>", "mismatch", "boss@bank.example"),
        (f'"me@mail.far.example" <{STRANGER}>', "none", ""),
        (f"Ann <ann@exarnple.test>", "lookalike", DOMAIN),  # noqa: F541
        ("Ann <ann@exampel.test>", "lookalike", DOMAIN),
        (f"Ann <ann@mail.{OTHER}>", "none", ""),
        (f'"Bob B. Builder" <{STRANGER}>', "impersonation", BOB),
        (f'"BUILDER, Bob" <{STRANGER}>', "impersonation", BOB),
        (f"Bob <{STRANGER}>", "none", ""),
    ],
)
async def test_what_misleads(mx: Mx, author: str, result: str, shown: str) -> None:
    account = await mx.account(BOB)
    name = "Bob Builder" if "B." not in author else "Bob B. Builder"
    await mx.house.mail.write(lambda tx: people.set_name(tx, people.by_id(tx, account), name))
    await mx.set("smtp.local_senders_sign_in", False)
    assert (await bring(mx, author)).code == 250
    found = await fact(mx)
    assert (found["result"], found["shown"]) == (result, shown)
    assert bool(found["why"]) is (result != "none")


async def test_a_new_name_and_a_new_domain_count_within_a_minute(mx: Mx) -> None:
    account = await mx.account(BOB)
    for author in ("Bob Builder", "Bob Builder"):  # the second time nobody is asked
        await bring(mx, f"{author} <{STRANGER}>")
    await mx.house.mail.write(
        lambda tx: people.set_name(tx, people.by_id(tx, account), "Bob Builder")
    )
    mx.clock.advance(screening.REFRESH)
    await bring(mx, f"Bob Builder <{STRANGER}>")
    found = [each["facts"]["from"]["result"] for each in await mx.traces()]
    assert found == ["impersonation", "none", "none"]


async def test_the_names_of_strangers_that_are_remembered_are_bounded(mx: Mx) -> None:
    await mx.account(BOB)
    mx.house.named_until = mx.clock.monotonic() + 60
    mx.house.named |= {f"name {n}": None for n in range(screening.MOST_NAMES)}
    await bring(mx, f"Somebody New <{STRANGER}>")
    assert list(mx.house.named) == ["NEW SOMEBODY"]


@pytest.mark.parametrize(
    "author", [f"a@a.example, {STRANGER}", "Group: a@a.example;", "nobody", ""]
)
async def test_where_nobody_knows_who_wrote_it_nothing_is_said(mx: Mx, author: str) -> None:
    await mx.account(BOB)
    await mx.set("from.add_address", "after")
    assert (await bring(mx, author)).code == 250
    assert "from" not in (await mx.traces())[-1]["facts"]


async def test_our_own_people_are_not_screened(doors: Doors) -> None:
    await doors.mx.set("from.on_mismatch", "refuse")
    async with doors.signed_in() as client:
        content = written(f'"boss@bank.example" <{ANN}>')
        assert (await client.deliver(ANN, (ANN,), content)).last.code == 250
    assert "from" not in (await doors.mx.traces())[-1]["facts"]


# --- what becomes of it ---------------------------------------------------------------------------


@pytest.mark.rows("SCR-03")
@pytest.mark.parametrize(
    ("setting", "author"),
    [
        ("from.on_mismatch", f'"boss@bank.example" <{STRANGER}>'),
        ("from.on_lookalike", "Ann <ann@exampel.test>"),
    ],
)
async def test_each_find_has_its_setting(mx: Mx, setting: str, author: str) -> None:
    bob = await mx.account(BOB)
    for wanted, inbox, junk in (("accept", 1, 0), ("tag", 2, 0), ("junk", 2, 1)):
        await mx.set(setting, wanted)
        assert (await bring(mx, author)).code == 250
        assert (await mx.count(bob), await mx.count(bob, "junk")) == (inbox, junk)
    await mx.set(setting, "quarantine")
    assert (await bring(mx, author)).code == 250
    assert [bool(each.quarantined) for each in await mx.waiting()] == [True]
    await mx.set(setting, "refuse")
    reply = await bring(mx, author)
    assert (reply.code, reply.status) == (550, Status(5, 7, 1))
    assert await mx.count(bob) == 2
    (verdict,) = (await mx.refusal(reply))["verdicts"]
    assert (verdict["rule"], verdict["setting"]) == ("misleading_from", setting)


@pytest.mark.parametrize("entry", ["127.0.0.0/8", "far.example", "example", STRANGER])
async def test_who_is_exempt_is_left_alone(mx: Mx, entry: str) -> None:
    bob = await mx.account(BOB)
    await mx.set("from.on_mismatch", "refuse")
    await mx.set("from.replace_mismatch", True)
    await mx.set("from.exempt", (entry,))
    assert (await bring(mx, f'"boss@bank.example" <{STRANGER}>')).code == 250
    (content,) = await mx.content(bob)
    assert b"boss@bank.example" in content and b"X-Postroom-Original-From" not in content


async def test_a_line_of_the_policy_may_ask_for_it(mx: Mx) -> None:
    await mx.set("sender.rules", ("from=mismatch|lookalike junk",))
    async with checking(mx) as world:
        bob = world.bob
        await bring(mx, f'"boss@bank.example" <{STRANGER}>')
        await bring(mx, f"Ann <{STRANGER}>")
    assert (await mx.count(bob), await mx.count(bob, "junk")) == (1, 1)


# --- what our users see ---------------------------------------------------------------------------


def seen(content: bytes) -> Mailbox:
    """The author as IMAP's ENVELOPE has it: what a mail program shows."""
    root = mime.scan(content)
    assert root.headers is not None
    (author,) = read(root.headers, content).from_
    assert isinstance(author, Mailbox)
    return author


@pytest.mark.rows("SCR-04", "SCR-05")
@pytest.mark.parametrize(
    ("where", "replace", "author", "name"),
    [
        ("off", False, f"Ann <{STRANGER}>", "Ann"),
        ("after", False, f"Ann <{STRANGER}>", f"Ann ({STRANGER})"),
        ("before", False, f"Ann <{STRANGER}>", f"{STRANGER} (Ann)"),
        ("after", False, f"<{STRANGER}>", ""),
        ("after", False, f'"{STRANGER}" <{STRANGER}>', STRANGER),
        ("after", False, f"=?utf-8?q?J=C3=B6rg?= <{STRANGER}>", f"Jörg ({STRANGER})"),
        ("off", True, f'"boss@bank.example" <{STRANGER}>', STRANGER),
        ("off", True, f'"Boss boss (at) bank.example!" <{STRANGER}>', f"Boss {STRANGER}!"),
        ("after", True, f'"boss@bank.example" <{STRANGER}>', STRANGER),
        ("before", True, f'"A, B" <{STRANGER}>', f"{STRANGER} (A, B)"),
    ],
)
async def test_names_are_shown_with_the_address(
    mx: Mx, where: str, replace: bool, author: str, name: str
) -> None:
    bob = await mx.account(BOB)
    await mx.set("from.add_address", where)
    await mx.set("from.replace_mismatch", replace)
    assert (await bring(mx, author)).code == 250
    (content,) = await mx.content(bob)
    found = seen(content)
    assert (found.name, f"{found.local}@{found.domain}") == (name, STRANGER)
    changed = found.name != seen(written(author)).name
    original = headers.scan(content).first(b"x-postroom-original-from")
    assert original == (author.encode() if changed else None)
    assert bool((await mx.traces())[-1].get("amended")) is changed
    assert content.endswith(b"\r\n\r\nGood morning.\r\n")


async def test_a_name_that_cannot_be_written_anew_stays_and_the_trace_says_so(mx: Mx) -> None:
    """An address beyond ASCII, in a message that came without SMTPUTF8."""
    bob = await mx.account(BOB)
    await mx.set("from.add_address", "after")
    assert (await bring(mx, "Ann <j\u00f6rg@far.example>")).code == 250
    (content,) = await mx.content(bob)
    assert "From: Ann <j\u00f6rg@far.example>\r\n".encode() in content
    assert b"X-Postroom-Original-From" not in content
    (told,) = (await mx.traces())[-1]["amended"]
    assert told.startswith("left the author's name as it came: ")


async def test_what_goes_to_others_stays_as_it_came(doors: Doors) -> None:
    """Its signatures hold: only the copies of our own accounts are changed."""
    mx = doors.mx
    bob = await doors.person(BOB)
    await mx.alias(f"all@{DOMAIN}", BOB)
    await mx.alias(f"all@{DOMAIN}", "far@elsewhere.example")
    await mx.set("from.add_address", "after")
    async with mx.connect() as client:
        content = written(f"Ann <{STRANGER}>")
        await client.deliver(STRANGER, (f"all@{DOMAIN}",), content)
    ((_, sent),) = await doors.outgoing()
    assert b"\r\nFrom: Ann <x@far.example>\r\n" in sent and b"X-Postroom-Original-From" not in sent
    (kept,) = await mx.content(bob)
    assert seen(kept).name == f"Ann ({STRANGER})"


async def test_nobody_else_says_what_a_from_was(mx: Mx) -> None:
    bob = await mx.account(BOB)
    forged = "X-postroom-ORIGINAL-from :\r\n boss@bank.example\r\nX-Kept: yes\r\n"
    assert (await bring(mx, f"Ann <{STRANGER}>", forged)).code == 250
    (content,) = await mx.content(bob)
    assert b"original" not in content.lower() and b"boss@" not in content and b"X-Kept" in content


async def test_who_is_approved_may_write_as_he_does(mx: Mx) -> None:
    await mx.set("from.on_mismatch", "refuse")
    author = f'"boss@bank.example" <{STRANGER}>'
    async with checking(mx) as world:
        world.policy("v=spf1 ip4:127.0.0.0/8 -all", "far.example")
        assert (await bring(mx, author)).code == 550
        await mx.set("sender.approved", ("spf:far.example",))
        assert (await bring(mx, author)).code == 250
        assert await mx.count(world.bob) == 1


async def test_what_is_parsed_is_what_is_kept(mx: Mx) -> None:
    """The parse beside the message is that of the message as it lies there."""
    await mx.account(BOB)
    await mx.set("from.add_address", "before")
    more = "Content-Type: text/plain\r\n"
    assert (await bring(mx, f"Ann <{STRANGER}>", more)).code == 250
    told = (await mx.traces())[-1]
    assert told["amended"] == ["added the author's address to the name"]


@given(st.text(max_size=60), st.sampled_from(["after", "before"]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_whatever_the_name_the_address_stays(name: str, where: str, replace: bool) -> None:
    """Attack class 4: what was checked is what is shown."""
    real = parse_mailbox(STRANGER)
    made = screening._with_address(
        screening._replaced(name, real) if replace else name, real, where
    )
    try:
        field = headers.field("From", format_mailbox(made, real))
    except Malformed:
        return  # a control character: the From stays as it came
    (found,) = parse_address_list(field.partition(b":")[2].strip())
    assert isinstance(found, Mailbox)
    assert (found.local, found.domain) == ("x", "far.example")
