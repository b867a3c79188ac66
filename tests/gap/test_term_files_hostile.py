"""Files of terms that are written to exhaust, or by mistake say a thing twice."""

import subprocess
import sys

import pytest

from kforce import InputError
from kforce.gap.term_files import read_terms

PAIR = "descriptor: two_body, cutoff: 4"
LEVELS = range(1, 40)

#: Each level holds the one before ten times.
LISTS = "a0: &a0 [1]\n" + "\n".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in LEVELS
)
MAPPINGS = "a0: &a0 {x: 1}\n" + "\n".join(
    f"a{k}: &a{k} {{{', '.join(f'k{i}: *a{k - 1}' for i in range(10))}}}"
    for k in LEVELS
)
MERGES = "a0: &a0 {x: 1}\n" + "\n".join(
    f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 10)}]}}" for k in LEVELS
)


def test_aliases_of_aliases(tmp_path):
    paths = [tmp_path / f"{name}.yaml" for name in ("lists", "mappings", "merges")]
    for path, text in zip(paths, (LISTS, MAPPINGS, MERGES), strict=True):
        path.write_text(text)
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "from kforce.gap.term_files import read_terms\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        read_terms(path)\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    command = [sys.executable, "-c", program, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert len(said) == len(paths), done.stderr
    for path, line in zip(paths, said, strict=True):
        assert "Expected a list of terms" in line
        assert len(line) < len(str(path)) + 400


def test_aliases_in_an_entry(tmp_path):
    path = tmp_path / "terms.yaml"
    lists = ", ".join(line.partition(": ")[2] for line in LISTS.splitlines()[:30])
    path.write_text(f"- {{descriptor: two_body, cutoff: [{lists}]}}\n")
    with pytest.raises(InputError, match="cutoff must be a number, found"):
        read_terms(path)


def test_aliases_in_a_key(tmp_path):
    path = tmp_path / "terms.yaml"
    lists = ", ".join(line.partition(": ")[2] for line in LISTS.splitlines()[:30])
    path.write_text(f"- ? [{lists}]\n  : 3\n")
    with pytest.raises(InputError, match="is not YAML"):
        read_terms(path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"- {{{PAIR}}}\n- {{{PAIR}, cutoff: 5}}", "line 2: the key 'cutoff' stands"),
        (
            "- descriptor: two_body\n  cutoff: 4\n  cutoff: 4",
            "line 3: the key 'cutoff'",
        ),
        ("- {<<: {a: 1}, <<: {b: 2}}", "line 1: the key '<<' stands twice"),
    ],
)
def test_a_key_that_stands_twice(tmp_path, text, match):
    path = tmp_path / "terms.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        read_terms(path)


def test_an_entry_may_build_on_another_one(tmp_path):
    path = tmp_path / "terms.yaml"
    path.write_text(f"- &near {{{PAIR}}}\n- {{<<: *near, cutoff: 6}}\n")
    assert [term.descriptor.cutoff for term in read_terms(path)] == [4, 6]
