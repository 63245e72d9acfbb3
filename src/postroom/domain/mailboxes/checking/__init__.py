"""What `domain.check` and a whole restore ask and mend of mailboxes: their statements."""
