"""How mail travels: intake with its probes and rules, the delivery plan and its unit.

Floor 5. May import the floors below. Called by protocols, admin and server.
"""
