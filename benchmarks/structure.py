"""Counts of the source: how large the package is, and how its modules hang together.

    python benchmarks/structure.py [path to the package]

The source is parsed, never imported, so that any checkout can be measured. Compiled
modules (`_name.py`) belong to their only user and are not counted as modules with one
importer.
"""

import argparse
import ast
import io
import tokenize
from collections import Counter, defaultdict
from pathlib import Path

#: Estimators, kernels and descriptors are subclasses of these, terms end in their word.
BASES = {"BaseEstimator", "Kernel", "Descriptor", "LocalDescriptor", "ForceField"}
DECORATION = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


class Package:
    """Modules of a package by name, as text and syntax trees."""

    def __init__(self, root):
        self.root = root.resolve()
        self.texts = {
            self._name(path): path.read_text() for path in self.root.rglob("*.py")
        }
        self.trees = {name: ast.parse(text) for name, text in self.texts.items()}

    def _name(self, path):
        parts = [self.root.name, *path.relative_to(self.root).with_suffix("").parts]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def imports(self):
        """Return the modules of the package that each module imports anywhere."""
        graph = defaultdict(set)
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    targets = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    wholes = [f"{node.module}.{alias.name}" for alias in node.names]
                    targets = [w if w in self.trees else node.module for w in wholes]
                else:
                    continue
                graph[name].update(t for t in targets if t in self.trees and t != name)
        return graph

    def models(self):
        """Return the names of estimators, kernels, descriptors and terms."""
        bases = {
            node.name: {getattr(b, "id", getattr(b, "attr", "")) for b in node.bases}
            for tree in self.trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        }
        models = {name for name in bases if name.endswith("Term")}
        size = -1
        while size < len(models):
            size = len(models)
            models |= {name for name in bases if bases[name] & (models | BASES)}
        return models


def code_lines(text, imports=True):
    """Count the lines that are no blank, comment or docstring, or import."""
    tree = ast.parse(text)
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            first = node.body[0]
            left_out.update(range(first.lineno, first.end_lineno + 1))
        elif not imports and isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, node.end_lineno + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in DECORATION:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - left_out)


def is_compiled(name):
    """Whether a module holds compiled loops."""
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.startswith("__")


def circles(graph):
    """Return the groups of modules each of which imports all others by some way."""
    reached = {}
    for name in graph:
        seen, rest = set(), [name]
        while rest:
            new = graph.get(rest.pop(), set()) - seen
            seen |= new
            rest += new
        reached[name] = seen
    groups = {
        tuple(sorted(m for m in reached[name] if name in reached.get(m, ())))
        for name in graph
        if name in reached[name]
    }
    return sorted(groups)


def calls(package):
    """Yield the module, line and node of every call."""
    for name, tree in sorted(package.trees.items()):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield name, node


def class_tests(package):
    """Return where `isinstance` asks for a kernel, descriptor, term or model."""
    models = package.models()
    found = []
    for name, call in calls(package):
        if getattr(call.func, "id", None) != "isinstance" or len(call.args) != 2:
            continue
        asked = {
            getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(call.args[1])
        }
        if asked & models and not name.endswith(".registry"):
            found.append(f"{name}:{call.lineno} {', '.join(sorted(asked & models))}")
    return found


def baseline_calls(package):
    """Return where a fitted model calls its baseline, to add it to a prediction."""
    return [
        f"{name}:{call.lineno} {call.func.attr}"
        for name, call in calls(package)
        if isinstance(call.func, ast.Attribute)
        and getattr(call.func.value, "attr", None) == "baseline_"
    ]


def main():
    """Print the counts of one package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parents[1] / "kforce"
    parser.add_argument("package", nargs="?", type=Path, default=default)
    parser.add_argument("-v", "--verbose", action="store_true", help="name each one")
    args = parser.parse_args()
    package = Package(args.package)
    if not package.trees:
        parser.error(
            f"Expected a folder of Python modules, found none in {args.package}."
        )
    graph = package.imports()
    importers = Counter(target for targets in graph.values() for target in targets)
    top = [name for name in package.trees if name.count(".") == 1]
    folders = {path.parent for path in package.root.glob("*/__init__.py")}
    lists = {
        "modules with exactly one importer": sorted(
            name for name, n in importers.items() if n == 1 and not is_compiled(name)
        ),
        "import circles": [", ".join(group) for group in circles(graph)],
        "isinstance on kernels, descriptors, terms, models": class_tests(package),
        "calls of a fitted model's baseline": baseline_calls(package),
    }
    rows = {
        "files": len(package.texts),
        "lines": sum(len(text.splitlines()) for text in package.texts.values()),
        "lines of code": sum(map(code_lines, package.texts.values())),
        "lines of code without imports": sum(
            code_lines(text, imports=False) for text in package.texts.values()
        ),
        "modules on the top level": len(top) - len(folders),
        **{what: len(entries) for what, entries in lists.items()},
    }
    for what, count in rows.items():
        print(f"{count:>7,}  {what}")
        if args.verbose:
            for entry in lists.get(what, ()):
                print(f"           {entry}")


if __name__ == "__main__":
    main()
