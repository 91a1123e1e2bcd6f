"""Training of the any-order network on random sets of hidden cells."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from microcalibrate.regularise.generators.encoding import Encoding, Floats, Tokens
from microcalibrate.regularise.generators.layout import follow, know_slots_of_known
from microcalibrate.regularise.generators.network import Network
from microcalibrate.regularise.slots import Mask

N_HOLDOUT_MASKS = 4
DECAY = 0.1
AVERAGE = 0.98
"""Share of the running average of the parameters that stays at each step."""
WARM_STEPS = 100
DEPARTURES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""How far a kind's logits may go from those of its marginal; chosen on held-out records."""


@dataclass(frozen=True, eq=False)
class Training:
    """How a network is trained; see `AnyOrder`."""

    max_epochs: int
    max_steps: int
    patience: int
    batch_size: int
    learning_rate: float

    def n_epochs(self, n_rows: int) -> int:
        """Passes over so many rows, at most."""
        return min(self.max_epochs, -(-self.max_steps // self.n_steps(n_rows)))

    def n_steps(self, n_rows: int) -> int:
        """Steps of a pass over so many rows."""
        return -(-n_rows // self.batch_size)

    def rate(self, step: int, n_steps: int) -> float:
        """Share of the step size: it rises over the first steps, and falls along a cosine."""
        warm = max(1, min(WARM_STEPS, n_steps // 10))
        return min(1.0, (step + 1) / warm) * 0.5 * (1 + float(np.cos(np.pi * step / n_steps)))


def train(
    network: Network,
    encoding: Encoding,
    tokens: Tokens,
    exists: Mask,
    weights: Floats,
    held_out: Mask,
    how: Training,
    rng: np.random.Generator,
    progress: Callable[[int, float], None] | None,
) -> list[float]:
    """Minimise the weighted loss over random masks until held-out records gain no more.

    The loss of a record is the mean over the cells that are hidden, times the number of cells it
    has: with a share of hidden cells that is uniform in (0, 1), this is the expected log
    likelihood over random orders (Hoogeboom et al. 2022, "Autoregressive diffusion models").
    What is judged and kept is a running average of the parameters (Polyak and Juditsky 1992).

    Args:
        network: Trained in place; ends with the averages that were best on held-out records.
        encoding: Of the tokens.
        tokens: Shape `(n_rows, n_columns)`; -1 where there is none.
        exists: Cells that exist.
        weights: Shape `(n_rows,)`, mean 1.
        held_out: Rows that are not learnt from.
        how: Settings.
        rng: For masks and the order of rows.
        progress: Called with the epoch and the held-out loss.

    Returns:
        Held-out loss before the first epoch and after each.
    """
    importance = weights * exists.sum(axis=1) / exists.sum(axis=1).mean()
    learnt, judged = np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def known_of(rows: Tokens) -> Mask:
        known = ~hidden_cells(encoding, len(rows), rng)
        follow(network.layout, tokens[rows].copy(), known)
        return known

    judged_parts = [
        (part, known_of(part))
        for _ in range(N_HOLDOUT_MASKS)
        for part in np.array_split(judged, max(1, len(judged) // 1024))
    ]

    def costs(of: Network, rows: Tokens, known: Mask) -> tuple[Tensor, Tensor]:
        unknown = torch.as_tensor(~known & exists[rows])
        return of.losses(tokens[rows], known) * unknown, unknown

    def loss(of: Network, rows: Tokens, known: Mask) -> Tensor:
        cost, unknown = costs(of, rows, known)
        by_row = cost.sum(dim=1) / unknown.sum(dim=1).clamp(min=1)
        return (by_row * torch.as_tensor(importance[rows], dtype=torch.float32)).sum()

    def judge(of: Network) -> float:
        of.eval()
        with torch.no_grad():
            total = sum(float(loss(of, rows, known)) for rows, known in judged_parts)
        of.train()
        return total / (N_HOLDOUT_MASKS * float(importance[judged].sum()))

    def kind_losses() -> Tensor:
        total = torch.zeros(len(network.departure), dtype=torch.float64)
        with torch.no_grad():
            for rows, known in judged_parts:
                cost, _ = costs(network, rows, known)
                weighted = cost * torch.as_tensor(importance[rows], dtype=torch.float32)[:, None]
                total.index_add_(0, network.kind, weighted.double().sum(dim=0))
        return total

    optimiser = torch.optim.AdamW(network.parameters(), lr=how.learning_rate, weight_decay=DECAY)
    n_epochs = how.n_epochs(len(learnt))
    n_steps = n_epochs * how.n_steps(len(learnt))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: how.rate(step, n_steps))
    averaged = copy.deepcopy(network)
    history = [judge(network)]
    best, best_state, waited = history[0], copy.deepcopy(network.state_dict()), 0
    if progress is not None:
        progress(0, history[0])
    for epoch in range(1, n_epochs + 1):
        order = rng.permutation(learnt)
        for first in range(0, len(order), how.batch_size):
            rows = order[first : first + how.batch_size]
            optimiser.zero_grad()
            (loss(network, rows, known_of(rows)) / len(rows)).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            scheduler.step()
            _draw_nearer(averaged, network)
        history.append(judge(averaged))
        if progress is not None:
            progress(epoch, history[-1])
        if history[-1] < best:
            best, waited = history[-1], 0
            best_state = copy.deepcopy(averaged.state_dict())
        else:
            waited += 1
            if waited >= how.patience:
                break
    network.load_state_dict(best_state)
    network.eval()
    _choose_departures(network, kind_losses)
    return history


def _draw_nearer(averaged: Network, network: Network) -> None:
    """One step of the running average."""
    with torch.no_grad():
        for mean, value in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.lerp_(value, 1 - AVERAGE)


def _choose_departures(network: Network, kind_losses: Callable[[], Tensor]) -> None:
    """Let each kind depart from its marginal as far as it helps on held-out records."""
    found = []
    for departure in DEPARTURES:
        network.departure.fill_(departure)
        found.append(kind_losses())
    # The first of equals: a kind without held-out cells departs fully, as it was trained.
    best = torch.stack(found).argmin(dim=0)
    network.departure.copy_(torch.tensor(DEPARTURES)[best])


def hidden_cells(encoding: Encoding, n_rows: int, rng: np.random.Generator) -> Mask:
    """Random cells to be told from the others, the share of them uniform in (0, 1).

    Households are drawn slots first, so some rows know their slots, or their whole structure, or
    no more than the first slots. Whoever knows a cell of a slot knows whether it is filled.
    The choice never looks at the data, so that what is missing says nothing.
    """
    n_columns = len(encoding.of)
    known = rng.random((n_rows, n_columns)) >= rng.random((n_rows, 1))
    way = rng.random(n_rows)
    n_slots = rng.random((n_rows, len(encoding.slots)))
    if encoding.slots:
        known |= (way < 0.15)[:, None] & encoding.is_present
        only_slots = np.flatnonzero((way >= 0.15) & (way < 0.3))
        known[np.ix_(only_slots, np.flatnonzero(encoding.presence >= 0))] = False
        for number, slots in enumerate(encoding.slots.values()):
            first = np.floor(n_slots[only_slots, number] * (len(slots) + 1))
            known[np.ix_(only_slots, np.array(slots))] = np.arange(len(slots)) < first[:, None]
    if encoding.is_structure.any() and not encoding.is_structure.all():
        before_values = ((way >= 0.3) & (way < 0.5))[:, None]
        known |= before_values & encoding.is_present
        known |= (before_values & encoding.is_link) & (rng.random((n_rows, 1)) < 0.5)
        known &= ~before_values | encoding.is_structure
        known |= ((way >= 0.5) & (way < 0.75))[:, None] & encoding.is_structure
    know_slots_of_known(encoding, known)
    return ~known
