"""The examples of CONTRIBUTING.md, as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Modules of the examples belong to packages of kforce, and lie elsewhere.
CONFTEST = """
import importlib
from pathlib import Path

import pytest

pytest.register_assert_rewrite("conformance")
for folder in (Path(__file__).parent / "kforce").iterdir():
    importlib.import_module(f"kforce.{folder.name}").__path__.append(str(folder))
"""


def examples():
    """Text of each example by the name of its file."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == text.count("```python")
    return dict(blocks)


def test_each_example_is_one_class_in_one_short_file():
    blocks = examples()
    assert len(blocks) == 8
    for name, text in blocks.items():
        assert text.count("\nclass ") == 1
        whole = text.count("\n")
        if name.startswith("kforce/"):
            stem = Path(name)
            test = blocks[f"tests/{stem.parent.name}/test_{stem.name}"]
            assert whole + test.count("\n") < 60
        else:
            assert name.startswith("tests/")


def test_the_examples_run(tmp_path):
    for name, text in examples().items():
        path = tmp_path / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "new" / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "new"]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (passed,) = re.findall(r"(\d+) passed", result.stdout)
    assert int(passed) > 60
    assert "skipped" not in result.stdout
