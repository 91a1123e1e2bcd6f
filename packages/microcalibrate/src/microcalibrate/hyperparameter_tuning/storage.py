"""Where a study is kept, and whether it is the one that is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.arrays import is_sparse
from microcalibrate.errors import InvalidOption, MissingExtra, UnreadableFile
from microcalibrate.hyperparameter_tuning.tables import FORMAT, load_optuna
from microcalibrate.problem import Problem

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

JOURNAL_SUFFIXES = (".log", ".journal")


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna says only what is a warning; afterwards as much as before."""
    logging = load_optuna().logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def opened_storage(storage: Any, *, pooled: bool = False) -> BaseStorage:
    """The Optuna storage that a user means.

    Args:
        storage: None (in memory), a database URL such as `postgresql+pg8000://user@host/name` or
            `sqlite:///study.db`, the path of a journal file (ending in .log or .journal), or an
            Optuna storage.
        pooled: Whether connections to a database stay open between calls, which is faster.

    Returns:
        An Optuna storage.

    Raises:
        InvalidOption: If it is none of these.
        MissingExtra: If Optuna or the driver of the database is not installed.
        UnreadableFile: If the database or the file cannot be opened.

    Examples:
        >>> type(opened_storage(None)).__name__
        'InMemoryStorage'
    """
    storages = load_optuna().storages
    if storage is None:
        return storages.InMemoryStorage()  # type: ignore[no-any-return]
    if isinstance(storage, storages.BaseStorage):
        return storage  # type: ignore[no-any-return]
    if not isinstance(storage, (str, os.PathLike)):
        raise InvalidOption(
            f"storage={storage!r} must be a database URL, the path of a journal file, an Optuna "
            "storage, or None."
        )
    text = os.fspath(storage)
    if is_url(text):
        return _opened_database(text, pooled)
    if not text.endswith(JOURNAL_SUFFIXES):
        raise InvalidOption(
            f"storage={text!r} is neither a database URL (with ://) nor the path of a journal file "
            f"({' or '.join(JOURNAL_SUFFIXES)}). For a SQLite file write sqlite:///{text}"
        )
    journal = storages.journal
    # Windows lets only administrators make the symbolic links that are the other kind of lock.
    lock = journal.JournalFileOpenLock(text) if os.name == "nt" else None
    try:
        return storages.JournalStorage(journal.JournalFileBackend(text, lock))  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableFile(
            f"the journal file {text} cannot be opened: {error}. Give a file that a study wrote, "
            "or one that does not exist, in a folder that does."
        ) from error


@contextmanager
def working_storage(storage: Any) -> Iterator[BaseStorage]:
    """The storage for a stretch of work; a database that a URL named is then disconnected."""
    opened = opened_storage(storage, pooled=True)
    try:
        yield opened
    finally:
        if is_url(storage):
            opened.remove_session()
            opened.engine.dispose()  # type: ignore[attr-defined]


def is_url(storage: Any) -> bool:
    """Whether a storage is given as the URL of a database."""
    return isinstance(storage, str) and "://" in storage


def _opened_database(url: str, pooled: bool) -> BaseStorage:
    import sqlalchemy.exc
    from sqlalchemy.pool import NullPool

    # Passwords do not belong into messages.
    place = url.partition("://")[0] + "://" + url.rpartition("@")[2].rpartition("://")[2]
    try:
        engine_options = {} if pooled else {"poolclass": NullPool}
        return load_optuna().storages.RDBStorage(url, engine_options)  # type: ignore[no-any-return]
    except ImportError as error:
        raise MissingExtra(
            f"the driver of {place} is not installed: {error}. For PostgreSQL: pip install pg8000, "
            "and a URL that begins with postgresql+pg8000://"
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, ValueError) as error:
        raise UnreadableFile(
            f"the database {place} cannot be opened: {error}. Is it running, and is the URL right?"
        ) from error


def open_study(
    storage: BaseStorage, name: str, directions: int, attributes: Mapping[str, Any]
) -> Study:
    """The study of that name, begun if there is none.

    Args:
        storage: Where it is kept.
        name: Of the study.
        directions: How many values a trial has, each the smaller the better.
        attributes: What the study is about; "fingerprint" says whether it is the same one.

    Raises:
        InvalidOption: If a study of that name is there that is about something else.
    """
    study: Study = load_optuna().create_study(
        storage=storage,
        study_name=name,
        directions=["minimize"] * directions,
        load_if_exists=True,
    )
    known = study.user_attrs
    way_out = "Give another study_name or another storage, or the options that it was begun with."
    if (theirs := known.get("fingerprint")) is None:
        if known.get("format", FORMAT) != FORMAT or study.get_trials(deepcopy=False):
            raise InvalidOption(
                f'the storage has a study "{name}" that is not of this kind. {way_out}'
            )
    elif theirs != attributes["fingerprint"]:
        pairs = zip(theirs.split(), attributes["fingerprint"].split(), strict=False)
        what = [
            ours.partition(":")[0].replace("_", " ") for their, ours in pairs if their != ours
        ] or ["format"]
        raise InvalidOption(
            f'the storage has a study "{name}" with other {" and ".join(what)}: its trials cannot '
            f"be compared with those asked for. {way_out}"
        )
    if len(study.directions) != directions:
        raise InvalidOption(
            f'the storage has a study "{name}" with {len(study.directions)} values per trial, not '
            f"{directions}. {way_out}"
        )
    for key, value in attributes.items():
        # The fingerprint last: a study with one has all the others.
        if key != "fingerprint" and known.get(key) != value:
            study.set_user_attr(key, value)
    if theirs is None:
        study.set_user_attr("fingerprint", attributes["fingerprint"])
    return study


def fingerprint(**parts: Any) -> str:
    """A hash of each part: problems, arrays and plain values alike.

    Returns:
        `name:hash` of each, separated by blanks.

    Examples:
        >>> fingerprint(settings={"kappa": 1.0}) == fingerprint(settings={"kappa": 1.0})
        True
    """
    return " ".join(f"{name}:{_hashed(part)}" for name, part in parts.items())


def _hashed(part: Any) -> str:
    found = hashlib.blake2b(digest_size=8)
    for piece in _pieces(part):
        if isinstance(piece, np.ndarray):
            # Index arrays are as wide as SciPy finds fit; their values are what counts.
            kind = np.int64 if piece.dtype.kind in "iu" else np.float64
            found.update(repr(piece.shape).encode())
            found.update(np.ascontiguousarray(piece, dtype=kind).data.cast("B"))
        else:
            found.update(repr(piece).encode())
    return found.hexdigest()


def _pieces(part: Any) -> Iterator[Any]:
    if isinstance(part, Problem):
        matrix = part.estimate_matrix
        yield from (matrix.data, matrix.indices, matrix.indptr) if is_sparse(matrix) else (matrix,)
        for name in ("design_weights", "targets", "scales", "tolerances", "importances"):
            yield getattr(part, name)
        for name in ("min_ratio", "min_weight", "max_weight", "frozen", "heteroscedasticity"):
            yield getattr(part, name)
        yield part.target_names
    elif isinstance(part, Mapping):
        yield sorted(part.items())
    else:
        yield from part
