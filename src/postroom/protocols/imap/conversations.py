"""Messages as threads: ORDEREDSUBJECT, REFERENCES (RFC 5256 §3) and REFS. Pure.

Nothing here recurses and nothing is quadratic, whatever the references say: a thread may be as deep
as the mailbox is long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

WALK: Final = 32
"""Steps towards a root, for each message id, that looking for loops may take in all."""


class Joined(NamedTuple):
    """What joins a message to others; never changes."""

    id: bytes  # of the message; b"" if it has none
    references: tuple[bytes, ...]  # References, or the first of In-Reply-To: RFC 5256 §3
    subject: str  # the base subject as it is compared
    answers: bool  # the subject says that it is a reply or forward
    sent: int  # milliseconds: the sent date of RFC 5256 §2.2


@dataclass(slots=True)
class Node:
    """A message with those below it, or None with those that nobody else holds together."""

    at: int | None
    children: list[Node] = field(default_factory=list)


def by_subject(messages: Sequence[Joined]) -> list[Node]:
    """ORDEREDSUBJECT: the first of a subject, and all others below it."""
    order = sorted(range(len(messages)), key=lambda at: messages[at].sent)
    threads: dict[str, Node] = {}
    for at in order:
        subject = messages[at].subject
        if subject in threads:
            threads[subject].children.append(Node(at))
        else:
            threads[subject] = Node(at)
    return list(threads.values())  # in the order of their first messages


# --- REFERENCES ----------------------------------------------------------------------------------


def by_references(messages: Sequence[Joined]) -> list[Node]:
    """REFERENCES, by the six steps of RFC 5256 §3. Ties go by the order of `messages`."""
    top = _linked(messages)  # (1), (2), (3)

    def sent(node: Node) -> tuple[int, int]:
        at = _first(node)
        return messages[at].sent, at

    for node in top:
        if node.at is None:
            node.children.sort(key=sent)
    top.sort(key=sent)  # (4)
    top = _gathered(messages, top)  # (5)
    _sort(top, sent)  # (6)
    return top


def by_latest(messages: Sequence[Joined]) -> list[Node]:
    """REFS of draft-ietf-morg-inthread: steps (1) to (3) and (6) of RFC 5256 §3 without a look at
    subjects, and the thread whose latest message was sent last comes last."""
    top = _linked(messages)

    def sent(node: Node) -> tuple[int, int]:
        at = _first(node)
        return messages[at].sent, at

    _sort(top, sent)
    # Ties go by the first message; threads without one come before, as Dovecot has it.
    top.sort(key=lambda node: (_latest(messages, node), -1 if node.at is None else node.at))
    return top


def _latest(messages: Sequence[Joined], thread: Node) -> int:
    """When the last message of a thread was sent."""
    order = [thread]
    for node in order:  # grows
        order += node.children
    return max(messages[node.at].sent for node in order if node.at is not None)


def _linked(messages: Sequence[Joined]) -> list[Node]:
    """Steps (1) to (3): each message below the one that it answers."""
    forest = _Forest(messages)
    for at, message in enumerate(messages):
        forest.add(at, message)
    return _pruned(forest)


def _first(node: Node) -> int:
    """The message by which a node is sorted and named: only one at the top has none itself, and
    at least two below it."""
    at = node.at if node.at is not None else node.children[0].at
    assert at is not None
    return at


class _Forest:
    """Message ids and their parents, while messages are linked: step (1).

    To link a child that has children of its own could close a loop, so the way from the parent to
    its root is walked; all walks together are bounded, and what would go beyond is not linked. A
    message that comes after those it refers to has none, so no honest mailbox comes near.
    """

    def __init__(self, messages: Sequence[Joined]) -> None:
        self.nodes: dict[bytes, int] = {}
        self.parents: list[int] = []  # -1: none
        self.below: list[int] = []  # how many children
        self.message: list[int] = []  # -1: a dummy
        ids = sum(1 + len(each.references) for each in messages)
        self._steps = WALK * ids + 1024

    def add(self, at: int, message: Joined) -> None:
        above = -1
        for reference in message.references:  # (1) A
            node = self._node(reference)
            if above >= 0 and self.parents[node] < 0 and not self._loops(above, node):
                self._link(above, node)
            above = node
        own = self.nodes.get(message.id, -1) if message.id else -1
        if own < 0 or self.message[own] >= 0:
            # It has no id, or that of a message before it: then a unique one.
            unique = own >= 0 or not message.id
            own = self._new()
            if not unique:
                self.nodes[message.id] = own
        self.message[own] = at
        if self.parents[own] == above:
            return
        before = self.parents[own]  # (1) B
        if before >= 0:
            self.below[before] -= 1
            self.parents[own] = -1
        if above >= 0 and not self._loops(above, own):
            self._link(above, own)

    def _node(self, identifier: bytes) -> int:
        node = self.nodes.get(identifier)
        if node is None:
            node = self.nodes[identifier] = self._new()
        return node

    def _new(self) -> int:
        self.parents.append(-1)
        self.below.append(0)
        self.message.append(-1)
        return len(self.parents) - 1

    def _link(self, parent: int, child: int) -> None:
        self.parents[child] = parent
        self.below[parent] += 1

    def _loops(self, parent: int, child: int) -> bool:
        """Would a child, which has no parent now, come to be its own ancestor?"""
        if parent == child:
            return True
        if not self.below[child]:
            return False
        node = parent
        while node >= 0:
            if node == child or self._steps <= 0:
                return True
            self._steps -= 1
            node = self.parents[node]
        return False


def _pruned(forest: _Forest) -> list[Node]:
    """Steps (2) and (3): what is at the top, with dummies only there and only over several."""
    nodes = [Node(at if at >= 0 else None) for at in forest.message]
    below: list[list[int]] = [[] for _ in nodes]
    top: list[int] = []
    for child, parent in enumerate(forest.parents):
        (below[parent] if parent >= 0 else top).append(child)
    order = list(top)
    for number in order:  # grows: parents come before their children
        order += below[number]
    found: list[Node] = []
    for number in reversed(order):
        node, parent = nodes[number], forest.parents[number]
        if node.at is not None or (parent < 0 and len(node.children) > 1):
            kept = [node]
        else:
            kept = node.children
        if parent >= 0:
            into = nodes[parent].children
            # Long lists are not copied again and again on the way up: a chain of dummies.
            if not into:
                nodes[parent].children = kept
            elif len(into) < len(kept):
                kept += into
                nodes[parent].children = kept
            else:
                into += kept
        else:
            found += kept
    return found


def _gathered(messages: Sequence[Joined], top: Sequence[Node]) -> list[Node]:
    """Step (5): threads of the same base subject become one."""

    def answers(node: Node) -> bool:
        return node.at is not None and messages[node.at].answers

    table: dict[str, Node] = {}
    for node in top:  # B
        subject = messages[_first(node)].subject
        if not subject:
            continue
        known = table.get(subject)
        if known is None or (
            known.at is not None and (node.at is None or (answers(known) and not answers(node)))
        ):
            table[subject] = node
    place = {id(node): at for at, node in enumerate(top)}
    left: list[Node | None] = list(top)
    for at, node in enumerate(top):  # C
        subject = messages[_first(node)].subject
        known = table.get(subject) if subject else None
        if known is None or known is node or left[at] is not node:
            continue
        left[at] = None
        if known.at is None:
            known.children += node.children if node.at is None else [node]
        elif answers(node) and not answers(known):
            known.children.append(node)
        else:
            both = Node(None, [known, node])
            where = place[id(known)]
            left[where] = both
            place[id(both)] = where
            table[subject] = both
    return [node for node in left if node is not None]


def _sort(top: list[Node], sent: Callable[[Node], tuple[int, int]]) -> None:
    """Step (6): all siblings, the lowest first."""
    order = [node for node in top if node.children]
    for node in order:  # grows
        order += [child for child in node.children if child.children]
    for node in reversed(order):
        node.children.sort(key=sent)
    top.sort(key=sent)


# --- telling -------------------------------------------------------------------------------------


def rendered(top: Iterable[Node], numbers: Mapping[int, int] | Sequence[int]) -> bytes:
    """`(2)(3 6 (4 23)(44 7 96))`: the threads with each message's number. RFC 5256 §4."""
    told: list[bytes] = []
    work: list[Node | bytes] = []
    for thread in top:
        work += (b")", thread, b"(")
        while work:
            each = work.pop()
            if isinstance(each, bytes):
                told.append(each)
                continue
            if each.at is not None:
                told.append(b"%d" % numbers[each.at])
                if each.children:
                    told.append(b" ")
            if len(each.children) == 1:
                work.append(each.children[0])
                continue
            for child in reversed(each.children):
                work += (b")", child, b"(")
    return b"".join(told)
