"""Drawing and judging tokens one at a time: slots, links, structure, then values in any order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from microcalibrate.regularise.generators.encoding import Encoding, Floats, Tokens
from microcalibrate.regularise.generators.layout import follow, know_slots_of_known, slot_odds
from microcalibrate.regularise.generators.network import Network
from microcalibrate.regularise.slots import Mask

CHUNK = 1024


class Drawing:
    """Draws the unknown cells of rows, or tells the chance of those that are there.

    What is known of some slots says more: a unit's slots are filled from the first, those that
    were filled in every record always are, a link names a slot that is filled, and a cell of a
    slot is known only together with the slot. What follows so is neither drawn nor judged.

    Args:
        encoding: Of the tokens.
        network: The chances.
    """

    def __init__(self, encoding: Encoding, network: Network) -> None:
        self.encoding, self.network = encoding, network
        with torch.no_grad():
            self.incoming = network.incoming()
        links = [i for i, column in enumerate(encoding.columns) if column.kind == "link"]
        self.links = {i: str(encoding.columns[i].to) for i in links}

    def draw(
        self, tokens: Tokens, known: Mask, seeds: np.random.SeedSequence, given: Tokens | None
    ) -> tuple[Tokens, Floats, Mask]:
        """Draw what is not known.

        Args:
            tokens: Shape `(n_rows, n_columns)`; read where known.
            known: Cells that are held.
            seeds: Each chunk of rows has random numbers of its own.
            given: Tokens of the rows that cells are held from, read for the slots of held cells.

        Returns:
            Tokens, positions of numbers in their bins in `[0, 1)`, and cells that exist.
        """
        shape = tokens.shape
        found, positions = np.empty(shape, dtype=np.int64), np.empty(shape)
        starts = range(0, len(tokens), CHUNK)
        for start, seed in zip(starts, seeds.spawn(len(starts)), strict=True):
            part = slice(start, start + CHUNK)
            rng = np.random.default_rng(seed)
            size = tokens[part].shape
            positions[part] = rng.random(size)
            state = _State(self, tokens[part], known[part], None if given is None else given[part])
            state.run(rng.random(size), rng.random(size))
            found[part] = state.tokens
        return found, positions, self.encoding.exists(found)

    def score(self, tokens: Tokens, known: Mask, order: Floats) -> Floats:
        """Log chance of what is not known, cell after cell.

        Args:
            tokens: All tokens.
            known: Cells that are held.
            order: A number for each column: those with small ones come first.
        """
        found = np.empty(len(tokens))
        for start in range(0, len(tokens), CHUNK):
            part = slice(start, start + CHUNK)
            state = _State(self, np.where(known, tokens, -1)[part], known[part], tokens[part], True)
            state.run(np.broadcast_to(order, tokens[part].shape), None)
            found[part] = state.log_prob
        return found

    def column_scores(self, tokens: Tokens, known: Mask) -> Floats:
        """Log chance of each cell by itself given those that are known; 0 for what follows."""
        found = np.empty(tokens.shape)
        for start in range(0, len(tokens), CHUNK):
            part = slice(start, start + CHUNK)
            truth = tokens[part]
            state = _State(self, np.where(known[part], truth, -1), known[part], truth, True)
            with torch.no_grad():
                costs = self.network.losses(np.where(state.known, state.tokens, truth), state.known)
            follows = state.known & ~known[part]
            certain = np.where(state.tokens == truth, 0.0, -np.inf)
            found[part] = np.where(follows, certain, -costs.numpy())
        return np.where(tokens >= 0, found, -np.inf)


class _State:
    """Rows of which ever more is known, and what the network has read of them."""

    def __init__(
        self,
        of: Drawing,
        tokens: Tokens,
        known: Mask,
        given: Tokens | None,
        is_truth: bool = False,
    ) -> None:
        self.of, self.encoding = of, of.encoding
        self.tokens, self.known = tokens.copy(), known.copy()
        self.truth = given if is_truth else None
        self.log_prob = np.zeros(len(tokens))
        know_slots_of_known(self.encoding, self.known)
        if given is not None:
            implied = self.known & ~known
            self.tokens[implied] = given[implied]
        self._follow()

    def run(self, order: Floats, uniforms: Floats | None) -> None:
        """Go through what is not known; draw it where there are random numbers."""
        self._read()
        for slots in self.encoding.slots.values():
            for position in slots:
                rows = np.flatnonzero(~self.known[:, position])
                self._step(rows, np.full(len(rows), position), uniforms)
                self._reread(self._follow())
        exists = self.encoding.exists(self.tokens)
        left = ~self.known & exists & ~self.encoding.is_present
        # Links, then the rest of the structure, then values: `order` is within [0, 1).
        order = order - self.encoding.is_structure - self.encoding.is_link
        sequence = np.argsort(np.where(left, order, np.inf), axis=1, kind="stable")
        n_left = left.sum(axis=1)
        for step in range(int(n_left.max(initial=0))):
            rows = np.flatnonzero(n_left > step)
            self._step(rows, sequence[rows, step], uniforms)

    def _step(self, rows: Tokens, columns: Tokens, uniforms: Floats | None) -> None:
        """Draw or judge one cell of each of some rows, and make it known."""
        if not len(rows):
            return
        chances = self._chances(rows, columns)
        self._without_empty_slots(chances, rows, columns)
        if uniforms is None:
            assert self.truth is not None
            chosen = self.truth[rows, columns]
            chance = np.where(chosen >= 0, chances[np.arange(len(rows)), chosen], 0)
            with np.errstate(divide="ignore"):
                self.log_prob[rows] += np.log(chance)
        else:
            total = np.cumsum(chances, axis=1)
            aim = uniforms[rows, columns] * total[:, -1]
            # The last token with a chance, if rounding carries the aim past it.
            last = chances.shape[1] - 1 - np.argmax(chances[:, ::-1] > 0, axis=1)
            chosen = np.minimum((total <= aim[:, None]).sum(axis=1), last)
        self.tokens[rows, columns] = chosen
        self.known[rows, columns] = True
        self._read_again(rows, columns)

    def _chances(self, rows: Tokens, columns: Tokens) -> Floats:
        """Of the tokens of one column of each of some rows."""
        network = self.of.network
        odds = np.zeros(len(rows))
        if self.encoding.is_present[columns].any():
            odds = slot_odds(self.encoding, self.tokens[rows], self.known[rows])[
                np.arange(len(rows)), columns
            ]
        at, records = torch.as_tensor(rows), torch.as_tensor(network.layout.record[columns])
        with torch.no_grad():
            states = self.states[at, records]
            relations = network.relations(self.linked[at], records[:, None])
            seen, shares = network.looked(
                states[:, None], self.keys[at], self.values[at], self.visible[at], relations
            )
            found = network.answered(states, seen[:, 0])
            alike = network.layout.alike[columns]
            is_known = (alike >= 0) & self.known[rows[:, None], alike]
            tokens = torch.as_tensor(np.where(is_known, self.tokens[rows[:, None], alike], -1))
            kinds = network.kind[torch.as_tensor(columns)][:, None]
            heard = network.heard(found, tokens[:, :, None], shares[:, :, 0], kinds)
            logits = network.logits_of(
                found,
                heard[:, 0],
                torch.as_tensor(columns),
                torch.as_tensor(odds, dtype=torch.float32),
            )
        return torch.softmax(logits.double(), dim=1).numpy()

    def _without_empty_slots(self, chances: Floats, rows: Tokens, columns: Tokens) -> None:
        """Leave out of the chances of links the slots that are empty, and the record's own."""
        for column in np.intersect1d(columns, list(self.of.links)):
            at = np.flatnonzero(columns == column)
            entity, declared = self.of.links[int(column)], self.encoding.columns[int(column)]
            slots = np.array(self.encoding.slots[entity])[: len(declared.levels or ())]
            filled = self.tokens[np.ix_(rows[at], slots)] == 1
            if declared.entity == entity:
                filled[:, declared.slot] = False
            n_slots = len(slots)
            left = chances[at]
            left[:, :n_slots] *= filled
            sums = left.sum(axis=1, keepdims=True)
            # Where nothing is left, such as a peer in a unit of one, the row is refused later.
            chances[at] = np.where(sums > 0, left / np.where(sums > 0, sums, 1), chances[at])

    # --- What the network has read ----------------------------------------------------------------

    def _read(self) -> None:
        """Read all records of all rows."""
        network = self.of.network
        view = network.view(self.tokens, self.known)
        self.cells, self.visible, self.linked = view.cells, view.visible, view.linked
        n_rows, n_records = self.visible.shape
        empty = torch.zeros(n_rows, n_records, network.width)
        self.states, self.keys, self.values = empty, empty.clone(), empty.clone()
        rows, records = np.indices((n_rows, n_records)).reshape(2, -1)
        self._encode(torch.as_tensor(rows), torch.as_tensor(records))

    def _read_again(self, rows: Tokens, columns: Tokens) -> None:
        """Read one cell of each of some rows, which differ, and the record that it is in."""
        layout = self.of.network.layout
        at = torch.as_tensor(rows)
        tokens = self.tokens[rows, columns]
        stride = self.of.network.stride
        self.cells[at, torch.as_tensor(columns)] = torch.as_tensor(
            layout.kind[columns] * stride + np.where(tokens >= 0, tokens, stride - 1)
        )
        for column in np.unique(columns[self.encoding.is_present[columns]]).tolist():
            here = rows[columns == column]
            record = int(np.flatnonzero(layout.presence == column)[0])
            self.visible[torch.as_tensor(here), record] = torch.as_tensor(
                self.tokens[here, column] == 1
            )
        if np.isin(columns, list(self.of.links)).any():
            self.linked[at] = torch.as_tensor(layout.linked(self.tokens[rows], self.known[rows]))
        self._encode(at, torch.as_tensor(layout.record[columns]))

    def _encode(self, rows: Tensor, records: Tensor) -> None:
        network = self.of.network
        with torch.no_grad():
            sums = network.sums(
                self.of.incoming, self.cells[rows[:, None], network.columns[records]]
            )
            parts = network.encoded(sums, records)
        for kept, part in zip((self.states, self.keys, self.values), parts, strict=True):
            kept[rows, records] = part

    def _reread(self, new: Mask) -> None:
        for column in np.flatnonzero(new.any(axis=0)).tolist():
            rows = np.flatnonzero(new[:, column])
            self._read_again(rows, np.full(len(rows), column))

    def _follow(self) -> Mask:
        """Make known what follows; returns the cells that were not known before."""
        new = follow(self.of.network.layout, self.tokens, self.known)
        if self.truth is not None:
            wrong = new & (self.tokens != self.truth)
            self.log_prob[wrong.any(axis=1)] = -np.inf
        return new
