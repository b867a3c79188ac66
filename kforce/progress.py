"""Progress bars: off in the library, on where a person watches (the command line)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

_shown: ContextVar[bool] = ContextVar("progress_shown", default=False)


@contextmanager
def show_progress(shown: bool = True) -> Iterator[None]:
    """Show progress bars on standard error inside a ``with`` block."""
    token = _shown.set(shown)
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def progress_bar(total: float | None, title: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that advances a bar; it appears after one second.

    Without a total, what has been done is counted.
    """
    if not _shown.get():
        yield lambda amount: None
        return
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    if total is None:
        layout = "{desc}: {n_fmt}, {elapsed}"
    with tqdm(total=total, desc=title, delay=1, leave=False, bar_format=layout) as bar:
        yield bar.update
