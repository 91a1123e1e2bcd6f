"""The network of the any-order generator: records that look at each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from microcalibrate.regularise.generators.encoding import Encoding, Tokens
from microcalibrate.regularise.generators.layout import Layout, slot_odds
from microcalibrate.regularise.slots import Mask

SIZES = ((128, 16, 16), (96, 12, 12), (96, 8, 8), (64, 8, 8), (64, 4, 4), (32, 4, 4), (32, 2, 2))
"""Width of a record, numbers per cell that go in, and that come out, from large to small."""
N_HEADS = 4
N_DECODERS = 2
FIRST_LOOK = 4.0
"""Log of how much more three of the heads look along links, at first."""
GROUPS = (4, 16, 48)
"""Kinds with at most so many tokens share a block of the output, so that little is padding."""


class Residual(nn.Module):
    """A layer that adds to what goes in; nothing at first."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = dropout
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, states: Tensor) -> Tensor:
        """The same shape."""
        hidden = functional.gelu(self.inner(self.norm(states)))
        hidden = functional.dropout(hidden, self.dropout, self.training)
        return states + self.outer(hidden)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class View:
    """What is known of some rows, as the network reads it.

    Attributes:
        tokens: Of each cell, -1 where not known, `(n_rows, n_columns)`.
        cells: Row of `Network.incoming` for each cell, and one of zeros, `(n_rows, n_columns + 1)`.
        visible: Records that are known to be filled, `(n_rows, n_records)`.
        linked: Record that each record is known to link to, -1 for none,
            `(n_rows, n_kinds_of_links, n_records)`.
        odds: Log odds of `present` columns, `(n_rows, n_columns)`.
    """

    tokens: Tensor
    cells: Tensor
    visible: Tensor
    linked: Tensor
    odds: Tensor


class Network(nn.Module):
    """Chances of the tokens of every column, given any of the others.

    Each cell's token, or the mark that it is not known, is embedded; the cells of a record add up;
    a record looks at those that are known to be filled, and knows which of them it is linked to;
    the head of a cell compares what comes out with an embedding of each of its tokens. Columns of
    one kind share all parameters; the records differ by a place of their own.

    Args:
        encoding: Tokens of the columns.
        size: Width, numbers in and numbers out; see `SIZES`.
        dropout: Chance that a number inside a residual layer is left out in training.
    """

    departure: Tensor

    def __init__(self, encoding: Encoding, size: tuple[int, int, int], dropout: float) -> None:
        super().__init__()
        self.layout = layout = Layout(encoding)
        self.width, n_in, n_out = size
        n_tokens = layout.n_tokens.tolist()
        n_kinds, most = len(n_tokens), max(n_tokens)
        self.kind = torch.as_tensor(layout.kind)
        self.record = torch.as_tensor(layout.record)
        self.columns = torch.as_tensor(layout.columns)
        self.presence = torch.as_tensor(layout.presence)
        self.stride = most + 1
        self.table = _table(n_tokens)
        self.first = self.table[:, 0]
        marks = sum(n_tokens) + torch.arange(n_kinds)
        self.rows_read = torch.cat([self.table, marks[:, None]], dim=1)
        self.log_share = _log_shares(encoding, most)

        self.read = nn.Parameter(_embeddings(layout, n_in, n_kinds))
        self.enter = nn.Parameter(torch.randn(n_kinds, n_in, self.width) / np.sqrt(n_in))
        self.place = nn.Parameter(torch.randn(layout.n_records, self.width))
        self.encode = Residual(self.width, dropout)
        self.look = nn.LayerNorm(self.width)
        self.query, self.key, self.value, self.gather = (
            nn.Linear(self.width, self.width, bias=False) for _ in range(4)
        )
        # At first one head looks along links, one against them, one at records with the same link.
        first = FIRST_LOOK * torch.eye(3, N_HEADS).repeat_interleave(layout.n_kinds_of_links, 0)
        self.relation = nn.Parameter(first)
        self.decode = nn.Sequential(*(Residual(self.width, dropout) for _ in range(N_DECODERS)))
        self.norm = nn.LayerNorm(self.width)
        # With `write` and the rest of a head at zero, the network begins as the marginals.
        self.write = nn.Parameter(torch.zeros(n_kinds, self.width, n_out))
        self.shift = nn.Parameter(torch.zeros(n_kinds, n_out))
        self.answers = nn.Parameter(_embeddings(layout, n_out, 0))
        self.bias = nn.Parameter(torch.zeros(sum(n_tokens)))
        self.echo = nn.Parameter(torch.zeros(n_kinds, N_HEADS))
        self.listen = nn.Linear(self.width, N_HEADS)
        self.register_buffer("departure", torch.ones(n_kinds))

        self.blocks = []
        for block in layout.blocks:
            columns = layout.columns[block]
            columns = columns[:, columns[0] < len(layout.kind)]
            if not columns.size:
                continue
            kinds = layout.kind[columns[0]]
            parts = [
                (torch.as_tensor(part), torch.as_tensor(kinds[part]))
                for part in _grouped(layout.n_tokens[kinds])
            ]
            self.blocks.append((torch.as_tensor(block), torch.as_tensor(columns), parts))

    # --- What is known ----------------------------------------------------------------------------

    def view(self, tokens: Tokens, known: Mask) -> View:
        """What the network reads of rows.

        Args:
            tokens: Shape `(n_rows, n_columns)`; read where known, -1 for none.
            known: Of the same shape.
        """
        layout = self.layout
        seen = known & (tokens >= 0)
        cells = layout.kind * self.stride + np.where(seen, tokens, self.stride - 1)
        nothing = np.full((len(tokens), 1), len(layout.n_tokens) * self.stride)
        return View(
            torch.as_tensor(np.where(seen, tokens, -1)),
            torch.as_tensor(np.hstack([cells, nothing])),
            torch.as_tensor(self._filled(tokens) & self._filled(known)),
            torch.as_tensor(layout.linked(tokens, known)),
            torch.as_tensor(slot_odds(layout.encoding, tokens, known), dtype=torch.float32),
        )

    def _filled(self, values: npt.NDArray[Any]) -> Mask:
        """Records whose `present` column is 1 or True; the unit always is."""
        found = values[:, self.layout.presence] == 1
        found[:, 0] = True
        return np.asarray(found)

    def incoming(self) -> Tensor:
        """What each token and each mark adds to its record; the last row is zero."""
        read = self.read[self.rows_read.clamp(min=0)]
        table = torch.bmm(read, self.enter).flatten(0, 1)
        return torch.cat([table, torch.zeros(1, self.width)])

    def sums(self, table: Tensor, cells: Tensor) -> Tensor:
        """Records of which each has the given cells."""
        return functional.embedding_bag(cells, table, mode="sum", padding_idx=len(table) - 1)

    def encoded(self, sums: Tensor, records: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States of records by themselves, and what others see of them: keys and values."""
        states = self.encode(sums + self.place[records])
        seen = self.look(states)
        return states, self.key(seen), self.value(seen)

    def relations(self, linked: Tensor, records: Tensor) -> Tensor:
        """How far each head looks from some records at all of their row, for their links alone.

        Args:
            linked: Record that each record is known to link to, `(n, n_kinds_of_links, n_records)`.
            records: Those that look, the same number in each row, `(n, n_looking)`.

        Returns:
            Shape `(n, N_HEADS, n_looking, n_records)`.
        """
        _, n_links, n_records = linked.shape
        mine = linked.gather(2, records[:, None].expand(-1, n_links, -1))[..., None]
        theirs = linked[:, :, None]
        to = mine == torch.arange(n_records)
        back = theirs == records[:, None, :, None]
        same = (mine == theirs) & (mine >= 0)
        found = torch.cat([to, back, same], dim=1).to(self.relation.dtype)
        return torch.einsum("nlqr,lh->nhqr", found, self.relation)

    def looked(
        self, states: Tensor, keys: Tensor, values: Tensor, visible: Tensor, relations: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What records see of those of their row that are known to be filled.

        Args:
            states: Of those that look, `(n, n_looking, width)`.
            keys: Of all records of their rows, `(n, n_records, width)`.
            values: The same.
            visible: Records that can be seen, `(n, n_records)`.
            relations: See there.

        Returns:
            What they see, `(n, n_looking, width)`, and how far each head looks from where to
            where, `(n, N_HEADS, n_looking, n_records)`.
        """
        query, keys, values = (
            part.view(len(part), -1, N_HEADS, self.width // N_HEADS).transpose(1, 2)
            for part in (self.query(self.look(states)), keys, values)
        )
        scores = query @ keys.transpose(2, 3) / np.sqrt(self.width // N_HEADS) + relations
        scores = scores.masked_fill(~visible[:, None, None], -torch.inf)
        shares = scores.softmax(dim=3)
        return self.gather((shares @ values).transpose(1, 2).flatten(2)), shares

    def answered(self, states: Tensor, seen: Tensor) -> Tensor:
        """What the heads read: states of records, and what these have seen."""
        return self.norm(self.decode(states + seen))  # type: ignore[no-any-return]

    # --- Chances ----------------------------------------------------------------------------------

    def losses(self, tokens: Tokens, known: Mask) -> Tensor:
        """Minus the log chance of each token, shape `(n_rows, n_columns)`; 0 where it is -1."""
        view = self.view(tokens, known)
        rows, records = torch.as_tensor(self._filled(tokens)).nonzero(as_tuple=True)
        sums = self.sums(self.incoming(), view.cells[rows[:, None], self.columns[records]])
        states, keys, values = self.encoded(sums, records)
        n_rows, n_records = view.visible.shape
        places = rows * n_records + records
        all_states, keys, values = (
            part.new_zeros(n_rows * n_records, self.width)
            .index_copy(0, places, part)
            .view(n_rows, n_records, self.width)
            for part in (states, keys, values)
        )
        relations = self.relations(view.linked, torch.arange(n_records).expand(n_rows, -1))
        seen, shares = self.looked(all_states, keys, values, view.visible, relations)
        shares = shares.transpose(1, 2).flatten(0, 1)[places]
        found = self.answered(states, seen.flatten(0, 1)[places])
        aims = torch.as_tensor(tokens)
        costs = torch.zeros(aims.numel())
        for block, columns, parts in self.blocks:
            slot = torch.full((n_records,), -1).index_copy(0, block, torch.arange(len(block)))
            at = (slot[records] >= 0).nonzero()[:, 0]
            for part, kinds in parts:
                here = columns[slot[records[at]]][:, part]
                alike = view.tokens[rows[at]][:, columns[:, part]]
                heard = self.heard(found[at], alike, shares[at][:, :, block], kinds)
                places = rows[at][:, None] * aims.shape[1] + here
                logits = self._logits(found[at], heard, kinds, here, view.odds.flatten()[places])
                aim = aims.flatten()[places]
                cost = functional.cross_entropy(
                    logits.flatten(0, 1), aim.flatten(), reduction="none", ignore_index=-1
                )
                costs = costs.index_copy(0, places.flatten(), cost)
        return costs.view(aims.shape)

    def heard(self, found: Tensor, tokens: Tensor, shares: Tensor, kinds: Tensor) -> Tensor:
        """What cells of the same kind in the records that one looks at say of the own cell.

        The partner's age says much of one's own: a head that looks there asks for the tokens that
        answer like the partner's.

        Args:
            found: What the heads read, `(n, width)`.
            tokens: Of cells of those kinds in records of the row, -1 where not known,
                `(n, n_records, n_kinds)`.
            shares: How far each head looks at these records, `(n, N_HEADS, n_records)`.
            kinds: The kinds, `(n_kinds,)`, or of each row, `(n, n_kinds)`.

        Returns:
            To be added to what is asked for, `(n, n_kinds, n_out)`.
        """
        said = self.answers[self.first[kinds].unsqueeze(-2) + tokens.clamp(min=0)]
        said = said * (tokens >= 0)[..., None]
        gate = self.echo[kinds] * (1 + self.listen(found))[:, None]
        return torch.einsum("nhr,nrck,nch->nck", shares, said, gate)

    def _logits(
        self, found: Tensor, heard: Tensor, kinds: Tensor, columns: Tensor, odds: Tensor
    ) -> Tensor:
        """Logits of some kinds for each record, `(n, n_kinds, most)`; see `logits_of`."""
        table = self.table[kinds]
        table = table[:, : int((table >= 0).sum(dim=1).max())]
        tokens = table.clamp(min=0)
        asked = torch.einsum("nh,chk->nck", found, self.write[kinds]) + self.shift[kinds] + heard
        change = torch.einsum("nck,clk->ncl", asked, self.answers[tokens]) + self.bias[tokens]
        base = self.log_share[columns][:, :, : table.shape[1]]
        is_second = torch.arange(table.shape[1]) == 1
        logits = base + self.departure[kinds][:, None] * change + odds[:, :, None] * is_second
        return logits.masked_fill(table < 0, -torch.inf)

    def logits_of(self, found: Tensor, heard: Tensor, columns: Tensor, odds: Tensor) -> Tensor:
        """Logits of one column for each record; minus infinity past its last token.

        Args:
            found: What the heads read, `(n, width)`.
            heard: See there, `(n, n_out)`.
            columns: The column of each, `(n,)`.
            odds: Log odds of each that a `present` column is true, 0 for other columns.
        """
        kinds = self.kind[columns]
        table = self.table[kinds]
        tokens = table.clamp(min=0)
        asked = torch.einsum("nh,nhk->nk", found, self.write[kinds]) + self.shift[kinds] + heard
        change = torch.einsum("nk,nlk->nl", asked, self.answers[tokens]) + self.bias[tokens]
        logits = self.log_share[columns] + self.departure[kinds][:, None] * change
        logits[:, 1:2] += odds[:, None]
        return logits.masked_fill(table < 0, -torch.inf)

    def load_numpy(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take the parameters of a saved network.

        Raises:
            RuntimeError: If they do not fit.
        """
        self.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})


def make_network(encoding: Encoding, max_parameters: int, dropout: float) -> Network | None:
    """The largest network of `SIZES` that fits, None if none does; small tables get narrow ones."""
    layout = Layout(encoding)
    n_kinds, total = len(layout.n_tokens), int(layout.n_tokens.sum())
    enough = 32 * int(np.ceil((32 + 8 * n_kinds) / 32))
    for width, n_in, n_out in SIZES:
        width = min(width, enough)
        layers = (1 + N_DECODERS) * (4 * width + 5) * width + 4 * width**2 + 4 * width
        ways_in = (total + n_kinds) * n_in + n_kinds * n_in * width + layout.n_records * width
        ways_out = total * (n_out + 1) + n_kinds * (width + 1) * n_out
        ways_out += n_kinds * N_HEADS + (width + 1) * N_HEADS
        n_parameters = ways_in + layers + ways_out + 3 * layout.n_kinds_of_links * N_HEADS
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


def _embeddings(layout: Layout, size: int, n_marks: int) -> Tensor:
    """First embeddings: waves along the scale of what is ordered, random for other levels."""
    parts = []
    for example in layout.examples:
        of = layout.encoding.of[example]
        part = torch.randn(of.n_tokens, size) / np.sqrt(size)
        if of.knots is not None or of.column.ordered:
            n_ranks = of.n_tokens - of.has_missing
            rank = (torch.arange(n_ranks) + 0.5) / max(n_ranks, 1)
            waves = torch.cos(torch.pi * rank[:, None] * torch.arange(1, size + 1))
            part[:n_ranks] = waves * np.sqrt(2 / size) + 0.1 * part[:n_ranks]
        parts.append(part)
    return torch.cat([*parts, torch.randn(n_marks, size) / np.sqrt(size)])


def _log_shares(encoding: Encoding, most: int) -> Tensor:
    """Log share of each token, `(n_columns, most)`; 0 for `present` columns, which have odds."""
    found = torch.zeros(len(encoding.of), most)
    for number, of in enumerate(encoding.of):
        if of.column.kind != "present":
            found[number, : of.n_tokens] = torch.as_tensor(np.log(of.share.clip(min=1e-9)))
    return found


def _grouped(n_tokens: Tokens) -> list[Tokens]:
    """Kinds with about as many tokens each."""
    edges = np.searchsorted(GROUPS, n_tokens)
    return [np.flatnonzero(edges == edge).astype(np.int64) for edge in np.unique(edges)]


def _table(counts: Sequence[int]) -> Tensor:
    """Positions of the tokens of each kind, a row each, -1 past the last."""
    table = torch.full((len(counts), max(counts)), -1)
    start = 0
    for row, count in enumerate(counts):
        table[row, :count] = start + torch.arange(count)
        start += count
    return table
