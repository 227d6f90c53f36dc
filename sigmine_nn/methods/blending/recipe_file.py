"""The recipe of a blend in a file: JSON with names and numbers, and a reader that trusts nothing.

May import: `sigmine`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sigmine.exceptions import FileFormatError, InputError, InputTypeError
from sigmine.report.schema import Mapping as AnyKeys
from sigmine.report.schema import validate

__all__ = ["as_json", "from_json", "read_object"]

FORMAT = "sigmine blended criterion"
VERSION = 1
_SCHEMA = {
    "name": "text",
    "normaliser": "text",
    "layers": AnyKeys(AnyKeys("number")),
    "own": ["text"],
}
_ADVICE = "Write it with BlendedCriterion.to_json."
_MAX_BYTES = 64 * 2**20

Made = TypeVar("Made")


def as_json(
    name: str, normaliser: str, layers: Mapping[str, Mapping[str, float]], own: Sequence[str]
) -> str:
    """Return a recipe as JSON.

    Parameters
    ----------
    name, normaliser : str
        Of the blend.
    layers : mapping of str to mapping of str to float
        The factors.
    own : sequence of str
        Names of criteria that the reader has to give.

    Returns
    -------
    str
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "normaliser": normaliser,
        "layers": {layer: dict(factors) for layer, factors in layers.items()},
        "own": list(own),
    }
    return json.dumps(content, allow_nan=False, indent=1) + "\n"


Make = Callable[[str, str, dict[str, dict[str, float]], list[str]], Made]


def from_json(path: Path, make: Make[Made]) -> Made:
    """Read a recipe.

    Parameters
    ----------
    path : Path
        The file.
    make : callable
        From name, normaliser, layers and names of own criteria to what is returned; may refuse
        them with `InputError` or `InputTypeError`.

    Returns
    -------
    object

    Raises
    ------
    FileFormatError
        If it is no such file, or a recipe that cannot be.
    FileNotFoundError
        If there is none.
    """
    content = read_object(path, FORMAT, VERSION, _ADVICE)
    try:
        fitted = validate(content, _SCHEMA)
        return make(fitted["name"], fitted["normaliser"], fitted["layers"], fitted["own"])
    except (InputError, InputTypeError, ValueError) as error:
        raise FileFormatError(f"the recipe is damaged: {error} {_ADVICE}", path=str(path)) from None


def read_object(path: Path, kind: str, version: int, advice: str) -> dict[str, Any]:
    """Read a JSON object of some kind that a stranger may have written.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What must stand behind ``"format"``.
    version : int
        What must stand behind ``"version"``.
    advice : str
        A sentence that says how such a file is made.

    Returns
    -------
    dict
        Of which nothing but format and version has been checked, and that no key came twice.

    Raises
    ------
    FileFormatError
        If it is something else, cut off, or larger than 64 MiB.
    FileNotFoundError
        If there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give one that exists. {advice}")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise FileFormatError(
            f"the file has {size / 2**20:.0f} MiB; expected JSON of at most "
            f"{_MAX_BYTES // 2**20} MiB. {advice}",
            path=str(path),
        )
    try:
        content = json.loads(
            path.read_bytes(), parse_constant=_no_constant, object_pairs_hook=_once
        )
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"this cannot be read as JSON ({error}); expected a {kind!r}. {advice}", path=str(path)
        ) from None
    if not isinstance(content, dict) or content.get("format") != kind:
        raise FileFormatError(f'this is JSON, but no "{kind}". {advice}', path=str(path))
    found = content.get("version")
    if type(found) is not int or found != version:
        raise FileFormatError(
            f"the file has version {found!r}, and this program reads {version}. {advice}",
            path=str(path),
        )
    return content


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not valid JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; a key that comes twice would be read one way here and another way there."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found
