"""The base class of every frame's model, and the functions that return a frame of a model."""

from functools import cache
from typing import TypeVar, cast

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors
from pandera.typing.polars import DataFrame

Model = TypeVar("Model", bound=pa.DataFrameModel)


class StrictFrame(pa.DataFrameModel):
    """The base class of all frame models: a frame has exactly the model's columns, in its order, with its dtypes."""

    class Config:
        """Pandera's options: no other columns, and none in another order."""

        strict = True
        ordered = True


@cache
def dtypes(model: type[pa.DataFrameModel]) -> pl.Schema:
    """Return the Polars schema of a model: the dtype of each column by name, in the model's order."""
    return pl.Schema({name: column.dtype.type for name, column in model.to_schema().columns.items()})


def empty_frame(model: type[Model]) -> DataFrame[Model]:
    """Return a frame without rows that has the columns and dtypes of a model."""
    return cast("DataFrame[Model]", pl.DataFrame(schema=dtypes(model)))


def conform(rows: pl.DataFrame, model: type[Model]) -> DataFrame[Model]:
    """Return the same rows typed as a frame of the model, after a check that they have its columns and dtypes.

    The values are not checked: rows that come from outside go through `set_aside` instead.

    Raises:
        TypeError: A column is missing, unknown, out of order or of another dtype: a bug in the caller.
    """
    if rows.schema != dtypes(model):
        raise TypeError(f"These rows are no {model.__name__}: {rows.schema} differs from {dtypes(model)}.")
    return cast("DataFrame[Model]", rows)


TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""The format of times in CSVs: UTC, in whole seconds."""


def set_aside(rows: pl.DataFrame, model: type[Model]) -> tuple[DataFrame[Model], pl.DataFrame]:
    """Split rows into two frames: the valid ones as a frame of the model, and the rejected ones.

    Columns of text are cast to the model's dtypes. The rejected rows have all their columns as text, and in
    `rejected_check` the first check that each one failed.

    Raises:
        SchemaErrors: The columns are not the model's: a bug in the caller.
    """
    typed, failures = check_rows(rows, model)
    rejected = as_text(rows).with_row_index().join(failures, on="index", validate="1:1", maintain_order="left")
    accepted = typed.with_row_index().join(failures, on="index", how="anti", maintain_order="left")
    return conform(accepted.drop("index"), model), rejected.drop("index")


def check_rows(rows: pl.DataFrame, model: type[pa.DataFrameModel]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return all rows cast to the model's dtypes, and a frame `index, rejected_check` with a row per invalid row.

    `rejected_check` names the first check that the row with that index fails.

    Raises:
        SchemaErrors: The columns are not the model's: a bug in the caller.
    """
    typed = rows.with_columns(
        _read_as(name, dtype)
        for name, dtype in dtypes(model).items()
        if rows.schema.get(name) == pl.String and dtype != pl.String
    )
    return typed, _failures(rows, typed, model).sort("index")


def as_text(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with every column as text, as a CSV spells it: times in `TIME_FORMAT`."""
    times = pl.selectors.datetime()
    return rows.with_columns(times.dt.strftime(TIME_FORMAT)).cast(pl.String)


def _read_as(name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).str.to_datetime(TIME_FORMAT, time_unit=dtype.time_unit, time_zone="UTC", strict=False)
    return pl.col(name).cast(dtype, strict=False)


def _failures(rows: pl.DataFrame, typed: pl.DataFrame, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    """Return a frame `index, rejected_check`: each invalid row and the first check that it fails."""
    unreadable = [
        rows.with_row_index()
        .filter(rows[name].is_not_null() & typed[name].is_null())
        .select("index", rejected_check=pl.lit(f"{name}: not {dtype}"))
        for name, dtype in typed.schema.items()
        if typed[name].null_count() > rows[name].null_count()
    ]
    return pl.concat([*unreadable, _failed_checks(typed, model)]).unique("index", keep="first", maintain_order=True)


def _failed_checks(typed: pl.DataFrame, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    try:
        model.validate(typed, lazy=True)
    except SchemaErrors as error:
        found: pl.DataFrame = error.failure_cases
        if found["index"].null_count():  # a column is missing, unknown or of another type: no row is to blame
            raise
        check = pl.format("{}: {}", "column", "check")
        return found.select(pl.col("index").cast(pl.get_index_type()), rejected_check=check)
    return pl.DataFrame(schema={"index": pl.get_index_type(), "rejected_check": pl.String})
