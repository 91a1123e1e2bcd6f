"""Types of the columns of a CSV file, found from all of its cells and not from the first ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""What stands for a missing value: the same words as for `read_table`."""
TRUE, FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")

_TRUTHS = pa.array([*TRUE, *FALSE])
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$|^\s*[+-]?(?i:inf|infinity)\s*$"
_WHOLE = r"^\s*[+-]?\d+\s*$"


@dataclass(eq=False)
class CellTypes:
    """What the cells of one column are, batch after batch.

    Attributes:
        n_present: Cells that are not missing.
        n_numbers: How many of these are numbers.
        first_text: First cell that is no number, and the number of its record.
        has_leading_zeros: Whether a whole number is written like 007.
        is_bool: Whether all are truth values.
        is_whole: Whether all are whole numbers that 64 bits hold.
        is_digits: Whether all are whole numbers of any length.
    """

    n_present: int = 0
    n_numbers: int = 0
    first_text: tuple[str, int] | None = None
    has_leading_zeros: bool = False
    is_bool: bool = True
    is_whole: bool = True
    is_digits: bool = True

    def see(self, cells: Any, n_before: int) -> None:
        """Take in more cells, an Arrow array of strings that begins at record `n_before`."""
        present = len(cells) - cells.null_count
        if not present:
            return
        self.n_present += present
        is_bool = (pc.sum(pc.is_in(cells, value_set=_TRUTHS)).as_py() or 0) == present
        may_be_number = not is_bool and self.first_text is None
        is_whole = may_be_number and _can_be(cells, pa.int64())
        is_number = is_whole or (may_be_number and _can_be(cells, pa.float64()))
        self.is_bool = self.is_bool and is_bool
        self.is_whole = self.is_whole and is_whole
        self.is_digits = self.is_digits and (is_whole or (is_number and _all_digits(cells)))
        if is_whole and not self.has_leading_zeros:
            zeros = pc.and_(pc.starts_with(cells, "0"), pc.greater(pc.binary_length(cells), 1))
            self.has_leading_zeros = bool(pc.any(zeros).as_py())
        if is_number:
            self.n_numbers += present
            return
        are_numbers = pc.match_substring_regex(cells, _NUMBER)
        self.n_numbers += pc.sum(are_numbers).as_py() or 0
        if self.first_text is None:
            place = pc.index(are_numbers, False).as_py()
            if place >= 0:
                self.first_text = (cells[place].as_py(), n_before + place + 1)

    @property
    def is_too_long(self) -> bool:
        """Whether it has whole numbers only, some of too many digits for a number."""
        return self.is_digits and not self.is_whole and self.n_present > 0

    @property
    def arrow_type(self) -> Any:
        """The type that holds every cell."""
        if self.n_present == 0:
            return pa.float64()
        if self.is_bool:
            return pa.bool_()
        if self.is_whole:
            return pa.int64()
        is_text = self.first_text is not None or self.is_digits
        return pa.string() if is_text else pa.float64()


def _all_digits(cells: Any) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, _WHOLE)).as_py())


def _can_be(cells: Any, kind: Any) -> bool:
    try:
        pc.cast(cells, kind)
    except pa.ArrowInvalid:
        # The parser passes over blanks around a number, and a cast does not.
        try:
            pc.cast(pc.utf8_trim_whitespace(cells), kind)
        except pa.ArrowInvalid:
            return False
    return True
