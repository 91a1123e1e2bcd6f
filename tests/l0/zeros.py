"""Random networks in double precision, zeros in them, and the check that nothing else changes."""

import torch
from torch.testing import assert_close

from l0.shrinking.materialization import materialize


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(network, seed=0):
    """The network in double precision and evaluation mode, its parameters and statistics random."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.1)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data -= 0.6
    return network


def zero(parameter, *places):
    with torch.no_grad():
        for place in places:
            parameter[place] = 0.0


def check(network, *inputs, seed=7):
    """The smaller network gives the same on the inputs and on others, and in other batches."""
    small = materialize(network, inputs)
    others = [random(3, *x.shape[1:], seed=seed).to(x.dtype) for x in inputs]
    for x in (inputs, others):
        assert_close(small(*x), network(*x), rtol=0, atol=1e-10)
    return small
