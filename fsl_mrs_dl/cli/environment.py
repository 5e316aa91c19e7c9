"""The commands ``doctor``, ``hook`` and ``launchers``: what is installed, and how it works together with FSL-MRS."""

from __future__ import annotations


def _doctor_arguments(parser) -> None:
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=_doctor)


def _hook_arguments(parser) -> None:
    parser.add_argument(
        "action",
        choices=("on", "off", "status"),
        help="off keeps FSL-MRS as it is in this environment until on; status tells",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=_hook)


def _launchers_arguments(parser) -> None:
    parser.add_argument(
        "action",
        choices=("add", "remove", "status"),
        help="add makes them unless there are some, remove takes ours away",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=_launchers)


def _doctor(args) -> int:
    from .doctor import examine

    findings = examine()
    for finding in findings:
        print(finding)
    bad = sum(finding.mark == "!!" for finding in findings)
    print(
        "\nAll is well." if not bad else f"\n{bad} {'thing needs' if bad == 1 else 'things need'} mending (marked !!)."
    )
    return 1 if bad else 0


def _hook(args) -> None:
    from ..fslmrs import switch

    if args.action == "off":
        print(f"Written: {switch.turn_off()}")
    elif args.action == "on":
        for path in switch.turn_on():
            print(f"{'Written' if path.exists() else 'Removed'}: {path}")
    print(f"The hook is {switch.status()[1]}.")


def _launchers(args) -> None:
    from ..fslmrs import launchers

    if args.action == "add":
        print("Written: " + ", ".join(map(str, launchers.add())))
    elif args.action == "remove":
        removed = launchers.remove()
        print("Removed: " + ", ".join(map(str, removed)) if removed else "There are no launchers of FSL-MRS-DL here.")
    else:
        found = launchers.found()
        for name in launchers.NAMES:
            path, ours = found.get(name, (None, False))
            print(f"{name}: " + (f"{path} ({'of FSL-MRS-DL' if ours else 'not of FSL-MRS-DL'})" if path else "none"))
