"""The command line's grammar, and how it ends."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from gauss_flows._version import __version__
from gauss_flows.cli.errors import InputError, suggestion
from gauss_flows.cli.interrupt import INTERRUPTED, end_on_interrupt, leave
from gauss_flows.selection.families import FAMILIES

# Nothing that takes long to import may be imported here: `--help` must answer at once.

_T = TypeVar("_T", int, float)

_TABLE = (
    "a file ending in .csv, .parquet or .npy, or sklearn:NAME for one of scikit-learn's bundled "
    "tables (breast_cancer, diabetes, digits, iris, wine)"
)
_DESCRIPTION = "Fit Gaussianization flows to tables: exact densities, samples and what they say."
_EXAMPLES = """\
examples:
  gauss-flows fit sklearn:breast_cancer --output cancer.gf --picture cancer.png
  gauss-flows fit data.csv --columns height,weight,age --output people.gf
  gauss-flows score people.gf more.csv --output densities.csv
  gauss-flows sample people.gf 1000 --output made_up.parquet --seed 1
  gauss-flows info people.gf --json
  gauss-flows information data.csv --between height,weight age
"""
_FIT_EXAMPLES = """\
examples:
  gauss-flows fit data.csv --output flow.gf
  gauss-flows fit data.parquet --output flow.gf --family spline-coupling --n-layers 8
  gauss-flows fit sklearn:wine --exclude magnesium,proline --output wine.gf --json
"""


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        unknown, found, options = message.partition("unrecognized arguments: ")
        if found and not unknown:
            names = [o for action in self._actions for o in action.option_strings]
            message += suggestion(options.split()[0], names)
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Refuse what is unknown here, where the subcommand's own options are known."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return known, rest


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="gauss-flows",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gauss-flows {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, epilog: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_argument("--json", action="store_true", help="print one JSON object instead")
        return command

    _add_fit(add("fit", "fit a flow to a table, compare it with baselines, save it", _FIT_EXAMPLES))

    score = add("score", "compute the log density of each row of a table, in nats")
    score.add_argument("flow", metavar="FLOW", help="a file that fit saved")
    score.add_argument("table", metavar="TABLE", help=_TABLE)
    score.add_argument("--output", metavar="FILE", help="write the log densities as a table")

    sample = add("sample", "draw rows from a flow, in the units of the table it was fitted to")
    sample.add_argument("flow", metavar="FLOW", help="a file that fit saved")
    sample.add_argument("n", metavar="N", type=_positive_int, help="how many rows")
    sample.add_argument("--output", metavar="FILE", required=True, help="the table to write")
    sample.add_argument("--seed", type=_seed, default=0, help="seed of the draws (default 0)")

    information = add("information", "measure entropy and dependence of a table, in nats")
    information.add_argument("table", metavar="TABLE", help=_TABLE)
    information.add_argument(
        "--columns", metavar="A,B,…", type=_names, help="the columns to use (default all)"
    )
    information.add_argument(
        "--exclude", metavar="A,B,…", type=_names, default=[], help="columns to leave out"
    )
    information.add_argument(
        "--between",
        nargs=2,
        metavar=("A,B,…", "C,D,…"),
        type=_names,
        help="the mutual information of two blocks of columns instead",
    )
    information.add_argument("--seed", type=_seed, default=0, help="seed of the fits (default 0)")

    info = add("info", "say what a saved flow is and how it was fitted")
    info.add_argument("flow", metavar="FLOW", help="a file that fit saved")
    return parser


def _add_fit(fit: argparse.ArgumentParser) -> None:
    fit.add_argument("table", metavar="TABLE", help=_TABLE)
    fit.add_argument("--output", metavar="FLOW", required=True, help="where to save the flow")
    fit.add_argument(
        "--columns", metavar="A,B,…", type=_names, help="the columns to use (default all)"
    )
    fit.add_argument(
        "--exclude", metavar="A,B,…", type=_names, default=[], help="columns to leave out"
    )
    fit.add_argument(
        "--family",
        choices=FAMILIES,
        default="auto",
        help="the kind of flow; auto lets held-back rows choose (default)",
    )
    fit.add_argument("--n-layers", type=_positive_int, metavar="N", help="blocks of the flow")
    fit.add_argument(
        "--n-components", type=_positive_int, metavar="K", help="components of each mixture"
    )
    fit.add_argument("--max-epochs", type=_count, metavar="N", help="passes of training at most")
    fit.add_argument("--learning-rate", type=_positive, metavar="RATE", help="largest step")
    fit.add_argument("--batch-size", type=_positive_int, metavar="N", help="rows in a step")
    fit.add_argument("--seed", type=_seed, default=0, help="seed of split and training (default 0)")
    fit.add_argument(
        "--test-fraction",
        type=_fraction,
        default=0.2,
        metavar="F",
        help="share of rows held out for the comparison (default 0.2)",
    )
    fit.add_argument("--picture", metavar="FILE", help="draw the fit (.png, .pdf or .svg)")
    fit.add_argument("--report", metavar="FILE", help="judge the fit on one HTML page (.html)")
    fit.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments. Without any they are the process's, which is then taken to run
            nothing else: an interrupt ends it on the spot, with exit code 130.

    Returns:
        The exit code: 0 when all went well, 2 when the input is at fault, 130 when interrupted.
    """
    if argv is None:
        end_on_interrupt()
    code = _run(argv)
    if code == INTERRUPTED and argv is None:
        leave(code)
    return code


def _run(argv: Sequence[str] | None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        _command(arguments.command)(arguments)
    except InputError as fault:
        print(f"gauss-flows {arguments.command}: error: {fault}", file=sys.stderr)
        return 2
    except OSError as fault:
        if isinstance(fault, BrokenPipeError):
            # Whoever read our output has gone; nothing is left to say, at exit neither.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"gauss-flows {arguments.command}: error: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gauss-flows: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _command(name: str) -> Callable[[argparse.Namespace], None]:
    if name == "fit":
        from gauss_flows.cli.fit import run
    elif name == "score":
        from gauss_flows.cli.score import run
    elif name == "sample":
        from gauss_flows.cli.sample import run
    elif name == "information":
        from gauss_flows.cli.information import run
    else:
        from gauss_flows.cli.info import run
    return run


def _names(text: str) -> list[str]:
    """Split a list of names as a line of CSV, so that a quoted name may hold a comma."""
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True))]
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names between the commas; got {text!r}")
    return names


def _positive_int(text: str) -> int:
    return _parsed(text, int, lambda n: n > 0, "a whole number above 0")


def _count(text: str) -> int:
    return _parsed(text, int, lambda n: n >= 0, "a whole number from 0")


def _seed(text: str) -> int:
    return _parsed(text, int, lambda n: 0 <= n < 2**32, "a whole number from 0 to 2³² − 1")


def _positive(text: str) -> float:
    return _parsed(text, float, lambda x: 0 < x < float("inf"), "a number above 0")


def _fraction(text: str) -> float:
    return _parsed(text, float, lambda x: 0 < x < 1, "a number between 0 and 1")


def _parsed(text: str, kind: Callable[[str], _T], holds: Callable[[_T], bool], expected: str) -> _T:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"expected {expected}; got {text!r}")
    return value
