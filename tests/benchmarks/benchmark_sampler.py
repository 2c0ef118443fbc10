"""The fast sampler beside its peers: effective draws a second, alone and end to end, memory, and how time grows.

Run as ``python tests/benchmarks/benchmark_sampler.py --peers-python PATH``, PATH a Python with bambi (README.md beside
this file says how to make it); it writes sampler.csv (a row a run), sampler.json (machine and versions), sampler.png
and the generated part of README.md, and returns 0 if every goal was met. Peers that are not found are left out, and it
says so. ``--parts`` runs some parts; a part that runs replaces its rows as a whole, so that ratios are always of tools
that ran in turn, on one machine, in one go. ``--only-tables`` makes tables and plot anew from what is stored.

Every fit runs in a fresh process, on two sets of trials: real ones (exp1, where `PSYCHOSTATS_REFERENCE` says) and
SIMULATED ones. Bulk and tail effective sizes and R-hat are ArviZ's, for every tool, over all b and sd (and cor apart).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import benchmark_report
import numpy as np
import sampler_tables
from sampler_sizes import PRIORS, REAL, Data, Size, read_real, simulate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STUDY = "data/studies/colin2024.toml"
TRIALS = "data/colin2024_simulated/trials.csv"

SMALL = Size(23, 160, 20)
MIDDLE = Size(560, 30, 80)
LARGE = Size(5_600, 30, 80)
HUGE = Size(56_000, 30, 80)
GROWTH = {
    "trials": [Size(100, each, 20) for each in (10, 20, 40, 80, 160, 320)],
    "participants": [Size(people, 30, 80) for people in (35, 70, 140, 280, 560, 1120, 2240)],
    "factors": [Size(200, 40, 20, factors) for factors in (1, 2, 3, 4)],
}
#: What no peer is for; sizes that take minutes run once or twice.
PARTS = ("small", "middle", "study", "report", "large", "huge", "growth")
_VERSIONS = ("psychostats", "numpy", "scipy", "pandas", "pymc", "pytensor", "nutpie", "numba", "arviz")
_CACHES = ("PYTENSOR_FLAGS", "NUMBA_CACHE_DIR", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Peers:
    """Where the peers are; None where they are not.

    Parameters
    ----------
    python
        A Python that imports bambi and nutpie.
    rscript
        Rscript, with lme4.
    """

    python: str | None
    rscript: str | None


def find_peers(python: str) -> Peers:
    """Look for the peers, and say which were not found."""
    found = [
        command[0] if _runs(command) else None
        for command in ([python, "-c", "import bambi, nutpie"], ["Rscript", "-e", "library(lme4)"])
    ]
    for name, place in zip(("bambi with nutpie", "glmer (Rscript with lme4)"), found, strict=True):
        if place is None:
            _say(f"left out: {name} was not found")
    return Peers(*found)


@dataclass(frozen=True)
class Bench:
    """What holds for all runs of one call of this benchmark.

    Parameters
    ----------
    peers, engine
        Where the peers are, and the engine that is timed.
    seeds, peer_seeds
        How many seeds it is timed with, and the peers with.
    draws, tune
        Of each of four chains; None leaves 1,000 and each tool's own, and the study file's.
    folder
        For what lasts only as long as this call.
    """

    peers: Peers
    engine: str
    seeds: int
    peer_seeds: int
    draws: int | None
    tune: int | None
    folder: Path

    def small(self) -> Iterator[dict[str, Any]]:
        """The real trials and 3,680 simulated ones: all tools in turn."""
        real = read_real()
        if real is None:
            _say("left out: the real trials, since PSYCHOSTATS_REFERENCE names no folder with exp1.csv")
        else:
            yield from self._in_turn("small", REAL, lambda seed: real, bambi=True)
        yield from self._in_turn("small", "crossed", lambda seed: simulate(SMALL, 1), bambi=True)

    def middle(self) -> Iterator[dict[str, Any]]:
        """The seed study's size: ours and PyMC with nutpie, that is `--engine pymc`, and glmer."""
        yield from self._in_turn("middle", "560 people", lambda seed: simulate(MIDDLE, 1), bambi=False)

    def large(self) -> Iterator[dict[str, Any]]:
        """Ten times that, ours alone; it takes minutes, so one seed."""
        yield self._own("large", "5,600 people", simulate(LARGE, 1), 1, self.engine, self._modules(self.engine))

    def huge(self) -> Iterator[dict[str, Any]]:
        """A hundred times that, by maximum likelihood."""
        yield self._own("huge", "56,000 people", simulate(HUGE, 1), 1, "laplace", self._modules("laplace"))

    def growth(self) -> Iterator[dict[str, Any]]:
        """Time by trials, participants and factors; each seed has data of its own."""
        modules = self._modules(self.engine)
        for seed in range(1, min(self.seeds, 3) + 1):
            for axis, sizes in GROWTH.items():
                for size in sizes:
                    yield self._own("growth", axis, simulate(size, seed), seed, self.engine, modules, size.factors)

    def study(self) -> Iterator[dict[str, Any]]:
        """One experiment of the embedded study by the command line, from its trials to a fit on disk."""
        import psychostats as ps

        study = ps.read_study(ROOT / STUDY)
        model = study.models[0]
        for seed in range(1, self.seeds + 1):
            out = self.folder / f"study{seed}"
            command = [sys.executable, "-m", "psychostats.cli", "fit", TRIALS, "--filter", "experiment=natural"]
            command += ["--formula", model.formula, "--family", model.family, "--guess", str(model.guess)]
            lengths = [str(self.draws or model.settings().draws), str(self.tune or model.settings().tune)]
            command += ["--draws", lengths[0], "--tune", lengths[1], "--seed", str(seed)]
            command += ["--engine", self.engine, "--missing", "drop", "--out", str(out), "--quiet"]
            row = _row("study", "natural", simulated=True, tool=f"psychostats {self.engine}", seed=seed)
            began = time.monotonic()
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
            row["fresh_s"] = time.monotonic() - began
            if done.returncode not in (0, 3):  # 3: written, and not converged, which R-hat shows below
                yield row | {"error": f"exit code {done.returncode}"}
                continue
            fit = ps.load_fit(out)
            flat = fit.draws_table.flat()
            names = [name for name in flat.columns if not name.startswith(".")]
            chains = flat[".chain"].max()
            row |= effective(np.array(names), flat[names].to_numpy().reshape(chains, -1, len(names)))
            groups = {block.group: len(block.levels) for block in fit.design.blocks}
            row |= {"trials": int(fit.design.trials.sum()), "participants": groups["participant"], "factors": 2}
            row |= {"draws": len(flat), "divergences": int(fit.draws_table.groups["sample_stats"]["diverging"].sum())}
            yield row

    def report(self) -> Iterator[dict[str, Any]]:
        """The embedded study's whole report, figures included, with empty caches."""
        row = _row("report", "three experiments", simulated=True, tool="psychostats report", seed=1)
        found = benchmark_report.measure(ROOT)
        row |= {"fresh_s": found.seconds, "peak_mb": found.peak / 1e6}
        yield row | ({"error": f"exit code {found.code}"} if found.code else {})

    def _in_turn(self, part: str, name: str, make: Any, *, bambi: bool) -> Iterator[dict[str, Any]]:
        """Run every tool with every seed; the tools take turns, so that a busy machine is busy for all of them."""
        data = make(1)
        own = {engine: self._modules(engine) for engine in dict.fromkeys((self.engine, "pymc"))}
        backends = ("pymc", "nutpie") if bambi and self.peers.python else ()
        # Once with few draws and unrecorded, since a user's second fit is what is timed: of PyMC, whose compiled
        # functions are kept on disk, that is the faster one.
        _say(f"{part}, {name}: warming the caches of PyMC and bambi")
        self._own(part, name, data, 1, "pymc", own["pymc"], draws=20, tune=20)
        for backend in backends:
            self._bambi(part, name, data, 1, backend, draws=20, tune=20)
        for seed in range(1, self.seeds + 1):
            row = self._own(part, name, data, seed, self.engine, own[self.engine])
            # Imports weigh most here; what a user waits for is taken from a process that imports as it goes.
            fresh = self._own(part, name, data, seed, self.engine)
            yield row | {"fresh_s": fresh["fresh_s"], "peak_mb": fresh["peak_mb"]}
            if seed > self.peer_seeds:
                continue
            if self.peers.rscript:
                yield self._glmer(part, name, data, seed)
            if self.engine != "pymc":
                yield self._own(part, name, data, seed, "pymc", own["pymc"])
            for backend in backends:
                yield self._bambi(part, name, data, seed, backend)

    def _own(
        self,
        part: str,
        name: str,
        data: Data,
        seed: int,
        engine: str,
        modules: list[str] | None = None,
        factors: int = 2,
        **other: Any,
    ) -> dict[str, Any]:
        """Run psychostats once; with `modules`, imports are before the clock of the fit."""
        asked = {"priors": [] if engine == "laplace" else PRIORS, "modules": modules or [], "tell_modules": False}
        row = self._run(
            part,
            name,
            data,
            seed,
            f"psychostats {engine}",
            [sys.executable, HERE / "sampler_run.py"],
            asked | {"engine": engine} | other,
        )
        return row | {"factors": factors}

    def _bambi(self, part: str, name: str, data: Data, seed: int, backend: str, **other: Any) -> dict[str, Any]:
        """Run bambi once."""
        command = [str(self.peers.python), HERE / "sampler_bambi.py"]
        return self._run(part, name, data, seed, f"bambi {backend}", command, {"engine": backend} | other)

    def _run(
        self, part: str, name: str, data: Data, seed: int, tool: str, command: list[Any], asked: dict[str, Any]
    ) -> dict[str, Any]:
        """Run a tool in a fresh process on a CSV, and count its effective draws."""
        row = _row(part, name, data.simulated, tool, seed) | _counts(data)
        path, out = self.folder / "trials.csv", self.folder / "draws.npz"
        data.trials.to_csv(path, index=False)
        out.unlink(missing_ok=True)
        asked = {"draws": self.draws or 1000, "tune": self.tune, "seed": seed} | asked
        asked |= {"trials": str(path), "out": str(out), "formula": data.formula, "levels": data.levels}
        row["draws"] = np.nan if asked["engine"] == "laplace" else 4 * asked["draws"]
        asked["began"] = time.monotonic()
        found = _told([*map(str, command), json.dumps(asked)])
        if "error" in found:
            return row | found
        row |= {key: found[key] for key in ("fit_s", "fresh_s", "peak_mb", "divergences", "steps") if key in found}
        row |= {"sample_s": found.get("stages", {}).get("sample")}
        row |= {"versions": found["versions"]} if "versions" in found else {}
        if out.exists():
            with np.load(out) as held:
                row |= effective(held["names"], held["values"])
        _say(f"{part}, {name}, seed {seed}, {tool}: {row['fit_s']:.2f} s, with imports {row['fresh_s']:.2f} s")
        return row

    def _glmer(self, part: str, name: str, data: Data, seed: int) -> dict[str, Any]:
        """Run glmer once; it has no draws, and no seed."""
        row = _row(part, name, data.simulated, "glmer", seed) | _counts(data)
        path = self.folder / "trials.csv"
        data.trials.to_csv(path, index=False)
        command = [str(self.peers.rscript), str(HERE / "sampler_glmer.R"), str(path), data.formula]
        began = time.monotonic()
        found = _told([*command, ",".join(data.levels)])
        return row | {"fresh_s": time.monotonic() - began} | found

    def _modules(self, engine: str) -> list[str]:
        """Return what an engine has imported by the end of a fit, from a fit of few trials."""
        data = simulate(Size(8, 20, 10), 1)
        path = self.folder / "few.csv"
        data.trials.to_csv(path, index=False)
        asked = {"trials": str(path), "out": str(self.folder / "few.npz"), "formula": data.formula}
        asked |= {
            "priors": [] if engine == "laplace" else PRIORS,
            "engine": engine,
            "draws": 20,
            "tune": 20,
            "seed": 1,
            "levels": data.levels,
        }
        asked |= {"modules": [], "tell_modules": True, "began": time.monotonic()}
        found = _told([sys.executable, str(HERE / "sampler_run.py"), json.dumps(asked)])
        return list(found.get("modules", []))


def effective(names: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Count effective draws, as ArviZ does, the least over all b and sd, and over cor apart.

    Parameters
    ----------
    names
        Of terms, beginning with their class.
    values
        Draws, shape ``(chains, draws, terms)``.
    """
    import xarray as xr

    from psychostats.libraries import arviz

    az, found = arviz(), dict[str, float]()
    classes = np.array([str(name).partition("_")[0] for name in names])
    rhat = []
    for end, wanted in (("", ("b", "sd")), ("_cor", ("cor",))):
        part = values[..., np.isin(classes, wanted)]
        if part.shape[-1] == 0:
            continue
        draws = xr.Dataset({"x": (("chain", "draw", "term"), part)})
        for kind in ("bulk", "tail"):
            found[f"ess_{kind}{end}"] = float(az.ess(draws, method=kind)["x"].min())
        rhat.append(float(az.rhat(draws, method="rank")["x"].max()))
    return found | {"rhat": max(rhat)}


def _row(part: str, name: str, simulated: bool, tool: str, seed: int) -> dict[str, Any]:
    load = os.getloadavg()[0]
    data = "simulated" if simulated else "real"
    return {"part": part, "size": name, "data": data, "tool": tool, "seed": seed, "load": load}


def _counts(data: Data) -> dict[str, int]:
    trials = data.trials
    return {"trials": len(trials), "participants": trials["participant"].nunique(), "factors": 2}


def _told(command: list[str]) -> dict[str, Any]:
    """Run a command and return the JSON of its last line, or what it died of."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        _say(f"failed with exit code {done.returncode}: {last}")
        return {"error": f"exit code {done.returncode}: {last}"[:200]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _runs(command: list[str]) -> bool:
    return shutil.which(command[0]) is not None and not subprocess.run(command, capture_output=True).returncode


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the code: processor, memory, system and versions."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        if (info.exists())
        else [platform.processor()]
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": models[0] if models else "unknown",
        "cores": cores,
        "memory_gb": round(memory),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"psychostats": versions},
    }


def main() -> int:
    """Run the parts that are asked for; return 0 if every goal of which there is a figure was met."""
    parser = argparse.ArgumentParser(description="The fast sampler beside its peers.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--peers-python", default=sys.executable, help="a Python with bambi and nutpie")
    parser.add_argument("--engine", choices=("nuts", "pymc"), default="nuts", help="what is timed as ours")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peer-seeds", type=int, default=3, help="with how many of them PyMC and bambi run too")
    parser.add_argument("--draws", type=int, help="of each of four chains, instead of 1,000; for trial runs")
    parser.add_argument("--tune", type=int, help="warm-up draws, instead of each tool's default; for trial runs")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of what is written; for trial runs another one")
    parser.add_argument("--only-tables", action="store_true", help="tables and plot anew, from what is stored")
    asked = parser.parse_args()
    tried = (asked.draws, asked.tune, asked.engine) != (None, None, "nuts")
    if tried and asked.out.resolve() == HERE:
        parser.error("--draws, --tune and --engine pymc are for trial runs; give them an --out of their own")
    store = sampler_tables.Store(asked.out)
    if not asked.only_tables:
        about = machine()
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(
                find_peers(asked.peers_python),
                asked.engine,
                asked.seeds,
                asked.peer_seeds,
                asked.draws,
                asked.tune,
                Path(folder),
            )
            for part in asked.parts:
                rows = []
                for row in getattr(bench, part)():
                    rows.append(row)
                    store.keep(part, rows, about)  # at once: a run that is interrupted keeps what it has
    unmet = store.publish()
    print(store.read_me.read_text(encoding="utf-8"))
    return int(bool(unmet))


if __name__ == "__main__":
    sys.exit(main())
