"""Units of a network: what can be taken out of it as a whole.

The network is exported to a graph of tensor operations (`exporting`), and labels of units
(`labels`) are carried along it (`walk`) by a rule for each operation (`rules`, `movements`,
`products`): what a residual sum, a norm, a depthwise convolution, a concatenation, a view or the
heads of an attention make inseparable ends up with one label (`network`).
"""

from l0.tracing.exporting import export
from l0.tracing.movements import MOVEMENTS
from l0.tracing.network import Axes, Product, Trace, Units, Vector, Weight, trace

__all__ = ["MOVEMENTS", "Axes", "Product", "Trace", "Units", "Vector", "Weight", "export", "trace"]
