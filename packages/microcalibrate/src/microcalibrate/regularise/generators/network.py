"""The network of the any-order generator: one trunk, and a head for each column."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from microcalibrate.regularise.generators.encoding import Encoding, Floats, Tokens
from microcalibrate.regularise.slots import Mask

DEPTH = 2
SIZES = ((256, 8, 12), (256, 8, 8), (192, 6, 8), (160, 4, 6), (128, 4, 4), (96, 3, 3), (64, 2, 2))
"""Width of the trunk, numbers per column that go in, and that come out, from large to small."""
GROUPS = (4, 16, 48)
"""Columns with at most so many tokens share a block of the output, so that little is padding."""
N_HOLDOUT_MASKS = 8
DECAY, HEAD_DECAY = 0.1, 1.0
DEPARTURES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""How far a column's logits may go from those of its marginal; chosen on held-out records."""


class Network(nn.Module):
    """Chances of the tokens of every column, given any of the others.

    Each column's token, or the mark that it is not known, is embedded; residual layers mix the
    columns; a column's head compares what comes out with an embedding of each of its tokens.

    Args:
        encoding: Tokens of the columns.
        size: Width, numbers in and numbers out; see `SIZES`.
        dropout: Chance that a number inside a residual layer is left out in training.
    """

    departure: Tensor

    def __init__(self, encoding: Encoding, size: tuple[int, int, int], dropout: float) -> None:
        super().__init__()
        width, n_in, n_out = size
        n_tokens = [int(n) for n in encoding.n_tokens]
        n_columns, total = len(n_tokens), sum(n_tokens)
        self.n_in, self.n_out, self.dropout = n_in, n_out, dropout
        starts = np.concatenate([[0], np.cumsum(n_tokens)[:-1]])
        self.starts = torch.as_tensor(starts)
        self.first_mark = total
        self.read = nn.Parameter(_embeddings(encoding, n_in, n_columns))
        self.mix = nn.Linear(n_columns * n_in, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(DEPTH + 1))
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(DEPTH))
        self.outer = nn.ModuleList(nn.Linear(width, width) for _ in range(DEPTH))
        self.write = nn.Parameter(torch.zeros(n_columns, width, n_out))
        self.shift = nn.Parameter(torch.zeros(n_columns, n_out))
        # With `write` at zero, the network begins as the independent marginals.
        self.answers = nn.Parameter(_embeddings(encoding, n_out, 0))
        self.bias = nn.Parameter(torch.zeros(total))
        share = np.concatenate([of.share for of in encoding.of]).clip(min=1e-9)
        self.marginal = torch.as_tensor(np.log(share), dtype=torch.float32)
        self.register_buffer("departure", torch.ones(n_columns))
        for layer in self.outer:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        self.groups = [
            (
                torch.tensor(members),
                _table([starts[i] for i in members], [n_tokens[i] for i in members]),
            )
            for members in _grouped(n_tokens)
        ]
        self.table = _table(list(starts), n_tokens)

    def indices(self, tokens: Tensor, known: Tensor) -> Tensor:
        """Rows of `read`: that of the token where it is known, and of the mark where it is not."""
        marks = self.first_mark + torch.arange(tokens.shape[1])
        return torch.where(known & (tokens >= 0), tokens + self.starts, marks)

    def trunk(self, mixed: Tensor) -> Tensor:
        """What the heads read, from the mixture of all columns."""
        for norm, inner, outer in zip(self.norms, self.inner, self.outer, strict=False):
            hidden = functional.gelu(inner(norm(mixed)))
            mixed = mixed + outer(functional.dropout(hidden, self.dropout, self.training))
        return self.norms[DEPTH](mixed)  # type: ignore[no-any-return]

    def load_numpy(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take the parameters of a saved network.

        Raises:
            RuntimeError: If they do not fit.
        """
        self.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})

    def losses(self, tokens: Tensor, known: Tensor) -> Tensor:
        """Minus the log chance of each token, shape `(n_rows, n_columns)`; 0 where it is -1."""
        embedded = self.read[self.indices(tokens, known)]
        hidden = self.trunk(self.mix(embedded.flatten(1)))
        found = torch.zeros(tokens.shape)
        for members, table in self.groups:
            asked = torch.einsum("bh,chk->bck", hidden, self.write[members]) + self.shift[members]
            logits = self._logits(asked, table, members, "bck,clk->bcl")
            aims = tokens[:, members]
            flat = functional.cross_entropy(
                logits.flatten(0, 1), aims.flatten(), reduction="none", ignore_index=-1
            )
            found = found.index_copy(1, members, flat.view(aims.shape))
        return found

    def incoming(self) -> Tensor:
        """What each token and each mark adds to the mixture, shape `(n_tokens + marks, width)`."""
        parts = self.mix.weight.view(-1, len(self.write), self.n_in)
        marks = torch.arange(len(self.write))
        owner = torch.cat([marks.repeat_interleave(self._counts()), marks])
        return torch.einsum("tk,htk->th", self.read, parts[:, owner])

    def logits_of(self, mixed: Tensor, columns: Tensor) -> Tensor:
        """Logits of one column for each row; minus infinity past its last token."""
        hidden = self.trunk(mixed)
        asked = torch.einsum("bh,bhk->bk", hidden, self.write[columns]) + self.shift[columns]
        return self._logits(asked, self.table[columns], columns, "bk,blk->bl")

    def _logits(self, asked: Tensor, table: Tensor, columns: Tensor, how: str) -> Tensor:
        tokens = table.clamp(min=0)
        change = torch.einsum(how, asked, self.answers[tokens]) + self.bias[tokens]
        logits = self.marginal[tokens] + self.departure[columns][:, None] * change
        return logits.masked_fill(table < 0, -torch.inf)

    def _counts(self) -> Tensor:
        ends = torch.cat([self.starts[1:], torch.tensor([self.first_mark])])
        return ends - self.starts


@dataclass(frozen=True, eq=False)
class Training:
    """How a network is trained; see `AnyOrder`."""

    max_epochs: int
    patience: int
    batch_size: int
    learning_rate: float


def make_network(encoding: Encoding, max_parameters: int, dropout: float) -> Network | None:
    """The largest network of `SIZES` that fits, None if none does; small tables get narrow ones."""
    n_columns, total = len(encoding.of), int(encoding.n_tokens.sum())
    enough = 32 * int(np.ceil((64 + 8 * n_columns) / 32))
    for width, n_in, n_out in SIZES:
        width = min(width, enough)
        layers = DEPTH * 2 * (width + 1) * width + (DEPTH + 1) * 2 * width
        ways_in = (total + n_columns) * n_in + (n_columns * n_in + 1) * width
        ways_out = total * (n_out + 1) + n_columns * (width + 1) * n_out
        n_parameters = ways_in + layers + ways_out
        if n_parameters <= max_parameters:
            return Network(encoding, (width, n_in, n_out), dropout)
    return None


@contextmanager
def reproducible(seed: int, n_threads: int) -> Iterator[None]:
    """Run torch with a seed and a number of threads of its own, and put both back afterwards."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(n_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


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

    Args:
        network: Trained in place; ends with the parameters that were best on held-out records.
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
    judged_parts = [
        (torch.as_tensor(part), hidden_cells(encoding, len(part), rng))
        for _ in range(N_HOLDOUT_MASKS)
        for part in np.array_split(judged, max(1, len(judged) // 1024))
    ]
    all_tokens, all_exists = torch.as_tensor(tokens), torch.as_tensor(exists)
    all_importance = torch.as_tensor(importance, dtype=torch.float32)

    def loss(rows: Tensor, hidden: Mask) -> Tensor:
        unknown = torch.as_tensor(hidden) & all_exists[rows]
        costs = network.losses(all_tokens[rows], torch.as_tensor(~hidden))
        costs = (costs * unknown).sum(dim=1) / unknown.sum(dim=1).clamp(min=1)
        return (costs * all_importance[rows]).sum()

    def judge() -> float:
        network.eval()
        with torch.no_grad():
            total = sum(float(loss(rows, masks)) for rows, masks in judged_parts)
        network.train()
        return total / (N_HOLDOUT_MASKS * float(importance[judged].sum()))

    def column_losses() -> Tensor:
        total = torch.zeros(tokens.shape[1], dtype=torch.float64)
        with torch.no_grad():
            for rows, masks in judged_parts:
                unknown = torch.as_tensor(masks) & all_exists[rows]
                costs = network.losses(all_tokens[rows], torch.as_tensor(~masks)) * unknown
                total += (costs * all_importance[rows][:, None]).double().sum(dim=0)
        return total

    # What makes a head depart from the marginal decays, so that only evidence keeps it up.
    heads = {"write", "bias", "shift"}
    groups = [
        {"params": [p for n, p in network.named_parameters() if (n in heads) == is_head],
         "weight_decay": HEAD_DECAY if is_head else DECAY}
        for is_head in (True, False)
    ]  # fmt: skip
    optimiser = torch.optim.AdamW(groups, lr=how.learning_rate)
    history = [judge()]
    best, best_state, waited = history[0], copy.deepcopy(network.state_dict()), 0
    if progress is not None:
        progress(0, history[0])
    for epoch in range(1, how.max_epochs + 1):
        order = rng.permutation(learnt)
        for first in range(0, len(order), how.batch_size):
            rows = torch.as_tensor(order[first : first + how.batch_size])
            optimiser.zero_grad()
            (loss(rows, hidden_cells(encoding, len(rows), rng)) / len(rows)).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
        history.append(judge())
        if progress is not None:
            progress(epoch, history[-1])
        if history[-1] < best:
            best, best_state, waited = history[-1], copy.deepcopy(network.state_dict()), 0
        else:
            waited += 1
            if waited % max(how.patience // 3, 1) == 0:
                for group in optimiser.param_groups:
                    group["lr"] /= 2
            if waited >= how.patience:
                break
    network.load_state_dict(best_state)
    network.eval()
    _choose_departures(network, column_losses)
    return history


def _choose_departures(network: Network, column_losses: Callable[[], Tensor]) -> None:
    """Let each column depart from its marginal as far as it helps on held-out records."""
    found = []
    for departure in DEPARTURES:
        network.departure.fill_(departure)
        found.append(column_losses())
    # The first of equals: a column without held-out cells departs fully, as it was trained.
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
        known |= (way < 0.2)[:, None] & encoding.is_present
        only_slots = np.flatnonzero((way >= 0.2) & (way < 0.35))
        known[np.ix_(only_slots, np.flatnonzero(encoding.presence >= 0))] = False
        for number, slots in enumerate(encoding.slots.values()):
            first = np.floor(n_slots[only_slots, number] * (len(slots) + 1))
            known[np.ix_(only_slots, np.array(slots))] = np.arange(len(slots)) < first[:, None]
    if encoding.is_structure.any() and not encoding.is_structure.all():
        known |= ((way >= 0.35) & (way < 0.6))[:, None] & encoding.is_structure
    know_slots_of_known(encoding, known)
    return ~known


def know_slots_of_known(encoding: Encoding, known: Mask) -> None:
    """Whoever knows a cell of a slot knows whether the slot is filled: mark it in place."""
    for position in np.unique(encoding.presence[encoding.presence >= 0]):
        known[:, position] |= known[:, encoding.presence == position].any(axis=1)


def _embeddings(encoding: Encoding, size: int, n_marks: int) -> Tensor:
    """First embeddings: waves along the scale of what is ordered, random for other levels."""
    parts = []
    for of in encoding.of:
        part = torch.randn(of.n_tokens, size) / np.sqrt(size)
        if of.knots is not None or of.column.ordered:
            n_ranks = of.n_tokens - of.has_missing
            rank = (torch.arange(n_ranks) + 0.5) / max(n_ranks, 1)
            waves = torch.cos(torch.pi * rank[:, None] * torch.arange(1, size + 1))
            part[:n_ranks] = waves * np.sqrt(2 / size) + 0.1 * part[:n_ranks]
        parts.append(part)
    return torch.cat([*parts, torch.randn(n_marks, size) / np.sqrt(size)])


def _grouped(n_tokens: Sequence[int]) -> list[list[int]]:
    """Columns with about as many tokens each."""
    edges = np.searchsorted(GROUPS, n_tokens)
    return [np.flatnonzero(edges == edge).tolist() for edge in np.unique(edges)]


def _table(starts: Sequence[Any], counts: Sequence[int]) -> Tensor:
    """Positions of the tokens of some columns, a row each, -1 past the last."""
    table = torch.full((len(counts), max(counts)), -1)
    for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
        table[row, :count] = int(start) + torch.arange(count)
    return table
