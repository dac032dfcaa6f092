"""Versions of packages and the kind of machine that results are made with."""

from __future__ import annotations

import platform
from importlib import metadata

#: Packages whose versions are recorded with every run.
_PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "blosc2", "scikit-learn", "voxseq")


def environment() -> dict[str, str]:
    """Versions of Python, of the packages that decide results, and the kind of machine."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
