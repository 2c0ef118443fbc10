"""The study file's tables on networks, images and features, each setting with its default.

In: a TOML file.  Out: a frozen `Study`, every key checked, the names of unknown ones matched to the nearest.  Tables of
the statistics half are left to it.  Knows no network and no image.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from featurecompute.errors import StudyError, nearest

STATISTICS_TABLES: tuple[str, ...] = ("study", "columns", "levels", "filter", "exclusions", "design", "simulate")
STATISTICS_TABLES += (
    "recordings",
    "demographics",
    "models",
    "opinions",
    "joint",
    "effects",
    "reanalysis",
    "multiverse",
    "power",
    "lapses",
    "report",
    "sources",
)

Count: TypeAlias = Annotated[int, Field(ge=0)]
Positive: TypeAlias = Annotated[int, Field(ge=1)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Above: TypeAlias = Annotated[float, Field(gt=0)]
Pooling: TypeAlias = Literal["mean", "max"]
Experiment: TypeAlias = Literal["natural", "semantic", "mixed"]


def _rising(window: tuple[float, float]) -> tuple[float, float]:
    if window[0] >= window[1]:
        raise PydanticCustomError("window", "the second share must be above the first")
    return window


def _number_or_names(value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except ValidationError:  # it would have a sentence for each of the two forms
        what = "it must be how many to sample, from 1, or a list of LAYER:CHANNEL"
        raise PydanticCustomError("neurons", what) from None


Window: TypeAlias = Annotated[tuple[Share, Share], AfterValidator(_rising)]
Neurons: TypeAlias = Annotated[
    Positive | Annotated[tuple[str, ...], Field(min_length=1)], WrapValidator(_number_or_names)
]


class _Table(BaseModel):
    """A table of the study file; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class NetworkTable(_Table):
    """``[network]``: which network, its weights, and where it is looked into."""

    source: str = "scenes"
    """scenes (trained by the job), torchvision, timm, huggingface, or ``module:function``."""
    name: str = ""
    """The model's name where the source is a library: resnet50."""
    weights: str = ""
    """File of weights, safetensors or .pt, from the study file's folder."""
    untrained: bool = False
    """Take the network with random weights; without it, a network of a library needs a file of weights."""
    layers: tuple[str, ...] = ()
    """Layers to look into; empty: those that the network's card names."""
    layout: Literal["auto", "bchw", "bhwc", "btc"] = "auto"
    """Axes of a layer's output: batch, channels, height, width, tokens."""
    seed: Seed = 1
    size: Positive | None = None
    """Pixels of the network's input; these five override the card."""
    resize: Positive | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    mean: tuple[float, float, float] | None = None
    sd: tuple[Above, Above, Above] | None = None
    width: Positive = 12
    """Channels of each recorded layer of the network that the job trains."""
    code: Literal["free", "local"] = "free"
    """Whether that network may choose its code, or is forced to one element a channel."""
    epochs: Positive = 10


class ImagesTable(_Table):
    """``[images]``: which images, in which form."""

    source: Literal["scenes", "folder", "shards", "parquet", "arrays"] = "scenes"
    path: str = ""
    """Folder or file, from the study file's folder."""
    count: Positive = 4000
    """Images to generate, where they are generated."""
    seed: Seed = 1
    faulty: Literal["error", "skip"] = "error"
    """What becomes of an image that cannot be decoded: an error, or it is listed in run.json and left out."""
    decoder: Literal["pillow", "nvjpeg"] = "pillow"
    """What decodes JPEGs: Pillow, or a CUDA device by nvJPEG (package torchcodec), whose pixels differ a little."""
    cache: str = ""
    """Folder of decoded pixels; empty: featurecompute in the user's cache folder."""


class DictionaryTable(_Table):
    """``[dictionary]``: how directions are learned."""

    method: Literal["nmf", "semi_nmf", "sae", "pca", "kmeans", "file", "object"] = "nmf"
    path: str = ""
    """file: safetensors with a matrix (rank x channels) for each layer; object: ``module:function``."""
    rank: Positive = 24
    scope: Literal["layer", "unit"] = "layer"
    """One dictionary a layer, or one for each neuron from its top images."""
    rows: Literal["positions", "crops", "mean", "max"] = "positions"
    """What a row of activations is: a position, the mean over a crop, or an image's pooled map."""
    samples: Positive = 20_000
    """Rows a dictionary is learned from."""
    tile: Count = 0
    """NMF from a layer's positions: rows held in memory at once, read from the scan's shards; 0: all of them."""
    sparsity: Annotated[float, Field(ge=0)] = 0.2
    """NMF: penalty on the codes, in units of the rows' mean norm."""
    active: Positive = 2
    """SAE: codes that may be active at once."""
    steps: Positive = 1500
    """SAE: steps of training."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Crops: side as a share of the image's."""
    stride: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Crops: step as a share of the crop's side."""
    signed: Literal["error", "relu", "semi_nmf"] = "error"
    """NMF on a layer with negative activations: refuse, take the positive part, or let the atoms be signed."""
    seed: Seed = 1
    stability_seeds: Count = 2
    """Further seeds whose atoms are compared with the first's."""


class FeaturesTable(_Table):
    """``[features]``: which neurons, how activations are pooled, and how a neuron meets its direction."""

    neurons: Neurons = 48
    """How many to sample, uniformly over layers, then channels; or a list of ``LAYER:CHANNEL``."""
    seed: Seed = 1
    pooling: Pooling = "mean"
    """How an image's map becomes the activation that images are ordered by."""
    top: Positive = 100
    """Images kept at each end for every unit."""
    windows: tuple[Window, ...] = ()
    """Further windows of images, as shares of the order from the most to the least activating: (0.05, 0.06)."""
    rule: Literal["image", "crop", "position", "correlation"] = "image"
    """'Most frequently the most activated', counted over top images, crops of them, or the neuron's maximum positions;
    or the best correlation over images."""
    normalise: Literal["sd", "max", "none"] = "sd"
    """By what activations are divided before features are compared."""
    one_to_one: bool = False
    scan: Literal["fp32", "bf16"] = "fp32"
    """Precision of the pass over all images; candidates of a bf16 scan are rescored in fp32."""
    batch: Positive = 64
    shard: Positive = 1024
    """Images a shard: what is done at once, and lost at most when a run is killed."""


class ContributionsTable(_Table):
    """``[contributions]``: what nulling a feature does to the decision."""

    images: Count = 200
    """Images, sampled from the set; 0: no contributions."""
    seed: Seed = 1
    methods: tuple[Literal["subtract", "reconstruct", "grad_x_act", "integrated_gradients", "sobol"], ...] = (
        "subtract",
        "reconstruct",
        "grad_x_act",
        "integrated_gradients",
    )
    target: Literal["predicted", "label"] = "predicted"
    most_active: bool = True
    """Also null, in each image, the most active unit of each basis."""
    steps: Positive = 20
    """Integrated gradients: points of the path."""
    designs: Positive = 32
    """Sobol: designs an image."""
    curves: Count = 50
    """Images of insertion and deletion curves; 0: none."""


class VisualizeTable(_Table):
    """``[visualize]``: images synthesised for each feature."""

    method: Literal["maco", "fourier"] = "maco"
    """MACO (magnitudes held at those of the user's images, phases optimised) or Fourier (both optimised)."""
    images: Positive = 9
    """Images of each feature at each end that is asked for, each from a seed of its own."""
    size: Positive | None = None
    """Pixels to a side of the canvas; none: the network's input, so that what is shown is what was optimised."""
    steps: Positive = 256
    rate: Above | None = None
    """Learning rate; none: 0.1 for MACO (NAdam, radians), 0.05 for Fourier (Adam)."""
    crops: Positive = 6
    """Crops a step, resized to the network's input."""
    crop: Window = (0.9, 1.0)
    """Smallest and largest side of a crop as a share of the canvas."""
    noise: Annotated[float, Field(ge=0)] = 0.05
    """SD of the noise on each crop, in SDs of the network's normalised input."""
    objective: Literal["dot_cosine", "dot"] = "dot_cosine"
    """What is raised: the activation, or the activation times the squared cosine with the direction."""
    diversity: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the mean similarity between a feature's own images, in units of their activation; above 0 they are
    optimised together."""
    tolerance: Annotated[float, Field(ge=0)] = 1e-3
    """An image stops where its smoothed activation rose by less than this share over `patience` steps."""
    patience: Positive = 64
    batch: Positive = 32
    """Images optimised at once; an image does not depend on those beside it."""
    faulty: Literal["error", "skip"] = "skip"
    """What becomes of an image whose optimisation fails: an error, or it is listed and the rest is used."""
    seed: Seed = 1


class StimuliTable(_Table):
    """``[stimuli]``: what participants see; where the table is absent, none are made."""

    experiments: Annotated[tuple[Experiment, ...], Field(min_length=1)] = ("natural", "semantic", "mixed")
    """natural: images of the set alone; semantic: a shared category cannot give the answer away; mixed: synthesised
    images among the references."""
    references_max: Positive = 9
    """References that drive the feature most."""
    references_min: Positive = 9
    batches: Positive = 3
    """Sets of references and queries of each feature; no image is in two of them."""
    query: Window | None = None
    """Shares of the order, from the most activating, that target queries are drawn from; distractors from the mirrored
    shares at the other end. None: the images just inside the references."""
    references_per_class: Positive = 3
    """Experiment semantic: most references of one class at one end."""
    references_synthetic: Positive = 3
    """Experiment mixed: synthesised ones among `references_max`."""
    references_synthetic_min: Count = 0
    """The same among `references_min`; layers after a ReLU have no image that drives a unit below zero."""
    catch: Count = 12
    """Catch stimuli of each experiment: their queries are among the references."""
    practice: Count = 5
    """Practice stimuli of each experiment, of features that are not studied where there are any."""
    practice_hard: Count = 1
    """How many of them, the last, are harder."""
    practice_query: Window = (0.05, 0.1)
    """Shares of the order that the queries of harder practice are drawn from."""
    view: Literal["whole", "crop"] = "whole"
    """Whether natural images are shown whole, or cut to the receptive field where the feature is most active."""
    picture: Literal["png", "jpeg"] = "png"
    faulty: Literal["error", "skip"] = "error"
    """What becomes of a feature that no stimulus can be made of: an error, or it is listed and left out."""
    noise: Annotated[float, Field(ge=0)] = 1.0
    """In-silico observers: SD of the decision noise, in SDs of the evidence over an experiment's main stimuli."""
    seed: Seed = 1


class Design(BaseModel):
    """What trial lists need of ``[design]``, a table of the statistics half, which judges it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    assignment: Literal["within", "between"] = "within"
    """Whether a participant sees both representations, or one."""
    participants: dict[str, Count] = Field(default_factory=dict)
    """Experiment to its number of participants; experiments without any have no trial lists."""
    main: Positive = 27
    catch: Count = 3
    practice: Count = 5


class Study(_Table):
    """The tables of a study file that are about networks, images and features."""

    network: NetworkTable = NetworkTable()
    images: ImagesTable = ImagesTable()
    dictionary: DictionaryTable = DictionaryTable()
    features: FeaturesTable = FeaturesTable()
    contributions: ContributionsTable = ContributionsTable()
    visualize: VisualizeTable = VisualizeTable()
    stimuli: StimuliTable | None = None
    networks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Further networks by name, each with what it has other than ``[network]``, and than other tables under theirs."""
    design: Design = Design()
    sources: dict[str, str] = Field(default_factory=dict)
    path: Path = Path()
    sha256: str = ""
    chosen: str = ""
    """Which of `networks` the tables are of; empty: ``[network]``."""

    def locate(self, path: str) -> Path:
        """Return a path that the file gives, from the file's own folder."""
        return self.path.parent / path

    def choose(self, name: str | None) -> Study:
        """Return the study of one of ``[networks]``, its tables laid over those of the file.

        Parameters
        ----------
        name
            Of the network; None, or the ``name`` of ``[network]``, for the study of ``[network]``.

        Raises
        ------
        StudyError
            If there is none of that name.
        """
        first = self.network.name
        if name is None or (name and name == first):
            return self
        if name not in self.networks:
            known = [*([first] if first else []), *self.networks]
            allowed = f"allowed are {', '.join(known)}" if known else "it has no [networks], so leave --network out"
            raise StudyError(f"{self.path} has no network '{name}'{nearest(name, known)}; {allowed}.")
        update = {table: TABLES[table].model_validate(given) for table, given in self._overridden(name).items()}
        return self.model_copy(update=update | {"chosen": name})

    def _overridden(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the tables that a further network has something other in, with all their keys."""
        given = self.networks[name]
        tables = {"network": {key: value for key, value in given.items() if key not in _OTHER}}
        tables |= {table: given[table] for table in _OTHER if table in given}
        found = {}
        for table, values in tables.items():
            own = getattr(self, table)
            found[table] = ({} if own is None else own.model_dump()) | values
        return found

    def reseeded(self, seed: int | None) -> Study:
        """Return the study with this seed in place of every one but the images', or as it is for None."""
        if seed is None:
            return self
        tables = [name for name in TABLES if name != "images" and getattr(self, name) is not None]
        return self.model_copy(update={name: getattr(self, name).model_copy(update={"seed": seed}) for name in tables})

    def settings(self) -> dict[str, Any]:
        """Return all settings that a run depends on, by table; the design counts where there are stimuli."""
        more = (*(() if self.stimuli is None else ("design",)), *(("chosen",) if self.chosen else ()))
        return self.model_dump(mode="json", include={*TABLES, *more})


TABLES: dict[str, type[BaseModel]] = {
    "network": NetworkTable,
    "images": ImagesTable,
    "dictionary": DictionaryTable,
    "features": FeaturesTable,
    "contributions": ContributionsTable,
    "visualize": VisualizeTable,
    "stimuli": StimuliTable,
}
_OTHER = tuple(name for name in TABLES if name != "network")


def read_study(path: str | Path) -> Study:
    """Read the tables of a study file that are about networks, images and features.

    Parameters
    ----------
    path
        TOML. Tables of the statistics half are ignored, but for ``[sources]``; absent keys have their defaults.

    Raises
    ------
    StudyError
        If it cannot be read; every fault is named at once.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        content = tomllib.loads(raw.decode("utf-8-sig"))
    except OSError as error:
        raise StudyError(f"the study file {path} cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise StudyError(f"the study file {path} nests lists or tables too deeply.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"the study file {path} is not valid TOML: {error}.") from error
    known = [*TABLES, "networks", *STATISTICS_TABLES]
    faults = [
        f"unknown table [{name}]{nearest(name, known)}; allowed are {', '.join(known)}."
        for name in content
        if name not in known
    ]
    tables = {name: content[name] for name in (*TABLES, "networks", "design", "sources") if name in content}
    try:
        study = Study.model_validate(tables | {"path": path, "sha256": hashlib.sha256(raw).hexdigest()})
        faults += [fault for name in study.networks for fault in _network_faults(study, name)]
    except ValidationError as error:
        faults += dict.fromkeys(map(_say, error.errors()))
    if faults:
        raise StudyError("\n".join(f"{path}: {fault}" for fault in faults))
    own = {key: text for key, text in study.sources.items() if key.partition(".")[0] not in STATISTICS_TABLES}
    return study.model_copy(update={"sources": own})


def _network_faults(study: Study, name: str) -> list[str]:
    """Return what is wrong with one of ``[networks]``, a sentence each."""
    title = f"[networks.{name}]"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        return [
            f"[networks] names '{name}'; ids begin with a network's name, so use letters, digits, '.', '-' and '_'."
        ]
    if name in (study.network.name, Path(study.network.name).name) or name.startswith("scenes-"):
        taken = "a network that the job trains" if name.startswith("scenes-") else "[network]"
        return [f"{title} is called as {taken} may be; ids begin with a network's name, so give it another."]
    faults = []
    for table, given in study.networks[name].items():
        if table in _OTHER and not isinstance(given, dict):
            faults.append(f"{title} {table} is {given!r}: it must be a table.")
    if faults:
        return faults
    for table, given in study._overridden(name).items():
        try:
            TABLES[table].model_validate(given)
        except ValidationError as error:
            where = title if table == "network" else f"[networks.{name}.{table}]"
            faults += [_say({**fault, "loc": (table, *fault["loc"])}, where) for fault in error.errors()]
    return list(dict.fromkeys(faults))


def _say(fault: Any, title: str = "") -> str:
    """Turn one fault of the validation into a sentence that names the table, the key and what is allowed.

    Parameters
    ----------
    fault
        As pydantic describes it, its place beginning with the table.
    title
        The table as the file writes it; empty: its name in brackets.
    """
    table, *rest = (str(part) for part in fault["loc"])
    title = title or f"[{table}]"
    if fault["type"] == "extra_forbidden":
        allowed = [
            *TABLES[table].model_fields,
            *(_OTHER if title.startswith("[networks.") and table == "network" else ()),
        ]
        return f"unknown key '{rest[-1]}' in {title}{nearest(rest[-1], allowed)}; allowed are {', '.join(allowed)}."
    where = f"{title} {rest[0]}" if rest else title
    said = {
        "model_type": "it must be a table",
        "dict_type": "it must be a table",
        "missing": "it has too few values",
    }.get(fault["type"], f"{fault['msg'][0].lower()}{fault['msg'][1:]}".replace("tuple", "list"))
    return f"{where} is {fault['input']!r}: {said}."
