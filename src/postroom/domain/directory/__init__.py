"""The directory: domains, accounts, aliases, credentials; who an address leads to.

Called by access, mailflow, administration. May import: store, formats, core, domain.events.
`people` holds domains and accounts, `aliases` leads an address to accounts.
"""
