"""Other programs' files."""

from kforce.io.quip_read import read_quip_xml
from kforce.io.quip_write import write_quip_xml
from kforce.io.sgdml import read_sgdml, write_sgdml

__all__ = ["read_quip_xml", "read_sgdml", "write_quip_xml", "write_sgdml"]
