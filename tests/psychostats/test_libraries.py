"""Libraries that talk while they are imported, by several processes of one machine at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from studies import ROOT

CODE = """
import pathlib, sys
from psychostats.libraries import arviz

replaced = pathlib.Path.replace
def late(path, target):
    # Another process has put the note in place since this one wrote it.
    if path.name == "daily_warning.tmp" and not pathlib.Path(target).exists():
        replaced(path, target)
    return replaced(path, target)
pathlib.Path.replace = late
print(arviz().__name__)
"""


def test_two_processes_may_import_arviz_at_once(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    made = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stdout, made.stderr) == (0, "arviz\n", "")
