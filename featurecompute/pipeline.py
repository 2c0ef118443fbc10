"""The job in order: network, images, neurons, dictionaries, directions, pairs, contributions, known elements.

In: a study and a folder.  Out: the folder with a run.  Each stage resumes by the hash of its inputs; what a stage does
is in the rooms below.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from featurecompute import manifest
from featurecompute.activations import refuse_windows
from featurecompute.errors import InputError, RunError
from featurecompute.files import hash_file, hash_json, read_json
from featurecompute.job import Job
from featurecompute.manifest import Run, load_run
from featurecompute.showing import Showing, refuse_stimuli
from featurecompute.stages import Folder, Progress, Say
from featurecompute.study import Study

LIBRARIES = ("torch", "numpy", "pandas", "pillow", "safetensors", "scipy")


def compute_study(
    study: Study,
    out: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    command: Sequence[str] = (),
    say: Say = lambda line: None,
    progress: Progress = lambda stage, done, every: None,
) -> Run:
    """Compute a study's features, pairs and contributions.

    Parameters
    ----------
    study
        The study file's tables.
    out
        Folder of the run. A complete run of the same study there is the answer, if its images are still the same.
    device
        auto, cpu or cuda.
    resume
        Go on with an unfinished run of the same study, or mend a damaged one.
    command
        What the user typed, for the record.
    say, progress
        Take talk, and how far a stage is.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If anything the user gave cannot be used; nothing half-written is left.
    """
    refuse_windows(study.features.scan, study.features.windows)
    where = _choose_device(device)
    versions = _versions()
    key = hash_json({"settings": study.settings(), "files": _named_files(study), "versions": versions, "device": where})
    folder = Folder(Path(out), say, progress)
    folder.claim(key, resume=resume)
    job = Job(study, folder, torch.device(where))
    complete = folder.path / "run.json"
    if complete.is_file():
        record = read_json(complete)
        job.refuse_changed(record["images"]["sha256"])
        try:
            return load_run(folder.path)
        except RunError:
            if not resume:
                raise
            complete.unlink()
    try:
        refuse_stimuli(job)
        job.run()
        made = pd.DataFrame() if study.stimuli is None else Showing(job, study.stimuli).run()
        job.write_images(made)
    except InputError:
        folder.release()
        raise
    folder.seal(
        {
            "schema": manifest.SCHEMA,
            "run_id": key[:16],
            "command": list(command),
            "seed": study.network.seed,
            "versions": versions,
            "study": {"path": str(study.path), "sha256": study.sha256},
            "device": _describe_device(where, study.features.scan),
            "network": {**job.network.card(), **job.about_network()},
            "images": {
                "count": len(job.images.pixels),
                "sha256": job.images.sha256,
                "decoder": job.images.decoder,
                "decoder_version": job.images.decoder_version,
                "skipped": [{"path": path, "reason": reason} for path, reason in job.images.skipped],
            },
            "dictionaries": [found.record() for found in job.dictionaries.values()],
            "settings": study.settings(),
            "sources": study.sources,
            "warnings": job.warnings,
        }
    )
    return load_run(folder.path, verify=False)


def _choose_device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is '{device}'; allowed are auto, cpu and cuda.")
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise InputError("--device is cuda, but torch sees no CUDA device here; use cpu or auto.")
    return "cuda" if there and device != "cpu" else "cpu"


def _describe_device(kind: str, scan: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if kind == "cuda" else platform.processor() or platform.machine()
    return {"kind": kind, "name": name, "dtype": scan, "threads": torch.get_num_threads()}


def _versions() -> dict[str, str]:
    return {"featurecompute": importlib.metadata.version("psychostats"), "python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in LIBRARIES
    }


def _named_files(study: Study) -> dict[str, str]:
    """Return the hashes of the files that the study names, its own code too, so that a changed file is another run."""
    named = {"weights": study.network.weights, "dictionary": study.dictionary.path}
    for name, reference in (("network code", study.network.source), ("dictionary code", study.dictionary.path)):
        module, colon, _ = reference.partition(":")
        named[name] = f"{module.replace('.', '/')}.py" if colon else ""
    found = {name: study.locate(path) for name, path in named.items() if path}
    return {name: hash_file(path) for name, path in found.items() if path.is_file()}
