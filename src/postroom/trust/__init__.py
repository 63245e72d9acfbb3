"""Who vouches for a message: SPF, DKIM, DMARC, ARC, the reverse lookup, certifiers (VBR); its logo
(BIMI), policies of MTA-STS, and what DNS is to say of our own domains.

Floor 4. May import the floors below it; not access, not guard. Called by mailflow. What it says
is a value: nothing here refuses a message.
"""
