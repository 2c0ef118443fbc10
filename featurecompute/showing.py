"""What participants see, stage by stage: synthesised images, stimuli, trial lists, pictures, and in-silico observers.

In: a `Job` whose features are chosen.  Out: the files of the second half of a run.  Knows no command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from safetensors import safe_open

from featurecompute import manifest
from featurecompute.activations import Key, name_of
from featurecompute.bases import Basis, NeuronBasis
from featurecompute.choices import generator, refuse_few
from featurecompute.errors import StudyError
from featurecompute.features import distributed_id, local_id
from featurecompute.files import hash_arrays, plain, read_arrays, read_json, whole, write_arrays, write_json
from featurecompute.job import Job
from featurecompute.measures import measure_images
from featurecompute.observers import accuracies, observe, summarise
from featurecompute.pictures import write_pictures
from featurecompute.receptive import ReceptiveField, heat_map, overlay, receptive_field, unit_maps
from featurecompute.rows import embed
from featurecompute.scan import Scan
from featurecompute.spaces import element_vectors, low_level_vectors, pixel_vectors
from featurecompute.spectrum import Spectrum, magnitude_spectrum
from featurecompute.stages import read_shards
from featurecompute.stimuli import Material, Member, images_of, make_stimuli, set_versions
from featurecompute.study import StimuliTable
from featurecompute.thumbnails import SHOWN, shrink
from featurecompute.trial_lists import make_lists, measure_balance, refuse_design
from featurecompute.views import Views, crop_id
from featurecompute.visualize import Wanted, canvas_size, synthesise

_SHARD = 32
"""Synthesised images a shard, about: what is lost at most when a run is killed."""


def refuse_stimuli(job: Job) -> None:
    """Refuse, before anything long is done, a study whose stimuli cannot be made.

    Raises
    ------
    StudyError
    """
    study, table = job.study, job.study.stimuli
    if table is None:
        return
    neurons = study.features.neurons
    pairs = neurons if isinstance(neurons, int) else len(neurons)
    for experiment, people in study.design.participants.items():
        if people and experiment in table.experiments:
            refuse_design(experiment, pairs, table.practice, min(table.catch, pairs), study.design)
    for end in ("max", "min") if "mixed" in table.experiments else ():
        count, places = _synthetic(table, end), getattr(table, f"references_{end}")
        name = f"references_synthetic{'' if end == 'max' else '_min'}"
        if count > places:
            raise StudyError(
                f"[stimuli] {name} is {count}, but there are {places} references; ask for {places} at most."
            )
        if count * table.batches > study.visualize.images:
            raise StudyError(
                f"[stimuli] shows {count} synthesised images in each of {table.batches} batches, but [visualize] "
                f"images is {study.visualize.images}; it must be {count * table.batches} or more."
            )
    # From here on the network and the images must be there, and a network of scenes is trained first.
    rectified = [layer.name for layer in job.network.layers if not layer.signed]
    if "mixed" in table.experiments and table.references_synthetic_min and rectified:
        raise StudyError(
            f"[stimuli] references_synthetic_min is {table.references_synthetic_min}, but nothing drives a unit of "
            f"{rectified[0]} below zero, since it follows a ReLU; it must be 0."
        )
    for experiment in table.experiments:
        refuse_few(experiment, len(job.images.pixels), _classes(job), table)


def _synthetic(table: StimuliTable, end: str) -> int:
    return table.references_synthetic if end == "max" else table.references_synthetic_min


def _classes(job: Job) -> np.ndarray | None:
    labels = job.images.table["label"]
    return None if labels.isna().any() else labels.to_numpy(str)


@dataclass
class Showing:
    """The stages that make what participants see; each part is made when it is first asked for."""

    job: Job
    table: StimuliTable

    def run(self) -> pd.DataFrame:
        """Do all stages.

        Returns
        -------
        DataFrame
            Rows of images.parquet for the images that were made here.
        """
        job = self.job
        _ = self.activations  # what stages need is made before them, so that every run has its stages in one order
        if "mixed" in self.table.experiments:
            _ = self.synthesised
        tables = ("features", "dictionary", "visualize", "stimuli", "design")
        inputs = job.inputs("stimuli", *tables, names=list(self.places))
        job.folder.stage("stimuli", inputs, self._make_stimuli)
        job.warnings += read_json(job.folder.path / "left_out.json")
        people = job.study.design.participants
        job.warnings += [
            f"[design] participants names '{name}', of which [stimuli] makes none; it has no trial lists."
            for name in people
            if name not in self.table.experiments
        ] + [
            f"[design] participants gives experiment '{name}' none, so it has stimuli and no trial lists."
            for name in self.table.experiments
            if people and not people.get(name)
        ]
        job.folder.stage("pictures", {**inputs, "stage": "pictures"}, self._write_pictures)
        spaces = {"stage": "observers", "elements": self._known is not None}
        job.folder.stage("observers", {**inputs, **spaces}, self._observe)
        job.folder.stage("heat_maps", job.inputs("heat_maps", "features", names=list(job.names)), self._map_heat)
        return self._rows_of_images()

    # Features and their activations

    @cached_property
    def members(self) -> list[Member]:
        """Both features of every pair."""
        pairs = manifest.PAIRS.read(self.job.folder.path)
        return [
            Member(row[f"{representation}_feature"], row["pair"], representation)
            for row in pairs.to_dict(orient="records")
            for representation in ("local", "distributed")
        ]

    @cached_property
    def spare(self) -> dict[Member, tuple[Key, int]]:
        """Features that are not studied, for practice: as many of each basis as practice could need twice over."""
        job, random = self.job, np.random.default_rng([self.table.seed, 1])
        chosen, layers = set(job.names.values()), {neuron.layer for neuron in job.neurons}
        found: dict[Member, tuple[Key, int]] = {}
        for scan in (job.neuron_scan, job.direction_scan):
            left = [
                (key, int(index))
                for key in scan.found
                if key[0] in layers
                for index in np.flatnonzero((scan.found[key].moments.sd > 0) & (scan.found[key].moments.maximum > 0))
                if (key, int(index)) not in chosen
            ]
            for place in random.permutation(len(left))[: 2 * self.table.practice]:
                key, index = left[place]
                basis = self._basis(key)
                name = (
                    local_id(job.network.id, key[0], index)
                    if basis.representation == "local"
                    else distributed_id(job.network.id, key[0], basis.method, basis.sha256, index)
                )
                found[Member(name, "", basis.representation)] = (key, index)
        return found

    def _basis(self, key: Key) -> Basis:
        layer = self.job.network.layer(key[0])
        if key[1] == "neuron":
            return NeuronBasis(layer.name, layer.channels)
        return next(b for (name, _), b in self.job.dictionaries.items() if (name, name_of(b)) == key)

    @cached_property
    def places(self) -> dict[str, tuple[Key, int]]:
        """Id of each feature that is shown, studied or spare, to its layer and basis, and its index."""
        return self.job.names | {member.feature: place for member, place in self.spare.items()}

    @cached_property
    def material(self) -> Material:
        """What stimuli are made of."""
        ids = self.job.images.table["image"].to_numpy(str)
        return Material(ids, _classes(self.job), self.activations, self._made())

    @cached_property
    def activations(self) -> Callable[[str], np.ndarray]:
        """Gives a feature's activation in all images, in fp32, whatever the precision of the scan was."""
        job, path = self.job, self.job.folder.path / "activations.safetensors"
        names = list(self.places)
        scans = {key: self._scan(key) for key, _ in self.places.values()}

        def work() -> list[Path]:
            columns = np.empty((len(names), len(job.images.pixels)), np.float32)
            for key, scan in scans.items():
                rows = [place for place, name in enumerate(names) if self.places[name][0] == key]
                units = np.array([self.places[names[place]][1] for place in rows])
                columns[rows] = np.concatenate(list(scan.pooled(key, units))).T
            write_arrays(path, {"activations": columns})
            return [path]

        job.folder.stage("activations", job.inputs("activations", "features", "dictionary", names=names), work)
        number = {name: place for place, name in enumerate(names)}

        def read(feature: str) -> np.ndarray:
            with safe_open(path, "numpy") as file:
                return np.asarray(file.get_slice("activations")[number[feature]])

        return read

    def _scan(self, key: Key) -> Scan:
        if self.job.study.features.scan != "fp32":
            return self._exact
        return self.job.neuron_scan if key[1] == "neuron" else self.job.direction_scan

    @cached_property
    def _exact(self) -> Scan:
        bases: dict[str, list[Basis]] = {}
        for key in dict.fromkeys(key for key, _ in self.places.values()):
            bases.setdefault(key[0], []).append(self._basis(key))
        return self.job.scan("exact", bases, 0.0, precision="fp32")

    # Synthesised images

    def _made(self) -> dict[tuple[str, str], list[str]]:
        """Return each feature's synthesised images that did not fail; none, where no experiment shows any."""
        if "mixed" not in self.table.experiments:
            return {}
        rows = self.synthesised
        rows = rows[~rows["failed"].astype(bool)]
        found: dict[tuple[str, str], list[str]] = {}
        for row in rows.to_dict(orient="records"):
            found.setdefault((row["feature"], row["end"]), []).append(row["image"])
        return found

    @cached_property
    def synthesised(self) -> pd.DataFrame:
        """Rows of synthesised.parquet."""
        job, settings = self.job, self.job.study.visualize
        ends: list[Literal["max", "min"]] = ["max", "min"] if self.table.references_synthetic_min else ["max"]
        wanted = [
            Wanted(name, self._basis(key), index, end, number)
            for name, (key, index) in job.names.items()
            for end in ends
            for number in range(settings.images)
        ]
        pooling = job.study.features.pooling
        inputs = job.inputs("synthesised", "visualize", pooling=pooling, names=list(job.names), ends=ends)
        path = job.folder.path / "synthesised.safetensors"
        size = settings.images * max(1, _SHARD // settings.images)  # with diversity a feature's own are made together

        def block(start: int, stop: int) -> dict[str, np.ndarray]:
            found = synthesise(
                job.network,
                wanted[start:stop],
                self._spectrum,
                settings,
                pooling=pooling,
                batch=job.study.features.batch,
                device=job.device,
            )
            text = json.dumps(plain(found.table.to_dict(orient="records")))
            return {
                "pixels": found.pixels,
                "transparency": np.round(255 * found.transparency).astype(np.uint8),
                "table": np.frombuffer(text.encode(), np.uint8).copy(),
            }

        ends_of = {name: (self.activations(name).max(), self.activations(name).min()) for name in job.names}

        def gather(shards: Sequence[Path]) -> list[Path]:
            parts = list(read_shards(shards))
            write_arrays(
                path, {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "table"}
            )
            rows = pd.DataFrame([row for part in parts for row in json.loads(part["table"].tobytes())])
            rows["natural"] = [ends_of[f][end == "min"] for f, end in zip(rows["feature"], rows["end"], strict=True)]
            return [path, manifest.SYNTHESISED.write(job.folder.path, rows)]

        job.folder.sharded("synthesised", inputs, len(wanted), size, block, gather)
        rows = manifest.SYNTHESISED.read(job.folder.path)
        failed = rows[rows["failed"].astype(bool)]
        if len(failed):
            job.warnings.append(
                f"{len(failed)} of {len(rows)} synthesised images failed, {failed['image'].iloc[0]} the first: "
                f"{failed['stopped'].iloc[0]}; synthesised.parquet names all."
            )
        return rows

    @cached_property
    def _spectrum(self) -> Spectrum | None:
        job, settings = self.job, self.job.study.visualize
        size = canvas_size(job.network, settings)
        return magnitude_spectrum(job.images.pixels, size, seed=settings.seed)

    # Stimuli

    def _make_stimuli(self) -> list[Path]:
        job, path = self.job, self.job.folder.path
        parts, left_out = [], []
        for experiment in self.table.experiments:
            rows, said = make_stimuli(experiment, self.members, list(self.spare), self.material, self.table)
            parts.append(rows)
            left_out += said
        stimuli = pd.concat(parts, ignore_index=True)
        # Ids that name no feature do not name its network either; those of a study of several must not meet.
        own = f"{job.network.id}-" if job.study.networks else ""
        if own:
            practice = stimuli["phase"] == "practice"
            stimuli.loc[practice, "stimulus"] = own + stimuli["stimulus"][practice]
        if self.table.view == "crop":
            stimuli = self._crop(stimuli)
        stimuli = stimuli.drop(columns="shows")
        images = images_of(stimuli)
        hashes: list[str] = []
        measured_parts = []
        for block in self.views.blocks(images):
            hashes += map(hash_arrays, block)
            measured_parts.append(measure_images(block))
        stimuli = set_versions(stimuli, dict(zip(images, hashes, strict=True)))
        measures = pd.concat(measured_parts).set_index(pd.Index(images))
        references = stimuli["references_max"] + stimuli["references_min"]
        for name, measured in measures.items():
            stimuli[str(name)] = [float(measured.loc[row].mean()) for row in references]
        write_json(path / "left_out.json", left_out)
        features = manifest.FEATURES.read(path)
        try:
            lists = make_lists(stimuli, features, job.study.design, self.table.seed)
        except StudyError as fault:
            raise StudyError(" ".join([str(fault), *left_out[:1]])) from None
        if own and len(lists):
            lists["participant"] = own + lists["participant"]
        return [
            path / "left_out.json",
            manifest.STIMULI.write(path, stimuli),
            manifest.TRIAL_LISTS.write(path, lists),
            manifest.BALANCE.write(path, measure_balance(lists)),
        ]

    def _crop(self, stimuli: pd.DataFrame) -> pd.DataFrame:
        """Return stimuli whose images of the set are cut to the receptive field where their feature is most active."""
        job, made = self.job, self.views.made
        crops: dict[tuple[str, str], str] = {}
        for feature, rows in stimuli.groupby("shows", sort=False):
            (layer, name), index = self.places[str(feature)]
            images = [image for image in images_of(rows) if image not in made]
            pixels = np.stack([self.views.pixels(image) for image in images])
            maps = unit_maps(job.network, self._basis((layer, name)), index, pixels, batch=job.study.features.batch)
            for image, row in zip(images, maps, strict=True):
                # A silent feature is at its maximum everywhere; the first place, a corner, would tell distractors.
                places = np.flatnonzero(row == row.max())
                place = generator(self.table.seed, f"{feature}/{image}/crop").choice(places)
                crops[str(feature), image] = crop_id(image, self.fields[layer].box_of(int(place)))
        found = stimuli.copy()
        for column in ("query_target", "query_distractor"):
            found[column] = [crops.get(pair, pair[1]) for pair in zip(stimuli["shows"], stimuli[column], strict=True)]
        for column in ("references_max", "references_min"):
            found[column] = [
                [crops.get((feature, image), image) for image in images]
                for feature, images in zip(stimuli["shows"], stimuli[column], strict=True)
            ]
        return found

    @cached_property
    def fields(self) -> dict[str, ReceptiveField]:
        """Each layer to its receptive fields."""
        layers = dict.fromkeys(key[0] for key, _ in self.places.values())
        return {layer: receptive_field(self.job.network, layer) for layer in layers}

    @cached_property
    def views(self) -> Views:
        """Pixels of all that may be shown."""
        made: dict[str, np.ndarray] = {}
        if "mixed" in self.table.experiments:
            pixels = read_arrays(self.job.folder.path / "synthesised.safetensors")["pixels"]
            made = dict(zip(self.synthesised["image"], pixels, strict=True))
        return Views(self.job.images, made)

    @cached_property
    def images(self) -> list[str]:
        """Ids of all images that stimuli show."""
        return images_of(manifest.STIMULI.read(self.job.folder.path))

    def _write_pictures(self) -> list[Path]:
        # Numbered in an order that tells no target from its distractor, should somebody serve them as they are.
        shown = ((image, self.views.pixels(image)) for image in sorted(self.images))
        return write_pictures(self.job.folder.path, shown, self.table.picture)

    def _rows_of_images(self) -> pd.DataFrame:
        new = [image for image in self.images if image not in self.views.numbers]
        if not new:
            return pd.DataFrame()
        files = manifest.PICTURES.read(self.job.folder.path).set_index("image").loc[new]
        rows = pd.DataFrame({"image": new, "path": files["file"].to_list(), "sha256": files["sha256"].to_list()})
        rows["kind"] = ["synthesised" if image in self.views.made else "crop" for image in new]
        measures = pd.concat(map(measure_images, self.views.blocks(new)), ignore_index=True)
        return pd.concat([rows.assign(label=None), measures], axis=1)

    # Observers

    def _observe(self) -> list[Path]:
        job, path = self.job, self.job.folder.path
        stimuli, lists = manifest.STIMULI.read(path), manifest.TRIAL_LISTS.read(path)
        network, ids = job.network, self.images
        pixels = np.concatenate(list(self.views.blocks(ids)))
        vectors = {
            "pixel": pixel_vectors(pixels),
            "low_level": low_level_vectors(pixels),
            "embedding": embed(network, pixels, job.study.features.batch),
        }
        known = self._known
        if known is not None:
            vectors["elements"] = element_vectors(*known)
        observed = accuracies(stimuli, manifest.FEATURES.read(path), vectors, ids, noise=self.table.noise)
        written = [manifest.OBSERVED.write(path, observed), manifest.OBSERVERS.write(path, summarise(observed))]
        for space in vectors if len(lists) else ():
            trials = observe(lists, stimuli, vectors, ids, space=space, noise=self.table.noise, seed=self.table.seed)
            file = path / "observers" / f"{space}.parquet"
            with whole(file) as part:
                trials.to_parquet(part, index=False)
            written.append(file)
        return written

    @property
    def _known(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Which elements are in each image of the set, and the number in it of each image shown (-1: none); or None.

        Of a crop it is not known: an element that the whole image has may lie outside.
        """
        truth = self.job.images.truth
        numbers = np.array([self.views.numbers.get(image, -1) for image in self.images])
        return None if truth is None or (numbers < 0).all() else (truth.presence, numbers)

    def _map_heat(self) -> list[Path]:
        """Write where each studied feature is active in its most activating images, small, for the run's page."""
        job, path = self.job, self.job.folder.path
        extremes = manifest.EXTREMES.read(path)
        top = extremes[(extremes["side"] == "top") & (extremes["rank"] <= SHOWN)]
        arrays: dict[str, np.ndarray] = {}
        for name, ((layer, basis), index) in job.names.items():
            images = top[top["feature"] == name].sort_values("rank")["image"]
            pixels = np.stack([self.views.pixels(image) for image in images])
            maps = unit_maps(job.network, self._basis((layer, basis)), index, pixels, batch=job.study.features.batch)
            field = self.fields[layer]
            arrays[name] = np.stack(
                [
                    shrink(overlay(image, heat_map(row, field, len(image))))
                    for image, row in zip(pixels, maps, strict=True)
                ]
            )
        file = path / "heat_maps.safetensors"
        write_arrays(file, arrays)
        return [file]
