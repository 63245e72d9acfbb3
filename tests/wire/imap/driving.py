"""Drives a receiver as a session does, and writes its events down as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from postroom.wire.imap import (
    GRAMMAR,
    SIGNED_IN,
    Append,
    AppendMessage,
    BadSyntax,
    Budget,
    Command,
    CommandPart,
    Event,
    LiteralChunk,
    NeedLiteral,
    Receiver,
    parse_append_more,
)

SMALL = replace(
    SIGNED_IN, line=200, literal=20, literals_total=400, append=60, nonsync=None, discard=500
)


class Session:
    """A client's bytes through a receiver, events written down as plain values."""

    def __init__(
        self,
        receiver: Receiver | None = None,
        accept: Callable[[NeedLiteral], bool] = lambda need: True,
    ) -> None:
        self.receiver = receiver or Receiver(Budget(1 << 20), SIGNED_IN)
        self.accept = accept
        self.seen: list[object] = []
        self._before = AppendMessage()

    def feed(self, data: bytes) -> Session:
        self.receiver.feed(data)
        while (event := self.receiver.next()) is not None:
            self._react(event)
            assert self.receiver.buffered == self.receiver.budget.used
        assert self.receiver.buffered == self.receiver.budget.used
        return self

    def _react(self, event: Event) -> None:
        if isinstance(event, Command):
            self.seen.append((event.tag, event.name, self._parse(event)))
            if event.name in (b"AUTHENTICATE", b"IDLE") and not event.more:
                self.receiver.expect_line()
        elif isinstance(event, CommandPart):
            try:
                message = parse_append_more(event.args, self._before)
            except BadSyntax as error:
                self.seen.append(str(error))
                if event.more:
                    self.receiver.reject()
                return
            self._before = message or AppendMessage()
            self.seen.append(message)
        elif isinstance(event, LiteralChunk):
            data = bytes(event.data)
            assert data
            last = self.seen[-1]
            self.seen[-1] = last + data if isinstance(last, bytes) else last
            if not isinstance(last, bytes):
                self.seen.append(data)
        else:
            self.seen.append(event)
            if isinstance(event, NeedLiteral):
                if self.accept(event):
                    self.receiver.accept()
                else:
                    self.receiver.reject()

    def _parse(self, command: Command) -> object:
        read = GRAMMAR.get(command.name)
        if read is None:
            if command.more:
                self.receiver.reject()
            return None
        try:
            arguments = read(command.args)
        except BadSyntax as error:
            if command.more:
                self.receiver.reject()
            return str(error)
        if isinstance(arguments, Append):
            self._before = arguments.message
        return arguments


def events(data: bytes, receiver: Receiver | None = None) -> list[object]:
    return Session(receiver).feed(data).seen


def small(budget: int = 1000) -> Receiver:
    return Receiver(Budget(budget), SMALL)
