"""From figures to files, all or none."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from kforce.errors import InputError
from kforce.npz import replaced_file


def require_matplotlib() -> None:
    """Raise an error unless figures can be drawn.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError(
            'Figures need matplotlib: install it with pip install "kforce[report]".'
        )


def write_figures(figures: Mapping) -> None:
    """Write figures as PNG, all or none.

    Parameters
    ----------
    figures : mapping of path-like to matplotlib.figure.Figure
        The figures of the files. Files that exist are replaced, and a folder that does
        not exist is made in one that does.

    Raises
    ------
    InputError
        If they cannot be written.
    """
    # Drawing is what may fail, so no file is begun before all is drawn.
    drawn = {Path(path): _png(figure) for path, figure in figures.items()}
    made = []
    try:
        with ExitStack() as stack:
            for path, content in drawn.items():
                if not path.parent.exists():
                    path.parent.mkdir()
                    made.append(path.parent)
                stack.enter_context(replaced_file(path)).write_bytes(content)
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _png(figure) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()
