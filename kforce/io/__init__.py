"""Other programs' files."""

from kforce.io.sgdml import read_sgdml, write_sgdml

__all__ = ["read_sgdml", "write_sgdml"]
