import os
from functools import cache
from pathlib import Path

import pytest

pytest.register_assert_rewrite("conformance")


@pytest.fixture(scope="session")
def shared():
    """Folder of the reference data, which does not come with the package."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("KFORCE_SHARED", default))
    if not folder.is_dir():
        pytest.skip("no reference data: set KFORCE_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def shared_frames(shared):
    """A function that reads the first frames of a data set once; not to be modified."""
    from kforce import read_frames

    return cache(lambda name: read_frames(shared / "data" / name)[:1500])


@pytest.fixture(scope="session")
def methanol():
    """The embedded frames; not to be modified."""
    from kforce.datasets import load_methanol_ccsdt

    return load_methanol_ccsdt()


@pytest.fixture(scope="session")
def methanol_model(methanol):
    """A model of the first 30 of them, with everything learned; not to be refitted."""
    from kforce.gdml.regressor import GDMLRegressor

    return GDMLRegressor().fit(methanol[:30])
