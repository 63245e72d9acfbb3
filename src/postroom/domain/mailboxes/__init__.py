"""Mailboxes: the messages an account keeps, their flags, counters and change log.

Called by mailflow (delivery) and every mailbox protocol. May import: store, formats, core and
domain.events. `folders` is the tree, `messages` what changes it, `reading` what sessions read.
"""
