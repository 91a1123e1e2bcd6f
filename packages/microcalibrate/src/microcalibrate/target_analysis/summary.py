"""An analysis of targets in a few lines: what is met, then what costs most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microcalibrate.figures.plotting import percent
from microcalibrate.target_analysis.ranking import (
    COSTLY,
    FINE,
    KINDS,
    REDUNDANT,
    THIN,
    THIN_SUPPORT,
    UNREACHABLE,
)
from microcalibrate.target_analysis.solves import check_whole

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.target_analysis.outcome import TargetAnalysis

# Prices of a solve that ended above this relative gap are not exact enough to be trusted blindly.
ROUGH_GAP = 1e-6
# The second level at which targets are counted as met.
WIDE = 0.1
# Shares of the loss below this are not worth a sentence.
LEAST_SHARE = 5e-4
# Most names of kinds that do no harm.
MOST_HARMLESS = 3


def summary_of(found: TargetAnalysis, n_targets: int) -> str:
    """See `TargetAnalysis.summary`."""
    check_whole("n_targets", n_targets, 1)
    table = found.table
    misses = table.error.abs()
    met = f"{(misses < found.least_miss).sum():,} of {len(table):,} targets are met within "
    met += _level(found.least_miss)
    if found.least_miss < WIDE:
        met += f", {(misses < WIDE).sum():,} within {_level(WIDE)}"
    before = table.initial_error.abs().mean()
    lines = [
        f"{met}. The mean absolute error is {percent(found.mean_error)}, and was "
        f"{percent(before)} at the design weights."
    ]
    counts = table.kind.value_counts()
    by_kind = ", ".join(f"{counts[kind]:,} {kind}" for kind in KINDS if kind in counts)
    lines.append(f"By kind: {by_kind}.")
    if found.infeasible:
        lines.append(f"All analysed as soft, because {found.infeasible}")
    if not found.gap <= ROUGH_GAP:
        lines.append(f"Figures are rough: the solve ended at a relative gap of {found.gap:.1e}.")
    lines += _whereabouts(found)
    lines += _troubles(found, n_targets)
    for kind, one, more_of_them in (
        (REDUNDANT, "follows from others", "follow from others"),
        (THIN, "rests on few records", "rest on few records"),
    ):
        names = list(table.name[table.kind == kind])
        if names:
            listed = ", ".join(f"'{name}'" for name in names[:MOST_HARMLESS])
            left = len(names) - MOST_HARMLESS
            more = f" and {left:,} more" if left > 0 else ""
            what = one if len(names) == 1 else more_of_them
            lines.append(f"{len(names):,} {what}: {listed}{more}.")
    return "\n".join(lines)


def _whereabouts(found: TargetAnalysis) -> list[str]:
    """Where the missed targets are, in one line."""
    table, members = found.table, found.identity_members
    missed = table[table.error.abs() >= found.least_miss]
    if not len(missed):
        return []
    contradicted = found.identities["rank"][found.identities.contradicted]
    in_identities = missed.name.isin(members.name[members.identity.isin(contradicted)])
    few = (missed.effective_support < THIN_SUPPORT) & ~in_identities
    parts = [
        f"{count:,} {what}"
        for count, what in (
            (missed.unreachable.sum(), "are out of reach"),
            ((in_identities & ~missed.unreachable).sum(), "are in sums that do not add up"),
            ((few & ~missed.unreachable).sum(), "rest on few records"),
        )
        if count
    ]
    return [f"Of the {len(missed):,} that are missed, {', '.join(parts)}."] if parts else []


def _troubles(found: TargetAnalysis, n_targets: int) -> list[str]:
    """Identities that their targets do not satisfy, and single targets, the costliest first."""
    contradicted = found.identities[found.identities.contradicted]
    members = found.identity_members
    told = set(members.name[members.identity.isin(contradicted["rank"])])
    whole = found.objective if found.objective > 0 else 1.0
    items: list[tuple[float, str]] = []
    for row in contradicted.to_dict("records"):
        mine = members[members.identity == row["rank"]]
        gain = float(mine.drop_objective.iloc[0]) / whole
        share, healed = float(row["share_of_loss"]), float(row["rescale_objective"]) / whole
        said = f"{row['reason'][:1].upper()}{row['reason'][1:]}. "
        if share >= LEAST_SHARE:
            said += f"This alone makes up at least {percent(share)} of the loss. "
        said += f"{row['n_missed']:,} of its {row['n_members']:,} targets are missed. "
        if healed >= LEAST_SHARE:
            said += f"Targets on the left times {row['rescale']:.4g} would take {percent(healed)} "
            said += "off the loss; "
        said += f"dropping '{row['drop_first']}', the best to drop, {percent(gain)}"
        items.append((share, said))
    single = _single_troubles(found)
    single = single[~(single.name.isin(told) & (single.kind != UNREACHABLE))]
    for row in single.to_dict("records"):
        share = float(row["drop_objective"]) / whole
        without = f"; without it the loss is {percent(share)} lower"
        if share < LEAST_SHARE or row["kind"] == COSTLY:  # The reason of a costly one says it.
            without = ""
        items.append((share, f"'{row['name']}': {row['reason']}{without}"))
    if not items:
        return []
    items.sort(key=lambda item: -item[0])
    lines = ["What costs most, to first order:"]
    lines += [f"{number:>4}. {said}." for number, (_, said) in enumerate(items[:n_targets], 1)]
    if len(items) > n_targets:
        lines.append(f"      and {len(items) - n_targets:,} more.")
    if found.forced_share >= LEAST_SHARE and len(contradicted) > 1:
        lines.append(
            f"Identities that the targets do not satisfy together make up at least "
            f"{percent(found.forced_share)} of the loss: no weights can lower that part."
        )
    return lines


def _single_troubles(found: TargetAnalysis) -> pd.DataFrame:
    """Rows of targets that are missed, out of reach, or met at a high price."""
    kinds = [kind for kind in KINDS if kind not in (FINE, REDUNDANT, THIN)]
    return found.table[found.table.kind.isin(kinds)]


def _level(level: float) -> str:
    """A round level as people write it.

    Examples:
        >>> _level(0.01), _level(0.025)
        ('1%', '2.5%')
    """
    return f"{100 * level:g}%"
