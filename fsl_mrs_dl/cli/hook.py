"""The command ``fsl_mrs_dl hook``."""

from __future__ import annotations

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "action",
        choices=("on", "off", "status"),
        help="off leaves FSL-MRS as it is in this environment until on; status prints which it is",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=run)


def run(args) -> None:
    """Switch the hook on or off, or print its state."""
    from ..fslmrs import switch

    if args.action == "off":
        print(f"Written: {switch.turn_off()}")
    elif args.action == "on":
        for path in switch.turn_on():
            print(f"{'Written' if path.exists() else 'Removed'}: {path}")
    print(f"The hook is {switch.status()[1]}.")
