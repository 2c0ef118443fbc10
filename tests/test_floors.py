"""The houses stand: imports go down, each foreign library has its room, and every file is short and says its job."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Low to high; a module imports from lower floors only. Rooms that are planned but not yet built may stand here.
FLOORS = {
    "psychostats": (
        (
            "errors",
            "lettering",
            "timing",
            "terminal",
            "arrow",
            "optimum",
            "interruption",
            "letterhead",
            "characteristics",
            "resampling",
            "works",
            "threads",
            "environment",
            "libraries",
        ),
        (
            "tokens",
            "levels",
            "identifiable",
            "rasters",
            "parts",
            "pseudonyms",
            "rules",
            "mixing",
            "executors",
            "locks",
            "slurm",
        ),
        ("family", "monotonic", "pareto", "cluster", "progress"),
        ("answers", "measurements", "ratings", "attention"),
        (
            "intervals",
            "multiplicity",
            "coefficients",
            "catch_trials",
            "formula",
            "families",
            "cells",
            "notation",
            "figures",
            "document",
        ),
        (
            "responses",
            "grouping",
            "rewriting",
            "multiverse_measures",
            "nullings",
            "contribution_figures",
            "measure",
            "chapters",
            "power_figures",
        ),
        (
            "identity",
            "columns",
            "tabular",
            "archives",
            "design",
            "tree",
            "bibliography",
            "plots",
            "diagnostics",
            "panels",
            "reliability",
            "uncertainty",
            "netcdf",
        ),
        (
            "matching",
            "feature_panels",
            "flow",
            "reanalysis_figures",
            "multiverse_figures",
            "lapse_figures",
            "places",
            "documents",
        ),
        ("dialects", "wide", "spreadsheets", "databases", "jspsych"),
        ("metadata",),
        ("recordings", "privacy", "demographics", "judging", "salvage"),
        (
            "trials",
            "priors",
            "predictor",
            "sampling",
            "mixed",
            "separation",
            "groups",
            "contribution_measures",
        ),
        ("exclusions", "kernel", "spec", "laplace", "gaussian", "second_opinion", "sentences", "features", "rendering"),
        ("quadrature", "integral", "word", "mode", "truth"),
        ("maximum", "whitening"),
        ("grid", "means"),
        ("effects", "rows", "new_features"),
        ("emmeans", "gather", "detection"),
        ("marginal",),
        ("sampler", "simulate", "convergence", "nuts"),
        ("exchangeable",),
        ("draws",),
        ("estimates", "store"),
        ("engines", "campaign", "profiled"),
        ("fit", "outlook"),
        ("loo", "sensitivity", "variance", "level_draws", "explanations", "contributions"),
        ("kfold", "bayes_factor", "interpretability", "feature_sentences", "contribution_section"),
        ("feature_study",),
        ("checks", "compare", "confidence", "agreement", "console", "arguments"),
        ("settings",),
        ("specifications", "study_faults"),
        ("study",),
        ("opinions", "results", "simulation", "ledger"),
        ("joint", "pooled", "additions", "replications"),
        ("robustness", "accumulation", "planning", "lapses"),
        ("power_simulations", "lapse_tables"),
        ("power", "power_forecast"),
        ("power_sentences", "power_assumptions"),
        ("analysis",),
        ("reanalysis", "multiverse_plan"),
        ("multiverse",),
        ("tables", "opening", "feature_section", "multiverse_sentences", "lapse_section"),
        ("algebra", "accounts", "joint_section", "exhibits", "methods"),
        ("claims", "exclusion_section"),
        ("supplement", "conclusions", "reanalysis_data", "power_checks"),
        ("sections", "reanalysis_section", "multiverse_section", "power_section"),
        ("report",),
        ("reanalysis_report", "multiverse_report", "power_report"),
        ("options",),
        ("studies", "machines"),
        ("planning_commands",),
        ("cli",),
        ("__init__",),
    ),
    "featurecompute": (
        ("errors", "strokes", "measures", "sampling", "bases", "removal", "optimiser", "kernels", "uploading", "pages"),
        ("files", "study", "hooks", "libraries", "decoding", "scenes", "extremes", "windows", "sweeps", "sae", "terms"),
        ("crew", "spectrum"),
        ("manifest", "stages", "images", "features", "groundtruth", "weights", "tracing", "training", "recording"),
        ("canvas", "nmf", "compilation", "nvjpeg"),
        ("activations", "adapters", "directions", "comparison", "replay", "tiled"),
        ("cards", "pixelcache", "dictionary", "scan", "attributions", "curves", "spaces"),
        ("pixels", "dictionaries", "contributions", "folding", "huggingface", "rows", "receptive", "ascent"),
        ("models", "pairing", "decision", "truth", "thumbnails", "tables", "choices", "views", "visualize"),
        ("stimuli", "observers", "pictures", "trial_lists", "sessions", "tasks"),
        ("job",),
        ("showing",),
        ("pipeline", "charts"),
        ("trial_page", "export"),
        ("inspection",),
        ("cli",),
        ("__init__",),
    ),
}
FLOOR = {
    package: {module: number for number, floor in enumerate(floors) for module in floor}
    for package, floors in FLOORS.items()
}

# Rooms of featurecompute whose work needs no torch, so that a run can be read, and looked at, where there is none.
WITHOUT_TORCH = {"errors", "files", "manifest", "stages", "study", "features", "groundtruth", "windows", "sampling"}
WITHOUT_TORCH |= {"strokes", "scenes", "images", "decoding", "pixelcache", "pixels", "measures", "thumbnails"}
WITHOUT_TORCH |= {"charts", "inspection", "__init__", "crew", "pages"}
WITHOUT_TORCH |= {
    "choices",
    "spaces",
    "stimuli",
    "observers",
    "pictures",
    "trial_lists",
    "sessions",
    "tasks",
    "trial_page",
    "export",
}

# The rooms that may know a library, or one name of it; an empty set is for what no room may.
# "import_module" is an import whose name is not written down, so that no table can check it.
ROOMS = {
    "psychostats": {
        "pymc": {"libraries"},
        "pytensor": {"libraries"},
        "nutpie": {"libraries"},
        "arviz": {"libraries"},
        "arviz_stats": set(),
        "formulaic": {"design"},
        "statsmodels": {"second_opinion"},
        "typer": {"cli", "options", "studies", "machines", "planning_commands"},
        "typst": {"rendering"},
        "PIL": {"rasters"},
        "pypandoc": {"word"},
        "plotnine": {
            "plots",
            "diagnostics",
            "panels",
            "feature_panels",
            "contribution_figures",
            "reliability",
            "figures",
            "flow",
            "reanalysis_figures",
            "multiverse_figures",
            "power_figures",
            "lapse_figures",
        },
        "openpyxl": {"spreadsheets"},
        "sqlalchemy": {"databases"},
        "psycopg": {"databases"},
        "joblib": {"executors"},
        "distributed": {"cluster"},
        "torch": set(),
        "torchvision": set(),
        "featurecompute": set(),
        "pickle": set(),
        "import_module": {"__init__"},  # the face, which names its rooms twice
    },
    "featurecompute": {
        "torch": set(FLOOR["featurecompute"]) - WITHOUT_TORCH,
        "torchvision": {"libraries", "models"},
        "timm": {"models"},
        "transformers": {"huggingface"},
        "triton": {"kernels"},
        "torchcodec": {"nvjpeg"},
        "captum": set(),
        "sklearn": set(),
        "overcomplete": set(),
        "PIL": {"decoding", "measures", "thumbnails", "inspection", "pictures"},
        "typer": {"cli"},
        "plotnine": {"charts"},
        "psychostats": set(),
        "pickle": set(),
        "pickle.UnpicklingError": {"weights"},  # what torch raises of weights that hold more than tensors
        "import_module": {"libraries", "adapters"},  # what a study names as module:function
    },
}
FILES = [path for package in FLOORS for path in sorted((ROOT / package).rglob("*.py"))]
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}.{path.stem}")


def imports(path):
    """Yield every name a file imports, wherever it does so: ``psychostats.design``, ``scipy``."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            # `from package import name` may mean a module or what __init__ offers.
            yield from ([f"{node.module}.{a.name}" for a in node.names] if "." not in node.module else [node.module])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
            "library",  # featurecompute's own, which imports quietly
        ):
            name = node.args[0]
            yield name.value if isinstance(name, ast.Constant) else "import_module"


def test_every_module_has_one_floor():
    assert [path for path in FILES if path.parent.parent != ROOT] == []
    for package, floors in FLOORS.items():
        assert {path.stem for path in FILES if path.parent.name == package} - set(FLOOR[package]) == set()
        assert len(FLOOR[package]) == sum(len(floor) for floor in floors)
    assert set(FLOOR["featurecompute"]) >= WITHOUT_TORCH


@every_file
def test_imports_only_go_down(path):
    package = path.parent.name
    floor = FLOOR[package]
    for name in imports(path):
        if name.split(".")[0] != package:
            continue
        module = next((part for part in name.split(".")[1:2] if part in floor), "__init__")
        assert floor[module] < floor[path.stem], f"{path.stem} imports {name}"


@every_file
def test_a_library_is_known_in_its_rooms_alone(path):
    rooms = ROOMS[path.parent.name]
    for name in imports(path):
        allowed = rooms.get(name, rooms.get(name.split(".")[0], {path.stem}))
        assert path.stem in allowed, f"{path.stem} imports {name}"


@every_file
def test_a_file_is_short_and_says_what_it_does(path):
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path.name} opens without a docstring"
    assert len(text.splitlines()) <= 500, f"{path.name} has {len(text.splitlines())} lines; 500 are the most"


def import_without(modules, missing):
    """Import modules in a process of their own, where some libraries cannot be imported."""
    code = f"""
import sys
class Missing:
    @staticmethod
    def find_spec(name, *_):
        if name.split(".")[0] in {missing}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing)
import {", ".join(sorted(modules))}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


LIBRARIES = {"torchvision", "timm", "transformers", "captum", "sklearn", "overcomplete", "triton", "torchcodec"}


def test_a_run_and_a_study_are_read_where_there_is_no_torch():
    there = {path.stem for path in FILES if path.parent.name == "featurecompute"}
    modules = {f"featurecompute.{room}" for room in (WITHOUT_TORCH | {"cli"}) & there - {"__init__"}}
    assert {"featurecompute.manifest", "featurecompute.study", "featurecompute.cli"} <= modules
    import_without(modules, {"torch", "psychostats", "pymc"} | LIBRARIES)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_no_library_of_networks_is_imported_before_it_is_needed():
    rooms = {path.stem for path in FILES if path.parent.name == "featurecompute"} - {"__init__"}
    import_without({f"featurecompute.{room}" for room in rooms}, {"psychostats"} | LIBRARIES)
