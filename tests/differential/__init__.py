"""What the comparison with another IMAP server is made of: mail, scripts, answers."""
