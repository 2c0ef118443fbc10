"""Recordings as experiments write them, made by the tests; who answers in them is simulated."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Mapping
from typing import Any

HOST = "https://lab.example/experiments/exp_1"


def session(person: str | None = "s1", trials: int = 6, *, seed: int = 1, **more: Any) -> list[dict[str, Any]]:
    """Return jsPsych's records of one session: two screens of instructions, then answers of half a second and more."""
    rng = random.Random(f"{person}{seed}")
    mark = ({"subject": person} if person else {}) | more
    records: list[dict[str, Any]] = [
        {"rt": 9000 + 500 * screen, "trial_type": "instructions", "trial_index": screen, "time_elapsed": 10000, **mark}
        for screen in range(2)
    ]
    for trial in range(trials):
        records.append(
            {
                "rt": 500 + rng.randrange(4000),
                "response": rng.choice("fj"),
                "correct": rng.random() < 0.8,
                "representation": ("local", "distributed")[trial % 2],
                "stimulus": f"img/{trial}.png",
                "trial_type": "image-keyboard-response",
                "trial_index": trial + 2,
                "time_elapsed": 20000 + 5000 * trial,
                "internal_node_id": f"0.0-{trial + 2}.0",
                **mark,
            }
        )
    return records


def encoded(value: Any) -> bytes:
    """Return a value as the bytes of a JSON file."""
    return json.dumps(value).encode()


def table(records: list[dict[str, Any]], separator: str = ",") -> bytes:
    """Return records as jsPsych's CSV: every cell in quotes, and blank where a record has no such key."""
    names = list(dict.fromkeys(name for record in records for name in record))

    def cell(value: Any) -> str:
        text = "" if value is None else json.dumps(value) if isinstance(value, bool | list | dict) else str(value)
        return '"' + text.replace('"', '""') + '"'

    lines = [separator.join(map(cell, names))]
    lines += [separator.join(cell(record.get(name)) for name in names) for record in records]
    return ("\r\n".join(lines) + "\r\n").encode()


def posted(
    task: int = 1, attempts: int = 2, trials: int = 8, *, seed: int = 1, name: str = "natural", **more: Any
) -> dict[str, Any]:
    """Return what the page of Zimmermann et al. (2023) posts: its records twice, as text, and its task's number."""
    rng = random.Random(f"{task}{seed}")
    clock = 0

    def screen(kind: str, rt: int) -> dict[str, Any]:
        nonlocal clock
        clock += rt
        return {"rt": rt, "trial_type": kind, "trial_index": len(raw), "time_elapsed": clock}

    def answer(
        folder: str, trial: int, *, demo: bool, catch: bool = False, right: bool | None = None
    ) -> dict[str, Any]:
        good = rng.random() < 0.8 if right is None else right
        switched, sure = rng.random() < 0.5, rng.randrange(1, 4)
        upper = good == switched  # the right one is "b", which stands above where the queries are switched
        base = f"{HOST}/{folder}/trials/trial_{trial}"
        images = {f"{end}_query": f"{base}/queries/{end}.png" for end in ("min", "max")}
        images |= {
            f"{end}_references": [f"{base}/references/{end}_{n}.png" for n in range(8, -1, -1)]
            for end in ("min", "max")
        }
        return {
            **screen("2afc-image-confidence-response", 1500 + rng.randrange(8000)),
            "button_pressed": (0 if upper else 3) + sure - 1,
            "switched_queries": switched,
            "confidence": sure,
            "choice": "b" if good else "a",
            "correct": good,
            **images,
            "catch_trial": catch,
            "is_demo": demo,
        }

    raw: list[dict[str, Any]] = []
    raw.append(screen("instructions", 4000))
    raw.append(screen("instructions", 16000))
    raw.append(screen("fullscreen", 900))
    for attempt in range(attempts):
        raw.append(screen("call-function", 1))
        last = attempt == attempts - 1
        for trial in range(1, 4):
            raw.append(answer(f"demo_{name}", trial, demo=True, right=last or trial != 2))
        raw.append(screen("instructions", 700))
    for trial in range(1, trials + 1):
        raw.append(answer(f"{name}/task_{task}", trial, demo=False, catch=trial == 4))
    raw.append(screen("survey-text", 3000))
    main = [one for one in raw if one.get("is_demo") is False]
    return {"main_data": json.dumps(main), "raw_data": json.dumps(raw), "task_id": str(task), **more}


def zipped(members: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP archive of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()
