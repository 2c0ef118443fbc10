"""Keyed pseudonyms: the same person has the same name in every file, and nobody without the key can say who it is.

In: ids of people, and a key of 32 bytes that lies in a file of its owner's.  Out: pseudonyms.  Knows no table.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from psychostats.errors import InputError

VARIABLE = "PSYCHOSTATS_KEY"
"""The environment variable that names the key's file."""

_BYTES = 32
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, without the letters that look like others
_LENGTH = 10  # 50 bits: among 10,000 people the probability that any two agree is 4e-8
_MAIL = "@email.prolific.com"


def canonical(identity: str) -> str:
    """Return an id as it is compared: without outer spaces and Prolific's mail domain, in Unicode's composed form."""
    return unicodedata.normalize("NFC", identity.strip()).removesuffix(_MAIL)


def pseudonym(identity: str, key: bytes) -> str:
    """Return ``P`` and 10 letters of Crockford's base 32: the first 50 bits of HMAC-SHA256 of the id under the key.

    No platform's pattern matches it, so it is never replaced again.
    """
    digest = hmac.new(key, canonical(identity).encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    number = int.from_bytes(digest, "big") >> (8 * len(digest) - 5 * _LENGTH)
    return "P" + "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))


def is_pseudonym(text: str) -> bool:
    """Return whether a text looks like what `pseudonym` makes, so that it is of a person and not of a file."""
    return len(text) == 1 + _LENGTH and text[0] == "P" and set(text[1:]) <= set(_LETTERS)


def name_people(identities: Iterable[str], key: bytes) -> Mapping[str, str]:
    """Return id -> pseudonym.

    Raises
    ------
    InputError
        If two people get one pseudonym, so that they could not be told apart.
    """
    names = {one: pseudonym(one, key) for one in identities}
    if len(set(names.values())) < len({canonical(one) for one in names}):
        raise InputError("two participants get one pseudonym under this key; use another key with --key FILE.")
    return names


def fingerprint(key: bytes) -> str:
    """Return 8 hex digits of SHA-256 over ``psychostats`` and the key, which tell keys apart and say nothing else.

    Written where pseudonyms are, they let a lab notice that the key has changed.
    """
    return hashlib.sha256(b"psychostats" + key).hexdigest()[:8]


def find_key(
    path: Path | None, forbidden: Sequence[Path] = (), say: Callable[[str], None] = lambda line: None
) -> bytes | None:
    """Return the key that `path` or the environment names, as `read_key` does, or None where neither does."""
    return read_key(path, forbidden, say) if path is not None or os.environ.get(VARIABLE) else None


def read_key(
    path: Path | None, forbidden: Sequence[Path] = (), say: Callable[[str], None] = lambda line: None
) -> bytes:
    """Return the key of a file, which is made where there is none.

    Who loses the key can give nobody their old pseudonym again: people of old and new files are then no longer matched.

    Parameters
    ----------
    path
        The key's file.  None: what the environment's ``PSYCHOSTATS_KEY`` names, else ``psychostats/pseudonyms.key`` in
        ``$XDG_CONFIG_HOME`` (by default ``~/.config``).
    forbidden
        Output folders, which are handed on, so that no key may lie in them.
    say
        Called with a line that names the key's fingerprint, and one where the key is new: a name that was mistyped
        makes a new key, under which nobody is found again.

    Returns
    -------
    bytes
        32 bytes.

    Raises
    ------
    InputError
        If the file lies in an output folder, others may read it, it is no key, or it can be neither read nor made.
    """
    path = path or _usual_place()
    for folder in forbidden:
        if path.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"the key '{path}' lies in the output folder '{folder}', which is handed on; name another file with "
                "--key FILE."
            )
    try:
        new = not os.path.lexists(path)
        if new:
            _make(path)
        key = _read(path)
    except OSError as error:
        raise InputError(
            f"the key '{path}' cannot be read or made ({error.strerror or error}); name another file with --key FILE."
        ) from error
    if new:
        say(f"a new key was made: {path}; keep it, since without it the same people cannot be found again")
    say(f"pseudonyms under the key {fingerprint(key)}")
    return key


def _usual_place() -> Path:
    if named := os.environ.get(VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        # The specification of XDG has relative paths passed over.
        folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    except RuntimeError as error:
        raise InputError("this user has no home folder to keep the key in; name its file with --key FILE.") from error
    return folder / "psychostats" / "pseudonyms.key"


def _make(path: Path) -> None:
    """Write a new key, whole or not at all; of two processes that make it at once, the first one's stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".key-", dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)  # unlike a rename it never replaces a key
    finally:
        Path(name).unlink()


def _read(path: Path) -> bytes:
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"the key '{path}' is no file; name a file of {_BYTES} bytes with --key FILE.")
    if os.name == "posix" and state.st_mode & 0o077:
        raise InputError(
            f"the key '{path}' is open to others (mode {stat.S_IMODE(state.st_mode):04o}); allow its owner alone: "
            f"chmod 600 '{path}'."
        )
    key = path.read_bytes()
    if len(key) != _BYTES:
        raise InputError(
            f"the key '{path}' holds {len(key)} bytes, but a key is {_BYTES}; restore it, or name another with --key."
        )
    return key
