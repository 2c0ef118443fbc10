"""The errors a user can meet; each message says what is wrong, where, and what is allowed.

In: what a room found wrong.  Out: an exception with the exit code the command line gives.
Knows no network and no file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FeaturecomputeError(Exception):
    """Anything featurecompute raises on purpose; ``exit_code`` is what a command ends with."""

    exit_code = 1


class InputError(FeaturecomputeError):
    """Something the user gave cannot be used; the message is one clear sentence."""

    exit_code = 2


class StudyError(InputError):
    """A study file that cannot be read."""


class ImageError(InputError):
    """An image, or a set of images, that cannot be used."""


class NetworkError(InputError):
    """A network, its weights or one of its layers that cannot be used."""


class DictionaryError(InputError):
    """A dictionary that cannot be learned or read."""


class RunError(InputError):
    """A features run that is missing, damaged, or belongs to other input."""


class CrewError(RunError):
    """Another process of the same run has failed or is lost; what was finished is kept."""


def nearest(name: str, known: Iterable[str], n: int = 1) -> str:
    """Return `` (did you mean 'x'?)`` for the `n` known names closest to `name`, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=n, cutoff=0.4 if n > 1 else 0.6)
    return f" (did you mean {', '.join(map(repr, matches))}?)" if matches else ""
