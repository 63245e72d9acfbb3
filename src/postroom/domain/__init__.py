"""What is kept and the rules that keep it true, as plain functions over a transaction.

Floor 3. May import: core, formats, wire, store, net. Knows no protocol, no clock, no socket.
Layered inside: trace, directory; then mailboxes; then queue.
"""
