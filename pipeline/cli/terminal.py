"""What all commands have in common on a terminal: the lines that they print, and the layout of their help.

Imports click alone, because `--help` and `--version` import it too.
"""

import re

import click

QUIET = "pipeline.quiet"
"""The key of `--quiet` in the click context of the running command."""

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All control characters but tabs and line feeds: a terminal obeys them instead of showing them."""


def is_quiet() -> bool:
    """Return True if the running command was called with `--quiet`."""
    context = click.get_current_context(silent=True)
    return context is not None and QUIET in context.meta


def echo(line: str, *, err: bool = False) -> None:
    """Print a line for people on stdout, or on stderr with `err`, unless the command was called with `--quiet`."""
    if not is_quiet():
        echo_always(line, err=err)


def echo_always(line: str, *, err: bool = False) -> None:
    """Print a line for people on stdout, or on stderr with `err`, even if the command was called with `--quiet`."""
    click.echo(strip_control_characters(line), err=err)


def strip_control_characters(text: str) -> str:
    """Return the text with a replacement character for each control character but tabs and line feeds."""
    return _CONTROL_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text)


OUTPUT = frozenset({"output", "as_json", "quiet", "log_level", "log_format"})
"""The names of the parameters about what is printed, and where: one heading of the help."""


class SettingOption(click.Option):
    """A click option that overrides a setting."""


class _WithExample(click.Command):
    """A click command whose help ends with an example of a call."""

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog, a call of the command, as it is to be typed: unlike click, without folding it."""
        if self.epilog:
            with formatter.section("Example"):
                formatter.write(f"{'':{formatter.current_indent}}{self.epilog}\n")


class Command(_WithExample):
    """A click command whose help lists its options under headings, and ends with an example of a call."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's options into its help, under headings; a heading without options is left out."""
        for heading in ("Options", "Settings", "Output"):
            params = self.get_params(ctx)
            options = [param for param in params if isinstance(param, click.Option) and _heading(param) == heading]
            if records := [record for option in options if (record := option.get_help_record(ctx))]:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Group(_WithExample, click.Group):
    """A click group of commands, whose help ends with an example of a call."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names of the commands with the first sentence of each one's help, which click would cut."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summary(ctx, name)) for name in self.list_commands(ctx)])

    def summary(self, ctx: click.Context, name: str) -> str:
        """Return the first paragraph of a command's help, one sentence."""
        command = self.get_command(ctx, name)
        return ((command and command.help) or "").split("\n\n")[0].strip()


def _heading(option: click.Option) -> str:
    if option.name in OUTPUT or "--help" in option.opts:
        return "Output"
    return "Settings" if isinstance(option, SettingOption) else "Options"
