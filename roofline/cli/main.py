"""The `roofline` command: a table of commands, each imported only when it is asked for.

To add a command, add one row to `COMMANDS` and one module that holds

- ``run``: a function with typer parameters; its docstring is the help text; or ``app``, a
  ``typer.Typer`` (see `command_group`), where the command has commands of its own;
- ``EXAMPLES``: lines shown under the help, each a command that works.

A command never catches errors: it raises `RooflineError` for what the user can put right, and `run`
here turns that into one line on stderr and exit status 2. It prints through `roofline.cli.output`,
builds tables with `roofline.cli.tables`, and gets model, hardware and workload with one parameter::

    @takes_settings
    def run(given: Given, metric: Annotated[str, typer.Option(help="What to plot.")] = "tpot") -> None:
        scenario = given.scenario()

`roofline.cli.flags.takes_settings` puts the arguments MODEL HARDWARE (or a scenario file) and one
option for each field of `Settings` in the place of that parameter.
"""

import gc
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

import roofline
from roofline.cli.command import Command, made_lazy
from roofline.errors import RooflineError, UnknownNameError, nearest

__all__ = ["COMMANDS", "EXAMPLES", "Entry", "application", "build", "command_group", "run", "status_of"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A command's module and its line in the list of commands."""

    module: str
    summary: str


#: Every command, in the order help shows them.
COMMANDS: Final[dict[str, Entry]] = {
    "analyze": Entry(
        module="roofline.cli.analyze",
        summary="Time, memory and bottleneck of a model on hardware.",
    ),
    "serve": Entry(
        module="roofline.cli.serve", summary="A loaded server: first token, next tokens and throughput."
    ),
    "speculate": Entry(
        module="roofline.cli.speculate",
        summary="Which draft tree to use, what it gains, and when not to speculate.",
    ),
    "compare": Entry(
        module="roofline.cli.compare",
        summary="Models, devices or settings side by side, and where the time went.",
    ),
    "sweep": Entry(module="roofline.cli.sweep", summary="A grid of settings as one table."),
    "offload": Entry(
        module="roofline.cli.offload",
        summary="Where a model that does not fit should live, by memory budget.",
    ),
    "ring": Entry(
        module="roofline.cli.ring", summary="One model over unlike devices that pass a token around."
    ),
    "reason": Entry(
        module="roofline.cli.reason",
        summary="What several or longer answers cost, and what a solved problem does.",
    ),
    "validate": Entry(
        module="roofline.cli.validate",
        summary="How far predictions lie from your measurements.",
    ),
    "calibrate": Entry(
        module="roofline.cli.calibrate", summary="Profiles from this machine or from your own measurements."
    ),
    "reproduce": Entry(
        module="roofline.cli.reproduce",
        summary="Published numbers of other tools and papers beside ours.",
    ),
    "plot": Entry(module="roofline.cli.plot", summary="Charts for papers, with their data and captions."),
    "cite": Entry(module="roofline.cli.cite", summary="BibTeX of everything an answer rests on."),
    "list": Entry(module="roofline.cli.listing", summary="What the catalogue holds."),
    "show": Entry(
        module="roofline.cli.showing", summary="One model, device, system, link or storage, figure by figure."
    ),
}

#: Exit statuses.
WRONG_USE, FAILURE, INTERRUPTED = 2, 1, 130

_HELP: Final = """Analytic performance model of LLM inference.

Give it a model, a device and a workload; it says how long prefill and decode take, what binds,
how sure it is, and what would change the answer."""

EXAMPLES: Final = """
roofline analyze llama-3.1-8b h100-sxm
roofline analyze llama-3.1-70b h100-sxm --devices 4 --batch 32 --prompt 2048 --weights fp8
roofline analyze llama-3.1-8b rtx-4090 --weights q4_k_m --explain
roofline list hardware
"""


def command_group(help: str) -> typer.Typer:
    """Return an empty group in this program's style: plain text, no tracebacks of its own."""
    return typer.Typer(
        help=help,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings=_CONTEXT,
    )


_CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _epilog(examples: str) -> str:
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    return f"\b\nExamples:\n{lines}" if lines else ""


def build(name: str) -> Any:
    """Return the command of that name, importing its module."""
    module = import_module(COMMANDS[name].module)
    epilog = _epilog(getattr(module, "EXAMPLES", ""))
    app = getattr(module, "app", None)
    if app is None:
        app = command_group("")
        app.command(name, cls=Command, epilog=epilog, no_args_is_help=False)(module.run)
    command = typer.main.get_command(app)
    command.name, command.epilog = name, epilog
    return command


class _Commands(TyperGroup):
    """A group that knows its commands' names and imports the one that is run."""

    def get_params(self, ctx: Any) -> list[Any]:
        return made_lazy(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return build(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UnknownNameError(f"no command is called {args[0]!r}{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"roofline {roofline.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


def application() -> Any:
    """Return the whole command line as one command."""
    app = typer.Typer(
        cls=_Commands,
        help=_HELP,
        epilog=_epilog(EXAMPLES),
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings=_CONTEXT,
    )
    app.callback()(_root)
    return typer.main.get_command(app)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    # A run allocates much and frees little, and nothing here uses pydantic plugins: without the two
    # lines a start takes 7 % longer.
    gc.set_threshold(100_000)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    # Arithmetic that goes wrong ends in a number that is refused; other warnings are one line.
    warnings.simplefilter("ignore", RuntimeWarning)
    warnings.showwarning = lambda message, *_: typer.echo(f"roofline: warning: {message}", err=True)
    status = status_of(lambda: application()(arguments, prog_name="roofline", standalone_mode=False))
    # The interpreter would search everything for cycles as it ends, another 10 %.
    gc.freeze()
    sys.exit(status)


def status_of(call: Callable[[], object]) -> int:
    """Return the exit status of a call, having told on stderr what went wrong."""
    try:
        result = call()
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except RooflineError as error:
        return _complain(str(error), WRONG_USE)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", INTERRUPTED)
    except OSError as error:
        return _complain(f"{error.filename or 'the answer'}: {error.strerror or error}", FAILURE)
    except ArithmeticError:
        return _complain("no answer: a rate or size that something is divided by is zero", WRONG_USE)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(str(error), err=True)
            return WRONG_USE
        if hasattr(error, "format_message"):
            return _complain(error.format_message().replace("Value error, ", "").rstrip("."), WRONG_USE)
        if os.environ.get("ROOFLINE_DEBUG") == "1":
            raise
        found = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _complain(_one_line(f"internal error: {found} (ROOFLINE_DEBUG=1 shows where)"), FAILURE)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _complain(message: str, status: int) -> int:
    typer.echo(f"roofline: {_one_line(message)}", err=True)
    return status
