"""What the GAP benchmarks share. The peers' Python runs it as well: no kforce here."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("KFORCE_SHARED", HERE.parent.parent / "shared"))

#: 20 + 5 frames of 64 atoms of silicon, and what programs took for them.
TIMING = SHARED / "reference" / "gap" / "timing"

#: The descriptor of the timings, as kforce calls its parameters.
SOAP = {
    "cutoff": 5.0,
    "n_max": 10,
    "l_max": 12,
    "atom_sigma": 0.5,
    "transition_width": 1.0,
}

KFORCE, KFORCE_FIT, PEER = (
    HERE / f"_gap_{name}.py" for name in ("kforce", "kforce_fit", "peer")
)


def timed(function, calls):
    """Return the least CPU and wall times of so many calls, in seconds."""
    cpu, wall = [], []
    for _ in range(calls):
        start = time.process_time(), time.perf_counter()
        function()
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    return min(cpu), min(wall)


def per_atom(name, function, calls, n_atoms):
    """Return rows of a table: the times of a call, in ms per atom."""
    function()  # loads compiled code, sets up tables
    cpu, wall = timed(function, calls)
    return {
        f"{name}, CPU ms/atom": 1e3 * cpu / n_atoms,
        f"{name}, wall ms/atom": 1e3 * wall / n_atoms,
    }


def nudged(atoms, function):
    """Return a function that moves an atom a little, so that no result is reused."""

    def run():
        atoms.positions[0, 0] += 1e-6
        return function()

    return run


def status(key):
    """Return VmRSS, or the largest that it has been, VmHWM, in MB.

    Unlike ru_maxrss it holds nothing of the process that this one comes from.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def forget_peak():
    """Let VmHWM start again from VmRSS."""
    Path("/proc/self/clear_refs").write_text("5")


def answer(tasks):
    """Do the task that the command line names and print what it returns as JSON."""
    task, arguments = sys.argv[1:]
    # Where memory runs out, the system ends this process, and what it starts, first.
    Path("/proc/self/oom_score_adj").write_text("1000")
    print(json.dumps(tasks[task](**json.loads(arguments))))


def available():
    """Return the memory of the machine that is free, in GB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) / 2**20
    raise KeyError("MemAvailable")


def ask(python, worker, task, threads, **arguments):
    """Do a task in a process of its own, and return what it prints."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")
    done = subprocess.run(
        [str(python), str(worker), task, json.dumps(arguments, default=str)],
        env=os.environ | {f"{name}_NUM_THREADS": str(threads) for name in names},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{worker.name} {task} failed:\n{done.stdout[-500:]}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def add_options(parser, cases, repeats):
    """Add what all scripts know, and return what is asked for."""
    parser.add_argument("--cases", nargs="+", choices=cases, default=list(cases))
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=repeats, help="processes")
    parser.add_argument(
        "--peer-python",
        default=os.environ.get("KFORCE_QUIP_PYTHON"),
        help="a Python with quippy-ase 0.10.3, and featomic and dscribe for "
        "descriptors (or the environment variable KFORCE_QUIP_PYTHON)",
    )
    args = parser.parse_args()
    args.peers = peers_of(args.peer_python)
    return args


def peers_of(python):
    """Return the programs that the peers' Python has; say what is missing."""
    if python is None:
        print("no --peer-python: kforce alone")
        return {}
    if not Path(python).exists():
        print(f"there is no {python}: kforce alone")
        return {}
    found = ask(python, PEER, "versions", 1)
    for name in [name for name, version in found.items() if version is None]:
        print(f"{name} cannot be imported by {python}: skipped")
    return {name: version for name, version in found.items() if version}


def print_machine(peers):
    """Print what the numbers depend on."""
    import kforce
    from kforce.parallel import blas_info

    libraries = ", ".join(
        f"{b['internal_api']} {b['version']} {b.get('architecture', '')}"
        for b in blas_info()
    )
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{platform.machine()}, {os.cpu_count()} processors, load {loads}")
    programs = {"kforce": kforce.__version__} | peers
    print(", ".join(f"{name} {v}" for name, v in programs.items()), f"({libraries})")


def alternating(repeats, workers):
    """Call workers by turns, and return the list of answers of each."""
    results = {name: [] for name in workers}
    for _ in range(repeats):
        for name, worker in workers.items():
            results[name].append(worker())
    return results


def median(runs, key):
    """Return the median of one number over processes."""
    return statistics.median(run[key] for run in runs)


def print_table(results):
    """Print median (minimum … maximum) of each number, kforce first.

    Behind peers stands their median divided by that of kforce.
    """
    own = next(iter(results.values()))
    width = 30 if len(own) > 1 else 18
    print(f"{'':<32}" + "".join(f"{program:>{width}}" for program in results))
    for key in dict.fromkeys(k for found in results.values() for k in found[0]):
        cells = []
        for found in results.values():
            if key not in found[0]:
                cells.append(f"{'-':>{width}}")
                continue
            values, middle, ratio = [run[key] for run in found], median(found, key), ""
            spread = f"({min(values):.3g}…{max(values):.3g})" if len(values) > 1 else ""
            if found is not own and key in own[0] and median(own, key):
                ratio = f" ×{middle / median(own, key):.1f}"
            cells.append(f"{f'{middle:.4g} {spread}{ratio}':>{width}}")
        print(f"{key:<32}" + "".join(cells), flush=True)
