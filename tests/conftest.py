import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared():
    """Folder of the reference data, which does not come with the package."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("KFORCE_SHARED", default))
    if not folder.is_dir():
        pytest.skip("no reference data: set KFORCE_SHARED to its folder")
    return folder
