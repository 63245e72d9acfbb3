"""What is done with a message that fails, and the reason that a report gives for it."""

from __future__ import annotations

import pytest

from postroom.trust.dmarc.disposition import Disposition, Wanted, dispose
from postroom.trust.dmarc.result import DmarcCode, Request

NONE, QUARANTINE, REJECT = Request.NONE, Request.QUARANTINE, Request.REJECT


@pytest.mark.parametrize(("published", "done"), [(QUARANTINE, NONE), (REJECT, QUARANTINE)])
def test_test_mode_is_the_reason_where_less_is_done_than_was_published(
    published: Request, done: Request
) -> None:
    """RFC 9990 §3.1.1.9: where these differ a reason MUST be included; §3.1.6: which one."""
    found = dispose(DmarcCode.FAIL, published.milder, published, Wanted())
    assert found.reported is done
    assert (found.override, found.comment) == (
        "policy_test_mode",
        "the domain tests its policy (t=y)",
    )


def test_what_a_line_of_a_list_decides_as_test_mode_would_is_test_mode_too() -> None:
    wanted = Wanted(ruled="quarantine", ruled_by="sender.rules", ruled_why="x")
    found = dispose(DmarcCode.FAIL, QUARANTINE, REJECT, wanted)
    assert (found.action, found.override) == ("quarantine", "policy_test_mode")


def test_a_setting_is_the_reason_where_it_does_less_than_test_mode() -> None:
    found = dispose(DmarcCode.FAIL, QUARANTINE, REJECT, Wanted(on_quarantine="accept"))
    assert (found.reported, found.override) == (NONE, "local_policy")


@pytest.mark.parametrize("published", list(Request))
def test_what_is_done_as_published_needs_no_reason(published: Request) -> None:
    found = dispose(DmarcCode.FAIL, published, published, Wanted())
    assert (found.reported, found.override, found.comment) == (published, "", "")
    assert dispose(DmarcCode.PASS, published, published, Wanted()) == Disposition()
