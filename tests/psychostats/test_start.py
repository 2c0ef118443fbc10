"""What a command imports: the face offers every name, and nobody waits for a library that is not used."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import psychostats

ROOT = Path(__file__).parents[2]
# What samples through PyMC, draws, or reads a study, a workbook or a database.
HEAVY = {
    "arviz", "arviz_base", "arviz_stats", "pymc", "pytensor", "nutpie", "numba", "llvmlite", "matplotlib", "plotnine",
    "mizani", "PIL", "statsmodels", "jinja2", "typst", "openpyxl", "sqlalchemy", "sklearn", "torch", "scipy.stats",
    "distributed", "joblib",
}  # fmt: skip
if importlib.util.find_spec("dask"):
    HEAVY -= {"jinja2", "distributed"}  # xarray imports dask wherever it is installed, and dask imports these


def imported(code: str, *arguments: str) -> set[str]:
    """Return the modules that a fresh process has imported after some code."""
    ending = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"import atexit\natexit.register(lambda: exec({ending!r}))\n{code}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def heavy(modules: set[str]) -> set[str]:
    return HEAVY & modules


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write answers of eight people to six pairs."""
    path = tmp_path_factory.mktemp("start") / "trials.csv"
    rows = [
        {"participant": f"p{p}", "pair": f"i{i}", "x": (p * i) % 3, "correct": int((3 * p + 5 * i + p * i) % 4 > 0)}
        for p in range(8)
        for i in range(6)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_a_fit_by_the_command_line_imports_no_sampler_and_no_figures(trials: Path, tmp_path: Path) -> None:
    modules = imported(
        "import sys\nsys.argv[0] = 'psychostats'\nfrom psychostats.cli import main\nmain()",
        *("fit", str(trials), "--formula", "correct ~ x + (1 | participant)"),
        *("--engine", "laplace", "--out", str(tmp_path / "fit"), "--quiet"),
    )
    assert "psychostats.engines" in modules
    assert heavy(modules) == set()


def test_the_summary_of_draws_needs_no_arviz() -> None:
    assert heavy(imported("import psychostats.draws, psychostats.convergence, psychostats.loo")) == set()


def test_help_imports_no_arrays() -> None:
    modules = imported("import sys\nsys.argv[1:] = ['--help']\nfrom psychostats.cli import main\nmain()")
    assert {"numpy", "pandas", "scipy"} & modules == set()


def test_the_package_imports_nothing_before_it_is_asked() -> None:
    modules = imported("import psychostats\npsychostats.__version__\ndir(psychostats)")
    assert {name for name in modules if name.startswith("psychostats")} == {"psychostats"}


def test_rooms_and_names_of_the_face_are_those_it_declares() -> None:
    tree = ast.parse(Path(psychostats.__file__).read_text("utf-8"))
    declared = next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {
        node.module.partition(".")[2]: tuple(alias.name for alias in node.names)
        for node in declared.body
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert seen == psychostats._ROOMS
    assert sorted([*psychostats._ROOM, "__version__"]) == sorted(psychostats.__all__)
    assert dir(psychostats) == psychostats.__all__


@pytest.mark.parametrize("name", psychostats.__all__)
def test_every_name_is_there_and_no_room(name: str) -> None:
    assert type(getattr(psychostats, name)).__name__ != "module"


def test_a_function_is_not_hidden_by_the_room_of_its_name() -> None:
    code = """
import psychostats
from psychostats.fit import Fit
import psychostats.compare, psychostats.kfold, psychostats.bayes_factor, psychostats.emmeans
for name in ("fit", "compare", "kfold", "bayes_factor", "emmeans"):
    assert callable(getattr(psychostats, name)), name
assert psychostats.Fit is Fit
from psychostats import fit, store
assert callable(fit) and store.__name__ == "psychostats.store"
"""
    assert "psychostats.fit" in imported(code)


def test_a_name_that_is_not_offered_is_named() -> None:
    with pytest.raises(AttributeError, match="module 'psychostats' has no attribute 'anova'"):
        _ = psychostats.anova
