"""End of a training by second order, on all spectra at once."""

from __future__ import annotations

import torch

__all__ = ["ITERATIONS_AT_ONCE", "ROUNDS_WITHOUT_GAIN", "polish_weights"]

ITERATIONS_AT_ONCE, ROUNDS_WITHOUT_GAIN = 20, 10


def polish_weights(network, used: dict, held: dict, iterations: int) -> dict:
    """Train on by L-BFGS on all spectra at once, while the loss of held-back spectra falls.

    A small network with thousands of inputs is far from its optimum when batches show no more gain.

    Parameters
    ----------
    network : torch.nn.Module
        With ``loss_on(views, targets)``; keeps the weights with the lowest loss on held-back spectra.
    used, held : dict
        ``view`` and ``target`` of the spectra to train on, and of those for validation.
    iterations : int
        At most.

    Returns
    -------
    dict
        Entries of the model card: ``polished``, the iterations, and ``validation_loss``.
    """
    network.eval()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.LBFGS(weights, max_iter=ITERATIONS_AT_ONCE, history_size=30, line_search_fn="strong_wolfe")
    loss_of_used, loss_of_held = (network.loss_on(part["view"], part["target"]) for part in (used, held))

    def closure():
        optimiser.zero_grad()
        loss = loss_of_used()
        loss.backward()
        return loss

    def held_back_loss() -> float:
        with torch.no_grad():
            return float(loss_of_held())

    def state() -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in weights]

    least, best, done, waited = held_back_loss(), state(), 0, 0
    while done < iterations and waited < ROUNDS_WITHOUT_GAIN:
        optimiser.step(closure)
        done, value = done + ITERATIONS_AT_ONCE, held_back_loss()
        waited += 1
        if value < least:
            least, best, waited = value, state(), 0
    with torch.no_grad():
        for weight, kept in zip(weights, best):
            weight.copy_(kept)
    return {"polished": done, "validation_loss": least}
