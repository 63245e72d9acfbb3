"""The sender policy: what becomes of a message by what the checks of its sender found.

An administrator writes lines (`language`); they are asked about what is known of a message
(`evidence`), in order (`judging`), unless somebody on the Approved List vouches for it
(`approved`). What follows is a fact of the message, which rules, DMARC's disposition and the
trace read. Called by mailflow's phases and by administration.
"""
