"""The program `kforce`: one sub-command a file."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import metadata

from kforce.cli import convert, info, learning_curve, predict, train
from kforce.cli import test as evaluate
from kforce.cli.data_sets import add_reading
from kforce.cli.output import Output
from kforce.cli.process import (
    drop_unwritten,
    exit_code,
    open_streams,
    reason,
    signals_raised,
)
from kforce.errors import InputError
from kforce.progress import show_progress

#: Exit codes: 0 done, 1 the input cannot be used, 2 the call cannot be read (argparse's
#: own), 128 + n ended by the signal n.
_FAILED = 1

#: Loggers that are heard without -v: what a fit will take, before it starts, how far
#: a long job is, and what reading changed, such as units and the order of atoms.
_SPOKEN = (
    "kforce.forecast",
    "kforce.gap",
    "kforce.data",
    "kforce.io",
    "kforce.evaluation.learning_curve",
    "kforce.choice",
    "kforce.uncertainty",
)

_COMMANDS = (train, evaluate, predict, learning_curve, info, convert)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="kforce",
        description="Force fields from reference calculations: Gaussian processes "
        "learned from energies, forces and stresses.",
        epilog="Units are eV, Å and eV/Å unless an option says otherwise. "
        "'kforce COMMAND --help' explains a command.",
    )
    version = metadata.version("kforce")
    parser.add_argument("--version", action="version", version=f"kforce {version}")
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON object")
    group.add_argument("-q", "--quiet", action="store_true", help="print results only")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="print what is done and decided"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for module in _COMMANDS:
        command = module.add_parser(commands, common)
        add_reading(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    open_streams()
    try:
        return _run(argv)
    finally:
        drop_unwritten()


def _run(argv):
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    output = Output(json=args.json, quiet=args.quiet)
    log = logging.getLogger("kforce")
    log.handlers = [output]
    log.setLevel(logging.INFO if args.verbose else logging.WARNING)
    spoken = args.verbose or not (args.quiet or args.json)
    for name in _SPOKEN:
        logging.getLogger(name).setLevel(logging.INFO if spoken else logging.WARNING)
    # Commands name frames as files number them.
    logging.getLogger("kforce.labels").setLevel(logging.ERROR)
    watched = sys.stderr.isatty() and not args.quiet
    try:
        with signals_raised(), warnings.catch_warnings(), show_progress(watched):
            warnings.showwarning = output.show_warning
            args.run(args, output)
            output.finish()
    except InputError as error:
        output.error(str(error))
        return _FAILED
    except KeyboardInterrupt as error:
        output.error(f"{reason(error)}.")
        return exit_code(error)
    except BrokenPipeError:
        # The reader, such as `head`, has left: nobody is there to be told.
        return _FAILED
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        output.error(f"Could not read or write{where}: {error.strerror or error}.")
        return _FAILED
    except MemoryError:
        output.error("Out of memory: train on fewer structures.")
        return _FAILED
    except Exception as error:
        if args.verbose:
            traceback.print_exc()
        output.error(
            f"This is a bug in kforce ({type(error).__name__}: {error}). Please report "
            "it, with what -v prints."
        )
        return _FAILED
    return 0
