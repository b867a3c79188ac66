"""A virial becomes a stress by the volume of the cell: there has to be one."""

import numpy as np
import pytest
from ase.build import bulk

from kforce import InputError, read_frames
from kforce.data import write_frames

FLAT = {
    "two vectors": [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]],
    "in one plane": [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [1.0, 1.0, 0.0]],
    "none": np.zeros((3, 3)),
}


@pytest.mark.parametrize("cell", FLAT.values(), ids=FLAT)
def test_a_virial_with_a_flat_cell(tmp_path, cell):
    frames = [bulk("Cu", cubic=True) for _ in range(2)]
    for frame in frames:
        frame.info["virial"] = np.eye(3)
    path = tmp_path / "a.xyz"
    write_frames(path, frames)
    assert all("stress" in frame.calc.results for frame in read_frames(path))
    frames[1].set_cell(cell)
    write_frames(path, frames)
    path.write_text(path.read_text().replace('pbc="F F F"', 'pbc="T T T"'))
    with pytest.raises(InputError, match=r"Frame 1 is periodic .* set its cell"):
        read_frames(path)
