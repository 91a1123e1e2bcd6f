"""Are the households like real ones: who lives together, and who of them earns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from microcalibrate.errors import InvalidOption
from microcalibrate.regularise.quality.marginal import total_variation, weighted_ks
from microcalibrate.regularise.quality.samples import NUMERIC, Coded, Index, Vector

if TYPE_CHECKING:
    from microcalibrate.regularise.slots import SlotColumn

Weighted: TypeAlias = tuple[Vector, Vector]
"""Values and their weights."""


@dataclass(frozen=True)
class HouseholdColumns:
    """Which columns tell who lives together.

    Attributes:
        entity: The persons.
        age: Their age in years, or None.
        role: Category of their role, or None: then the person in the first slot is the head.
        head: Levels of the role that head a household, or the group within it.
        partner: Levels of a head's partner.
        child: Levels of a child.
        group: Link to the group within the household that heads, partners and children belong
            to, such as a tax unit; None where it is the household.
        earnings: Columns that add up to a person's earnings.
        category: Category of the household in its composition, such as tenure, or None.
        child_age: Age below which a person counts as a child.
    """

    entity: str
    age: str | None = None
    role: str | None = None
    head: tuple[Any, ...] = ("head",)
    partner: tuple[Any, ...] = ("partner",)
    child: tuple[Any, ...] = ("child",)
    group: str | None = None
    earnings: tuple[str, ...] = ()
    category: str | None = None
    child_age: float = 18.0

    @classmethod
    def guess(cls, columns: Sequence[SlotColumn]) -> HouseholdColumns | None:
        """What the names of columns suggest, or None where no entity has persons with ages."""
        of_entity: dict[str, dict[str, SlotColumn]] = {}
        for column in columns:
            if column.slot == 0 and column.presence is not None:
                of_entity.setdefault(column.entity, {})[column.source] = column
        for entity, found in of_entity.items():
            age = next((n for n in found if n.lower() in ("age", "age_years")), None)
            if age is None or found[age].type not in NUMERIC:
                continue
            role = next((n for n in found if "role" in n.lower() or "relation" in n.lower()), None)
            levels = (found[role].levels if role else None) or ()

            def named(*words: str, levels: tuple[Any, ...] = levels) -> tuple[Any, ...]:
                return tuple(level for level in levels if str(level).lower() in words)

            earned = ("wage", "earn", "salar", "business", "self_employ", "farm")
            return cls(
                entity=entity,
                age=age,
                role=role if named("head", "reference", "householder") else None,
                head=named("head", "reference", "householder"),
                partner=named("partner", "spouse"),
                child=named("child", "dependent"),
                group=next(
                    (n for n, c in found.items() if c.kind == "link" and c.to != entity), None
                ),
                earnings=tuple(
                    name
                    for name, column in found.items()
                    if column.type in NUMERIC and any(word in name.lower() for word in earned)
                ),
                category=next(
                    (c.name for c in columns if "tenure" in c.name.lower() and c.presence is None),
                    None,
                ),
            )  # fmt: skip
        return None


def composition(sample: Coded, of: HouseholdColumns) -> Index:
    """Number of each unit's cell in size × children × category; the same number, the same cell."""
    present, age = _slots(sample, of, "present") == 1, _slots(sample, of, of.age)
    size = present.sum(1)
    children = (present & (age < of.child_age)).sum(1) if of.age else np.zeros(len(size), int)
    category = np.zeros(len(size))
    if of.category is not None:
        values = sample.values[:, sample.position[of.category]]
        category = np.where(np.isnan(values), -1, values) + 1
    width = present.shape[1] + 1
    cells: Index = ((category * width + size) * width + children).astype(np.intp)
    return cells


def srmse(left: Index, right: Index, left_weights: Vector, right_weights: Vector) -> float:
    """Standardised root mean squared error between two tables of shares.

    `sqrt(sum((p - q)**2) * n_cells)` over the cells that occur on either side: the root mean
    squared error over the mean share of a cell (Müller and Axhausen 2011).

    Args:
        left: Cell of each unit of one sample.
        right: The same of the other.
        left_weights: Weights of the units.
        right_weights: The same of the other.

    Examples:
        >>> srmse(np.array([0, 1]), np.array([0, 0]), np.ones(2), np.ones(2))
        1.0
    """
    code = np.unique(np.concatenate([left, right]), return_inverse=True)[1]
    n_cells = int(code.max()) + 1
    p = np.bincount(code[: len(left)], left_weights, n_cells) / left_weights.sum()
    q = np.bincount(code[len(left) :], right_weights, n_cells) / right_weights.sum()
    return float(np.sqrt(((p - q) ** 2).sum() * n_cells))


def partner_gaps(sample: Coded, of: HouseholdColumns) -> Weighted:
    """Age of each head minus that of the partner in the same group."""
    return _gaps(sample, of, of.partner)


def child_gaps(sample: Coded, of: HouseholdColumns) -> Weighted:
    """Age of each head minus that of each child in the same group."""
    return _gaps(sample, of, of.child)


def n_earners(sample: Coded, of: HouseholdColumns) -> Weighted:
    """Persons of each unit whose earnings, or losses, are not 0."""
    return (_earnings(sample, of) != 0).sum(1).astype(np.float64), sample.weights


def head_shares(sample: Coded, of: HouseholdColumns) -> Weighted:
    """Share of the first head in the unit's earnings, sizes added up, where more than one lives.

    Losses count by their size. Units without earnings, and of one person, have no share.
    """
    size = np.abs(_earnings(sample, of))
    role = _slots(sample, of, of.role)
    is_head = _is_level(sample, of, role, of.head)
    first = np.argmax(is_head, axis=1) if of.role else np.zeros(len(size), dtype=np.intp)
    total = size.sum(1)
    shared = (total > 0) & ((_slots(sample, of, "present") == 1).sum(1) > 1)
    if of.role:
        shared &= is_head.any(1)
    head = size[np.arange(len(size)), first]
    return head[shared] / total[shared], sample.weights[shared]


def structure_figures(real: Coded, synthetic: Coded, of: HouseholdColumns) -> dict[str, float]:
    """Distance between real and generated households in each respect that the columns tell.

    Returns:
        `composition_srmse`; `partner_gap_ks`, `child_gap_ks` (1 where one side has none);
        `earners_tv`; `head_share_ks`. What the columns do not tell, or neither side has, is left
        out.

    Raises:
        InvalidOption: If a column is not there.
    """
    for name in (of.age, of.role, of.group, *of.earnings):
        _slots(real, of, name)
    figures = {
        "composition_srmse": srmse(
            composition(real, of), composition(synthetic, of), real.weights, synthetic.weights
        )
    }
    features: list[tuple[str, Callable[[Coded, HouseholdColumns], Weighted]]] = []
    if of.age and of.role:
        features += [("partner_gap_ks", partner_gaps)] if of.partner else []
        features += [("child_gap_ks", child_gaps)] if of.child else []
    if of.earnings:
        features += [("earners_tv", n_earners), ("head_share_ks", head_shares)]
    for name, feature in features:
        (left, left_weights), (right, right_weights) = feature(real, of), feature(synthetic, of)
        n_sides = sum(bool(part.sum() > 0) for part in (left_weights, right_weights))
        if n_sides == 2:
            distance = total_variation if name == "earners_tv" else weighted_ks
            figures[name] = distance(left, right, left_weights, right_weights)
        elif n_sides == 1:
            figures[name] = 1.0
    return figures


def _slots(sample: Coded, of: HouseholdColumns, source: str | None) -> Vector:
    """One column of the persons, shape `(n_rows, n_slots)`, NaN in empty slots."""
    places = [
        place
        for place, column in enumerate(sample.columns)
        if column.entity == of.entity and column.source == source
    ]
    if source is not None and not places:
        raise InvalidOption(f"{of.entity!r} has no column {source!r} in the slot rows.")
    return sample.values[:, places]


def _is_level(
    sample: Coded, of: HouseholdColumns, role: Vector, levels: tuple[Any, ...]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    known = next(
        (c.levels or () for c in sample.columns if (c.entity, c.source) == (of.entity, of.role)),
        (),
    )
    return np.isin(role, [known.index(level) for level in levels if level in known])


def _earnings(sample: Coded, of: HouseholdColumns) -> Vector:
    found: Vector = np.sum([np.nan_to_num(_slots(sample, of, n)) for n in of.earnings], axis=0)
    return found


def _gaps(sample: Coded, of: HouseholdColumns, levels: tuple[Any, ...]) -> Weighted:
    """Age of a head minus that of each member with one of the levels, within groups."""
    age, role = _slots(sample, of, of.age), _slots(sample, of, of.role)
    group = np.zeros_like(age) if of.group is None else _slots(sample, of, of.group)
    is_head, is_other = (_is_level(sample, of, role, part) for part in (of.head, levels))
    gaps, weights = [], []
    for slot in range(age.shape[1]):
        # A head's partner and children are those of the first head in their group.
        same = is_head & (group == group[:, [slot]])
        found = same.any(1) & is_other[:, slot]
        head = np.argmax(same, axis=1)
        gap = age[np.arange(len(age)), head] - age[:, slot]
        kept = found & ~np.isnan(gap)
        gaps.append(gap[kept])
        weights.append(sample.weights[kept])
    return np.concatenate(gaps), np.concatenate(weights)
