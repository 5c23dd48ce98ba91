# SPDX-License-Identifier: MIT
"""What may include what, and the few other rules that hold for every file."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ["core", "ipc", "llm", "perf", "sandbox", "sdk", "store", "tests"]
TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", *FOLDERS}

# Folder of a file -> folders it may include from. The longest matching folder counts.
MAY_INCLUDE = {
    "core/base": ["core/base"],
    "ipc": ["ipc", "core/base"],
    "store": ["store", "core/base"],
    "llm": ["llm", "core/base"],
    "sandbox": ["sandbox", "core/base"],
    "core": ["core", "core/base", "ipc", "store", "llm", "sandbox"],
    "sdk": ["sdk", "ipc", "core/base"],
    "perf": ["perf", "sdk", "ipc", "core/base"],
    "tests": ["tests", "core", "core/base", "ipc", "store", "llm", "sandbox", "sdk"],
}

# Header of a library -> the only files that may include it.
ONLY_IN = {
    r"rocksdb/": r"store/|tests/unit/store/",
    r"curl/": r"llm/",
    r"openssl/": r"llm/",
    r"liburing": r"core/(loop_|uring_)",
    r"seccomp": r"(tests/unit/)?sandbox/",
}

BANNED_STEM = re.compile(r"(^|_)(utils?|helpers?|common|misc)(_|$)")


def tracked():
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")
    return [Path(name) for name in names if name and (ROOT / name).is_file()]


def c_files():
    return [path for path in tracked() if path.suffix in {".c", ".h", ".def"}]


def includes(path):
    text = (ROOT / path).read_text()
    return re.findall(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', text, re.MULTILINE)


def layer_of(path):
    name = str(path)
    return max((layer for layer in MAY_INCLUDE if name.startswith(layer + "/")), key=len)


def test_layers_include_only_what_is_below_them():
    wrong = []
    for path in c_files():
        allowed = MAY_INCLUDE[layer_of(path)]
        for quote, name in includes(path):
            if quote == '"' and layer_of(Path(name)) not in allowed:
                wrong.append(f"{path}: {name}")
    assert not wrong


def test_own_headers_are_included_from_the_root():
    wrong = []
    for path in c_files():
        for quote, name in includes(path):
            if quote == '"' and not (ROOT / name).is_file():
                wrong.append(f"{path}: {name}")
    assert not wrong


def test_libraries_are_included_only_where_they_belong():
    wrong = []
    for path in c_files():
        for quote, name in includes(path):
            for library, where in ONLY_IN.items():
                if quote == "<" and re.match(library, name) and not re.match(where, str(path)):
                    wrong.append(f"{path}: {name}")
    assert not wrong


def test_nothing_else_stands_at_the_top():
    wrong = {path.parts[0] for path in tracked()} - TOP_LEVEL
    assert not {name for name in wrong if not name.startswith(".")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_explains_itself(folder):
    assert (ROOT / folder / "README.md").is_file()


def test_headers_guard_themselves():
    assert not [p for p in c_files() if p.suffix == ".h" and "#pragma once" not in (ROOT / p).read_text()]


def test_files_say_their_licence():
    def head(path):
        return "".join((ROOT / path).open(errors="replace").readlines()[:4])

    sources = [p for p in tracked() if p.suffix in {".c", ".h", ".def", ".py"}]
    assert not [str(p) for p in sources if "SPDX-License-Identifier: MIT" not in head(p)
                and "examples" not in p.parts]


def test_files_have_a_noun_for_a_name_and_stay_readable():
    assert not [str(p) for p in tracked() if p.suffix in {".c", ".h", ".py"} and BANNED_STEM.search(p.stem)]
    assert not [str(p) for p in c_files() if len((ROOT / p).read_text().split("\n")) > 800]


def test_a_static_function_stands_in_one_place():
    function = re.compile(r"^static [^\n;]*?\b(\w+)\([^;{]*?\)\n\{\n(.*?)\n\}\n", re.MULTILINE | re.DOTALL)
    seen = {}
    for path in c_files():
        for name, body in function.findall((ROOT / path).read_text()):
            if body.count("\n") >= 2:
                seen.setdefault((name, " ".join(body.split())), set()).add(str(path))
    assert not {name: sorted(paths) for (name, _), paths in seen.items() if len(paths) > 1}


@pytest.mark.parametrize("command", ["ipc/gen_wire.py", "sdk/python/tools/unasync.py"])
def test_generated_files_are_up_to_date(command):
    result = subprocess.run(["/usr/bin/python3", command, "--check"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_formatter_has_nothing_to_change():
    version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True, check=False).stdout
    if "version 14." not in version:
        pytest.skip(f"formatted with clang-format 14; here: {version.strip() or 'none'}")
    files = [str(path) for path in c_files() if path.suffix != ".def"]
    done = subprocess.run(
        ["clang-format", "--dry-run", "--Werror", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
