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
