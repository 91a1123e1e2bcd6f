"""How a column follows from others: totals over members, expressions, look-ups, or a function.

A rule is a value; every one but a Python function can be written as JSON:

    {"sum": "person.wages", "where": "role == 'head'"}
    {"count": "person", "where": "age < 18"}
    {"expression": "wages + pensions"}
    {"inherit": "household.region"}
    {"lookup": "state", "values": [["CA", "west"], ["NY", "northeast"]]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from microcalibrate.errors import InvalidExpression, InvalidSchema
from microcalibrate.expressions import columns_used

if TYPE_CHECKING:
    import pandas as pd

Total: TypeAlias = Literal["sum", "count", "max", "min", "mean"]
TOTALS: tuple[str, ...] = get_args(Total)


@dataclass(frozen=True)
class Aggregate:
    """A total over the members of each record.

    Missing values are left out; the sum of nothing is 0, its largest, smallest and mean value
    are missing.

    Attributes:
        total: What is formed: `sum`, `count`, `max`, `min` or `mean`.
        entity: Entity of the members, which is linked to the record's entity.
        column: Column of theirs; None to count.
        where: Condition on the members' own columns; None for all.

    Raises:
        InvalidSchema: If a count has a column, another total has none, or the condition cannot be
            read.

    Examples:
        >>> Aggregate("count", "person", where="age < 18").to_json()
        {'count': 'person', 'where': 'age < 18'}
    """

    total: Total
    entity: str
    column: str | None = None
    where: str | None = None

    def __post_init__(self) -> None:
        """Refuse parts that contradict each other."""
        if self.total not in TOTALS:
            raise InvalidSchema(f"{self.total!r} is no total: use one of {', '.join(TOTALS)}.")
        if (self.total == "count") != (self.column is None):
            raise InvalidSchema(
                f"a count is of records, and any other total of a column: {self.to_json()}. "
                "Write {'count': 'person'} or {'sum': 'person.wages'}."
            )
        if self.where is not None:
            checked_expression(self.where)

    def to_json(self) -> dict[str, Any]:
        """The rule as a dictionary of texts."""
        of = self.entity if self.column is None else f"{self.entity}.{self.column}"
        return {self.total: of} | ({} if self.where is None else {"where": self.where})


@dataclass(frozen=True)
class Expression:
    """Arithmetic or a condition on other columns of the same record.

    A missing number makes arithmetic missing; a condition with a missing value is False.

    Attributes:
        text: In the language of filters (see `microcalibrate.expressions`).

    Raises:
        InvalidSchema: If the text cannot be read.
    """

    text: str

    def __post_init__(self) -> None:
        """Refuse parts that contradict each other."""
        checked_expression(self.text)

    def to_json(self) -> dict[str, Any]:
        """The rule as a dictionary of texts."""
        return {"expression": self.text}


@dataclass(frozen=True)
class Inherited:
    """The value of the record that this one belongs to, such as the region of the household.

    Attributes:
        entity: Entity of the other record.
        column: Column of it.
    """

    entity: str
    column: str

    def to_json(self) -> dict[str, Any]:
        """The rule as a dictionary of texts."""
        return {"inherit": f"{self.entity}.{self.column}"}


@dataclass(frozen=True)
class Lookup:
    """A function of one other column of the same record, given by its values.

    Attributes:
        column: The other column.
        values: Pairs of its value and the value that follows from it.

    Raises:
        InvalidSchema: If a value of the other column is there twice.
    """

    column: str
    values: tuple[tuple[Any, Any], ...]

    def __post_init__(self) -> None:
        """Refuse parts that contradict each other."""
        keys = [key for key, _ in self.values]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InvalidSchema(
                f"the look-up of {self.column!r} has {twice!r} more than once. Keep one."
            )

    def to_json(self) -> dict[str, Any]:
        """The rule as a dictionary."""
        return {"lookup": self.column, "values": [list(pair) for pair in self.values]}


@dataclass(frozen=True)
class Calculated:
    """A Python function of all tables, for what the other rules cannot say.

    Attributes:
        function: Called with a dictionary of tables; gives a value per record of the entity, in
            the order of its table. It must look at no more than the record's own household.
        after: Columns `"entity.column"` that it reads and that are themselves derived.
    """

    function: Callable[[Mapping[str, pd.DataFrame]], Any]
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Where the function is defined."""
        function = self.function
        module = getattr(function, "__module__", "")
        return f"{module}.{getattr(function, '__qualname__', repr(type(function)))}"

    def to_json(self) -> dict[str, Any]:
        """Raise: a function is code, and a schema file holds none.

        Raises:
            InvalidSchema: Always.
        """
        raise InvalidSchema(
            f"a column is calculated by the Python function {self.name}, and JSON holds no code. "
            "Declare it as an aggregate or an expression, or build the schema in Python."
        )


Rule: TypeAlias = Aggregate | Expression | Inherited | Lookup | Calculated


def rule_from_json(content: Any) -> Rule:
    """Rule that a dictionary declares.

    Raises:
        InvalidSchema: If it is of none of the known forms.

    Examples:
        >>> rule_from_json({"sum": "person.wages"})
        Aggregate(total='sum', entity='person', column='wages', where=None)
    """
    if isinstance(content, Mapping):
        keys = set(content)
        total = next((name for name in TOTALS if name in content), None)
        if total is not None and keys <= {total, "where"}:
            entity, _, column = str(content[total]).partition(".")
            return Aggregate(total, entity, column or None, content.get("where"))  # type: ignore[arg-type]
        if keys == {"expression"}:
            return Expression(content["expression"])
        if keys == {"inherit"} and "." in str(content["inherit"]):
            return Inherited(*content["inherit"].split(".", 1))
        if keys == {"lookup", "values"}:
            return Lookup(
                content["lookup"], tuple((key, value) for key, value in content["values"])
            )
    raise InvalidSchema(
        f"{content!r} is no rule. Known: {{'sum': 'person.wages', 'where': ...}} (or count, "
        "max, min, mean), {'expression': ...}, {'inherit': 'household.region'}, "
        "{'lookup': column, 'values': [[from, to], ...]}."
    )


def reads(rule: Rule, entity: str) -> set[tuple[str, str]]:
    """Columns, as (entity, column), that a rule of an entity reads."""
    if isinstance(rule, Aggregate):
        of = set() if rule.where is None else columns_used(rule.where)
        return {(rule.entity, name) for name in of | ({rule.column} if rule.column else set())}
    if isinstance(rule, Expression):
        return {(entity, name) for name in columns_used(rule.text)}
    if isinstance(rule, Inherited):
        return {(rule.entity, rule.column)}
    if isinstance(rule, Lookup):
        return {(entity, rule.column)}
    return {(name.partition(".")[0], name.partition(".")[2]) for name in rule.after}


def step_of(rule: Rule | None, entity: str) -> tuple[str, str]:
    """Lower and upper entity between which a rule follows links; twice the same for none."""
    if isinstance(rule, Aggregate):
        return rule.entity, entity
    if isinstance(rule, Inherited):
        return entity, rule.entity
    return entity, entity


def checked_expression(text: str) -> None:
    """Refuse text that is no expression.

    Raises:
        InvalidSchema: With what is wrong in it.
    """
    try:
        columns_used(text)
    except InvalidExpression as error:
        raise InvalidSchema(str(error)) from error
