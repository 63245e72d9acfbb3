"""What one session has of a mailbox before all others: \\Recent, and all of it in POP3."""
