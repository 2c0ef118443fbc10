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
from featurecompute.crew import Crew
from featurecompute.dictionaries import refuse_tiles
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
    crew: Crew | None = None,
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
    crew
        Which process of the run this is, where several share it; each is called alike, and process 0 talks.
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
    refuse_tiles(study.dictionary)
    crew = crew or Crew()
    where = _choose_device(device)
    versions = _versions()
    key = hash_json({"settings": study.settings(), "files": _named_files(study), "versions": versions, "device": where})
    folder = Folder(Path(out), say, progress, crew) if crew.lead else Folder(Path(out), _hush, _hush, crew)

    def job_in(folder: Folder) -> Job:
        return Job(study, folder, _place(where, crew))

    if folder.look(key) and (folder.path / "run.json").is_file():
        kept = _answer(job_in(folder), resume)
        if kept is not None:
            return kept
    with folder.working(key, resume=resume, threads=torch.get_num_threads()):
        if crew.lead:
            (folder.path / "run.json").unlink(missing_ok=True)
        job = job_in(folder)
        refuse_stimuli(job)
        job.run()
        job.write_images(pd.DataFrame() if study.stimuli is None else Showing(job, study.stimuli).run())
        folder.seal(
            {
                "schema": manifest.SCHEMA,
                "run_id": key[:16],
                "command": list(command),
                "seed": study.network.seed,
                "versions": versions,
                "study": {"path": str(study.path), "sha256": study.sha256},
                "device": _describe_device(job.device, study.features.scan),
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


def _answer(job: Job, resume: bool) -> Run | None:
    """Return the complete run in a job's folder, or None if it is damaged and to be mended."""
    path = job.folder.path
    job.refuse_changed(read_json(path / "run.json")["images"]["sha256"])
    try:
        return load_run(path)
    except RunError:
        if not resume:
            raise
        return None


def _hush(*_: object) -> None:
    """Say nothing."""


def _choose_device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is '{device}'; allowed are auto, cpu and cuda.")
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise InputError("--device is cuda, but torch sees no CUDA device here; use cpu or auto.")
    return "cuda" if there and device != "cpu" else "cpu"


def _place(kind: str, crew: Crew) -> torch.device:
    """Return the device that this process computes on: of several GPUs, its own."""
    count = torch.cuda.device_count() if kind == "cuda" else 0
    return torch.device(kind, crew.local % count) if count > 1 else torch.device(kind)


def _describe_device(device: torch.device, scan: str) -> dict[str, Any]:
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine()
    return {"kind": device.type, "name": name, "dtype": scan, "threads": torch.get_num_threads()}


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
