"""The command ``fsl_mrs_dl models``."""

from __future__ import annotations

from ..core.errors import DataError, OptionError
from .tables import members_text, print_accuracy, print_if_little_learnt, range_text, short_text

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    words = parser.add_subparsers(
        title="actions", dest="models", metavar="WORD", help="by default list", parser_class=type(parser)
    )
    parser.set_defaults(func=run, debug=False)
    for word, help_text in (
        ("list", "the networks that come with the package"),
        ("show", "a network, its purpose and its accuracy"),
        ("path", "the folder of a network"),
    ):
        job = words.add_parser(
            word, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", add_config_file_help=False
        )
        if word != "list":
            job.add_argument("model", metavar="MODEL", help="name, or folder of a network of yours")
        job.add_argument("--debug", action="store_true", help="show where an error arose")
        job.set_defaults(func=run)


def run(args) -> None:
    """Print trained networks: their list, one of them, or its folder."""
    from ..networks import model_cards

    if args.models in (None, "list"):
        for name in model_cards.model_names():
            print(f"{name:18}{model_cards.read_card(name)['what']}")
        return
    try:
        card = model_cards.read_card(args.model)
    except OptionError as exc:
        # Here the model is an argument without an option.
        raise OptionError(f"{exc.value}: {exc.problem}", remedy=exc.remedy) from exc
    if args.models == "path":
        print(card.folder.resolve())
        return
    model_cards.load(args.model)  # raises an error if the weights are not the card's
    try:
        _show(card)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as exc:
        raise DataError(
            f"{card.folder / 'card.json'}: lacks an entry, or has another there than this program writes ({exc!r})",
            remedy="train or copy it again",
        ) from exc


def _show(card) -> None:
    """Print a network's purpose, training and accuracy."""
    architecture, training = card["architecture"], card["training"]
    settings = ", ".join(f"{key} {short_text(value)}" for key, value in architecture["settings"].items() if value)
    print(f"{card.name}: {card['what']}")
    print(
        f"Network: {card.kind}"
        + (f" ({settings})" if settings else "")
        + f", {architecture['parameters']} parameters"
        + (f", {architecture['flops'] / 1e6:.1f} million operations for each" if "flops" in architecture else "")
    )
    print(
        f"Trained on: {training['basis']}, recipe {training['recipe']['name']}, {training['steps']} batches of"
        f" {training['batch_size']}, {training['minutes']:g} min on {training['device']}, seed"
        f" {training['seed']}{members_text(training)}"
    )
    timed = " (about: the learning rate of this one followed the clock)" if training.get("timed") else ""
    print(f"Again{timed}: {training['command']}")
    print("Made for: " + "; ".join(range_text(key, allowed) for key, allowed in card["ranges"].items()))
    print("Measured on held-back data:")
    print_accuracy(card)
    print_if_little_learnt(card)
    print(
        f"Weights: {card.folder / 'model.safetensors'}, SHA-256 {card['sha256'][:16]}..., versions "
        + ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    )
