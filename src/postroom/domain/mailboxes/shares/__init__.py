"""What is kept of the sharing of mailboxes: its tables. `rights` and `sharing` speak for them."""
