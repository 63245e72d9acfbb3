"""Rules: pure functions `(facts, policy, recipient | None) -> Verdict | None`.

One small file for each family. A rule that says nothing lets the next one speak; a fact that is
unknown never counts as good. Rules never probe, so a dry run feeds old facts to new policy.
"""
