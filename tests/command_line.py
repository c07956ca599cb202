"""The parser of `shuttle`, asked without running anything."""

from collections.abc import Iterator, Sequence
from typing import Any

import typer

from shuttlelib import cli

APP: Any = typer.main.get_command(cli.app)


def commands(group: Any = APP, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        if not inner or command.invoke_without_command:
            yield (*names, name)
        if inner:
            yield from commands(command, (*names, name))


def problem(words: Sequence[str]) -> str:
    """What is wrong with a command line's words after `shuttle`: no such command or option; "" if nothing."""
    command, rest = APP, list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    if getattr(command, "commands", None) and not command.invoke_without_command:
        return f"no command {' '.join(words)!r}"
    try:
        command.make_parser(command.context_class(command)).parse_args(rest)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return str(error.format_message())
    return ""
