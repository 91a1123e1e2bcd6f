"""The limits themselves."""

from __future__ import annotations

from collections.abc import Mapping

from microcalibrate.regularise.quality.gates import Gate

GATES: tuple[Gate, ...] = (
    Gate(
        "Marginal", "ks_median", "median distance of number columns (KS)", 0.05, times_baseline=1.5
    ),
    Gate(
        "Marginal", "ks_max", "largest distance of a number column (KS)", 0.15, times_baseline=1.5
    ),
    Gate(
        "Marginal",
        "tv_max",
        "largest distance of a category (total variation)",
        0.10,
        times_baseline=1.5,
    ),
    Gate(
        "Marginal",
        "zero_gap_max",
        "largest difference in the share of zeros",
        0.03,
        times_baseline=1.5,
    ),
    Gate(
        "Marginal",
        "missing_gap_max",
        "largest difference in the share of missing values",
        0.03,
        times_baseline=1.5,
    ),
    Gate(
        "Pairs",
        "gap_mean",
        "mean difference of the associations of pairs",
        0.05,
        times_baseline=1.5,
    ),
    Gate(
        "Pairs",
        "gap_max",
        "largest difference of the association of a pair",
        0.20,
        times_baseline=1.5,
    ),
    Gate("Joint", "auc", "chance that trees tell a generated row from a real one (AUC)", 0.80),
    Gate("Joint", "auc_gain", "AUC of independent columns less that AUC", 0.10, "at least"),
    Gate("Joint", "pmse_ratio", "propensity error (pMSE) over that of real rows"),
    Gate(
        "Structure",
        "composition_srmse",
        "error of size × children × category (SRMSE)",
        times_baseline=1.5,
    ),
    Gate(
        "Structure", "partner_gap_ks", "distance of age gaps of partners (KS)", times_baseline=1.5
    ),
    Gate(
        "Structure",
        "child_gap_ks",
        "distance of age gaps of heads and children (KS)",
        times_baseline=1.5,
    ),
    Gate(
        "Structure",
        "earners_tv",
        "distance of earners per household (total variation)",
        times_baseline=1.5,
    ),
    Gate(
        "Structure",
        "head_share_ks",
        "distance of the head's share in earnings (KS)",
        times_baseline=1.5,
    ),
    Gate("Zeros", "impossible_share", "share of declared impossible rows", 0.0),
    Gate("Zeros", "rejected_share", "share of drawn rows that were rejected and drawn again"),
    Gate("Zeros", "never_seen_share", "share of pairs of states that no real row has"),
    Gate("Zeros", "unseen_share", "share of pairs of states that no training row has"),
    Gate(
        "Zeros",
        "sampling_zero_recovery",
        "share of the holdout's new pairs that are generated",
        None,
        "at least",
    ),
    Gate(
        "Conditional",
        "better_share",
        "share of columns predicted better than alone, least over fractions",
        0.9,
        "at least",
    ),
    Gate(
        "Conditional",
        "better_share_0.2",
        "the same with 20% of the columns given",
        None,
        "at least",
    ),
    Gate("Conditional", "better_share_0.4", "the same with 40% given", None, "at least"),
    Gate("Conditional", "better_share_0.6", "the same with 60% given", None, "at least"),
    Gate("Conditional", "better_share_0.8", "the same with 80% given", None, "at least"),
    Gate(
        "Privacy", "copy_share", "share of exact copies of training rows", 0.0, times_baseline=1.0
    ),
    Gate(
        "Privacy",
        "dcr_ratio",
        "closest distance to training rows over that of real rows, 5th percentile",
        0.9,
        "at least",
        times_baseline=1.0,
    ),
    Gate(
        "Privacy",
        "nearer_train_gap",
        "share nearer to training than to unseen rows, away from one half",
        0.05,
        times_baseline=1.0,
    ),
    Gate("Privacy", "nearer_train_share", "share nearer to training than to unseen rows"),
    Gate(
        "Utility",
        "within_share",
        "share of statistics within 2 standard errors of the real ones",
        0.95,
        "at least",
        times_baseline=1.0,
    ),
)
"""First values, to be set again for other data with `check_quality(gates=…)`."""

_BY_DESIGN = "a hot deck copies real records by design"
KNOWN_FAILURES: Mapping[str, Mapping[str, str]] = {
    "hotdeck": dict.fromkeys(("copy_share", "dcr_ratio", "nearer_train_gap"), _BY_DESIGN),
}
"""Gates that a backend fails knowingly, with the reason."""
