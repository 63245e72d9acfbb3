"""What each command does, one file for a family; the RFC's section beside each.

A command is an async function `(session, command)` that says its own tagged reply, after
`session.finish` has told the client what others did meanwhile.
"""
