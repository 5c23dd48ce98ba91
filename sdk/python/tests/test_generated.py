# SPDX-License-Identifier: MIT
"""What is generated is up to date, and the generators refuse what they do not understand."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import clove_sdk
import pytest
from clove_sdk import _wire_errors, errors

PYTHON = Path(__file__).resolve().parent.parent
ROOT = PYTHON.parent.parent


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


gen_wire = load(ROOT / "ipc" / "gen_wire.py")
unasync = load(PYTHON / "tools" / "unasync.py")


@pytest.mark.parametrize("tool", [ROOT / "ipc/gen_wire.py", PYTHON / "tools/unasync.py"])
def test_outputs_are_up_to_date(tool):
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_unasync_is_a_program_that_explains_itself():
    done = subprocess.run([PYTHON / "tools/unasync.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "unasync.py --check" in done.stdout


def test_check_notices_a_stale_output(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gen_wire, "IPC", tmp_path / "ipc")
    stale = tmp_path / "out.py"
    stale.write_text("old\n")
    assert not gen_wire.check(stale, "new\n")
    assert "-old\n+new\n" in capsys.readouterr().out
    assert gen_wire.check(stale, "old\n")


HEAD = 'RIGHT(NONE, 0, "any")\nFLAG(A, 1, "a")\n'
CALL = 'CALL(X, 0x01, NONE, x, "doc") REPLY("nil") END_CALL\n'


@pytest.mark.parametrize(("rows", "line", "word"), [
    ('CALL(X, 0x01, NONE, x, "doc")\n', 4, "END_CALL"),
    ("FLAG(B, 2)\n", 3, "','"),
    ('FLAG(B, 2, "b", 3)\n', 3, "')'"),
    ('FLAG(B, "2", "b")\n', 3, "field 2"),
    ('FLAG(B, 2, "b\n', 3, "field 3"),
    ('FLAG(B, 3, "b")\n', 3, "one bit"),
    ('FLAG(A, 2, "b")\n', 3, "taken"),
    ('ERROR(E, 1, 2, "e")\n', 3, "retryable"),
    ('ERROR(E, 1, 0, "e")\nERROR(F, 1, 0, "f")\n', 4, "taken"),
    ('CALL(X, 0x01, ROOT, x, "doc") END_CALL\n', 3, "ROOT"),
    ('CALL(X, 0x01, NONE, x, "doc") END_CALL\n', 3, "replies"),
    (CALL + CALL, 4, "already"),
    (CALL + 'CALL(Y, 0x00, NONE, unbuilt, "doc") END_CALL\n', 4, "order"),
    ('CALL(X, 0x700, NONE, x, "doc") END_CALL\n', 3, "below"),
    ('ARG(a, ANY, REQUIRED, "a")\n', 3, "outside"),
    ('CALL(X, 1, NONE, x, "d")\nARG(a, WHAT, REQUIRED, "a") END_CALL\n', 4, "WHAT"),
    ('CALL(X, 1, NONE, x, "d")\nARG(a, ANY, MAYBE, "a") END_CALL\n', 4, "MAYBE"),
    ('CALL(X, 1, NONE, x, "d")\nARG(a, ANY, OPTIONAL, "")\nARG(b, ANY, REQUIRED, "")', 5, "behind"),
    ("/* two\nlines */ SOMETHING(1)\n", 4, "not a row"),
])
def test_an_unreadable_row_is_an_error_with_its_line(rows, line, word):
    with pytest.raises(gen_wire.WireError, match=f"^wire.def:{line}: .*{re.escape(word)}"):
        gen_wire.Parser(HEAD + rows).parse()


def test_comments_and_directives_are_no_rows():
    text = '/* CALL(A, 1) */\n#ifndef X\n#define CALL(a)\n#endif\n' + HEAD + CALL
    assert [call.name for call in gen_wire.Parser(text).parse().calls] == ["X"]


def test_a_comment_sign_in_a_string_is_text():
    wire = gen_wire.Parser(HEAD + CALL + 'FLAG(B, 2, "a /* b */ c \\"d\\"")').parse()
    assert wire.flags[-1].doc == 'a /* b */ c "d"'


def test_every_error_code_has_an_exported_exception():
    assert set(_wire_errors.BY_CODE) == set(clove_sdk.ErrorCode)
    for code, kind in _wire_errors.BY_CODE.items():
        assert kind.default_code == code
        assert getattr(clove_sdk, kind.__name__) is kind
        assert kind.__name__ in errors.__all__


def test_unasync_takes_async_away_and_nothing_else():
    source = unasync.LICENCE + (
        'async def f(self: AsyncCloveClient) -> None:\n'
        '    """Does not await."""\n'
        '    async with self.x as y:\n'
        '        await y.poll_async(AsyncResult, await z)\n'
    )
    assert unasync.convert(source, "x.py").split("\n", 2)[2] == (
        'def f(self: CloveClient) -> None:\n'
        '    """Does not await."""\n'
        '    with self.x as y:\n'
        '        y.poll_async(AsyncResult, z)\n'
    )
