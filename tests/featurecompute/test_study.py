"""The study file's tables: defaults, and every fault in one sentence: what is wrong, where, and what may be."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from featurecompute.errors import StudyError
from featurecompute.study import STATISTICS_TABLES, TABLES, Study, read_study

README = Path(__file__).parents[2] / "data" / "studies" / "README.md"


@pytest.fixture
def read(tmp_path):
    """Give a function that reads a study file of the given text."""

    def get(text):
        path = tmp_path / "study.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_study(path)

    return get


@pytest.fixture
def refuse(read, tmp_path):
    """Give a function that returns the sentences by which a study file is refused, without its path."""

    def get(text):
        with pytest.raises(StudyError) as caught:
            read(text)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{tmp_path / 'study.toml'}: ") and line.endswith(".") for line in lines)
        return [line.split(": ", 1)[1] for line in lines]

    return get


def test_an_empty_file_has_every_default(read, tmp_path):
    study = read("")
    assert study.settings() == Study().settings()
    assert study.settings().keys() == TABLES.keys()
    assert study.features.neurons == 48 and study.dictionary.method == "nmf" and study.network.source == "scenes"
    assert study.sha256 == hashlib.sha256(b"").hexdigest()
    assert study.locate("nets/a.pt") == tmp_path / "nets" / "a.pt"
    assert study.locate("/nets/a.pt").as_posix() == "/nets/a.pt"


def test_what_is_set_is_read(read):
    text = """
    [network]
    source = "torchvision"
    layers = ["layer1", "layer2"]
    mean = [0, 0.5, 1]
    [features]
    neurons = ["layer1:3"]
    windows = [[0.05, 0.06]]
    [contributions]
    methods = []
    [visualize]
    method = "fourier"
    [stimuli]
    experiments = ["natural"]
    query = [0.01, 0.02]
    [sources]
    "features.neurons" = "assumed: ours"
    """
    study = read(b"\xef\xbb\xbf" + text.encode())
    assert study.network.layers == ("layer1", "layer2") and study.network.mean == (0.0, 0.5, 1.0)
    assert study.features.neurons == ("layer1:3",) and study.features.windows == ((0.05, 0.06),)
    assert study.contributions.methods == () and study.visualize.method == "fourier"
    assert study.stimuli.experiments == ("natural",) and study.stimuli.query == (0.01, 0.02)
    assert read("").stimuli is None
    assert study.sources == {"features.neurons": "assumed: ours"}
    with pytest.raises(Exception, match="frozen"):
        study.features.seed = 2


@pytest.mark.parametrize("table", sorted(set(STATISTICS_TABLES) - {"sources"}))
def test_tables_of_the_statistics_half_are_left_to_it(read, table):
    assert read(f"[{table}]\nwhatever = [1, 2]\n").settings() == Study().settings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[netwrk]", "unknown table [netwrk] (did you mean 'network'?); allowed are network, images, dictionary,"),
        ("[path]\n", "unknown table [path]"),
        ("sha256 = 'a'", "unknown table [sha256]"),
        ("[images]\npaht = 'x'", "unknown key 'paht' in [images] (did you mean 'path'?); allowed are source, path,"),
        ("[images]\nsource = 'web'", "[images] source is 'web': input should be 'scenes', 'folder',"),
        ("[network]\nseed = -1", "[network] seed is -1: input should be greater than or equal to 0"),
        (f"[features]\nseed = {2**63}", f"[features] seed is {2**63}: input should be less than"),
        ("[network]\nmean = [0.5, 0.5]", "[network] mean is [0.5, 0.5]: it has too few values"),
        ("[network]\nmean = [0, nan, 0]", "[network] mean is nan: input should be a finite number"),
        ("[network]\nsd = [1, 0, 1]", "[network] sd is 0: input should be greater than 0"),
        ("[dictionary]\nsparsity = inf", "[dictionary] sparsity is inf: input should be a finite number"),
        ("[dictionary]\nrank = 0", "[dictionary] rank is 0: input should be greater than or equal to 1"),
        ("[features]\nwindows = [[0.6, 0.5]]", "[features] windows is [0.6, 0.5]: the second share must be above"),
        ("[features]\nwindows = [[0.5, 1.5]]", "[features] windows is 1.5: input should be less than or equal to 1"),
        ("[contributions]\nmethods = ['sobel']", "[contributions] methods is 'sobel': input should be 'subtract',"),
        ("network = 5", "[network] is 5: it must be a table"),
        ("[[features]]", "[features] is [{}]: it must be a table"),
        ("visualize = 5", "[visualize] is 5: it must be a table"),
        ("[sources]\nseed = 5", "[sources] seed is 5: input should be a valid string"),
    ],
)
def test_a_fault_is_one_sentence(refuse, text, sentence):
    (said,) = refuse(text)
    assert said.startswith(sentence)


@pytest.mark.parametrize("neurons", ["0", "[]", "2.5", "[1]"])
def test_neurons_are_a_number_or_names(refuse, neurons):
    (said,) = refuse(f"[features]\nneurons = {neurons}")
    assert (
        said == f"[features] neurons is {neurons}: it must be how many to sample, from 1, or a list of LAYER:CHANNEL."
    )


def test_every_fault_is_named_at_once(refuse):
    said = refuse("[netwrk]\n[images]\npaht = 1\ncount = 0\n[features]\nrule = 'imag'\n")
    assert [line.split(":")[0].split(" (")[0] for line in said] == [
        "unknown table [netwrk]",
        "[images] count is 0",
        "unknown key 'paht' in [images]",
        "[features] rule is 'imag'",
    ]


@pytest.mark.parametrize("text", [b"[network", b"\xff\xfe", b"seed = 1\nseed = 2"])
def test_what_is_no_toml_is_said_to_be_none(read, text):
    with pytest.raises(StudyError, match=r"study\.toml is not valid TOML"):
        read(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path, read):
    with pytest.raises(StudyError, match="none cannot be read: No such file"):
        read_study(tmp_path / "none")
    with pytest.raises(StudyError, match="cannot be read"):
        read_study(tmp_path)
    with pytest.raises(StudyError, match="too deeply"):
        read("[images]\npath = " + "[" * 5000 + "]" * 5000)


def test_a_seed_for_all_is_every_seed_but_the_images(read):
    study = read("[dictionary]\nseed = 3\n[images]\nseed = 4\n")
    assert study.reseeded(None) is study
    study = read("[dictionary]\nseed = 3\n[images]\nseed = 4\n[stimuli]\n")
    after = study.reseeded(9).settings()
    assert after.pop("design") == study.settings()["design"]
    assert {name: table["seed"] for name, table in after.items()} == {
        "network": 9,
        "images": 4,
        "dictionary": 9,
        "features": 9,
        "contributions": 9,
        "visualize": 9,
        "stimuli": 9,
    }
    before = study.settings()
    before.pop("design")
    for table in (*before.values(), *after.values()):
        table.pop("seed")
    assert after == before


NETWORKS = """
[network]
source = "torchvision"
name = "resnet50"
weights = "resnet50.pth"
layers = ["layer1", "layer4"]
size = 160
[features]
neurons = 10
top = 50
[networks.vgg16]
name = "vgg16"
weights = "vgg16.pth"
layers = ["features.4"]
[networks.vgg16.features]
neurons = ["features.4:3"]
[networks.again]
seed = 2
stimuli = { batches = 2 }
"""


def test_a_further_network_has_what_it_says_and_the_rest_of_the_first(read):
    study = read(NETWORKS)
    assert study.choose(None) is study and study.choose("resnet50") is study
    other, again = study.choose("vgg16"), study.choose("again")
    assert other.network.model_dump() == study.network.model_dump() | {
        "name": "vgg16",
        "weights": "vgg16.pth",
        "layers": ("features.4",),
    }
    assert other.features == study.features.model_copy(update={"neurons": ("features.4:3",)})
    assert (other.images, other.dictionary, other.stimuli) == (study.images, study.dictionary, None)
    assert again.network == study.network.model_copy(update={"seed": 2}) and again.stimuli.batches == 2
    assert again.reseeded(7).network.seed == 7 and again.reseeded(7).chosen == "again"
    assert "chosen" not in study.settings() and other.settings()["chosen"] == "vgg16"
    assert read("[networks.same]").choose("same").settings() == read("").settings() | {"chosen": "same"}


def test_a_network_that_is_not_there_is_named_with_those_that_are(read):
    study = read(NETWORKS)
    for name, words in (
        (
            "vgg19",
            r"study\.toml has no network 'vgg19' \(did you mean 'vgg16'\?\); allowed are resnet50, vgg16, again\.$",
        ),
        ("", r"no network ''; allowed are resnet50, vgg16, again\.$"),
    ):
        with pytest.raises(StudyError, match=words):
            study.choose(name)
    with pytest.raises(StudyError, match=r"no network 'x'; it has no \[networks\], so leave --network out\.$"):
        read("").choose("x")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("networks = 5", "[networks] is 5: it must be a table."),
        ("[networks]\nvgg = 5", "[networks] vgg is 5: it must be a table."),
        ("[networks.vgg]\nlayer = []", "unknown key 'layer' in [networks.vgg] (did you mean 'layers'?); allowed are"),
        ("[networks.vgg]\nseed = -1", "[networks.vgg] seed is -1: input should be greater than or equal to 0"),
        ("[networks.vgg]\nfeatures = 3", "[networks.vgg] features is 3: it must be a table."),
        ("[networks.vgg.features]\ntpo = 3", "unknown key 'tpo' in [networks.vgg.features] (did you mean 'top'?);"),
        ("[networks.vgg.dictionary]\nrank = 0", "[networks.vgg.dictionary] rank is 0: input should be greater"),
        ("[networks.vgg.network]\nseed = 1", "unknown key 'network' in [networks.vgg]"),
        ("[networks.'a/b']", "[networks] names 'a/b'; ids begin with a network's name, so use letters, digits,"),
        ("[networks.resnet50]", "[networks.resnet50] is called as [network] may be; ids begin with a network's name"),
        ("[networks.scenes-x]", "[networks.scenes-x] is called as a network that the job trains may be;"),
    ],
)
def test_a_fault_of_a_further_network_is_one_sentence(refuse, text, sentence):
    first = "[network]\nname = 'nets/resnet50'\n"
    (said,) = refuse(first + text if text.startswith("[") else text + "\n" + first)
    assert said.startswith(sentence)


def test_the_further_networks_have_their_section_in_the_documentation():
    section = README.read_text(encoding="utf-8").split("## `[networks.NAME]`")[1].split("\n#")[0]
    assert "--network NAME" in section


def documented(table):
    """Return the keys that the documentation's section on a table explains, each with the default it names."""
    text = README.read_text(encoding="utf-8")
    section = text.split(f"## `[{table}]`")[1].split("\n#")[0]
    found = {}
    for key, _, default in re.findall(r"^\| (`.*?) \| (.*) \| (.*?) ?\|$", section, flags=re.M):
        keys, values = (re.findall(r"`(.*?)`", cell) for cell in (key, default))
        found |= dict(zip(keys, values if len(keys) == len(values) else [values] * len(keys), strict=True))
    return found


@pytest.mark.parametrize("table", TABLES)
def test_every_key_stands_in_the_documentation_with_its_default(table):
    found = documented(table)
    assert found.keys() == TABLES[table].model_fields.keys()
    for key, field in TABLES[table].model_fields.items():
        if isinstance(field.default, tuple) and field.default:
            assert found[key] == [str(value) for value in field.default]
        elif field.default not in ("", None, ()):
            assert found[key] == str(field.default).replace("True", "true").replace("False", "false"), key
        else:
            assert isinstance(found[key], list), f"{key} has no default, but {found[key]} stands there"


def test_the_embedded_study_gives_each_setting_a_source_that_it_has():
    study = read_study(README.parent / "colin2024.toml")
    for key, source in study.sources.items():
        table, _, name = key.partition(".")
        assert name in TABLES[table].model_fields, key
        assert source.partition(":")[0] in ("paper", "predecessor", "assumed"), key
