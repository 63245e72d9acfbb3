"""The public face of the package."""

from __future__ import annotations

import types

from postroom.wire import imap


def test_the_export_list_is_what_can_be_imported() -> None:
    public = {
        name
        for name, value in vars(imap).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - {"annotations"} == set(imap.__all__)
    assert len(imap.__all__) == len(set(imap.__all__))


def test_every_command_of_the_grammar_has_a_name_as_the_receiver_gives_it() -> None:
    assert all(name == name.upper() for name in imap.GRAMMAR)
    receiver = imap.Receiver(imap.Budget(10_000))
    for name in imap.GRAMMAR:
        receiver.feed(b"a " + name.lower() + b"\r\n")
        command = receiver.next()
        assert isinstance(command, imap.Command)
        assert command.name == name
