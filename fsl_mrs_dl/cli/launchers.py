"""The command ``fsl_mrs_dl launchers``."""

from __future__ import annotations

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "action",
        choices=("add", "remove", "status"),
        help="add writes them unless there are some, remove deletes those of FSL-MRS-DL",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=run)


def run(args) -> None:
    """Add or remove the launchers, or print where they are."""
    from ..fslmrs import launchers

    if args.action == "add":
        print("Written: " + ", ".join(map(str, launchers.add())))
    elif args.action == "remove":
        removed = launchers.remove()
        print("Removed: " + ", ".join(map(str, removed)) if removed else "There are no launchers of FSL-MRS-DL here.")
    else:
        by_name = launchers.find()
        for name in launchers.NAMES:
            path, ours = by_name.get(name, (None, False))
            print(f"{name}: " + (f"{path} ({'of FSL-MRS-DL' if ours else 'not of FSL-MRS-DL'})" if path else "none"))
