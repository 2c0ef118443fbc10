"""One page to look at a run: every pair's images and scores, and figures by layer.

In: a run.  Out: an HTML file that needs nothing else.  Knows no torch and no image set: small images lie in the run.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from PIL import Image

from featurecompute.charts import chart_contributions, chart_curves, chart_matches, chart_norm_matched, to_svg
from featurecompute.files import read_arrays, whole
from featurecompute.manifest import Run
from featurecompute.pages import data_url, render
from featurecompute.thumbnails import SHOWN, read_thumbnails, shrink


def write_inspection(run: Run, path: Path) -> Path:
    """Write the page of a run.

    Parameters
    ----------
    run
        A complete run.
    path
        File to write.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RunError
        If a table of the run is missing or damaged, or the file cannot be written.
    """
    text = render("inspect.html", **_content(run))
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _content(run: Run) -> dict[str, Any]:
    features = run.table("features").set_index("feature")
    pairs, images = run.table("pairs"), run.table("images")
    extremes = run.table("extremes")
    shown = extremes[extremes["side"].isin(["top", "bottom"]) & (extremes["rank"] <= SHOWN)]
    strips = _strips(shown, read_thumbnails(run.path, images["image"]))
    known = (run.path / "elements.parquet").is_file()
    elements = run.table("elements").set_index("feature") if known else pd.DataFrame()
    heat, made = _heat(run), _synthesised(run)
    selective = _selectivity(run) if (run.path / "selectivity.parquet").is_file() else {}

    def card(feature: str) -> dict[str, Any]:
        row: Any = features.loc[feature]
        matched = elements.loc[feature] if feature in elements.index else None
        return {
            "id": feature,
            "representation": row["representation"],
            "basis": row["basis"],
            "index": int(row["index"]),
            "top": strips[feature, "top"],
            "bottom": strips[feature, "bottom"],
            "heat": heat.get(feature),
            "synthesised": made.get(feature),
            "subtract": _number(row["contribution_subtract"]),
            "reconstruct": _number(row["contribution_reconstruct"]),
            "mean": _number(row["mean"]),
            "max": _number(row["max"]),
            "sparsity": f"{row['sparsity']:.0%}",
            "element": None if matched is None else f"{matched['element']} ({matched['kind']})",
            "auroc": None if matched is None else f"{matched['auroc']:.2f}",
            "selectivity": selective.get(feature),
        }

    layers = []
    for layer in run.record["network"]["layers"]:
        mine = pairs[features.loc[pairs["local_feature"], "layer"].to_numpy() == layer["name"]]
        cards = [
            {
                "pair": pair["pair"],
                "share": f"{pair['share']:.2f}" if pair["rule"] == "correlation" else f"{pair['share']:.0%}",
                "shared": pair["shared"],
                "cards": [card(pair["local_feature"]), card(pair["distributed_feature"])],
            }
            for pair in mine.to_dict(orient="records")
        ]
        layers.append({**layer, "pairs": cards})
    record = run.record
    return {
        "record": record,
        "layers": [layer for layer in layers if layer["pairs"]],
        "pairs": len(pairs),
        "rule": record["settings"]["features"]["rule"],
        "generated": (images["kind"] == "generated").any(),
        "known": known,
        "selective": bool(selective),
        "figures": _figures(run, features, known),
        "balance": _rows(run, "balance"),
        "observers": _observers(run),
        "dictionaries": [
            {
                **found,
                "reconstruction": f"{found['reconstruction']:.3f}",
                "sparsity": f"{found['sparsity']:.0%}",
                "stability": "" if found["stability"] is None else f"{found['stability']:.2f}",
            }
            for found in record["dictionaries"]
        ],
        "shown": SHOWN,
    }


def _optional(run: Run, name: str) -> pd.DataFrame:
    return run.table(name) if (run.path / f"{name}.parquet").is_file() else pd.DataFrame()


def _rows(run: Run, name: str) -> list[dict[str, Any]]:
    rows = _optional(run, name)
    for column in rows.select_dtypes("float"):
        rows[column] = rows[column].map(lambda value: f"{value:.3g}")
    return cast(list[dict[str, Any]], rows.to_dict(orient="records"))


def _observers(run: Run) -> list[dict[str, Any]]:
    """Return each observer's mean probability of a correct answer, by experiment and representation."""
    rows = _optional(run, "observed")
    if rows.empty:
        return []
    rows = rows[(rows["phase"] == "main") & ~rows["catch"]]
    order = {experiment: place for place, experiment in enumerate(dict.fromkeys(rows["experiment"]))}
    means = rows.groupby(["experiment", "observer", "representation"], sort=False)["probability"].mean().reset_index()
    means = means.sort_values("experiment", key=lambda names: names.map(order), kind="stable")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in means.to_dict(orient="records"):
        key = (row["experiment"], row["observer"])
        cells = found.setdefault(key, {"experiment": key[0], "observer": key[1]})
        cells[str(row["representation"])] = f"{row['probability']:.3f}"
    return list(found.values())


def _heat(run: Run) -> dict[str, str]:
    """Return strips of where each feature is active in its most activating images."""
    path = run.path / "heat_maps.safetensors"
    return {name: _strip(images) for name, images in read_arrays(path).items()} if path.is_file() else {}


def _synthesised(run: Run) -> dict[str, str]:
    """Return a strip of each feature's synthesised images that did not fail, those that drive it up."""
    rows = _optional(run, "synthesised")
    if rows.empty:
        return {}
    pixels = read_arrays(run.path / "synthesised.safetensors")["pixels"]
    wanted = (rows["end"] == "max") & ~rows["failed"] & (rows["number"] < SHOWN)
    return {
        str(feature): _strip([shrink(pixels[place]) for place in part.index])
        for feature, part in rows[wanted].groupby("feature", sort=False)
    }


def _selectivity(run: Run) -> dict[str, str]:
    rows = run.table("selectivity")
    rows = rows[(rows["method"] == "subtract") & (rows["selection"] == "fixed")]
    return {
        str(feature): f"{value:.1f}"
        for feature, value in zip(rows["feature"], rows["selectivity"], strict=True)
        if pd.notna(value)
    }


def _strips(shown: pd.DataFrame, small: dict[str, np.ndarray]) -> dict[tuple[str, str], str]:
    """Return each feature's images at one end side by side, as a data URL."""
    strips: dict[tuple[str, str], str] = {}
    for key, rows in shown.sort_values("rank").groupby(["feature", "side"], sort=False):
        feature, side = map(str, cast(tuple[str, str], key))
        strips[feature, side] = _strip([small[image] for image in rows["image"]])
    return strips


def _strip(images: Sequence[np.ndarray] | np.ndarray) -> str:
    """Return images side by side, as many places as are shown at most, as a data URL."""
    side = images[0].shape[0]
    parts = [np.pad(image, ((0, 0), (0, 2), (0, 0)), constant_values=255) for image in images]
    parts += [np.full((side, side + 2, 3), 255, np.uint8)] * (SHOWN - len(parts))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(parts, axis=1)).save(buffer, format="JPEG", quality=88)
    return data_url(buffer.getvalue(), "image/jpeg")


def _figures(run: Run, features: pd.DataFrame, known: bool) -> list[dict[str, str]]:
    found = []

    def add(title: str, note: str, chart: Any) -> None:
        found.append({"title": title, "note": note, "url": data_url(to_svg(chart), "image/svg+xml")})

    matches = run.table("matches") if known else pd.DataFrame()
    if len(matches):
        count = int(matches["candidates"].max())
        add(
            "Match with known elements",
            f"Mean over {count} units of each reading of a layer: area under the ROC curve (AUROC) of a unit's "
            "activation for the element it matches best, on images that the match was not made on. A unit that serves "
            "several elements still has a high area for each.",
            chart_matches(matches, "auroc", "held-out AUROC"),
        )
        add(
            "Purity",
            "The best element's share of a unit's activation within elements: 1 for a unit that serves one element "
            "alone. Sparseness alone raises it, which the thresholded neurons and the random directions, coded as "
            "sparsely as the learned ones, show.",
            chart_matches(matches, "purity", "purity"),
        )
    rows = run.table("contributions")
    rows = rows[(rows["method"] == "subtract") & (rows["selection"] == "fixed")]
    if len(rows):
        sizes = rows.assign(change=rows["drop"].abs()).groupby("feature")["change"].mean().reset_index()
        sizes = sizes.join(features[["representation", "depth"]], on="feature")
        add(
            "Contribution to the decision",
            "Mean over images of the size of the logit's drop when a feature is nulled (its term subtracted); a point "
            "a feature, lines their means. It follows the norm that is removed, so read it with the next figure.",
            chart_contributions(sizes),
        )
        norms = run.table("norm_matched").query("method == 'subtract' and selection == 'fixed' and way == 'pairs'")
        depths = features.drop_duplicates("layer").set_index("layer")["depth"]
        norms = norms.assign(depth=norms["layer"].map(depths)).dropna(subset=["estimate"])
        if len(norms):
            add(
                "Contribution at equal removed norm",
                "Each direction beside the neuron of the same image whose removed norm is nearest: mean difference of "
                "the logit's change, with its 95 % bootstrap interval over images.",
                chart_norm_matched(norms),
            )
    curves = run.table("curves")
    if len(curves):
        add(
            "Deletion and insertion",
            "Units nulled, or put back, one after another, the highest gradient × activation first: mean probability "
            "of the predicted class.",
            chart_curves(curves),
        )
    return found


def _number(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.3g}"
