"""What the stages of a job share: network, images, scans, dictionaries, pairs, each from the files of those before.

In: a study, a folder.  Out: a `Job`, whose parts are made when they are first asked for.  Knows no command and no
complete run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from featurecompute import manifest, training
from featurecompute.activations import Key, Precision, name_of, scan_shard
from featurecompute.bases import Basis, NeuronBasis
from featurecompute.cards import Network, Preprocessing, describe_network
from featurecompute.curves import selectivity
from featurecompute.decision import Decision, class_places, decide
from featurecompute.dictionaries import fit_dictionary, fit_tiled, load_dictionary
from featurecompute.dictionary import Dictionary
from featurecompute.errors import RunError
from featurecompute.features import Match, Neuron, choose_neurons, distributed_id, local_id, scales_of
from featurecompute.files import hash_file, read_json, write_arrays, write_json
from featurecompute.folding import optimised
from featurecompute.measures import measure_images
from featurecompute.models import open_network
from featurecompute.pairing import pair_neurons
from featurecompute.pixels import Images, prepare_images
from featurecompute.rows import draw_rows
from featurecompute.scan import RowTiles, Scan, ShardFile, reduce_shards, rescore
from featurecompute.stages import Folder
from featurecompute.study import Study
from featurecompute.tables import classes_of, extreme_rows, feature_rows, pair_rows
from featurecompute.thumbnails import write_thumbnails
from featurecompute.truth import match_elements
from featurecompute.weights import fill, read_weights


@dataclass
class Job:
    """What the stages share; each part is made when it is first asked for, from the files of the stages before."""

    study: Study
    folder: Folder
    device: torch.device
    warnings: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Do all stages."""
        self._warn_of_skipped()
        self._warn_of_dead()
        if self.study.contributions.target == "label":
            class_places(self.images, self.network)  # what they lack is said before the long stages
        _ = self.dictionaries, self.direction_scan  # in this order in every run, for the record
        names = self.names
        decision = self._decide()
        self._write_features(decision)
        if self.images.truth is not None:
            inputs = self.inputs("elements", "contributions", "features", names=list(names))
            self.folder.stage("elements", inputs, self._match_elements)
        elif self.images.table["label"].notna().any():
            inputs = self.inputs("classes", "contributions", "features", names=list(names))
            self.folder.stage("classes", inputs, self._select_classes)

    def refuse_changed(self, sha256: str) -> None:
        """Refuse images that are not those a complete run was made from."""
        if self.images.sha256 != sha256:
            raise RunError(
                f"the images of {self.study.path} have changed since {self.folder.path} was computed; give another "
                "folder for a new run, or bring the old images back."
            )

    # Network and images

    @cached_property
    def network(self) -> Network:
        table, base = self.study.network, self.study.path.parent
        if table.source != "scenes":
            network = open_network(table, base)
        else:
            module, sha256 = self._scene_network()
            network = describe_network(
                module,
                Preprocessing(training.SIZE, training.SIZE, "bilinear", training.MEAN, training.SD),
                id=f"scenes-{table.code}{table.width}-s{table.seed}",
                source="scenes",
                layers=table.layers or training.LAYERS,
                layout=table.layout,
                weights_sha256=sha256,
            )
        network.module.to(self.device)
        # Models of one name may have other weights; of the networks of a study, each has ids of its own.
        return replace(network, id=self.study.chosen) if self.study.chosen else network

    def _scene_network(self) -> tuple[nn.Module, str]:
        table = self.study.network
        module = training.build_network(table)
        if table.weights:
            path = self.study.locate(table.weights)
        else:
            path = self.folder.path / "network.safetensors"
            settings = table.model_dump(include={"width", "code", "epochs", "seed"})
            inputs = {"table": settings, "threads": torch.get_num_threads(), "torch": torch.__version__}
            self.folder.stage("network", inputs, lambda: [self._train(path)])
        fill(module, read_weights(path), path)
        return module, hash_file(path)

    def _train(self, path: Path) -> Path:
        self.folder.say("network: training on generated scenes.")
        found = training.train_network(
            self.study.network, progress=lambda done, every, _loss: self.folder.progress("network", done, every)
        )
        write_arrays(path, {name: value.numpy() for name, value in found.state_dict().items()})
        return path

    def about_network(self) -> dict[str, Any]:
        """Return what run.json says of the network beside its card."""
        about: dict[str, Any] = {"classes": self.network.classes, "head": self.network.head}
        path = self.folder.path / "contributions.json"
        return about | (read_json(path) if path.is_file() else {})

    @cached_property
    def images(self) -> Images:
        folder = self.folder
        preprocessing = self.network.preprocessing
        # Decoded once, by one process, on a file system that may know no locks.
        return folder.first(
            "pixels",
            lambda: prepare_images(
                self.study.images,
                self.study.path.parent,
                preprocessing,
                say=folder.say,
                progress=lambda done, every: folder.progress("images", done, every),
            ),
        )

    def write_images(self, more: pd.DataFrame) -> None:
        """Write images.parquet: the image set, and rows of the images that were made beside it."""

        def work() -> list[Path]:
            block = 256
            starts = range(0, len(self.images.pixels), block)
            parts = []
            for number, start in enumerate(starts):
                parts.append(measure_images(self.images.pixels[start : start + block]))
                self.folder.progress("images", number + 1, len(starts))
            measured = pd.concat(parts, ignore_index=True)
            table = pd.concat([self.images.table.reset_index(drop=True), measured], axis=1)
            rows = pd.concat([table, more], ignore_index=True) if len(more) else table
            return [manifest.IMAGES.write(self.folder.path, rows)]

        made = more[["image", "sha256"]].to_numpy().tolist() if len(more) else []
        self.folder.stage("images", self.inputs("images", made=made), work)

    def inputs(self, stage: str, *tables: str, **more: Any) -> dict[str, Any]:
        """Return what a stage's outputs depend on: network, images, the named tables of the study, and more."""
        return {
            "stage": stage,
            "network": self.network.weights_sha256,
            "layers": [[layer.name, layer.layout] for layer in self.network.layers],
            "preprocessing": vars(self.network.preprocessing),
            "images": self.images.sha256,
            "decoder": self.images.decoder_version,
            "device": self.device.type,
            **{name: getattr(self.study, name).model_dump(mode="json") for name in tables},
            **({"id": self.network.id} if self.study.networks else {}),
            **more,
        }

    # Scans

    def scan(
        self, stage: str, bases: Mapping[str, Sequence[Basis]], sample: float, *, precision: Precision | None = None
    ) -> Scan:
        """Return all images as bases see them; `precision` is that of ``[features]`` unless given."""
        features, pixels = self.study.features, self.images.pixels
        scan = precision or features.scan
        network = optimised(self.network) if scan == "bf16" else self.network
        # On disk every image's activation of every unit weighs more than all else, so only what is read again is kept.
        again = features.rule == "correlation" or (features.rule == "image" and stage == "directions")
        keep = bool(features.windows) or again or (self.study.stimuli is not None and scan == "fp32")
        inputs = self.inputs(
            stage,
            bases={layer: [basis.sha256 for basis in found] for layer, found in bases.items()},
            sample=[sample, self.study.dictionary.seed],
            scan=scan,
            keep=keep,
            **features.model_dump(mode="json", include={"pooling", "top", "batch", "shard"}),
        )

        def shard(start: int, stop: int) -> dict[str, np.ndarray]:
            return scan_shard(
                network,
                bases,
                pixels,
                start,
                stop,
                pooling=features.pooling,
                top=features.top,
                batch=features.batch,
                sample=sample,
                seed=self.study.dictionary.seed,
                precision=scan,
                keep_pooled=keep,
                device=self.device,
                warn=self.warnings.append,
            )

        return reduce_shards(
            [ShardFile(path) for path in self.folder.sharded(stage, inputs, len(pixels), features.shard, shard)]
        )

    @cached_property
    def neuron_scan(self) -> Scan:
        bases = {layer.name: [NeuronBasis(layer.name, layer.channels)] for layer in self.network.layers}
        table = self.study.dictionary
        sampled = table.scope == "layer" and table.rows == "positions" and table.method != "file"
        return self.scan("neurons", bases, table.samples / len(self.images.pixels) if sampled else 0.0)

    @cached_property
    def neurons(self) -> list[Neuron]:
        alive = {
            layer.name: _alive(self.neuron_scan, (layer.name, "neuron"), layer.signed) for layer in self.network.layers
        }
        return choose_neurons(alive, self.study.features)

    def _warn_of_skipped(self) -> None:
        left_out, kept = len(self.images.skipped), len(self.images.pixels)
        if left_out:
            self.warnings.append(
                f"{left_out} of {kept + left_out} images cannot be decoded and are left out; run.json names them."
            )

    def _warn_of_dead(self) -> None:
        for layer in self.network.layers:
            dead = np.flatnonzero(~_alive(self.neuron_scan, (layer.name, "neuron"), layer.signed))
            if len(dead):
                self.warnings.append(
                    f"{len(dead)} of {layer.channels} channels of {layer.name} give the same for every image and are "
                    "not sampled."
                )

    # Dictionaries

    @cached_property
    def dictionaries(self) -> dict[tuple[str, int | None], Dictionary]:
        """Layer (and, for the scope of a unit, its channel) to the dictionary."""
        table, folder = self.study.dictionary, self.folder
        wanted: list[tuple[str, int | None]] = (
            [(neuron.layer, neuron.channel) for neuron in self.neurons]
            if table.scope == "unit"
            else [(layer, None) for layer in dict.fromkeys(neuron.layer for neuron in self.neurons)]
        )
        paths = {
            key: folder.path / "dictionaries" / f"{key[0]}{'' if key[1] is None else f'-{key[1]}'}.safetensors"
            for key in wanted
        }

        def work() -> list[Path]:
            for number, (key, path) in enumerate(paths.items()):
                self._learn(key).save(path)
                folder.progress("dictionaries", number + 1, len(paths))
            return list(paths.values())

        features = self.study.features.model_dump(mode="json", include={"neurons", "seed", "top", "pooling", "batch"})
        folder.stage("dictionaries", self.inputs("dictionaries", "dictionary", features=features), work)
        base = self.study.path.parent
        found = {}
        for key, path in paths.items():
            rows = self._rows(*key) if table.method == "object" else None
            found[key] = load_dictionary(path, base, rows).to(self.device)
            self.warnings += [f"dictionary of {key[0]}: {line}" for line in found[key].warnings]
        return found

    def _learn(self, key: tuple[str, int | None]) -> Dictionary:
        layer, table = self.network.layer(key[0]), self.study.dictionary
        if table.tile:
            tiles = RowTiles(self.neuron_scan, layer.name, table.tile, self.device)
            return fit_tiled(tiles, table, layer.name, signed=layer.signed, folder=self.folder.path)
        return fit_dictionary(self._rows(*key), table, layer.name, signed=layer.signed, base=self.study.path.parent)

    def _rows(self, layer: str, channel: int | None) -> torch.Tensor:
        table = self.study.dictionary
        if channel is None and table.rows == "positions" and table.method != "file":
            return torch.from_numpy(self.neuron_scan.rows(layer).values).to(self.device)
        if channel is None:
            images = np.arange(len(self.images.pixels))
        else:
            top = self.neuron_scan.found[layer, "neuron"].top.images[:, channel]
            images = np.sort(top[top >= 0])
        return draw_rows(
            self.network,
            layer,
            self.images.pixels,
            images,
            how=table.rows,
            count=table.samples,
            share=table.crop,
            stride=table.stride,
            seed=table.seed,
            batch=self.study.features.batch,
        )

    def dictionary_of(self, neuron: Neuron) -> Dictionary:
        """Return the dictionary in which a neuron's direction is looked for."""
        return self.dictionaries[neuron.layer, neuron.channel if self.study.dictionary.scope == "unit" else None]

    @cached_property
    def direction_scan(self) -> Scan:
        bases: dict[str, list[Basis]] = {}
        for (layer, _), basis in self.dictionaries.items():
            bases.setdefault(layer, []).append(basis)
        return self.scan("directions", bases, 0.0)

    # Features

    @cached_property
    def scales(self) -> dict[Key, np.ndarray]:
        """Layer and basis to what activations are divided by before units are compared."""
        found = {**self.neuron_scan.found, **self.direction_scan.found}
        return {
            key: scales_of(units.moments.mean, units.moments.sd, units.moments.maximum, self.study.features.normalise)
            for key, units in found.items()
        }

    @cached_property
    def matches(self) -> dict[Neuron, Match]:
        path = self.folder.path / "pairing.json"

        def work() -> list[Path]:
            found = pair_neurons(
                self.network,
                self.images.pixels,
                {neuron: self.dictionary_of(neuron) for neuron in self.neurons},
                self.exact_scan,
                self.direction_scan,
                self.scales,
                self.study.features,
                self.study.dictionary,
            )
            write_json(path, [[n.layer, n.channel, m.direction, m.share] for n, m in found.items()])
            return [path]

        hashes = [found.sha256 for found in self.dictionaries.values()]
        self.folder.stage("pairing", self.inputs("pairing", "features", "dictionary", hashes=hashes), work)
        return {Neuron(layer, channel): Match(direction, share) for layer, channel, direction, share in read_json(path)}

    @cached_property
    def exact_scan(self) -> Scan:
        """The scan of neurons, of a bf16 one the chosen neurons' candidates scored anew."""
        units: dict[Key, np.ndarray] = {}
        for layer in dict.fromkeys(neuron.layer for neuron in self.neurons):
            units[layer, "neuron"] = np.array([n.channel for n in self.neurons if n.layer == layer])
        return self._rescored(self.neuron_scan, units)

    def _rescored(self, scan: Scan, units: Mapping[Key, np.ndarray]) -> Scan:
        bases: dict[str, list[Basis]] = {
            layer.name: [NeuronBasis(layer.name, layer.channels)] for layer in self.network.layers
        }
        for (layer_name, _), basis in self.dictionaries.items():
            bases[layer_name].append(basis)
        kept = {layer: found for layer, found in bases.items() if any(key[0] == layer for key in units)}
        return rescore(
            self.network,
            kept,
            self.images.pixels,
            scan,
            batch=self.study.features.batch,
            units=units,
            device=self.device,
        )

    @cached_property
    def names(self) -> dict[str, tuple[Key, int]]:
        """Id of each chosen feature, neurons then directions, to its layer and basis, and its index."""
        found: dict[str, tuple[Key, int]] = {}
        for neuron in self.neurons:
            found[local_id(self.network.id, neuron.layer, neuron.channel)] = ((neuron.layer, "neuron"), neuron.channel)
        for neuron, match in self.matches.items():
            found[self._direction_id(neuron)] = (
                (neuron.layer, name_of(self.dictionary_of(neuron))),
                match.direction,
            )
        return found

    def _direction_id(self, neuron: Neuron) -> str:
        basis, match = self.dictionary_of(neuron), self.matches[neuron]
        return distributed_id(self.network.id, neuron.layer, basis.method, basis.sha256, match.direction)

    def _decide(self) -> Decision:
        layers = dict.fromkeys(neuron.layer for neuron in self.neurons)
        bases: dict[str, list[Basis]] = {
            name: [NeuronBasis(name, self.network.layer(name).channels)] for name in layers
        }
        for (layer, _), basis in self.dictionaries.items():
            bases[layer].append(basis)
        return decide(
            self.folder,
            self.inputs("contributions", "contributions", "features", "dictionary", names=list(self.names)),
            self.network,
            self.images,
            bases,
            self.names,
            self.scales,
            self.study.contributions,
            self.study.features.pooling,
            scope=self.study.dictionary.scope,
        )

    def _write_features(self, decision: Decision) -> None:
        def work() -> list[Path]:
            every = {**self.names, **decision.others}
            path = self.folder.path
            bases = {(layer, name_of(basis)): basis for (layer, _), basis in self.dictionaries.items()}
            moments = {
                key: found.moments for key, found in {**self.neuron_scan.found, **self.direction_scan.found}.items()
            }
            directions = {neuron: self._direction_id(neuron) for neuron in self.matches}
            extremes = self._extremes(every)
            return [
                manifest.FEATURES.write(path, feature_rows(every, self.network, bases, moments, decision.means())),
                manifest.PAIRS.write(path, pair_rows(self.matches, directions, self.network, self.study.features.rule)),
                manifest.EXTREMES.write(path, extremes),
                write_thumbnails(path, extremes, self.images),
            ]

        inputs = self.inputs("features", "features", "dictionary", "contributions", others=list(decision.others))
        self.folder.stage("features", inputs, work)
        shared = sum(manifest.PAIRS.read(self.folder.path)["shared"])
        if shared:
            self.warnings.append(
                f"{shared} of {len(self.matches)} neurons share their direction with another; a model of trials needs "
                "(1 | feature), or set [features] one_to_one."
            )

    def _extremes(self, names: Mapping[str, tuple[Key, int]]) -> pd.DataFrame:
        units: dict[Key, np.ndarray] = {}
        for key in dict.fromkeys(key for key, _ in names.values()):
            units[key] = np.unique([index for other, index in names.values() if other == key])
        ids, windows = self.images.table["image"].to_numpy(), self.study.features.windows
        parts = []
        for scan, local in ((self.neuron_scan, True), (self.direction_scan, False)):
            chosen = {key: found for key, found in units.items() if (key[1] == "neuron") == local}
            parts.append(extreme_rows(names, self._rescored(scan, chosen), chosen, ids, windows))
        return pd.concat(parts, ignore_index=True)

    def _select_classes(self) -> list[Path]:
        path = self.folder.path
        images = self.images.table.set_index("image")["label"]
        rows = selectivity(
            manifest.CONTRIBUTIONS.read(path),
            pd.get_dummies(images, dtype=bool),
            classes_of(manifest.EXTREMES.read(path), images, list(self.names)),
        )
        return [manifest.SELECTIVITY.write(path, rows)]

    def _match_elements(self) -> list[Path]:
        return match_elements(
            self.folder.path,
            self.network,
            self.images,
            {layer: basis for (layer, channel), basis in self.dictionaries.items() if channel is None},
            self.names,
            self.study.features,
            progress=lambda done, every: self.folder.progress("elements", done, every),
        )


def _alive(scan: Scan, key: Key, signed: bool) -> np.ndarray:
    """Return which units ever differ between images; of a layer after its ReLU, also those that are ever active."""
    moments = scan.found[key].moments
    return np.asarray(moments.sd > 0) & (signed | np.asarray(moments.maximum > 0))
