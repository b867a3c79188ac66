"""What the README shows works as it stands there."""

import re
import tomllib
from pathlib import Path

import pytest

from kforce.cli.main import build_parser
from kforce.gap.term_files import read_terms

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def command_lines():
    return re.findall(r"^    (pip install .*)$", README, re.MULTILINE)


def test_the_python_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "methanol.npz").exists()
    assert len(names["prediction"].energy) == 60
    assert names["model"].score(names["test"]) > 0.9


def test_the_terms_are_understood(tmp_path):
    (text,) = blocks("yaml")
    (tmp_path / "terms.yaml").write_text(text)
    two_body, soap, three_body = read_terms(tmp_path / "terms.yaml")
    assert (two_body.descriptor.cutoff, soap.descriptor.n_max) == (5.0, 8)
    assert three_body.descriptor.centre == 14


def test_the_two_command_lines_are_there():
    first, second = command_lines()
    assert first == "pip install . && kforce train"
    assert second == 'pip install ".[test]" && pytest'
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "kforce" in project["scripts"]
    assert "test" in project["optional-dependencies"]


@pytest.mark.parametrize("line", re.findall(r"^    kforce (.*)$", README, re.MULTILINE))
def test_the_commands_are_understood(line):
    words = line.partition("#")[0].split()
    assert build_parser().parse_args(words).command == words[0]


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z-]+)", README))))
def test_the_options_exist(option, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["train", "--help"])
    assert f"{option} " in capsys.readouterr().out


def test_the_folders_exist():
    for folder in re.findall(r"^\| `([a-z]+/)` \|", README, re.MULTILINE):
        assert (ROOT / folder).is_dir()
