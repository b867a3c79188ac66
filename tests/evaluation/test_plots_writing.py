"""Figures are written all or none."""

import pytest

from kforce.errors import InputError
from kforce.evaluation.plots import require_matplotlib, write_figures

pytest.importorskip("matplotlib")


def figure():
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))


class Broken:
    def savefig(self, *_, **__):
        raise RuntimeError("cannot be drawn")


def test_figures_are_written_into_a_new_folder(tmp_path):
    paths = [tmp_path / "new" / name for name in ("a.png", "b.png")]
    write_figures(dict.fromkeys(paths, figure()))
    assert sorted((tmp_path / "new").iterdir()) == paths
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_broken_figure_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "new"
    with pytest.raises(RuntimeError):
        write_figures({folder / "a.png": figure(), folder / "b.png": Broken()})
    assert not folder.exists()


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    taken = tmp_path / "b.png"
    taken.mkdir()  # a folder is not replaced by a file
    old = tmp_path / "c.png"
    old.write_text("old")
    with pytest.raises(InputError, match="Could not write"):
        write_figures(dict.fromkeys([tmp_path / "new" / "a.png", old, taken], figure()))
    assert sorted(tmp_path.iterdir()) == [taken, old]
    assert old.read_text() == "old"


def test_without_matplotlib_it_is_said(monkeypatch):
    require_matplotlib()
    monkeypatch.setattr("kforce.evaluation.plots.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r'pip install "kforce\[report\]"'):
        require_matplotlib()
