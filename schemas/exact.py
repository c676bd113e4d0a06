"""What every frame's model has in common."""

import pandera.polars as pa


class Exact(pa.DataFrameModel):
    """Exactly the model's columns, in their order, of their types."""

    class Config:
        """As said."""

        strict = True
        ordered = True
