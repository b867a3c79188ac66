"""Parts of trust.py about models of one molecule, `GDMLRegressor`.

Bonds that break, wrong labels, dynamics that leaves the training set, and boxes.
"""

import _molecules_data
import _trust_labels
from _trust_boxes import boxes
from _trust_dynamics import trust_dynamics
from _trust_reactions import print_reactions
from _trust_symmetry import print_symmetry

#: Molecules of the dynamics, and the temperatures of their training sets in K.
_DYNAMICS = {"acetic acid": 400, "ethanol": 400, "malonaldehyde 300 K": 300}


def dynamics(folder):
    """Print what runs at one to five times the training temperature meet."""
    systems = {
        name: (_molecules_data.read(name, folder), temperature)
        for name, temperature in _DYNAMICS.items()
    }
    trust_dynamics(systems, _molecules_data.calculator())


#: What each part prints, by its name.
PARTS = {
    "symmetry": lambda folder: print_symmetry(folder=folder),
    "reactions": lambda folder: print_reactions(),
    "labels": lambda folder: _trust_labels.main(folder=folder),
    "dynamics": dynamics,
    "boxes": boxes,
}
