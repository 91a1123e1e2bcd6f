"""Drawing and judging tokens one at a time: the slots first, then the other cells in any order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from microcalibrate.regularise.generators.encoding import Encoding, Floats, Tokens
from microcalibrate.regularise.generators.network import Network, know_slots_of_known
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
        self.starts = np.concatenate([[0], np.cumsum(encoding.n_tokens)[:-1]])
        self.marks = int(encoding.n_tokens.sum()) + np.arange(len(encoding.of))
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
                costs = self.network.losses(
                    torch.as_tensor(np.where(state.known, state.tokens, truth)),
                    torch.as_tensor(state.known),
                )
            follows = state.known & ~known[part]
            certain = np.where(state.tokens == truth, 0.0, -np.inf)
            found[part] = np.where(follows, certain, -costs.numpy())
        return np.where(tokens >= 0, found, -np.inf)


class _State:
    """Rows of which ever more is known."""

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
        self.mixed: Tensor | None = None
        self.log_prob = np.zeros(len(tokens))
        know_slots_of_known(self.encoding, self.known)
        if given is not None:
            implied = self.known & ~known
            self.tokens[implied] = given[implied]
        self._follow()
        self.mixed = self._mixture()

    def run(self, order: Floats, uniforms: Floats | None) -> None:
        """Go through what is not known; draw it where there are random numbers."""
        for slots in self.encoding.slots.values():
            for position in slots:
                rows = np.flatnonzero(~self.known[:, position])
                self._step(rows, np.full(len(rows), position), uniforms)
                self._follow()
        exists = self.encoding.exists(self.tokens)
        left = ~self.known & exists & ~self.encoding.is_present
        sequence = np.argsort(np.where(left, order, np.inf), axis=1, kind="stable")
        n_left = left.sum(axis=1)
        for step in range(int(n_left.max(initial=0))):
            rows = np.flatnonzero(n_left > step)
            self._step(rows, sequence[rows, step], uniforms)

    def _step(self, rows: Tokens, columns: Tokens, uniforms: Floats | None) -> None:
        """Draw or judge one cell of each of some rows, and make it known."""
        if not len(rows):
            return
        assert self.mixed is not None
        with torch.no_grad():
            logits = self.of.network.logits_of(self.mixed[rows], torch.as_tensor(columns))
        chances = torch.softmax(logits.double(), dim=1).numpy()
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
        self._reveal(rows, columns, chosen)

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

    def _reveal(self, rows: Tokens, columns: Tokens, chosen: Tokens) -> None:
        assert self.mixed is not None
        self.tokens[rows, columns] = chosen
        self.known[rows, columns] = True
        old = self.of.marks[columns]
        new = np.where(chosen >= 0, self.of.starts[columns] + chosen, old)
        self.mixed[rows] += self.of.incoming[new] - self.of.incoming[old]

    def _mixture(self) -> Tensor:
        """What the trunk reads, for what is known now."""
        is_seen = self.known & (self.tokens >= 0)
        indices = np.where(is_seen, self.of.starts + self.tokens, self.of.marks)
        mixed = self.of.network.mix.bias.detach().repeat(len(self.tokens), 1)
        for column in range(indices.shape[1]):
            mixed += self.of.incoming[indices[:, column]]
        return mixed

    def _follow(self) -> None:
        """Make known which slots are filled or empty, as far as it follows from what is known."""
        before = self.known.copy()
        for column, entity in self.of.links.items():
            for slot, position in enumerate(self.encoding.slots[entity]):
                named = self.known[:, column] & (self.tokens[:, column] == slot)
                has_missing = self.encoding.of[column].has_missing
                if has_missing and slot >= self.encoding.of[column].n_tokens - 1:
                    continue
                new = named & ~self.known[:, position]
                self.tokens[new, position], self.known[new, position] = 1, True
        for slots in self.encoding.slots.values():
            at = list(slots)
            for position in at:
                share = self.encoding.of[position].share[1]
                if share in (0, 1):
                    new = ~self.known[:, position]
                    self.tokens[new, position], self.known[new, position] = int(share), True
            filled = self.known[:, at] & (self.tokens[:, at] == 1)
            empty = self.known[:, at] & (self.tokens[:, at] == 0)
            before_filled = np.logical_or.accumulate(filled[:, ::-1], axis=1)[:, ::-1]
            after_empty = np.logical_or.accumulate(empty, axis=1)
            unknown = ~self.known[:, at]
            values = np.where(before_filled, 1, np.where(after_empty, 0, self.tokens[:, at]))
            self.tokens[:, at] = np.where(unknown, values, self.tokens[:, at])
            self.known[:, at] |= before_filled | after_empty
        new = self.known & ~before
        if not new.any():
            return
        if self.truth is not None:
            wrong = new & (self.tokens != self.truth)
            self.log_prob[wrong.any(axis=1)] = -np.inf
        if self.mixed is not None:
            for column in np.flatnonzero(new.any(axis=0)).tolist():
                rows = np.flatnonzero(new[:, column])
                columns = np.full(len(rows), column)
                self._reveal(rows, columns, self.tokens[rows, column])
