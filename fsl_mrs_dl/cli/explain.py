"""The command ``fsl_mrs_dl explain``: entries of the troubleshooting page."""

from __future__ import annotations

from ..core.errors import OptionError
from ..core.topics import entries

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "topic", nargs="?", metavar="TOPIC", help="topic at the end of an error message; all without it"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=run)


def run(args) -> None:
    """Print the entry of a topic, or the list of topics."""
    every = entries()
    if args.topic is None:
        print("\n".join(every))
    elif args.topic in every:
        print(every[args.topic])
    else:
        raise OptionError(f"{args.topic}: is no topic", remedy=f"topics: {', '.join(every)}")
