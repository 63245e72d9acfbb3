"""Records as text: of a zone file (RFC 1035 §5.1), and as commands of nsupdate (RFC 2136)."""

from __future__ import annotations

from collections.abc import Iterable

from postroom.trust.publishing.record import Wanted


def zone_text(records: Iterable[Wanted]) -> str:
    """Lines of a zone file, each record with its reason above it. All names are absolute."""
    return "\n".join(f"; {each.need}: {each.why}\n{_line(each)}" for each in records)


def _line(each: Wanted) -> str:
    return f"{each.owner}. {each.ttl} IN {each.kind} {each.data}"


def update_text(records: Iterable[Wanted]) -> str:
    """Commands of nsupdate that add what is not there, one message for each name and kind.

    Each message goes through only if the name has no records of that kind yet (RFC 2136 §2.4.3):
    nothing that somebody else published is replaced, and no second SPF record is put beside one.
    """
    messages: dict[tuple[str, str], list[str]] = {}
    for each in records:
        if each.elsewhere:
            continue  # another's zone: no server of ours takes it
        lines = messages.setdefault((each.owner, each.kind), [])
        lines.append(f"update add {_line(each)}")
    return "\n".join(
        "\n".join((f"prereq nxrrset {owner}. IN {kind}", *lines, "send"))
        for (owner, kind), lines in messages.items()
    )
