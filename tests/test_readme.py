"""What the README and the documents show works as it stands there."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from kforce.cli.main import build_parser
from kforce.gap.term_files import read_terms

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
}

#: Pages that tell of what was: their names need not exist today.
HISTORY = {"CHANGELOG.md"}


def blocks(language, page):
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def run_python(page, names):
    for code in blocks("python", page):
        exec(compile(code, "page", "exec"), names)


def with_blocks(language):
    return [name for name, page in PAGES.items() if blocks(language, page)]


def command_lines():
    return re.findall(r"^    (pip install .*)$", README, re.MULTILINE)


def kforce_lines():
    every = [re.findall(r"^    kforce (.*)$", p, re.MULTILINE) for p in PAGES.values()]
    return sorted({line for lines in every for line in lines})


def code_names(page):
    """Names in backquotes that begin with kforce, and paths of files."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    quoted = re.findall(r"`(kforce(?:\.\w+)+)", prose)
    paths = re.findall(r"`(?:kforce/)?((?:\w+/)+\w*(?:\.py)?)`", prose)
    return sorted(set(quoted)), sorted(set(paths))


def resolve(name):
    """Import what a dotted name stands for, or fail."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    run_python(README, names)
    assert (tmp_path / "methanol.npz").exists()
    assert len(names["prediction"].energy) == 60
    assert names["model"].score(names["test"]) > 0.9
    assert names["local"].score(names["test"]) > 0.5
    assert abs(names["y"][0] - 0.479) < 0.01


@pytest.mark.parametrize("page", [p for p in with_blocks("python") if "/" in p])
def test_the_documents_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(PAGES[page], {})


@pytest.mark.parametrize("page", with_blocks("yaml"))
def test_the_yaml_is_understood(page):
    for text in blocks("yaml", PAGES[page]):
        assert yaml.safe_load(text)


def test_the_terms_are_understood(tmp_path):
    (text,) = blocks("yaml", PAGES["docs/guide.md"])
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


@pytest.mark.parametrize("line", kforce_lines())
def test_the_commands_are_understood(line):
    words = line.partition("#")[0].split()
    assert build_parser().parse_args(words).command == words[0]


def options():
    found = {o for page in PAGES.values() for o in re.findall(r"`(--[a-z-]+)", page)}
    return sorted(found)


@pytest.fixture(scope="module")
def help_of_all_commands():
    parser = build_parser()
    (commands,) = [a for a in parser._actions if a.dest == "command"]
    return "".join(p.format_help() for p in commands.choices.values())


@pytest.mark.parametrize("option", options())
def test_the_options_exist(option, help_of_all_commands):
    assert re.search(rf"{option}[ ,\]\n]", help_of_all_commands)


@pytest.mark.parametrize("page", sorted(set(PAGES) - HISTORY))
def test_the_names_of_the_code_exist(page):
    names, paths = code_names(PAGES[page])
    missing = []
    for name in names:
        try:
            resolve(name)
        except (ModuleNotFoundError, AttributeError):
            missing.append(name)
    for path in paths:
        place = [base / path for base in (ROOT, ROOT / "kforce")]
        place += [p.with_suffix(".py") for p in place if not p.suffix]
        if not any(p.exists() for p in place):
            missing.append(path)
    assert not missing


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page]):
        assert ((ROOT / page).parent / target).exists(), target
