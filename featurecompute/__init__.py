"""The face: what reads a study and a run, without torch; what computes is `featurecompute.pipeline.compute_study`."""

from featurecompute.errors import FeaturecomputeError, InputError
from featurecompute.manifest import Run, load_run
from featurecompute.study import Study, read_study

__all__ = ["FeaturecomputeError", "InputError", "Run", "Study", "load_run", "read_study"]
