"""What the gallery hands to an example: ``--quick`` to those that know it, nothing to others.

Examples that are studies run for half an hour when they are started by hand; the gallery shows
their quick form, and pages of the documentation the figures of the whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class QuickForm:
    """The arguments of an example, by what its text says."""

    def __repr__(self) -> str:
        """Return the same text every time: the gallery compares it with that of the last build."""
        return "QuickForm"

    def __call__(self, gallery_conf: Any, script_vars: dict[str, Any]) -> list[str]:
        """Return the arguments of one example.

        Parameters
        ----------
        gallery_conf : dict
            Of sphinx-gallery; not looked at.
        script_vars : dict
            Names the file of the example.

        Returns
        -------
        list of str
        """
        text = Path(script_vars["src_file"]).read_text(encoding="utf-8")
        return ["--quick"] if '"--quick"' in text else []
