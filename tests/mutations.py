"""Does the test suite see a wrong number? Faults are planted one at a time, and for each some test must go red.

In: `mutations.toml`, one record a fault.  Out: a table, and exit code 1 if a fault survives or cannot be planted.  It
works on a copy of the repository in a temporary folder; the working tree is never written to.  Run as ``python
tests/mutations.py``, with words to plant only the faults whose names hold one of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What no test reads, and what another interpreter left.
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", ".hypothesis", "build", "*.egg-info")
_LONGEST = 1800  # seconds of one run of pytest; a fault may make a search endless, which no test has then seen
# Each run is forked from a process that has imported what takes longest, and nothing of this package.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["formulaic", "pandas", "pytest", "scipy.stats", "statsmodels.api", "xarray"])


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Parameters
    ----------
    name
        What is wrong, in words.
    file
        Of the package.
    old, new
        Text that stands once in the file, and what takes its place.
    test
        What pytest is asked to run: a test in a file of the package's; it must be green without the fault.
    package
        The package that the file and the test are of.
    """

    name: str
    file: str
    old: str
    new: str
    test: str
    package: str = "psychostats"

    @property
    def path(self) -> Path:
        """The file, from the root of the repository."""
        return Path(self.package) / self.file

    @property
    def selection(self) -> str:
        """The test, from the root of the repository."""
        return f"tests/{self.package}/{self.test}"

    def reason_against(self, root: Path = ROOT) -> str:
        """Say why it cannot be planted; empty where it can."""
        if self.old == self.new:
            return "it changes nothing"
        times = (root / self.path).read_text(encoding="utf-8").count(self.old)
        return "" if times == 1 else f"{self.path} has its old text {times} times, not once"

    @contextlib.contextmanager
    def planted(self, root: Path) -> Iterator[None]:
        """Plant it in a copy, and take it out again."""
        path = root / self.path
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        try:
            self._build(root)
            yield
        finally:
            path.write_text(text, encoding="utf-8")
            self._build(root)

    def _build(self, root: Path) -> None:
        """Compile what is written in C."""
        if self.path.suffix == ".c":
            build = ["-c", "import setuptools; setuptools.setup()", "build_ext", "--inplace", "--force", "--quiet"]
            subprocess.run([sys.executable, *build], cwd=root, check=True, capture_output=True)


def read_faults(path: Path = ROOT / "tests/mutations.toml") -> list[Fault]:
    """Read the records."""
    return [Fault(**record) for record in tomllib.loads(path.read_text(encoding="utf-8"))["fault"]]


def run_tests(root: Path, selections: Iterable[str], *options: str, bytecode: bool = True) -> tuple[int, str]:
    """Run pytest in a copy and return its exit code and what it printed; another code where it took too long."""
    said = root.with_suffix(".txt")
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options, *selections]
    process = _SERVER.Process(target=_pytest, args=(root, arguments, said, bytecode))
    process.start()
    process.join(_LONGEST)
    process.kill()
    process.join()
    return -1 if process.exitcode is None else process.exitcode, said.read_text(encoding="utf-8")


def _pytest(root: Path, arguments: list[str], said: Path, bytecode: bool) -> None:
    """Be pytest in a copy, in a process of its own that has the libraries already."""
    with said.open("w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(root)
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    sys.dont_write_bytecode = not bytecode
    import pytest

    sys.exit(int(pytest.main(arguments)))


def catch(fault: Fault, root: Path) -> tuple[bool, str]:
    """Plant a fault and say whether a test failed, and which; where none did, how pytest ended instead."""
    # No bytecode of a planted fault may outlive it.
    with fault.planted(root):
        code, said = run_tests(root, [fault.selection], "-x", "--tb=no", bytecode=False)
    failed = re.search(r"^FAILED \S*?::(.+?)(?: - .*)?$", said, flags=re.MULTILINE)
    if code == 1 and failed:
        return True, failed[1]
    # An error is no failure: the fault broke the code, or the test could not be run.
    return False, f"{fault.test} is green" if code == 0 else f"{fault.test} ended with exit code {code}"


def main(words: list[str]) -> int:
    """Plant the faults whose names hold one of the words, all without any, and print what became of them."""
    faults = [fault for fault in read_faults() if not words or any(word in fault.name for word in words)]
    reasons = [
        f"'{fault.name}' cannot be planted: {fault.reason_against()}" for fault in faults if fault.reason_against()
    ]
    if reasons or not faults:
        print("\n".join(reasons) or "no fault has such a name", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "repository"
        shutil.copytree(ROOT, root, ignore=_LEFT_OUT)
        begun = time.monotonic()
        code, said = run_tests(root, dict.fromkeys(fault.selection for fault in faults), "--tb=short")
        if code:
            print(f"{said}\nred without any fault, so nothing can be shown", file=sys.stderr)
            return 1
        print(f"Green without a fault: {said.strip().splitlines()[-1]}, {time.monotonic() - begun:.0f} s in all\n")
        print("| fault | file | caught | by | s |\n|---|---|---|---|---|", flush=True)
        survivors = 0
        for fault in faults:
            begun = time.monotonic()
            caught, by = catch(fault, root)
            survivors += not caught
            spent = f"{time.monotonic() - begun:.0f}"
            cells = (fault.name, fault.file, "yes" if caught else "NOT", by, spent)
            print("|", " | ".join(cell.replace("|", "\\|") for cell in cells), "|", flush=True)
    print(f"\n{len(faults) - survivors} of {len(faults)} faults are caught.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
