"""Who vouches for a message: SPF, DKIM, DMARC, the reverse lookup; ARC to come.

Floor 4. May import the floors below it; not access, not guard. Called by mailflow. What it says
is a value: nothing here refuses a message.
"""
