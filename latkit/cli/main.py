"""The entry point: lazy commands, one-line errors, exit codes."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import NoReturn

import click

from latkit.cli.config import add_config
from latkit.cli.output import print_json
from latkit.core.errors import InstallationError, Interrupted, LatkitError
from latkit.core.streams import OutputError, guarded_streams
from latkit.core.version import __version__

# Command, its module under latkit.cli, and its line in `latkit --help`: written here so that
# the help needs no command's imports.
_COMMANDS = {
    "doctor": ("doctor", "List what works on this machine, what does not, and the fix."),
    "demo": ("demo", "Run the whole path live on this machine in under two minutes."),
    "profile": ("profile", "Measure the latency of sampled architectures into a dataset."),
    "bundle": ("bundle", "Make a file that profiles a board without PyTorch."),
    "measure": ("measure", "Measure the latency of any networks, models or files."),
    "dataset": ("dataset", "Check, compare, merge, import, export and share datasets."),
    "train-lpm": ("train_lpm", "Train a latency prediction module on a dataset and publish it."),
    "predict": ("predict", "Predict latencies of architectures by a published LPM."),
    "search": ("search", "Search an architecture for a device whose LPM is published."),
    "retarget": ("retarget", "Choose architectures for other devices from a one-shot search."),
    "train": ("train", "Train an architecture from scratch and test it."),
    "export": ("export", "Write a network as an ONNX file or a TensorRT engine."),
    "draw": ("draw", "Draw an architecture as SVG, PNG or PDF."),
    "report": ("report", "Make one page of datasets, LPMs, searches, trainings and more."),
    "spaces": ("spaces", "List the search spaces and their settings."),
    "backends": ("backends", "List the backends and whether they work here."),
    "lpms": ("lpms", "List, show, compare and remove the LPMs in the registry."),
    "registry": ("registry", "Share LPMs with another registry: push, pull, sync."),
}

# What latkit requires and imports when a command needs it: package by the name of its module. Where
# one is missing, as after pip install --no-deps, that is no defect of latkit.
REQUIRED = {
    "filelock": "filelock", "fsspec": "fsspec", "jinja2": "jinja2", "matplotlib": "matplotlib",
    "moocore": "moocore", "numpy": "numpy", "onnx": "onnx", "PIL": "pillow",
    "platformdirs": "platformdirs", "pyarrow": "pyarrow", "rich": "rich",
    "safetensors": "safetensors", "sklearn": "scikit-learn", "scipy": "scipy",
    "threadpoolctl": "threadpoolctl", "tomli": "tomli", "torch": "torch",
    "torchvision": "torchvision", "typing_extensions": "typing-extensions",
}  # fmt: skip


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            if ctx.resilient_parsing:  # a shell completes what follows
                return None
            close = difflib.get_close_matches(cmd_name, _COMMANDS, n=1)
            hint = f"Did you mean {close[0]}?" if close else "See latkit --help."
            raise click.UsageError(f"There is no command {cmd_name!r}. {hint}")
        module = importlib.import_module(f"latkit.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        add_config(command, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="latkit")
def cli() -> None:
    """Measure, predict and search the latency of neural networks on any hardware.

    \b
    A new device in three commands:
      latkit profile --device my-gpu --n 1000
      latkit train-lpm
      latkit search --device my-gpu --data cifar10

    latkit doctor lists what works here; latkit demo shows all of it.
    """


def main() -> None:
    """Run the command line; every expected failure is one line on stderr."""
    with guarded_streams():
        _run()


def _run() -> None:
    try:
        code = cli.main(prog_name="latkit", standalone_mode=False) or 0
        sys.stdout.flush()
        sys.exit(code)
    except OutputError as error:
        if error.reader_left:
            sys.exit(error.exit_code)
        _fail(error)
    except LatkitError as error:
        _fail(error, as_json="--json" in sys.argv)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        help_hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            help_hint = f" See {error.ctx.command_path} --help."
        _print_error(f"{error.format_message()}{help_hint}")
        if "--json" in sys.argv:
            usage = {"code": "usage", "cause": error.format_message(), "fix": help_hint.strip()}
            print_json({"error": usage})
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        package = REQUIRED.get(error.name or "")
        if package is None:
            raise
        missing = f"{package} is not installed, which latkit requires"
        _fail(InstallationError(missing, f"pip install {package}"), as_json="--json" in sys.argv)
    except (KeyboardInterrupt, click.Abort):
        _print_error("interrupted")
        sys.exit(Interrupted.exit_code)


def _fail(error: LatkitError, as_json: bool = False) -> NoReturn:
    _print_error(str(error))
    if as_json:  # beside the line, for programs: its code stays when wordings change
        print_json({"error": error.to_dict()})
    sys.exit(error.exit_code)


def _print_error(message: str) -> None:
    # One line, whatever an underlying message contains.
    click.echo(f"latkit: {' '.join(message.split())}", err=True)


if __name__ == "__main__":
    main()
