"""Results that can be written as a page, as Markdown and as JSON.

Allowed imports: `sigmine`, `.render`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from sigmine._atomic import atomic_write

__all__ = ["Reported"]

Renderer = Callable[[dict[str, Any]], str]


class Reported(ABC):
    """A result whose report is a dict of plain values, and whose pages are made of that alone."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values.

        Returns
        -------
        dict
        """

    @abstractmethod
    def _renderers(self) -> tuple[Renderer, Renderer]:
        """Return what makes HTML and Markdown of the dict."""

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as one self-contained HTML page, and write it if there is a path.

        Parameters
        ----------
        path : str or path-like, optional
            File to write; written whole or not at all.

        Returns
        -------
        str
        """
        return _written(self._renderers()[0](self.to_dict()), path)

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as Markdown, and write it if there is a path.

        Parameters
        ----------
        path : str or path-like, optional
            File to write.

        Returns
        -------
        str
        """
        return _written(self._renderers()[1](self.to_dict()), path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as strict JSON, and write it if there is a path.

        Parameters
        ----------
        path : str or path-like, optional
            File to write.

        Returns
        -------
        str
        """
        from .render import render_json

        return _written(render_json(self.to_dict()), path)


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        atomic_write(path, text)
    return text
