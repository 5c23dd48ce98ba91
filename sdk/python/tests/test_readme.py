# SPDX-License-Identifier: MIT
"""What the READMEs of the SDK show runs, and what they list is complete."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import clove_sdk
import pytest
from clove_sdk import CloveClient

PYTHON = Path(__file__).resolve().parent.parent
ROOT = PYTHON.parent.parent
TEXT = (PYTHON / "README.md").read_text()
C_TEXT = (ROOT / "sdk/c/README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_every_example_shows_its_output():
    assert len(EXAMPLES) == TEXT.count("```python") == 6


@pytest.mark.parametrize(("program", "output"), EXAMPLES)
def test_an_example_prints_what_the_readme_says(kernel, program, output):
    env = {**os.environ, "PYTHONPATH": str(PYTHON / "src"), "CLOVE_SOCKET": kernel.path}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == output


def test_every_call_attribute_and_exception_is_listed():
    for name, member in inspect.getmembers(CloveClient):
        if name.startswith("_"):
            continue
        signature = r"\(" if inspect.isfunction(member) else "`"
        assert re.search(rf"^\|[^|]*`{name}{signature}", TEXT, re.MULTILINE), name
    for name in ["AgentOSClient", *clove_sdk.errors.__all__]:
        assert f"`{name}`" in TEXT, name


def test_parameters_of_exec_are_listed():
    row = re.search(r"^\| `exec\((.*?)\)`", TEXT, re.MULTILINE)[1]
    shown = [part.partition("=")[0] for part in row.replace("*, ", "").split(", ")]
    assert shown == list(inspect.signature(CloveClient.exec).parameters)[1:]


def test_the_c_program_is_the_one_that_is_built():
    program = re.search(r"^```c\n(.*?)^```$", C_TEXT, re.MULTILINE | re.DOTALL)[1]
    assert program == (ROOT / "sdk/c/examples/hello.c").read_text()


def test_the_c_program_compiles_and_runs_as_its_readme_says(kernel, tmp_path):
    if not (ROOT / "build/release/sdk/c/libclove.a").exists():
        pytest.skip("no libclove in build/release: core/run build")
    lines = re.search(r"^```\n(cc .*?)^\./hello\n```$", C_TEXT, re.MULTILINE | re.DOTALL)[1]
    command = lines.replace("-o hello", f"-o {shlex.quote(str(tmp_path))}/hello")
    done = subprocess.run(["sh", "-ec", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    program = tmp_path / "hello"
    outputs = re.findall(r"^```text\n(.*?)^```$", C_TEXT, re.MULTILINE | re.DOTALL)
    for socket, status, output in zip((kernel.path, str(tmp_path / "none")), (0, 1), outputs, strict=True):
        env = {**os.environ, "CLOVE_SOCKET": socket}
        done = subprocess.run([program], env=env, capture_output=True, text=True)
        assert (done.stdout + done.stderr, done.returncode) == (output, status)
