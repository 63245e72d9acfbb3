"""Which lines hold and what they add up to: every combination of results, by an oracle that shares
nothing with the walk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from itertools import product

import pytest

from postroom.core.errors import Malformed
from postroom.core.settings import chain
from postroom.domain.facts import (
    ArcFact,
    DkimFact,
    DmarcFact,
    FromFact,
    IprevFact,
    PeerFact,
    SenderFact,
    SenderPolicyFact,
    SpfFact,
)
from postroom.domain.policy import Policy
from postroom.domain.transit import Facts
from postroom.mailflow.sender.evidence import Evidence, gathered, supposed
from postroom.mailflow.sender.judging import judged
from postroom.mailflow.sender.language import RESULTS, UNKNOWN
from postroom.mailflow.sender.settings import SenderSettings

POLICY = (
    "dmarc=pass dkim=pass score -4",
    "arc=pass wish=reject junk",
    "spf=fail dkim!=pass dmarc=none|fail score 3",
    "spf=softfail|neutral score 1",
    "iprev=fail|permerror spf!=pass score 2",
    "dmarc=temperror dkim=temperror|permerror defer",
    "dmarc=permerror tag Unclear",
    "spf=unknown dmarc=unknown tag Unasked",
    "wish=quarantine spf!=pass quarantine",
    "dmarc=fail wish=none dkim=fail spf=fail close",
    "dmarc=fail wish=none iprev!=pass refuse",
    "spf=pass dkim=pass accept",
    "spf=fail|softfail|permerror dkim=none|fail dmarc!=pass arc!=pass score 4",
    'dmarc!=unknown|pass tag "X-Dmarc: no"',
    "dkim=policy|neutral score -1",
)
CHECKED = ("spf", "dkim", "dmarc", "wish", "arc", "iprev")


def combinations() -> Iterator[dict[str, str]]:
    for found in product(*(RESULTS[name] for name in CHECKED)):
        yield dict(zip(CHECKED, found, strict=True))


def oracle(found: dict[str, str]) -> tuple[str, int, int, tuple[int, ...], tuple[str, ...]]:
    """Action, line, sum, lines that scored, tags: each line as a table of what it lets through."""
    total, scored, tags = 0, [], []
    for number, text in enumerate(POLICY, 1):
        words = text.replace('"', "").split(" ")
        while words and "=" in words[0]:
            name, values = words.pop(0).split("=")
            listed = set(values.split("|"))
            if name.endswith("!"):
                name = name[:-1]
                listed = set(RESULTS[name]) - listed - {UNKNOWN}
            if found[name] not in listed:
                break
        else:
            if words[0] == "score":
                total += int(words[1])
                scored.append(number)
            elif words[0] == "tag":
                tags.append(" ".join(words[1:]))
            else:
                return words[0], number, total, tuple(scored), tuple(tags)
    by_sum = "refuse" if total >= 7 else "junk" if total >= 4 else ""
    return by_sum, 0, total, tuple(scored), tuple(tags)


def test_every_combination_of_results_is_judged_as_the_oracle_does() -> None:
    settings = SenderSettings(rules=POLICY, junk_score=4, refuse_score=7)
    seen: dict[str, int] = {}
    lines: set[int] = set()
    for found in combinations():
        made = judged(Evidence(found), settings)
        scored = tuple(int(each.split(":")[0].removeprefix("line ")) for each in made.scored)
        assert (made.action, made.line, made.score, scored, made.tags) == oracle(found), found
        seen[made.action] = seen.get(made.action, 0) + 1
        lines.update((made.line, *scored))
    assert set(seen) == {"", "accept", "junk", "quarantine", "defer", "refuse", "close"}
    untagged = {n for n, text in enumerate(POLICY, 1) if " tag " not in text}
    assert lines >= untagged, "a line that never holds tries nothing"


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_of_what_is_unknown_nothing_holds_that_does_not_name_it(name: str) -> None:
    known = [each for each in RESULTS[name] if each != UNKNOWN]
    for found in RESULTS[name]:
        for asked in known:
            both = [
                judged(
                    Evidence({name: found}), SenderSettings(rules=(f"{name}{sign}{asked} junk",))
                )
                for sign in ("=", "!=")
            ]
            held = [each.action == "junk" for each in both]
            assert held == (
                [False, False] if found == UNKNOWN else [found == asked, found != asked]
            )
        named = SenderSettings(rules=(f"{name}=unknown junk",))
        assert (judged(Evidence({name: found}), named).action == "junk") is (found == UNKNOWN)


# --- names ------------------------------------------------------------------------------------

KNOWN = Evidence(
    {},
    peer=ip_address("192.0.2.7"),
    host="mx.example.net",
    sender="ann@sub.example.org",
    authors=("eve@example.com", "bob@example.net"),
    signers=(("lists.example.com", "@lists.example.com"),),
    late=frozenset({"spf"}),
)
NOBODY_KNOWS = Evidence({})


@pytest.mark.parametrize(
    ("condition", "holds", "when_unknown"),
    (
        ("peer=192.0.2.0/24", True, False),
        ("peer=192.0.2.8|192.0.2.7", True, False),
        ("peer=2001:db8::/32", False, False),
        ("peer!=2001:db8::/32", True, False),
        ("host=example.net", True, False),
        ("host=ample.net", False, False),
        ("host!=example.net", False, False),
        ("host!=example.org", True, False),
        ("sender=example.org", True, False),
        ("sender=ann@sub.example.org", True, False),
        ("sender=ann@example.org", False, False),
        ("sender=<>", False, True),
        ("sender!=<>|example.com", True, False),
        ("author=example.net", True, False),
        ("author=eve@example.com", True, False),
        ("author!=example.net", False, False),
        ("author!=example.org", True, False),
        ("signer=example.com", True, False),
        ("signer!=example.com", False, False),
        ("signer!=example.org", True, False),
        ("late=spf|dkim", True, False),
        ("late!=spf", False, True),
    ),
)
def test_names_stand_for_themselves_and_what_lies_below(
    condition: str, holds: bool, when_unknown: bool
) -> None:
    settings = SenderSettings(rules=(f"{condition} junk",))
    assert (judged(KNOWN, settings).action == "junk") is holds
    assert (judged(NOBODY_KNOWS, settings).action == "junk") is when_unknown


def test_a_peer_of_ipv4_is_one_by_whichever_socket_it_came() -> None:
    mapped = replace(KNOWN, peer=ip_address("::ffff:192.0.2.7"))
    assert judged(mapped, SenderSettings(rules=("peer=192.0.2.0/24 junk",))).line == 1


# --- what decides -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "junk", "refuse", "action", "setting"),
    (
        ((3,), 0, 0, "", ""),
        ((3,), 4, 0, "", ""),
        ((2, 2), 4, 0, "junk", "sender.junk_score"),
        ((2, 2), 0, 4, "refuse", "sender.refuse_score"),
        ((9,), 4, 8, "refuse", "sender.refuse_score"),
        ((9, -6), 4, 8, "", ""),
        ((-6,), 0, 0, "", ""),
    ),
)
def test_points_add_up(
    points: tuple[int, ...], junk: int, refuse: int, action: str, setting: str
) -> None:
    rules = tuple(f"spf=fail score {n}" for n in points)
    made = judged(Evidence({"spf": "fail"}), SenderSettings(rules, (), junk, refuse))
    assert (made.action, made.setting, made.score, made.line) == (action, setting, sum(points), 0)
    assert made.scored == tuple(f"line {n}: {rule}" for n, rule in enumerate(rules, 1))


def test_a_line_that_decides_ends_the_walk_and_the_sum_decides_nothing_then() -> None:
    rules = (
        "spf=fail score 9",
        "spf=fail tag A",
        "spf=fail junk",
        "spf=fail close",
        "spf=fail tag B",
    )
    made = judged(Evidence({"spf": "fail"}), SenderSettings(rules, (), 1, 1))
    assert (made.action, made.line, made.text, made.by) == (
        *("junk", 3, "spf=fail junk", "sender.rules line 3"),
    )
    assert (made.score, made.tags) == (9, ("A",))


@pytest.mark.parametrize(
    ("rule", "instead"),
    (
        ("spf=pass accept", True),
        ("wish=reject junk", True),
        ("wish=reject|quarantine quarantine", True),
        ("wish=reject|none junk", False),
        ("wish!=none junk", False),
        ("dmarc=fail junk", False),
    ),
)
def test_who_names_the_wish_decides_in_the_place_of_dmarc(rule: str, instead: bool) -> None:
    found = Evidence({"spf": "pass", "dmarc": "fail", "wish": "reject"})
    assert judged(found, SenderSettings((rule,))).instead is instead


# --- the Approved List --------------------------------------------------------------------------

LISTED = ("spf:example.org", "dkim:example.net", "dkim:@news.example.com", "dkim:bob@x.example")


def signed(domain: str, identity: str = "") -> Evidence:
    return Evidence({"dkim": "pass"}, signers=((domain, identity or f"@{domain}"),))


@pytest.mark.parametrize(
    ("found", "entry"),
    (
        (Evidence({}, spf_path="example.org"), "spf:example.org"),
        (Evidence({}, spf_path="bounces.example.org"), "spf:example.org"),
        (Evidence({}, spf_path="badexample.org"), ""),
        (Evidence({}, spf_path="example.net"), ""),  # it is approved as a signer alone
        (Evidence({"spf": "fail"}, sender="ann@example.org"), ""),
        (signed("example.net"), "dkim:example.net"),
        (signed("lists.example.net"), "dkim:example.net"),
        (signed("example.org"), ""),
        (signed("example.com", "@news.example.com"), "dkim:@news.example.com"),
        (signed("example.com", "Ann@News.example.com"), "dkim:@news.example.com"),
        (signed("example.com", "@sub.news.example.com"), ""),
        (signed("example.com"), ""),
        (signed("x.example", "bob@x.example"), "dkim:bob@x.example"),
        (signed("x.example", "eve@x.example"), ""),
    ),
)
def test_an_entry_counts_for_what_passed(found: Evidence, entry: str) -> None:
    settings = SenderSettings(("dkim!=none refuse", "spf!=pass refuse"), LISTED)
    made = judged(found, settings)
    assert ((made.setting, made.text) if made.setting == "sender.approved" else ("", "")) == (
        *(("sender.approved", entry) if entry else ("", "")),
    )


def test_who_wrote_it_must_be_certain_before_anybody_is_approved() -> None:
    found = replace(signed("example.net"), unclear=True)
    assert judged(found, SenderSettings((), LISTED)) == SenderPolicyFact()


# --- where the evidence comes from ----------------------------------------------------------------

DEFAULTS = Policy(chain(), {})
SPF = SpfFact("pass", "example.org", "a", "", "", 0, "fail", "mx.example.net", "")
DMARC = DmarcFact("fail", "example.com", "", policy="reject", addresses=("eve@example.com",))


def entry(code: str, **more: str) -> dict[str, str]:
    return {"code": code, "domain": "example.net", "identity": "@example.net", **more}


def test_facts_are_told_in_the_words_of_lines() -> None:
    facts = Facts()
    facts.put(
        PeerFact("192.0.2.7", "smtp", False, "mx", True, False, ""),
        SenderFact("Ann@example.org", False, 0),
        SPF,
        DMARC,
        IprevFact("pass", "mx.example.net"),
        DkimFact((entry("fail"), entry("pass", domain="example.org"))),
        ArcFact("pass", ""),
        FromFact("mismatch", "boss@bank.example", "eve@example.com", ""),
    )
    found = gathered(facts, DEFAULTS)
    assert found.results == {
        "spf": "pass",
        "helo": "fail",
        "iprev": "pass",
        "dkim": "pass",
        "dmarc": "fail",
        "wish": "reject",
        "arc": "pass",
        "vbr": "none",
        "from": "mismatch",
    }
    assert (str(found.peer), found.host, found.sender) == (
        *("192.0.2.7", "mx.example.net", "ann@example.org"),
    )
    assert (found.authors, found.spf_path) == (("eve@example.com",), "example.org")
    assert found.signers == (("example.org", "@example.net"),)


def test_what_was_not_found_is_unknown() -> None:
    facts = Facts()
    facts.late += ["dkim", "vbr"]
    found = gathered(facts, DEFAULTS)
    assert set(found.results.values()) == {UNKNOWN}
    assert found.host is None
    assert found.authors is None
    assert found.signers is None
    assert found.late == {"dkim", "vbr"}


@pytest.mark.parametrize(
    ("codes", "best"),
    (
        (("none",), "none"),
        (("fail", "pass"), "pass"),
        (("fail", "temperror"), "temperror"),
        (("permerror", "fail"), "permerror"),
        (("neutral", "permerror", "policy"), "policy"),
    ),
)
def test_several_signatures_say_what_the_best_one_says(codes: tuple[str, ...], best: str) -> None:
    facts = Facts()
    facts.put(DkimFact(tuple(entry(code) for code in codes)))
    assert gathered(facts, DEFAULTS).results["dkim"] == best


def test_a_key_that_is_but_tested_vouches_for_nobody() -> None:
    facts = Facts()
    facts.put(DkimFact((entry("pass", testing="yes"),)))
    found = gathered(facts, DEFAULTS)
    assert (found.results["dkim"], found.signers) == ("none", ())


@pytest.mark.parametrize(
    ("result", "policy", "wish"),
    (
        ("fail", "reject", "reject"),
        ("fail", "quarantine", "quarantine"),
        ("fail", "none", "none"),
        ("pass", "reject", "none"),
        ("permerror", "reject", "none"),
        ("temperror", "none", "unknown"),
    ),
)
def test_a_wish_is_about_this_message(result: str, policy: str, wish: str) -> None:
    facts = Facts()
    facts.put(replace(DMARC, result=result, policy=policy))
    assert gathered(facts, DEFAULTS).results["wish"] == wish


# --- what an administrator supposes ---------------------------------------------------------------


def test_what_is_supposed_follows_from_the_words() -> None:
    found = supposed(
        ["spf=pass", "sender=ann@b.example.org", "signer=example.net", "dmarc=pass",
         "peer=192.0.2.1", "author=x.example|y.example", "late=dkim|iprev"]
    )  # fmt: skip
    assert found.results == {"spf": "pass", "dmarc": "pass", "dkim": "pass", "wish": "none"}
    assert (found.spf_path, found.signers) == ("b.example.org", (("example.net", "@example.net"),))
    assert (str(found.peer), found.authors) == ("192.0.2.1", ("x.example", "y.example"))
    assert found.late == {"dkim", "iprev"}
    nothing = supposed([])
    assert (nothing.results, nothing.signers, nothing.sender) == ({}, None, "")
    assert supposed(["dkim=none"]).signers == ()
    assert supposed(["sender=<>"]).sender == ""


@pytest.mark.parametrize(
    ("words", "said"),
    (
        (["spf!=pass"], "Say once what spf is"),
        (["spf=pass", "spf=fail"], "Say once what spf is"),
        (["spf=pass|fail"], r"spf is one of them, not pass\|fail"),
        (["peer=192.0.2.0/24"], "The peer is one address, not all of 192.0.2.0/24"),
        (["junk"], 'no condition "junk"'),
    ),
)
def test_what_cannot_be_supposed_is_told(words: list[str], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        supposed(words)
