"""A million jsPsych trials from 10,000 files: seconds and peak memory, on SIMULATED recordings of a fixed seed.

Run as ``python tests/benchmarks/benchmark_recordings.py [--files N] [--layout jspsych|zimmermann]``. The files are made
in a temporary folder by another process, then read, mapped and judged by `psychostats.trials.examine_trials` in this
one, whose peak resident memory is printed. Beside it: the seconds of a plain ``json.loads`` of the same bytes. Limits,
for 10,000 files on two cores: 60 s and 2 GB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SEED = 1
SECONDS, BYTES = 60.0, 2e9
_HOST = "https://lab.example/experiments/exp_1"


def write_files(folder: Path, files: int, trials: int, layout: str) -> None:
    """Write one JSON file a participant: instructions, practice and main trials."""
    rng = np.random.default_rng(SEED)
    for person in range(files):
        records = _session(rng, person, trials, layout)
        content: object = records
        if layout == "zimmermann":
            main = [one for one in records if one.get("is_demo") is False]
            content = {"main_data": json.dumps(main), "raw_data": json.dumps(records), "task_id": str(person + 1)}
        Path(folder, f"p{person:05d}.json").write_text(json.dumps(content), "utf-8")


def _session(rng: np.random.Generator, person: int, trials: int, layout: str) -> list[dict[str, object]]:
    clock = 20_000.0 + 5_000 * rng.random()
    mark = {"subject": f"s{person:05d}", "experiment": "natural"}
    records: list[dict[str, object]] = [
        {"rt": clock, "trial_type": "instructions", "trial_index": 0, "time_elapsed": clock, **mark}
    ]
    times = rng.lognormal(8.5, 0.5, trials)
    right, sides, sure = rng.random(trials) < 0.8, rng.random(trials) < 0.5, rng.integers(1, 4, trials)
    for trial in range(trials):
        clock += float(times[trial])
        demo = trial < 5
        task = "demo_natural" if demo else f"natural/task_{person + 1}"
        base = f"{_HOST}/{task}/trials/trial_{trial + 1 if demo else trial - 4}"
        record: dict[str, object] = {
            "rt": round(float(times[trial]), 1),
            "button_pressed": int(rng.integers(0, 6)),
            "switched_queries": bool(sides[trial]),
            "confidence": int(sure[trial]),
            "choice": "b" if right[trial] else "a",
            "correct": bool(right[trial]),
            "catch_trial": trial % 20 == 7,
            "is_demo": demo,
            "representation": "local" if trial % 2 else "distributed",
            "layer": f"layer{trial % 8}",
            "depth": (trial % 8) / 7,
            "pair": f"pair{trial % 80}",
            "trial_type": "2afc-image-confidence-response",
            "trial_index": trial + 1,
            "time_elapsed": round(clock, 1),
            "internal_node_id": f"0.0-{trial + 1}.0",
            **mark,
        }
        if layout == "zimmermann":
            for end in ("min", "max"):
                record[f"{end}_query"] = f"{base}/queries/{end}.png"
                record[f"{end}_references"] = [f"{base}/references/{end}_{number}.png" for number in range(9)]
        else:
            record["stimulus"] = f"images/pair{trial % 80}_{trial % 2}.png"
        records.append(record)
    return records


def main() -> None:
    """Make the files, read them, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--layout", choices=("jspsych", "zimmermann"), default="jspsych")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maker = multiprocessing.get_context("spawn").Process(
            target=write_files, args=(folder, asked.files, asked.trials, asked.layout)
        )
        maker.start()
        maker.join()
        paths = sorted(folder.iterdir())
        begun = time.perf_counter()
        size = 0
        for path in paths:
            data = path.read_bytes()
            size += len(data)
            json.loads(data)
        plain = time.perf_counter() - begun

        from psychostats.trials import examine_trials

        begun, worked = time.perf_counter(), time.process_time()
        table = examine_trials(
            folder,
            needed=("participant", "representation", "depth", "pair", "correct", "rt"),
            say=lambda line: print(line, file=sys.stderr),
        )
        seconds, worked = time.perf_counter() - begun, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert not table.errors, table.errors[:3]
    assert len(table.frame) == asked.files * asked.trials
    print(f"{asked.layout}: {len(table.frame):,} trials from {asked.files:,} files, {size / 1e6:,.0f} MB")
    print(f"json.loads alone   {plain:7.1f} s")
    print(f"read and judged    {seconds:7.1f} s (ratio {seconds / plain:.1f}; limit {SECONDS:g} s)")
    print(f"of processor time  {worked:7.1f} s")
    print(f"peak memory        {peak / 1e9:7.2f} GB (limit {BYTES / 1e9:g} GB)")


if __name__ == "__main__":
    main()
