# SPDX-License-Identifier: MIT
"""One version, which the package, its metadata and the kernel are told."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import clove_sdk
import pytest
from clove_sdk import _calls

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def test_the_version_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", clove_sdk.__version__)
    assert _calls.hello().args[2] == f"clove-sdk/{clove_sdk.__version__}"
    assert not re.search(r'^version\s*=\s*"', PYPROJECT.read_text(), re.MULTILINE)


def test_the_package_is_built_with_that_version():
    pyprojecttoml = pytest.importorskip("setuptools.config.pyprojecttoml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        project = pyprojecttoml.read_configuration(PYPROJECT)["project"]
    assert project["name"] == "clove-sdk" and project["version"] == clove_sdk.__version__
