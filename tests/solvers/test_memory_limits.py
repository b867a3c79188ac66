"""Limits of memory, as the files of the system state them."""

from pathlib import Path

import numpy as np
import pytest

from kforce.errors import InputError
from kforce.solvers import resources as forecast
from kforce.solvers.resources import Forecast, available_memory

resource = pytest.importorskip("resource")

GB = 10**9
V1, V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"


@pytest.fixture
def system(monkeypatch):
    """Let the system hold these files and no others."""

    def install(files):
        files = {"/proc/meminfo": "MemAvailable: 7812500 kB\n"} | files

        def read_text(path, *args):
            if str(path) not in files:
                raise FileNotFoundError(path)
            return str(files[str(path)])

        monkeypatch.setattr(forecast.Path, "read_text", read_text)

    return install


def group_v2(folder, limit, used, cached=0):
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\nfile {used}\ninactive_file {cached}\n",
    }


def group_v1(folder, limit, used, cached=0):
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"cache 5\ntotal_inactive_file {cached}\n",
    }


def test_pages_of_files_that_can_be_given_back_are_available(system):
    system(group_v2(V2, 3 * GB, 3 * GB, cached=2 * GB))
    assert available_memory() == 2 * GB


@pytest.mark.parametrize(
    ("outer", "inner", "expected"), [("max", 2 * GB, 1), (3 * GB, "max", 2)]
)
def test_nested_groups_count_with_all_above_them(system, outer, inner, expected):
    job = f"{V2}/system.slice/slurmstepd.scope/job_7"
    system(
        {"/proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_7/step_0\n"}
        | group_v2(job, outer, GB)
        | group_v2(f"{job}/step_0", inner, GB)
    )
    assert available_memory() == expected * GB


def test_groups_of_version_1_count(system):
    lines = ["5:cpu,cpuacct:/other", "4:memory:/slurm/job_7", "0::/"]
    system(
        {"/proc/self/cgroup": "\n".join(lines)}
        | group_v1(V1, 9223372036854771712, 4 * GB)
        | group_v1(f"{V1}/slurm/job_7", 3 * GB, 2 * GB, cached=GB)
        | group_v1(f"{V1}/other", GB, GB)
    )
    assert available_memory() == 2 * GB


@pytest.mark.parametrize(
    ("line", "group", "root"),
    [
        ("0::/docker/1234\n", group_v2, V2),
        ("0::/../../host\n", group_v2, V2),
        ("3:memory:/docker/1234\n", group_v1, V1),
    ],
)
def test_a_container_may_see_its_group_as_the_root(system, line, group, root):
    system({"/proc/self/cgroup": line} | group(root, 3 * GB, GB))
    assert available_memory() == 2 * GB


def test_a_group_beyond_its_limit_leaves_nothing(system):
    system(group_v2(V2, GB, 2 * GB))
    assert available_memory() == 0


def test_the_address_space_is_a_limit(system, monkeypatch):
    pages = 1000
    system({"/proc/self/statm": f"{pages} 409 381 5 0 123 0\n"})
    limits = {resource.RLIMIT_AS: (2 * GB, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert available_memory() == 2 * GB - pages * resource.getpagesize()


def test_the_groups_of_this_process_are_found():
    folders = forecast._control_groups()
    assert Path(V2) in folders
    assert all(str(folder).startswith(V2) for folder in folders)
    assert not np.isnan(available_memory())


def test_small_numbers_are_told_apart(monkeypatch):
    monkeypatch.setattr(forecast, "available_memory", lambda: 12e6)
    with pytest.raises(InputError, match=r"needs 0\.034 GB for 90 rows, and 0\.012 GB"):
        Forecast(90, 34e6, 1.0).require_memory()
