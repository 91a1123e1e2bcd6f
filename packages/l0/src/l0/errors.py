"""What can go wrong, each with the way out in its text."""


class L0Error(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidSetting(L0Error, ValueError):
    """A setting is outside its range: a temperature, a limit, a fraction, a schedule."""


class InvalidProbabilities(L0Error, ValueError):
    """Probabilities, sizes or scores are not finite, negative, above 1, or of the wrong shape."""


class InvalidCount(L0Error, ValueError):
    """More items are asked for than there are, or fewer than none."""


class ShapeMismatch(L0Error, ValueError):
    """The data have another length than the gate, or arrays do not fit together."""


class UnsupportedData(L0Error, TypeError):
    """The data are of a type whose rows or columns cannot be taken or gated."""


class CannotTrace(L0Error, RuntimeError):
    """A network cannot be followed operation by operation, so its units are not known."""


class NotEqual(L0Error, ArithmeticError):
    """A smaller network does not give what the network gave that it was made from."""


class InvalidSpec(L0Error, ValueError):
    """A saved network is damaged, of another version, or holds what is not on the white list."""


class UnreachableCount(InvalidCount):
    """No selection that obeys the wishes has the count; the nearest counts that can be reached.

    Attributes:
        below: The nearest smaller count that can be reached, or None.
        above: The nearest larger count that can be reached, or None.
    """

    def __init__(self, message: str, *, below: int | None, above: int | None) -> None:
        super().__init__(message)
        self.below = below
        self.above = above


class MissingPackage(L0Error, ImportError):
    """An optional package is needed; the text has the command that installs it."""


class IneffectivePenalty(UserWarning):
    """A penalty or the data hardly move the gates, whatever the loss says."""
