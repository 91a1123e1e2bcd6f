"""What is asked of the library sdv: a network for tables of categories, and its state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.errors import MissingExtra, UnreadableFile
from microcalibrate.regularise.generators.encoding import Tokens

TABLE = "rows"


def load_sdv() -> Any:
    """The package sdv: the only place that imports it.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        import sdv
        import sdv.metadata
        import sdv.single_table
    except ImportError as error:
        raise MissingExtra(
            "the generator 'sdv-tvae' needs sdv, which is under the Business Source License 1.1 "
            "(not open source; read it first). Install it with: "
            "pip install 'microcalibrate[sdv]', or use the generator 'anyorder'"
        ) from error
    return sdv


def column_name(place: int) -> str:
    """Name that a column has in the table that sdv sees."""
    return f"c{place}"


def as_table(tokens: Tokens) -> pd.DataFrame:
    """Tokens as texts, which sdv takes as categories."""
    return pd.DataFrame(
        {column_name(place): tokens[:, place].astype(str) for place in range(tokens.shape[1])},
        dtype=object,
    )


def new_synthesizer(n_columns: int, epochs: int, batch_size: int) -> Any:
    """A TVAE for a table of categories."""
    sdv = load_sdv()
    columns = {column_name(place): {"sdtype": "categorical"} for place in range(n_columns)}
    metadata = sdv.metadata.Metadata.load_from_dict({"tables": {TABLE: {"columns": columns}}})
    return sdv.single_table.TVAESynthesizer(
        metadata, epochs=epochs, batch_size=batch_size, enable_gpu=False
    )


def untrained(levels: Sequence[Sequence[str]], batch_size: int) -> Any:
    """A network with the shape of a trained one: sdv builds it from the levels that it sees.

    Raises:
        UnreadableFile: If this sdv orders levels in another way.
    """
    n_rows = max(len(of) for of in levels)
    table = pd.DataFrame(
        {column_name(p): [of[i % len(of)] for i in range(n_rows)] for p, of in enumerate(levels)},
        dtype=object,
    )
    synthesizer = new_synthesizer(len(levels), 0, batch_size)
    with seeded(0):
        synthesizer.fit({TABLE: table})
    if network_levels(synthesizer) != [list(of) for of in levels]:
        raise UnreadableFile(
            f"sdv {version('sdv')} orders levels in another way than the one that wrote this "
            "model. Install the release that wrote it, or train anew."
        )
    return synthesizer


def network_levels(synthesizer: Any) -> list[list[str]]:
    """Levels of each column in the order of the network's outputs."""
    infos = {
        info.column_name: [str(level) for level in info.transform.dummies]
        for info in synthesizer._model.transformer._column_transform_info_list
    }
    return [infos[column_name(place)] for place in range(len(infos))]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators that sdv draws from, and put them back: they are everybody's."""
    import torch

    state = np.random.get_state()  # noqa: NPY002 -- what sdv uses
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
