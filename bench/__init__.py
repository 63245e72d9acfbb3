"""The bench: what a mail server costs, as ratios on one machine in one run.

`python -m bench [NAME…] [--quick] [--json] [--write]`. Each workload runs against Postroom, its
peers (Postfix, Dovecot) and a physical floor, interleaved, several times; the report gives the
median, the spread and the ratio to the peer, beside the goal. Nothing here is a timed test: a
slow machine makes slow numbers, never a failure.

`peers/` starts and stops servers in temporary directories, `load/` speaks to them from processes
of its own, `workloads/` says what is measured, `floors.py` what the machine itself can do.
"""
