"""What became of flags: the rows of 64 messages each. `marks` speaks for them."""
