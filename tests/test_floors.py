"""The house stands: imports go down, each foreign library has its room, and every file is short and says its job."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Low to high; a module imports from lower floors only. Rooms that are planned but not yet built may stand here.
FLOORS = (
    ("errors", "lettering", "timing", "terminal", "arrow", "optimum"),
    ("tokens", "levels", "identifiable"),
    ("intervals", "multiplicity", "coefficients", "formula", "families", "cells", "notation", "figures"),
    ("identity", "columns", "design", "document", "plots", "uncertainty", "netcdf"),
    ("trials", "priors", "predictor", "sentences", "kernel", "mixed", "separation", "groups"),
    ("exclusions", "spec", "laplace", "gaussian", "second_opinion"),
    ("quadrature",),
    ("maximum",),
    ("grid", "means"),
    ("effects", "rows"),
    ("emmeans", "gather"),
    ("marginal",),
    ("sampler", "simulate", "convergence", "nuts"),
    ("draws",),
    ("estimates", "store"),
    ("engines",),
    ("fit",),
    ("checks", "compare", "confidence", "agreement", "console", "arguments"),
    ("study",),
    ("analysis", "simulation"),
    ("tables", "opening"),
    ("algebra", "accounts"),
    ("sections",),
    ("report",),
    ("cli",),
    ("__init__",),
)
FLOOR = {module: number for number, floor in enumerate(FLOORS) for module in floor}

# The one room that may know a library; an empty set is for what no room may.
ROOMS = {
    "pymc": {"sampler"},
    "pytensor": {"sampler"},
    "nutpie": {"sampler"},
    "arviz": {"draws"},
    "formulaic": {"design"},
    "statsmodels": {"second_opinion"},
    "typer": {"cli"},
    "typst": {"document"},
    "plotnine": {"plots", "figures"},
    "torch": set(),
    "torchvision": set(),
    "featurecompute": set(),
    "pickle": set(),
}
FILES = sorted((ROOT / "psychostats").rglob("*.py"))


def imports(path):
    """Yield every name a file imports, wherever it does so: ``psychostats.design``, ``scipy``."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            # `from package import name` may mean a module or what __init__ offers.
            yield from ([f"{node.module}.{a.name}" for a in node.names] if "." not in node.module else [node.module])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield f"psychostats.{ast.unparse(node)}"  # by a string, so that no table can check it: no floor at all


def test_every_module_has_one_floor():
    assert [path for path in FILES if path.parent.name != "psychostats"] == []
    assert {path.stem for path in FILES} - set(FLOOR) == set()
    assert len(FLOOR) == sum(len(floor) for floor in FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_only_go_down(path):
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package != "psychostats":
            continue
        module = rest.split(".")[0] if rest else "__init__"
        module = module if (ROOT / "psychostats" / f"{module}.py").exists() or "(" in module else "__init__"
        assert FLOOR.get(module, len(FLOORS)) < FLOOR.get(path.stem, 0), f"{path.stem} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_library_is_known_in_its_room_alone(path):
    for name in imports(path):
        library = name.split(".")[0]
        assert path.stem in ROOMS.get(library, {path.stem}), f"{path.stem} imports {name}"


def test_the_other_package_does_not_know_this_one():
    for path in sorted((ROOT / "featurecompute").rglob("*.py")):
        assert not [name for name in imports(path) if name.split(".")[0] == "psychostats"], path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_short_and_says_what_it_does(path):
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path.name} opens without a docstring"
    assert len(text.splitlines()) <= 500, f"{path.name} has {len(text.splitlines())} lines; 500 are the most"
