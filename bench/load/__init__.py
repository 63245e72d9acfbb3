"""Clients that cost little: preformatted commands, replies read no further than needed."""
