"""Reads one command line as the server does, for the tests of each family of commands."""

from __future__ import annotations

from postroom.wire.imap import GRAMMAR, SIGNED_IN, Arguments, Budget, Command, Receiver


def read(line: bytes, *, utf8: bool = False) -> Arguments:
    """The arguments of a whole command, without its tag and last CRLF.

    `{n}` literals are accepted. Raises BadSyntax for what the command's grammar refuses.
    """
    receiver = Receiver(Budget(1 << 20), SIGNED_IN)
    receiver.utf8 = utf8
    receiver.feed(b"A1 " + line + b"\r\n")
    event = receiver.next()
    while not isinstance(event, Command):
        receiver.accept()
        event = receiver.next()
    assert receiver.empty or event.more
    return GRAMMAR[event.name](event.args)
