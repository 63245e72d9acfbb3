"""Maildirs of friends and of enemies, as they are walked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.core.errors import Misuse
from postroom.mailflow.transfer import Source, open_maildir
from postroom.mailflow.transfer.items import Item
from tests.mailflow.transfer.trees import maildir, put, text

Walked = dict[tuple[str, ...], list[tuple[str, bytes]]]


def walked(source: Source) -> Walked:
    """Each folder's items: where they lie, and their content or their problem."""
    try:
        return {folder.path: list(items(folder.items())) for folder in source.folders}
    finally:
        source.close()


def items(found: Iterator[Item]) -> Iterator[tuple[str, bytes]]:
    for item in found:
        yield item.source, item.problem.encode() or b"".join(item.chunks)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return maildir(tmp_path / "Maildir")


def test_messages_come_in_the_order_of_their_names(root: Path) -> None:
    put(root, "cur/1700000010.M9P1.host:2,S", b"2")
    put(root, "new/1700000009.M10P1.host", b"1")
    put(root, "cur/1700000010.M10P1.host:2,", b"3")
    put(root, "cur/999.x", b"0")
    put(root, "cur/.hidden", b"no")
    put(root, "tmp/1700000001.unfinished", b"no")
    assert [content for _, content in walked(open_maildir(str(root)))[()]] == [
        b"0",
        b"1",
        b"2",
        b"3",
    ]


def test_folders_of_both_kinds_are_found(tmp_path: Path, root: Path) -> None:
    maildir(root / ".Sent")
    maildir(root / ".Work.2026 &AOQ-")
    maildir(root / ".a\\2eb")
    assert set(walked(open_maildir(str(root)))) == {
        (),
        ("Sent",),
        ("Work", "2026 ä"),
        ("a.b",),
    }
    tree = tmp_path / "tree"
    maildir(tree / "INBOX")
    maildir(tree / "a.b" / "deep")
    maildir(tree / "a.b" / ".legacy")
    (tree / "sieve" / "tmp").mkdir(parents=True)
    assert set(walked(open_maildir(str(tree)))) == {
        ("INBOX",),
        ("a.b", "deep"),
        ("a.b", "legacy"),
    }


def test_flags_keywords_and_dates_are_read(root: Path) -> None:
    (root / "dovecot-keywords").write_bytes(b"0 $label1\n1 work\n")
    put(root, "cur/1.a:2,FSab", b"x", at=1_600_000_000.25)
    put(root, "cur/2.a:2,RZ", b"x", at=-5)
    source = open_maildir(str(root))
    found = list(source.folders[0].items())
    source.close()
    assert found[0].flags == ("\\Flagged", "\\Seen", "$label1", "work")
    assert found[0].received_at == 1_600_000_000_250
    assert found[1].flags == ("\\Answered",)
    assert found[1].received_at is None


def test_subscriptions_are_read(root: Path) -> None:
    source = open_maildir(str(root))
    assert source.subscribed is None
    source.close()
    (root / "subscriptions").write_bytes(b"V\t2\n\nSent\na\tb\n")
    source = open_maildir(str(root))
    assert source.subscribed == frozenset({("Sent",), ("a", "b")})
    source.close()


# --- enemies --------------------------------------------------------------------------------------


def test_links_lead_nowhere(tmp_path: Path, root: Path) -> None:
    secret = tmp_path / "secret"
    maildir(secret)
    put(secret, "cur/1.a", b"secret")
    (root / "cur" / "1.link").symlink_to(secret / "cur" / "1.a")
    (root / ".Linked").symlink_to(secret)
    (root / ".Half").mkdir()
    (root / ".Half" / "cur").symlink_to(secret / "cur")
    (root / "dovecot-keywords").symlink_to(secret / "cur" / "1.a")
    source = open_maildir(str(root))
    problems = {item.source: item.problem for item in source.problems}
    found = walked(source)
    refusal = "A symbolic link is not followed"
    assert problems == {".Linked": refusal, ".Half/cur": refusal}
    assert list(found) == [()]
    assert dict(found[()]) == {
        "cur/1.link": refusal.encode(),
        "dovecot-keywords": f"The keywords cannot be read: {refusal}".encode(),
    }


def test_a_directory_exchanged_for_a_link_in_the_middle_leads_nowhere(
    tmp_path: Path, root: Path
) -> None:
    secret = maildir(tmp_path / "secret")
    put(secret, "cur/1.a", b"secret")
    maildir(root / ".Sent")
    source = open_maildir(str(root))
    shutil.rmtree(root / ".Sent")
    (root / ".Sent").symlink_to(secret)
    told = walked(source)[("Sent",)]
    assert told
    assert all(b"secret" not in content for _, content in told)


def test_pipes_and_devices_are_not_opened(root: Path) -> None:
    os.mkfifo(root / "cur" / "1.pipe")  # who opened it would wait for ever
    (root / "cur" / "2.directory").mkdir()
    (root / "cur" / "3.device").symlink_to("/dev/zero")
    assert dict(walked(open_maildir(str(root)))[()]) == {
        "cur/1.pipe": b"This is no file",
        "cur/2.directory": b"This is no file",
        "cur/3.device": b"A symbolic link is not followed",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_told(root: Path) -> None:
    put(root, "cur/1.a", b"x").chmod(0)
    assert walked(open_maildir(str(root)))[()] == [("cur/1.a", b"Permission denied")]


def test_a_folder_that_vanishes_is_told(root: Path) -> None:
    maildir(root / ".Sent")
    put(root / ".Sent", "cur/1.a", b"x")
    source = open_maildir(str(root))
    shutil.rmtree(root / ".Sent")
    ((where, why),) = walked(source)[("Sent",)]
    assert where == ".Sent/dovecot-keywords"
    assert b"No such file" in why


def test_a_tree_that_is_too_deep_is_cut(root: Path) -> None:
    at = root
    for _ in range(40):
        at = maildir(at / "d")
    source = open_maildir(str(root))
    assert len(source.folders) == 33
    assert [item.problem for item in source.problems] == ["Folders do not nest that deep"]
    source.close()


def test_names_that_are_none_are_told(root: Path) -> None:
    maildir(root / ".a..b")
    maildir(root / os.fsdecode(b".caf\xe9"))
    put(root, os.fsdecode(b"cur/1.\xff"), b"x")
    source = open_maildir(str(root))
    assert [item.source for item in source.problems] == [".a..b"]
    found = walked(source)
    assert found[("café",)] == []
    assert found[()] == [("cur/1.\\xff", b"x")]


def test_what_is_no_maildir_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="neither cur nor new"):
        open_maildir(str(tmp_path))
    with pytest.raises(Misuse, match="on the server's machine"):
        open_maildir(str(tmp_path / "none"))
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(Misuse, match="Not a directory"):
        open_maildir(str(tmp_path / "file"))


def test_no_descriptor_stays_open(root: Path) -> None:
    for n in range(20):
        put(root, f"cur/{n}.a", text(str(n)))
    before = len(os.listdir("/proc/self/fd"))
    walked(open_maildir(str(root)))
    source = open_maildir(str(root))
    next(source.folders[0].items())  # and no further
    source.close()
    assert len(os.listdir("/proc/self/fd")) == before


# --- others who work in it meanwhile --------------------------------------------------------------


def test_what_is_moved_renamed_or_delivered_meanwhile_comes_once(root: Path) -> None:
    for n in range(10):
        put(root, f"new/{n}.a", b"%d" % n)
    source = open_maildir(str(root))
    found: list[tuple[str, bytes]] = []
    for n, item in enumerate(source.folders[0].items()):
        found.append((item.source, b"".join(item.chunks)))
        if n == 2:
            (root / "new" / "0.a").rename(root / "cur" / "0.a:2,S")  # read already
            (root / "new" / "7.a").rename(root / "cur" / "7.a:2,S")  # not yet
            put(root, "new/99.a", b"99")
        if n == 9:
            (root / "cur" / "7.a:2,S").rename(root / "cur" / "7.a:2,RS")
    source.close()
    assert sorted(content for _, content in found) == sorted(
        [*(b"%d" % n for n in range(10)), b"99"]
    )


def test_what_is_gone_for_good_is_told(root: Path) -> None:
    put(root, "cur/1.a:2,", b"1")
    put(root, "cur/2.a:2,", b"2")
    source = open_maildir(str(root))
    walk = source.folders[0].items()
    next(walk)
    (root / "cur" / "2.a:2,").unlink()
    assert [(item.source, item.problem) for item in walk] == [
        ("cur/2.a:2,", "It went away before it was read")
    ]
    source.close()
