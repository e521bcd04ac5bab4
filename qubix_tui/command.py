"""What our commands have in common: how their arguments are read, how they fail, and with which exit code."""

import argparse
import sys
from collections.abc import Callable
from typing import Final, NoReturn

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_INTERRUPTED: Final = 130


class CommandError(Exception):
    """A command can't go on.

    Args:
        message: One sentence: what is wrong and what to do.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


class RawFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that keeps the lines of the examples as they are written."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence that says where help is."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def exit_code(
    run: Callable[[], int], complain: Callable[[str], None], failures: tuple[type[Exception], ...]
) -> int:
    """Run a command and give its exit code, whatever becomes of it.

    Args:
        run: The command.
        complain: Called with the sentence of a failure.
        failures: What is a failure beside `CommandError`, with a sentence for people as its message.
    """
    try:
        return run()
    except CommandError as error:
        complain(str(error))
        return error.code
    except failures as error:
        complain(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, say) has what it wanted. Python would complain again when it flushes at exit.
        sys.stdout = None
        return 0
