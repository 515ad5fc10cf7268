"""What every command has in common while it runs: threads, a profile, and ending when it is told to."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from persona_interp.cli import arguments
from persona_interp.threads import set_threads

FORMAT_VERSION = 1

_WITHOUT_TABLES = (
    "demo",
    "download-gptoss",
    "export",
    "models fetch",
    "models path",
    "models remove",
    "serve",
    "traits add",
    "traits show",
)


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C asked for an end; what is done at Ctrl-C is done then too.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def add_running_options(parser: argparse.ArgumentParser) -> None:
    """``--json``, ``--threads`` and ``--profile``, for a command and the commands within it."""
    within = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in within:
        for inner in dict.fromkeys(action.choices.values()):
            add_running_options(inner)
    if within:
        return
    group = parser.add_argument_group("running")
    if not (
        parser.prog.partition(" ")[2] in _WITHOUT_TABLES or any("--json" in action.option_strings for action in parser._actions)
    ):
        group.add_argument("--json", dest="json_tables", action="store_true", help="print tables as JSON, with all digits")
    group.add_argument(
        "--threads",
        type=arguments.count,
        metavar="N",
        help="threads to compute with (default: OMP_NUM_THREADS, else the cores that this process may use)",
    )
    group.add_argument(
        "--profile", type=Path, metavar="FILE.json", help="write what each step took: seconds, tokens, peak memory"
    )


@contextmanager
def running(args: argparse.Namespace, argv: Sequence[str] | None) -> Iterator[None]:
    """The frame of a command: its threads, signals that end it, and its profile, which is written however it ends.

    Raises:
        PersonaInterpError: the profile cannot be written.
    """
    set_threads(args.threads)
    with _ended_by_signals():
        if args.profile is None:
            yield
            return
        from persona_interp.profiling import profiled

        path, words = arguments.json_result(args.profile), list(sys.argv[1:] if argv is None else argv)
        profile, ended = None, "worked"
        try:
            with profiled("the whole command") as profile:
                yield
        except BaseException as error:
            ended = type(error).__name__
            raise
        finally:
            if profile is not None:
                _write(path, {"command": words, "ended": ended, "steps": profile.to_json()})


@contextmanager
def printing(args: argparse.Namespace) -> Iterator[None]:
    """With ``--json`` the tables of a command are printed as one JSON value at its end, and its other lines go to stderr."""
    if not getattr(args, "json_tables", False):
        yield
        return
    from persona_interp.cli import tables

    with tables.collected() as found:
        yield
    print(found.to_json())


def _write(path: Path, found: dict[str, object]) -> None:
    from persona_interp.provenance import provenance
    from persona_interp.storage import write_json

    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    write_json(path, {"format_version": FORMAT_VERSION, **found, "threads": threads, "provenance": provenance()})


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within the block a signal to end (of a scheduler, or a terminal that closes) is an exception, as Ctrl-C is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        raise Terminated(number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    for name, handler in before.items():
        if handler is signal.SIG_DFL:  # nohup, for one, has set another
            signal.signal(getattr(signal, name), end)
    try:
        yield
    finally:
        for name, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(getattr(signal, name), handler)


def exit_code(interrupt: BaseException) -> int:
    """What a shell reports for a program that a signal ended, Ctrl-C if no other; a command may have raised it anew in words."""
    raised: BaseException | None = interrupt
    while raised is not None:
        if isinstance(raised, Terminated):
            return 128 + raised.number
        raised = raised.__context__
    return 128 + signal.SIGINT


def how_to_go_on(interrupt: KeyboardInterrupt, noted: Sequence[Path]) -> str:
    """What to tell who interrupted a command: what it said itself, else where the work is that the next run finds.

    Args:
        interrupt: that ended it.
        noted: folders it worked in.
    """
    from persona_interp.locks import kept_work

    if said := str(interrupt):
        return said
    folders = kept_work(noted)
    return f"To go on, give the same command again; what was made is in {', '.join(map(str, folders))}" if folders else ""
