"""The program's door: commands are found lazily, and every fault ends in one line and the right exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from napari_pickbias import __version__
from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import is_users_matter, write_fault

COMMANDS = {
    "bias": "napari_pickbias.cli.bias",
    "bias-tomograms": "napari_pickbias.cli.bias_tomograms",
    "convert": "napari_pickbias.cli.convert",
    "demo": "napari_pickbias.cli.demo",
    "outliers": "napari_pickbias.cli.outliers",
    "pick": "napari_pickbias.cli.pick",
    "pickfree": "napari_pickbias.cli.pickfree",
    "simulate": "napari_pickbias.cli.simulate",
    "softmodes": "napari_pickbias.cli.softmodes",
}
EXIT_DONE, EXIT_OUR_FAULT, EXIT_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


class LazyGroup(click.Group):
    """Imports a command's module only when it is asked for, so that ``--help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, or None."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pickbias")
def cli() -> None:
    """How much of your cryo-EM picks and maps comes from the data, and how much from noise and junk.

    Every command writes a report that opens in any browser. Lengths are in Å; results go into --out DIR.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    0: done. 1: a fault of ours. 2: input or usage at fault, said in one line on standard error. 130: interrupted.
    """
    previous = _terminate_like_ctrl_c()
    try:
        cli.main(args=None if arguments is None else list(arguments), prog_name="pickbias", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (InputError, click.ClickException) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        return _say(text, EXIT_INPUT)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; finished pieces are kept: run again with --resume to go on", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (``pickbias ... | head``): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OUR_FAULT
    except OSError as error:
        if error.filename is not None and is_users_matter(error):
            return _say(str(write_fault(error.filename, error)), EXIT_INPUT)
        return _report_fault(error)
    except MemoryError:
        return _say("out of memory; use fewer --threads or a machine with more", EXIT_OUR_FAULT)
    except Exception as error:
        return _report_fault(error)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    return EXIT_DONE


def _say(text: str, code: int) -> int:
    print(f"pickbias: {' '.join(text.split())}", file=sys.stderr)
    return code


def _report_fault(error: Exception) -> int:
    if os.environ.get("PICKBIAS_TRACEBACK"):
        raise error
    return _say(
        f"a fault in pickbias itself ({type(error).__name__}: {error}); the traceback is in pickbias.log of the output "
        "folder, or set PICKBIAS_TRACEBACK=1 to see it here; please report it",
        EXIT_OUR_FAULT,
    )


def _terminate_like_ctrl_c() -> signal._HANDLER | None:
    """Let SIGTERM (a queue's time limit) end a run as Ctrl-C does; outside the main thread nothing is changed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        return signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        return None
