"""The tests marked `verify`: too long for every run.

They read the form from the environment variable POSTROOM_VERIFY: `short` or `long`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tools.tree import ROOT
from tools.verification import Form, Report

PATIENCE = 900  # seconds for one test
NO_TESTS = 5  # pytest's exit code when the marker chose none


def run(form: Form) -> Report:
    """Run them with pytest, whose output is shown as it comes."""
    command = [sys.executable, "-m", "pytest", "-m", "verify", "-n", "2", "--dist", "loadfile"]
    command += ["-o", f"faulthandler_timeout={PATIENCE}"]
    environment = {**os.environ, "POSTROOM_VERIFY": form.value}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        closing = ""
        for line in child.stdout:
            sys.stdout.write(line)
            closing = line.strip("= \n") if line.startswith("=") else closing
    failures = () if child.returncode in (0, NO_TESTS) else (f"pytest: {closing}",)
    passed = re.search(r"(\d+) passed", closing)
    row = ("pytest -m verify", passed[1] if passed else "0")
    return Report(("run", "tests passed"), (row,), failures)
