"""python3 -m attnprune.reproduce figure2|figure3: flags, the server, and exit codes."""
from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
from typing import Sequence

from attnprune.client import Client
from attnprune.errors import Error, InvalidArgument, Unavailable
from attnprune.local_server import Program, local
from attnprune.reproduce import drawing
from attnprune.reproduce.data import RealLayer, Source, Synthetic
from attnprune.reproduce.figure import PARTIAL, FigureRun, note
from attnprune.reproduce.plan import AXES, Options, default_axes, parse_axis, validate

# The paper's three, what it leaves out, and the best there is.
DEFAULT_METHODS = ("gd", "wanda", "sparsegpt", "magnitude", "joint")
EXIT_CODES = ("Exit codes: 0 done; 1 a job failed, or a file could not be written; 2 wrong usage or input "
              "files; 3 server unreachable; 4 refused by the server; 130 interrupted.")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m attnprune.reproduce", epilog=EXIT_CODES,
        description="Draws the paper's figures anew, on calibration and on held-out data: a .csv and, with "
                    "matplotlib, two .svg files an axis.")
    figures = parser.add_subparsers(dest="figure", required=True)
    _add_figure2(figures.add_parser(
        "figure2", epilog=EXIT_CODES, formatter_class=_Help,
        help="error against lambda, n and rho on the paper's synthetic data (Section 6.1)"))
    _add_figure3(figures.add_parser(
        "figure3", epilog=EXIT_CODES, formatter_class=_Help,
        help="error against n and rho on a real layer with separate masks (Section 7)"))
    return parser


def _add_figure2(add: argparse.ArgumentParser) -> None:
    add.add_argument("--k", type=int, action="append",
                     help="calibration batches; a panel each; repeatable; default: 16 and 64")
    add.add_argument("--lambda", dest="lam", type=float, default=0.04,
                     help="the paper's, where it is not varied: gd gets lambda n times it, eta 0.1 / that")
    add.add_argument("--n", type=int, default=128, help="tokens of a batch, where it is not varied")
    _add_common(add, "figure2")
    add.add_argument("--d", type=int, default=64, help="width of weights and tokens")
    add.add_argument("--rank", type=int, default=4, help="of W_Q and W_K")
    add.add_argument("--x-std", type=float, default=1.0,
                     help="standard deviation of the tokens: the softmax is nearly one-hot at 1")
    add.add_argument("--held-out", type=int, default=8, help="held-out batches")


def _add_figure3(add: argparse.ArgumentParser) -> None:
    add.add_argument("--model", required=True, metavar="DIR", help="Hugging Face folder")
    add.add_argument("--layer", required=True, type=int, help="layer of the model, from 0")
    add.add_argument("--calibration", required=True, metavar="FILE[:NAME]",
                     help="sequences to choose from, (k, n, d); a seed chooses --k of them")
    add.add_argument("--held-out", required=True, metavar="FILE[:NAME]",
                     help="sequences that are only scored, all of them")
    add.add_argument("--k", type=int, action="append",
                     help="calibration sequences of a job; repeatable; default: half of them")
    add.add_argument("--n", type=int, default=0,
                     help="tokens that sequences are cut to, where it is not varied; 0: whole ones")
    _add_common(add, "figure3")


def _add_common(add: argparse.ArgumentParser, figure: str) -> None:
    add.add_argument("--rho", type=float, default=0.5,
                     help="fraction of weights removed, where it is not varied")
    add.add_argument("--seeds", type=int, default=3, help="runs of each point; mean and range are drawn")
    add.add_argument("--points", choices=("few", "full"), default="full",
                     help="of an axis: 3 or 4 for a quick look, or 5 to 9")
    add.add_argument("--axis", action="append", metavar="NAME[=X,...]",
                     help=f"draw this axis only ({', '.join(AXES[figure])}), at these points or the usual "
                          "ones; repeatable")
    add.add_argument("--method", action="append", metavar="NAME[:PARAMETER=NUMBER,...]",
                     help="draw these methods, as `attnprune info` lists them; repeatable; default: "
                          f"{', '.join(DEFAULT_METHODS)}, as far as the server has them")
    add.add_argument("--add-method", action="append", metavar="NAME[:PARAMETER=NUMBER,...]",
                     help="draw this one beside those; repeatable")
    add.add_argument("--output", required=True, metavar="DIR",
                     help="folder for the .csv and .svg files; made if it is missing")
    add.add_argument("--server", metavar="HOST:PORT", default=os.environ.get("ATTNPRUNE_SERVER") or None,
                     help="give the jobs to this server, with ATTNPRUNE_CA_FILE and so on; default: one of "
                          "its own")
    add.add_argument("--threads", type=int, default=0,
                     help="that solve a job, of its own server; 0: one a core")


def _connect(flags: argparse.Namespace) -> Client:
    if not flags.server:
        return local(threads=flags.threads)
    os.environ["ATTNPRUNE_SERVER"] = flags.server  # whose environment has the certificates and the token
    return Client()


def _options(flags: argparse.Namespace) -> Options:
    axes = [parse_axis(text, flags.figure, flags.points) for text in flags.axis or ()]
    ks = flags.k or ([16, 64] if flags.figure == "figure2" else [])
    return Options(figure=flags.figure, ks=ks, seeds=flags.seeds, lam=getattr(flags, "lam", 0.04),
                   n=flags.n, rho=flags.rho, axes=axes or default_axes(flags.figure, flags.points),
                   methods=list(flags.method or ()) + list(flags.add_method or ()))


def _add_default_methods(client: Client, options: Options) -> None:
    known = [one.name for one in client.server_info().methods]
    missing = [name for name in DEFAULT_METHODS if name not in known]
    if missing:
        note(f"left out, as the server does not have it: {', '.join(missing)}")
    options.methods = [name for name in DEFAULT_METHODS if name in known] + options.methods


def _draw(flags: argparse.Namespace, options: Options, stack: contextlib.ExitStack) -> int:
    client = stack.enter_context(_connect(flags))
    if not flags.method:
        _add_default_methods(client, options)
    scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attnprune-")))
    if flags.figure == "figure2":
        source: Source = Synthetic(scratch / "drawn", flags.d, flags.rank, flags.held_out, flags.x_std)
    else:
        program = Program("attnprune", client.connection.flags(scratch))
        layer = RealLayer(client, program, flags.model, flags.layer, flags.calibration, flags.held_out)
        stack.callback(layer.close)
        layer.complete(options, axes_given=bool(flags.axis))
        source = layer
    validate(options)
    folder = pathlib.Path(flags.output)
    folder.mkdir(parents=True, exist_ok=True)
    figure = FigureRun(client, options, source, folder)
    try:
        figure.run()
    except KeyboardInterrupt:
        goes_on = f"; {figure.running} goes on on the server" if figure.running and flags.server else ""
        kept = (f"the rows that were finished are in {folder}/*{PARTIAL}" if figure.rows
                else "nothing was finished")
        note(f"\ninterrupted; {kept}{goes_on}")
        return 130
    return 1 if figure.failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns an exit code."""
    flags = _parser().parse_args(arguments)
    if not drawing.available():
        note("no .svg files: matplotlib is not there (Debian: python3-matplotlib)")
    try:
        options = _options(flags)
        if flags.figure == "figure2":
            validate(options)
        code = 0
        with contextlib.ExitStack() as stack:
            code = _draw(flags, options, stack)
        return code
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    except Error as error:
        note(f"attnprune.reproduce: {error.message}")
        return 2 if isinstance(error, InvalidArgument) else 3 if isinstance(error, Unavailable) else 4
    except OSError as error:  # of which Unavailable is one too
        note(f"attnprune.reproduce: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
