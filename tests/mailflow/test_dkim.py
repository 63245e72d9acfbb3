"""DKIM in the flow: what strangers signed is judged and told, what leaves in our name is signed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.admin.explain import Now, story
from postroom.core.ids import Ids
from postroom.core.secrets import Keyring
from postroom.core.settings import SERVER, Place, Scope
from postroom.domain import signing
from postroom.domain.directory import people
from postroom.domain.policy import Policy
from postroom.domain.signing import ACTIVE, PUBLISHED, SigningKey
from postroom.domain.transit import Protocol, Visit
from postroom.formats import headers
from postroom.formats.address import parse_mailbox
from postroom.formats.authres import MethodResult, parse
from postroom.mailflow import dkim as incoming
from postroom.mailflow import signing as outgoing
from postroom.mailflow import signingkeys
from postroom.mailflow.intake import MailFrom, Streamed
from postroom.net.connection import Peer
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.testing.clock import ManualClock
from postroom.trust.checks import Checks
from postroom.trust.dkim.signature import key_name
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, Mx
from tests.trust import signed
from tests.trust.zones import Dns

BOB = f"bob@{DOMAIN}"
STRANGER = "ann@a.example"
FAR = "eve@far.example"
LATER = signed.NOW + 10**9
LETTER = (
    f"From: Ann <ann@{DOMAIN}>\r\nTo: {FAR}\r\nBcc: hidden@far.example\r\nSubject: Dinner\r\n"
    "Message-ID: <1@laptop.example>\r\n\r\nIs it  ready? \r\n\r\n"
).encode()


@pytest.fixture
async def dns(mx: Mx) -> AsyncIterator[Dns]:
    """DNS with the stranger's keys; checks of others are quiet."""
    zone = signed.zone()
    mx.house.checks = Checks(zone, mx.clock)
    await mx.set("spf.check", False)
    await mx.set("dmarc.verify", False)
    yield zone


@pytest.fixture
def keys(mx: Mx, tmp_path: Path) -> Keyring:
    mx.house.secrets = Keyring(str(tmp_path / "secrets.keys"))
    mx.house.secrets.make()
    return mx.house.secrets


async def signs(
    mx: Mx, kind: str, domain: str = DOMAIN, selector: str = "", *, apart: bool = False
) -> SigningKey:
    """A key of ours that signs."""
    key = await signingkeys.make(mx.house, domain, kind, selector, apart=apart)
    for state in (PUBLISHED, ACTIVE):
        key = await mx.house.mail.write(signing.move, key, state, mx.clock.now())
    return key


def zone_of(*keys: SigningKey) -> Dns:
    return Dns({key_name(k.domain, k.selector): [("TXT", k.record)] for k in keys})


async def dkim_results(mx: Mx, account: int) -> list[MethodResult]:
    (content,) = await mx.content(account)
    told = headers.scan(content).first(b"authentication-results")
    read = parse(told) if told is not None else None
    return [each for each in read.results if each.method == "dkim"] if read is not None else []


# --- what comes in -------------------------------------------------------------------------------


async def test_what_a_stranger_signed_is_told_in_header_and_trace(mx: Mx, dns: Dns) -> None:
    bob = await mx.account(BOB)
    content = signed.ours()
    async with mx.connect() as client:
        assert (await client.deliver(STRANGER, [BOB], content)).accepted
    results = await dkim_results(mx, bob)
    assert [each.result for each in results] == ["pass", "pass"]
    told = {each.name: each.value for each in results[0].properties}
    read = signed_fields(content)
    assert told == {
        "d": "a.example",
        "i": "@a.example",
        "s": "k-rsa",
        "a": "rsa-sha256",
        "b": read[0]["b"].replace(" ", "")[:8],
    }
    (record,) = await mx.traces()
    assert [each["code"] for each in record["facts"]["dkim"]["signatures"]] == ["pass", "pass"]
    sentences = story(record, Now())
    assert "DKIM signature of a.example: pass. The signature of a.example holds." in sentences


def signed_fields(content: bytes) -> list[dict[str, str]]:
    found = headers.scan(content)
    return [
        dict(pair.strip().split("=", 1) for pair in value.decode().split(";") if pair.strip())
        for value in found.all(b"dkim-signature")
    ]


async def test_what_was_changed_under_way_fails_and_is_taken(mx: Mx, dns: Dns) -> None:
    """RFC 6376 §6.3: a signature that does not hold is as none."""
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        content = signed.ours(kinds=("rsa",)).replace(b"ready", b"cold")
        assert (await client.deliver(STRANGER, [BOB], content)).accepted
    (result,) = await dkim_results(mx, bob)
    assert result.result == "fail"


async def test_a_message_in_a_file_is_judged_as_well(mx: Mx, dns: Dns) -> None:
    bob = await mx.account(BOB)
    content = signed.ours(signed.MESSAGE + b"one line more, and more\r\n" * 20_000)
    async with mx.connect() as client:
        assert (await client.deliver(STRANGER, [BOB], content)).accepted
    assert [each.result for each in await dkim_results(mx, bob)] == ["pass", "pass"]


async def test_an_unsigned_message_is_none_and_asks_nobody(mx: Mx, dns: Dns) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        assert (await client.deliver(STRANGER, [BOB], signed.MESSAGE)).accepted
    assert [each.result for each in await dkim_results(mx, bob)] == ["none"]
    assert dns.asked == []


async def test_dkim_verify_off_asks_nobody_and_says_nothing(mx: Mx, dns: Dns) -> None:
    bob = await mx.account(BOB)
    await mx.set("dkim.verify", False)
    async with mx.connect() as client:
        assert (await client.deliver(STRANGER, [BOB], signed.ours())).accepted
    assert await dkim_results(mx, bob) == []
    assert dns.asked == []


async def test_dns_that_fails_is_a_temporary_error_and_no_reason_to_wait(mx: Mx, dns: Dns) -> None:
    bob = await mx.account(BOB)
    dns.fail("k-rsa._domainkey.a.example")
    async with mx.connect() as client:
        assert (await client.deliver(STRANGER, [BOB], signed.ours())).accepted
    assert [each.result for each in await dkim_results(mx, bob)] == ["temperror", "pass"]


# --- what goes out -------------------------------------------------------------------------------


async def test_a_letter_leaves_signed_with_both_keys_over_what_leaves(
    doors: Doors, dns: Dns, keys: Keyring
) -> None:
    mx = doors.mx
    made = [await signs(mx, kind) for kind in ("rsa", "ed25519")]
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", [FAR], LETTER)).accepted
    ((_, content),) = await doors.outgoing()
    assert b"Bcc" not in content
    assert content.startswith(b"DKIM-Signature: ")
    results = await signed.verify(content, zone_of(*made), LATER)
    assert [(each.code.value, each.domain) for each in results] == [("pass", DOMAIN)] * 2
    assert {each.selector for each in results} == {each.selector for each in made}
    (record,) = await mx.traces()
    assert any(DOMAIN in told and "signed" in told for told in record["amended"])


async def test_a_copy_for_our_own_account_is_not_signed(
    doors: Doors, dns: Dns, keys: Keyring
) -> None:
    mx = doors.mx
    bob = await mx.account(BOB)
    await signs(mx, "ed25519")
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", [BOB], LETTER)).accepted
    (content,) = await mx.content(bob)
    assert b"DKIM-Signature" not in content


async def test_a_key_that_is_not_active_does_not_sign(
    doors: Doors, dns: Dns, keys: Keyring
) -> None:
    mx = doors.mx
    await signingkeys.make(mx.house, DOMAIN, "ed25519")
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", [FAR], LETTER)).accepted
    ((_, content),) = await doors.outgoing()
    assert b"DKIM-Signature" not in content


async def test_a_domain_may_leave_its_mail_unsigned(doors: Doors, dns: Dns, keys: Keyring) -> None:
    mx = doors.mx
    await signs(mx, "ed25519")
    await mx.set("dkim.sign", False, Place(Scope.DOMAIN, DOMAIN))
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", [FAR], LETTER)).accepted
    ((_, content),) = await doors.outgoing()
    assert b"DKIM-Signature" not in content


async def test_the_mail_of_strangers_is_not_signed_on_its_way_through(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    """Whoever writes our name into From must not get our signature."""
    await signs(mx, "ed25519")
    await mx.alias(f"far@{DOMAIN}", FAR)
    async with mx.connect() as client:
        assert (await client.deliver(STRANGER, [f"far@{DOMAIN}"], LETTER)).accepted
    (waiting,) = await mx.waiting()
    content = await mx.house.mail.read_much(mx.house.blobs.read, waiting.message.blob)
    assert b"DKIM-Signature" not in content


async def test_a_signature_ends_where_that_is_wanted_but_not_before_its_mail_is_given_up(
    doors: Doors, dns: Dns, keys: Keyring
) -> None:
    """RFC 6376 §3.5, x=: whoever keeps a copy cannot replay it for ever. Attack class 5."""
    mx = doors.mx
    key = await signs(mx, "ed25519")
    day, now = 86_400, mx.clock.now() // 1000
    ends = []
    for days in (0, 1, 30):
        await mx.set("dkim.valid_days", days, Place(Scope.DOMAIN, DOMAIN))
        async with doors.signed_in() as client:
            assert (await client.deliver(f"ann@{DOMAIN}", [FAR], LETTER)).accepted
        contents = [content for _, content in await doors.outgoing()]
        fields = signed_fields(contents[-1])[0]
        ends.append(int(fields["x"]) - now if "x" in fields else 0)
        assert (await signed.verify(contents[-1], zone_of(key), now))[0].code.value == "pass"
    assert ends == [0, 6 * day, 30 * day]  # it is tried for five days
    late = await signed.verify(contents[-1], zone_of(key), now + 31 * day)
    assert late[0].code.value == "fail"
    anew = await outgoing.again(mx.house, contents[-1])
    assert int(signed_fields(anew)[0]["x"]) == now + 30 * day


async def test_keys_that_cannot_be_opened_lose_no_mail(
    doors: Doors, dns: Dns, keys: Keyring
) -> None:
    mx = doors.mx
    await signs(mx, "ed25519")
    mx.house.secrets = Keyring()
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", [FAR], LETTER)).accepted
    ((_, content),) = await doors.outgoing()
    assert b"DKIM-Signature" not in content
    (record,) = await mx.traces()
    assert any(told.startswith("not signed, as: ") for told in record["amended"])


async def test_what_was_re_encoded_on_its_way_is_signed_anew(
    doors: Doors, dns: Dns, keys: Keyring
) -> None:
    """RFC 6376 §5.3. A forged signature of ours below stays what it is."""
    mx = doors.mx
    key = await signs(mx, "ed25519")
    forged = b"DKIM-Signature: v=1; d=example.test; b=AAAA\r\n"
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", [FAR], forged + LETTER)).accepted
    ((_, content),) = await doors.outgoing()
    recoded = content.replace(b"Is it  ready?", b"=49s it ready?")
    assert (await signed.verify(recoded, zone_of(key), LATER))[0].code == "fail"
    made = await outgoing.again(mx.house, recoded)
    results = await signed.verify(made, zone_of(key), LATER)
    assert [each.code.value for each in results] == ["pass", "permerror"]
    assert made.count(b"b=AAAA") == 1
    assert await outgoing.again(mx.house, LETTER) == LETTER
    await mx.house.mail.write(signing.move, key, "retired", mx.clock.now())
    assert not (await outgoing.again(mx.house, recoded)).startswith(b"DKIM-Signature")


async def test_what_a_line_chose_signs_anew(doors: Doors, dns: Dns, keys: Keyring) -> None:
    """Once its key is retired, the place is taken by whichever signs by then."""
    mx = doors.mx
    await signs(mx, "ed25519", selector="main")
    news = await signs(mx, "ed25519", selector="news", apart=True)
    await mx.set("dkim.rules", ("author=example.test sign news",))
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", [FAR], LETTER)).accepted
    ((_, content),) = await doors.outgoing()
    recoded = content.replace(b"Is it  ready?", b"=49s it ready?")
    made = await outgoing.again(mx.house, recoded)
    assert [each["s"] for each in signed_fields(made)] == ["news"]
    await mx.house.mail.write(signing.move, news, "retired", mx.clock.now())
    made = await outgoing.again(mx.house, recoded)
    assert [each["s"] for each in signed_fields(made)] == ["main"]


# --- the life of keys ----------------------------------------------------------------------------


async def states(mx: Mx, domain: str = DOMAIN) -> dict[str, str]:
    found = await mx.house.mail.read(signing.of_domain, domain)
    return {each.selector: each.state for each in found}


async def test_each_domain_gets_keys_which_sign_once_dns_has_them(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    assert not await signingkeys.tend(mx.house)
    assert set((await states(mx)).values()) == {"made"}
    assert len(await states(mx)) == 2
    before = await states(mx)
    await signingkeys.tend(mx.house)
    assert await states(mx) == before
    for key in await mx.house.mail.read(signing.of_domain, DOMAIN):
        dns.add(key_name(DOMAIN, key.selector), "TXT", key.record)
    await signingkeys.tend(mx.house)
    assert set((await states(mx)).values()) == {"active"}


async def test_a_key_waits_for_its_operator_where_activate_is_off(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    await mx.set("dkim.activate", False)
    key = await signingkeys.make(mx.house, DOMAIN, "ed25519")
    dns.add(key_name(DOMAIN, key.selector), "TXT", key.record)
    await signingkeys.tend(mx.house)
    assert (await states(mx))[key.selector] == "published"
    dns.held.clear()
    await signingkeys.tend(mx.house)
    assert (await states(mx))[key.selector] == "made"


async def test_another_key_in_dns_is_not_ours(mx: Mx, dns: Dns, keys: Keyring) -> None:
    key = await signingkeys.make(mx.house, DOMAIN, "ed25519")
    dns.add(key_name(DOMAIN, key.selector), "TXT", signed.record("ed25519"))
    assert "another key" in await signingkeys.missing(mx.house, key)
    await signingkeys.tend(mx.house)
    assert (await states(mx))[key.selector] == "made"


async def test_an_old_key_has_a_successor_and_goes_in_its_time(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    await mx.set("dkim.rotate_days", 100)
    await mx.set("dkim.make_keys", False)
    old = await signs(mx, "ed25519", selector="old")
    mx.clock.advance(99 * 86_400)
    await signingkeys.tend(mx.house)
    assert await states(mx) == {"old": "active"}
    mx.clock.advance(86_400)
    await signingkeys.tend(mx.house)
    await signingkeys.tend(mx.house)
    (fresh,) = set(await states(mx)) - {"old"}
    assert await states(mx) == {"old": "active", fresh: "made"}
    made = await mx.house.mail.read(signing.one, DOMAIN, fresh)
    dns.add(key_name(DOMAIN, fresh), "TXT", made.record)
    await signingkeys.tend(mx.house)
    assert await states(mx) == {"old": "retired", fresh: "active"}
    mx.clock.advance(13 * 86_400)
    await signingkeys.tend(mx.house)
    assert "old" in await states(mx)
    mx.clock.advance(86_400)
    await signingkeys.tend(mx.house)
    assert await states(mx) == {fresh: "active"}
    assert old.selector == "old"


async def test_a_key_apart_takes_no_place_and_has_no_successor(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    await mx.set("dkim.rotate_days", 100)
    await signs(mx, "rsa", selector="main")
    await signs(mx, "rsa", selector="news", apart=True)
    assert await states(mx) == {"main": "active", "news": "active"}
    await signs(mx, "rsa", selector="later")
    assert await states(mx) == {"main": "retired", "news": "active", "later": "active"}
    await mx.set("dkim.make_keys", False)
    mx.clock.advance(50 * 86_400)
    await signs(mx, "rsa", selector="latest")
    mx.clock.advance(60 * 86_400)  # the key apart is old enough, and the other is not
    await signingkeys.tend(mx.house)
    assert await states(mx) == {"news": "active", "latest": "active"}


async def test_a_key_apart_is_none_of_the_keys_that_a_domain_gets(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    await signs(mx, "rsa", selector="news", apart=True)
    await signingkeys.tend(mx.house)
    made = await mx.house.mail.read(signing.of_domain, DOMAIN)
    assert sorted(each.kind for each in made if not each.apart) == ["ed25519", "rsa"]


async def test_the_nearest_domain_is_one_with_a_key_for_all_its_mail(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    names = [f"sub.{DOMAIN}", DOMAIN]
    await mx.house.mail.write(people.create_domain, mx.house.ids.new(), names[0], mx.clock.now())
    await signs(mx, "rsa", selector="main")
    await signs(mx, "rsa", domain=names[0], selector="news", apart=True)
    found = await mx.house.mail.read(signing.active, names)
    assert [each.selector for each in found] == ["main"]
    alone = await mx.house.mail.read(signing.active, names[:1])
    assert [each.selector for each in alone] == ["news"]


async def test_one_domain_that_fails_does_not_stop_the_others(
    mx: Mx, dns: Dns, keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mx.set("dkim.make_keys", False)
    key = await signingkeys.make(mx.house, "other.test", "ed25519")
    first = await signingkeys.make(mx.house, DOMAIN, "ed25519")
    dns.fail(key_name(DOMAIN, first.selector))
    dns.add(key_name("other.test", key.selector), "TXT", key.record)
    await signingkeys.tend(mx.house)
    assert (await states(mx, "other.test"))[key.selector] == "active"
    assert (await states(mx))[first.selector] == "made"
    assert SERVER.scope is Scope.SERVER


async def test_the_zone_text_reads_back_in_strings_of_255_octets(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    key = await signingkeys.make(mx.house, DOMAIN, "rsa", "sel")
    text = signingkeys.zone_text(key)
    assert text.startswith(f'sel._domainkey.{DOMAIN}. IN TXT ( "v=DKIM1; ')
    strings = text.split('"')[1::2]
    assert len(strings) == 2 and max(map(len, strings)) == 255
    assert "".join(strings) == key.record


async def test_a_report_of_ours_is_signed_for_the_domain_of_our_host(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    """It is from mail.example.test, and the key is that of example.test: aligned, relaxed."""
    key = await signs(mx, "ed25519")
    letter = (
        f"From: Mail <postmaster@mail.{DOMAIN}>\r\nTo: {FAR}\r\nSubject: Returned\r\n"
        "Message-ID: <2@mail.example.test>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nText\r\n"
    ).encode()
    visit = Visit("s1", Peer(None, 0, None, 0, "composed"), Protocol.COMPOSED, mx.clock.now())
    for wanted in (True, False):
        await mx.set("dkim.sign_reports", wanted)
        transit, _ = await mx.intake.mail(visit, MailFrom(None))
        assert (await mx.intake.rcpt(transit, parse_mailbox(FAR))).passes
        mx.intake.spool(transit).write(letter)
        assert (await mx.intake.data(transit, Streamed(len(letter)))).verdict.passes
    bodies = [
        await mx.house.mail.read_much(mx.house.blobs.read, each.message.blob)
        for each in await mx.waiting()
    ]
    assert len(bodies) == 2
    found = [(await signed.verify(each, zone_of(key), LATER))[0] for each in bodies]
    assert sorted(each.code.value for each in found) == ["none", "pass"]
    assert {each.domain for each in found} == {"", DOMAIN}


# --- hashed while it comes in ---------------------------------------------------------------------

FORMS = (
    signed.ours(),
    signed.other(tags={"c": "simple/simple"}),
    signed.other(tags={"l": "4"}),
    signed.ours().replace(b"\r\n\r\n", b"\r\nno field\r\n\r\n", 1),
    signed.ours().partition(b"\r\n\r\n")[0] + b"\r\n",
    signed.MESSAGE,
    b"\r\nno header at all\r\n",
    b"X: " + b"x" * incoming.HEADER_LOOK + b"\r\n" + signed.ours(),
)


@given(st.sampled_from(FORMS), st.lists(st.integers(1, 700), max_size=12))
@settings(max_examples=150, deadline=None)
def test_pieces_of_any_size_are_hashed_as_the_whole_is(content: bytes, sizes: list[int]) -> None:
    with TemporaryDirectory() as folder:
        spool = Blobs(folder, Files(), Ids(ManualClock())).spool()
        policy = Policy((), {})
        heard = incoming.Arriving(spool, signed.NOW, policy)
        at = 0
        for size in [*sizes, len(content)]:
            piece = content[at : at + size]
            spool.write(piece)
            heard.take(piece)
            at += len(piece)
        header = heard.header(spool)
        if header is not None:
            assert header.fields == headers.scan(content).fields
        made, whole = heard.message(spool), incoming._hashed(spool, None, signed.NOW, policy)
        if made is None:
            assert header is None or not header.find(b"dkim-signature")
            return
        assert [each.of for each in made.read or ()] == [each.of for each in whole.read or ()]
        for each in made.read or ():
            if each.signature is not None:
                part = each.signature.part
                assert made.body.of(part) == whole.body.of(part)


@pytest.mark.parametrize("size", [100, 100_000, 600_000])
async def test_nothing_is_read_again_to_be_hashed(
    mx: Mx, dns: Dns, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def again(*given: object) -> None:
        raise AssertionError("it was read again")

    await mx.account(BOB)
    body = b"Is  it ready? \r\n" * (size // 16)
    content = signed.ours(signed.MESSAGE + body)
    monkeypatch.setattr(incoming, "_hashed", again)
    async with mx.connect() as client:
        assert (await client.deliver(STRANGER, [BOB], content)).accepted
        assert (await client.deliver(STRANGER, [BOB], content.replace(b"ready", b"done"))).accepted
    codes = [
        [each["code"] for each in record["facts"]["dkim"]["signatures"]]
        for record in await mx.traces()
    ]
    assert sorted(codes) == [["fail", "fail"], ["pass", "pass"]]


async def test_what_is_made_anew_is_hashed_anew(mx: Mx, dns: Dns) -> None:
    """Binary parts are re-encoded before anybody judges: RFC 3030 §3."""
    await mx.account(BOB)
    binary = signed.MESSAGE.replace(
        b"\r\n\r\n", b"\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: binary\r\n\r\n", 1
    )
    content = signed.ours(binary + b"\0\xff\r\n")
    async with mx.connect() as client:
        await client.ask(f"MAIL FROM:<{STRANGER}> BODY=BINARYMIME")
        await client.ask(f"RCPT TO:<{BOB}>")
        await client.send(b"BDAT %d LAST\r\n" % len(content) + content)
        assert (await client.reply()).code == 250
    (record,) = await mx.traces()
    assert "re-encoded binary parts" in record["amended"]
    assert {each["code"] for each in record["facts"]["dkim"]["signatures"]} == {"fail"}


# --- which keys sign ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "selectors", "told"),
    (
        ("author=ann@example.test sign two", "two", "signed as example.test with two"),
        ("author=example.test sign two|one", "one two", "signed as example.test with one, two"),
        ("author=bob@example.test unsigned", "one two", "signed as example.test with one, two"),
        ("sender=example.test unsigned", "", "not signed, as line 1 of dkim.rules says"),
        ("list=news.example.test sign one", "one", "signed as example.test with one"),
        ("author=example.test sign gone", "one two", "no key that line 1 of dkim.rules names"),
        ("header=list-id:NEWS sign news", "news", "signed as example.test with news"),
        ("header=list-id sign one|news", "news one", "signed as example.test with one, news"),
        ("header=x-campaign sign news", "one two", "signed as example.test with one, two"),
    ),
)
async def test_lines_say_which_keys_sign(
    doors: Doors, keys: Keyring, line: str, selectors: str, told: str
) -> None:
    mx = doors.mx
    for selector, kind in (("one", "rsa"), ("two", "ed25519"), ("news", "rsa")):
        await signs(mx, kind, selector=selector, apart=selector == "news")
    await mx.set("dkim.rules", (line,))
    letter = b"List-Id: News <news.example.test>\r\n" + LETTER
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", [FAR], letter)).accepted
    (record,) = await mx.traces()
    assert told in " ".join(record["amended"])
    (waiting,) = await mx.waiting()
    content = await mx.house.mail.read_much(
        lambda tx: mx.house.blobs.read(tx, waiting.message.blob)
    )
    assert sorted(each["s"] for each in signed_fields(content)) == selectors.split()
