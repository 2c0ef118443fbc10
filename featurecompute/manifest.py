"""What a features run leaves for others: the columns of its tables, what they mean, and how they are read and written.

In: tables and records.  Out: Parquet files and the same tables again, checked.
Knows no torch, no network and no pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from featurecompute.errors import RunError
from featurecompute.files import hash_file, read_json, whole

SCHEMA = "featurecompute-run/1"

_text, _whole, _real, _truth = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_texts = pa.list_(pa.string())


@dataclass(frozen=True)
class Table:
    """What a table of a run holds.

    Parameters
    ----------
    name
        The file is ``NAME.parquet``.
    key
        Columns that together name a row once.
    columns
        Column to Arrow type, in the order of the file.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, pa.DataType] = field(hash=False)

    def schema(self) -> pa.Schema:
        """Return the Arrow schema; the columns of the key are never null."""
        return pa.schema([pa.field(name, kind, nullable=name not in self.key) for name, kind in self.columns.items()])

    def check(self, rows: pd.DataFrame) -> None:
        """Refuse rows with other columns, or with a key that is missing or named twice.

        Raises
        ------
        RunError
        """
        faults = [f"lacks {name}" for name in self.columns if name not in rows.columns]
        faults += [f"has {name}, which does not belong there" for name in rows.columns if name not in self.columns]
        if faults:
            raise RunError(f"{self.name}.parquet {', '.join(faults)}.")
        key = list(self.key)
        if rows[key].isna().to_numpy().any():
            raise RunError(f"{self.name}.parquet has a row without {' and '.join(key)}.")
        twice = rows[rows.duplicated(key)]
        if len(twice):
            raise RunError(f"{self.name}.parquet names {', '.join(map(str, twice[key].iloc[0]))} more than once.")

    def write(self, folder: Path, rows: pd.DataFrame) -> Path:
        """Write rows, checked; equal rows make equal bytes, and a column that they lack is null. Returns the path."""
        rows = rows.reindex(columns=[*self.columns, *rows.columns.difference(list(self.columns))])
        self.check(rows)
        for name in self._lists():  # of a column without any list, pandas makes one of reals
            rows[name] = rows[name].astype(object).where(rows[name].notna(), None)
        path = folder / f"{self.name}.parquet"
        held = pa.Table.from_pandas(rows, schema=self.schema(), preserve_index=False)
        with whole(path) as part:
            # Without the notes on pandas, which hold its version and how the rows were kept in memory.
            pq.write_table(held.replace_schema_metadata(), part)
        return path

    def _lists(self) -> list[str]:
        return [name for name, kind in self.columns.items() if kind == _texts]

    def read(self, folder: Path) -> pd.DataFrame:
        """Read rows, checked.

        Raises
        ------
        RunError
            If the file is missing, damaged, or has other columns.
        """
        path = folder / f"{self.name}.parquet"
        try:
            rows: pd.DataFrame = pq.read_table(path).to_pandas()
        except (OSError, pa.ArrowException) as error:
            raise RunError(f"{path} cannot be read: {error}.") from error
        self.check(rows)
        for name in self._lists():
            rows[name] = pd.Series([None if cell is None else list(cell) for cell in rows[name]], dtype=object)
        return rows[list(self.columns)]


FEATURES = Table(
    "features",
    ("feature",),
    {
        "feature": _text,
        "network": _text,
        "layer": _text,
        "layer_index": _whole,
        "depth": _real,
        "representation": _text,  # local or distributed
        "basis": _text,  # neuron, or the dictionary's method
        "basis_hash": _text,
        "index": _whole,  # channel, or atom
        "n_images": _whole,
        "mean": _real,  # these five of the pooled activation over all images
        "sd": _real,
        "max": _real,
        "sparsity": _real,  # share of images where it is zero or less
        "dead": _truth,
        "contribution_subtract": _real,  # means over images; null where none was asked for
        "contribution_reconstruct": _real,
    },
)
PAIRS = Table(
    "pairs",
    ("pair",),
    {
        "pair": _text,
        "local_feature": _text,
        "distributed_feature": _text,
        "rule": _text,
        "share": _real,  # of the neuron's top images that the rule counted for this direction
        "shared": _truth,  # another neuron has this direction too
    },
)
IMAGES = Table(
    "images",
    ("image",),
    {
        "image": _text,
        "path": _text,
        "sha256": _text,
        "kind": _text,  # natural, generated, synthesised, crop
        "label": _text,
        "entropy": _real,  # bits a pixel of the grey levels
        "edge_density": _real,  # share of pixels on an edge
        "compressed_bytes": _whole,  # of the prepared image as PNG
    },
)
CONTRIBUTIONS = Table(
    "contributions",
    ("feature", "image", "method", "selection"),
    {
        "feature": _text,
        "image": _text,
        "method": _text,  # subtract, reconstruct, grad_x_act, integrated_gradients, sobol
        "selection": _text,  # fixed, most_active
        "target": _whole,  # class whose logit it is
        "logit": _real,
        "logit_nulled": _real,
        "drop": _real,  # logit - logit_nulled; for attributions, the score
        "residual": _real,  # logit - logit with all atoms kept
        "norm": _real,  # L2 norm of what was removed from the activations
        "drop_standardised": _real,  # drop over the SD of the network's logits
    },
)
EXTREMES = Table(
    "extremes",
    ("feature", "side", "rank"),
    {
        "feature": _text,
        "side": _text,  # top, bottom, or a window's shares: 0.05-0.06
        "rank": _whole,  # from 1, the most (for bottom, the least) activating
        "image": _text,
        "activation": _real,  # pooled
        "position": _whole,  # of the map's maximum, row by row; null in windows
    },
)
ELEMENTS = Table(
    "elements",
    ("feature",),
    {
        "feature": _text,
        "element": _text,  # known element that it matches best on one half of the images
        "kind": _text,  # edge, part, object
        "auroc": _real,  # on the other half
    },
)
CURVES = Table(
    "curves",
    ("layer", "representation", "curve", "units"),
    {
        "layer": _text,
        "depth": _real,
        "representation": _text,
        "curve": _text,  # deletion, insertion
        "units": _whole,  # nulled, or put back, the highest gradient x activation first
        "share": _real,
        "norm_share": _real,  # squared L2 norm of their terms as a share of that of all
        "logit": _real,  # means over images of the target's
        "probability": _real,
        "logit_se": _real,
        "probability_se": _real,
        "n_images": _whole,
    },
)
AREAS = Table(
    "areas",
    ("layer", "representation", "curve", "axis", "quantity"),
    {
        "layer": _text,
        "depth": _real,
        "representation": _text,
        "curve": _text,
        "axis": _text,  # share, norm_share
        "quantity": _text,  # logit, probability
        "area": _real,  # mean over images of the area under the curve
        "sd": _real,
        "n_images": _whole,
    },
)
NORM_MATCHED = Table(
    "norm_matched",
    ("layer", "method", "selection", "way"),
    {
        "layer": _text,
        "method": _text,
        "selection": _text,
        "way": _text,  # pairs, regression
        "estimate": _real,  # of |drop|, distributed less local at equal norm; regression: of its logarithm
        "lower": _real,  # 95 % bootstrap over images, percentile
        "upper": _real,
        "ratio": _real,
        "n_images": _whole,
        "n": _whole,
        "left_out": _whole,
    },
)
SELECTIVITY = Table(
    "selectivity",
    ("feature", "method", "selection"),
    {
        "feature": _text,
        "element": _text,
        "method": _text,
        "selection": _text,
        "n_present": _whole,
        "n_absent": _whole,
        "drop_present": _real,
        "change_absent": _real,
        "selectivity": _real,
    },
)
MATCHES = Table(
    "matches",
    ("layer", "representation", "condition", "kind", "unit"),
    {
        "layer": _text,
        "depth": _real,
        "representation": _text,
        "condition": _text,  # neuron, the dictionary's method, thresholded, random; each also permuted
        "candidates": _whole,  # units compared, as many in each condition of a layer
        "unit": _whole,
        "kind": _text,  # edge, part, object, any
        "element": _text,
        "element_kind": _text,
        "auroc": _real,  # on images that the match was not made on
        "auroc_match": _real,
        "second": _real,
        "purity": _real,
        "gap": _real,
    },
)
SYNTHESISED = Table(
    "synthesised",
    ("image",),
    {
        "image": _text,
        "feature": _text,
        "end": _text,  # max, min
        "number": _whole,  # from 0, within feature and end
        "method": _text,  # maco, fourier
        "seed": _whole,
        "steps": _whole,  # taken before it stopped
        "stopped": _text,  # flat, steps; or why it failed
        "failed": _truth,
        "activation": _real,  # pooled, of the finished image
        "natural": _real,  # the most (for min, the least) that any image of the set activates it
    },
)
STIMULI = Table(
    "stimuli",
    ("stimulus",),
    {
        "stimulus": _text,
        "feature": _text,  # null for practice
        "pair": _text,  # null for practice
        "experiment": _text,
        "phase": _text,  # practice, main
        "catch": _truth,
        "batch": _whole,  # from 0; null for practice
        "query_target": _text,  # ids of images, here and in the next three
        "query_distractor": _text,
        "references_max": _texts,
        "references_min": _texts,
        "reference_kind": _text,  # natural, mixed, synthetic
        "activation_target": _real,  # pooled
        "activation_distractor": _real,
        "class_target": _text,  # null where images have none
        "class_distractor": _text,
        "entropy": _real,  # these three are means over the references
        "edge_density": _real,
        "compressed_bytes": _real,
        "seed": _whole,
        "version": _text,  # hash of all that it shows
    },
)
TRIAL_LISTS = Table(
    "trial_lists",
    ("experiment", "participant", "trial"),
    {
        "participant": _text,  # a place in the design, to be taken by a person
        "experiment": _text,
        "trial": _whole,  # from 1
        "phase": _text,
        "catch": _truth,
        "representation": _text,  # these five are null for practice
        "layer": _text,
        "depth": _real,
        "feature": _text,
        "pair": _text,
        "stimulus": _text,
        "version": _text,
        "target_side": _text,  # left, right: where the query is that the references' maxima match
    },
)
BALANCE = Table(
    "balance",
    ("experiment", "quantity"),
    {
        "experiment": _text,
        "quantity": _text,
        "groups": _whole,  # pairs, participants, ... over which the next three are taken
        "least": _real,
        "mean": _real,
        "most": _real,
    },
)
PICTURES = Table(
    "pictures",
    ("image",),
    {
        "image": _text,  # as stimuli.parquet names it
        "file": _text,  # from the run's folder
        "sha256": _text,
    },
)
OBSERVED = Table(
    "observed",
    ("observer", "stimulus"),
    {
        "observer": _text,  # what an in-silico observer goes by: pixel, low_level, embedding; elements, where known
        "stimulus": _text,
        "experiment": _text,
        "phase": _text,
        "catch": _truth,
        "feature": _text,
        "pair": _text,
        "representation": _text,
        "layer": _text,
        "depth": _real,
        "d": _real,  # evidence for the target less that for the distractor
        "noise_sd": _real,  # of the noise added to it
        "probability": _real,  # of a correct answer
    },
)
OBSERVERS = Table(
    "observers",
    ("observer", "experiment", "representation", "layer"),
    {
        "observer": _text,
        "experiment": _text,
        "representation": _text,
        "layer": _text,
        "depth": _real,
        "probability": _real,  # of a correct answer: mean over main stimuli, their SD, and how many
        "sd": _real,
        "n": _whole,
    },
)
TABLES = {
    table.name: table
    for table in (
        FEATURES,
        PAIRS,
        IMAGES,
        EXTREMES,
        CONTRIBUTIONS,
        CURVES,
        AREAS,
        NORM_MATCHED,
        SELECTIVITY,
        ELEMENTS,
        MATCHES,
        SYNTHESISED,
        STIMULI,
        TRIAL_LISTS,
        BALANCE,
        PICTURES,
        OBSERVED,
        OBSERVERS,
    )
}


@dataclass(frozen=True)
class Run:
    """A features run on disk.

    Parameters
    ----------
    path
        Its folder.
    record
        Content of run.json.
    """

    path: Path
    record: dict[str, Any] = field(hash=False)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table by name, one of `TABLES`."""
        return TABLES[name].read(self.path)


def load_run(path: str | Path, *, verify: bool = True) -> Run:
    """Read a features run that is complete.

    Parameters
    ----------
    path
        Folder that ``featurecompute compute`` wrote.
    verify
        Compare every file with the hash that run.json holds.

    Raises
    ------
    RunError
        If there is no run, it has not ended, or a file was changed or is missing.
    """
    path = Path(path)
    if not (path / "run.json").is_file():
        raise RunError(
            f"{path} holds no complete run: run.json is missing. It is what 'featurecompute compute' writes last."
        )
    record = read_json(path / "run.json")
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else None
        raise RunError(f"{path} was written in the form {found}; this version reads {SCHEMA}.")
    try:
        outputs = {output["path"]: output["sha256"] for stage in record["stages"] for output in stage["outputs"]}
    except (KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: its run.json does not say which files there are.") from error
    for name, sha256 in outputs.items() if verify else ():
        file = path / name
        if not file.is_file():
            raise RunError(f"{path} is damaged: {name} is missing; 'featurecompute compute' with --resume mends it.")
        if hash_file(file) != sha256:
            raise RunError(
                f"{path} is damaged: {name} is not the file that was written; 'featurecompute compute' with --resume "
                "mends it."
            )
    return Run(path, record)
