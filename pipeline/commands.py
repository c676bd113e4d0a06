"""What all commands have in common: how their help is laid out."""

from collections.abc import Iterable

import click

OUTPUT = frozenset({"output", "as_json", "quiet", "log_level", "log_format"})


class SettingOption(click.Option):
    """An option that wins over a setting."""


class Command(click.Command):
    """A command whose help has the options under headings, and its epilog, a call of it, as an example."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each heading that has options."""
        for heading, options in _by_heading(self.get_params(ctx)).items():
            with formatter.section(heading):
                formatter.write_dl([record for option in options if (record := option.get_help_record(ctx))])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's own
        """Write the example."""
        _write_example(self, formatter)


class Group(click.Group):
    """A group of such commands, with an example too."""

    command_class = Command
    group_class = type

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's own
        """Write the example."""
        _write_example(self, formatter)


def _write_example(command: click.Command, formatter: click.HelpFormatter) -> None:
    """As it is to be typed: unlike click, without folding it."""
    if command.epilog:
        with formatter.section("Example"):
            formatter.write(f"{'':{formatter.current_indent}}{command.epilog}\n")


def _by_heading(params: Iterable[click.Parameter]) -> dict[str, list[click.Parameter]]:
    headings: dict[str, list[click.Parameter]] = {"What": [], "Settings": [], "Output": []}
    for param in params:
        if isinstance(param, click.Option):
            headings[_heading(param)].append(param)
    return {heading: options for heading, options in headings.items() if options}


def _heading(option: click.Option) -> str:
    if option.name in OUTPUT or "--help" in option.opts:
        return "Output"
    return "Settings" if isinstance(option, SettingOption) else "What"
