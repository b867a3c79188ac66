"""Small calculators, good and bad, that tests use as baselines."""

import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class Spring(Calculator):
    """Each atom on a spring to the origin, in eV and Å; counts what it computes."""

    implemented_properties = ("energy", "forces")
    default_parameters = {"k": 1.0}
    computed = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        Spring.computed += 1
        k, r = self.parameters["k"], self.atoms.positions
        self.results = {"energy": 0.5 * k * np.sum(r**2), "forces": -k * r}


class Bad(Spring):
    """What `change` makes of the results, of the second structure on."""

    def __init__(self, change, after=1):
        super().__init__()
        self.change, self.after, self.seen = change, after, 0

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.seen += 1
        if self.seen > self.after:
            self.change(self.results)
