"""The baseline: an ORM that looks each row up, then inserts or updates it, as SavePoint's first pipeline did."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import polars as pl
from sqlalchemy import create_engine, select
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import Session


def upsert_row_by_row(url: str, rows: pl.DataFrame) -> None:
    """Load the rows of an enriched frame one after another, and commit once."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    tables = automap_base()
    tables.prepare(autoload_with=engine)
    with Session(engine) as session:
        for row in rows.iter_rows(named=True):
            _upsert(session, tables.classes, row)
        session.commit()
    engine.dispose()


def _upsert(session: Session, tables: Any, row: dict[str, Any]) -> None:  # noqa: ANN401 - classes made by automap
    now = datetime.now(UTC).replace(tzinfo=None)
    game = _one(session, tables.Game, {"igdbId": row["igdb_id"]}, now)
    game.title, game.slug, game.steamAppId = row["igdb_name"], row["igdb_slug"], row["appid"]
    game.description, game.coverImage = row["igdb_summary"], row["igdb_cover_url"]
    for table, links, column in (
        (tables.Genre, "genre", "igdb_genres"),
        (tables.Platform, "platform", "igdb_platforms"),
    ):
        for entry in json.loads(row[column]):
            related = _one(session, table, {"igdbId": entry["id"]}, now)
            related.name, related.slug = entry["name"], entry["slug"]
            session.flush()
            known = getattr(game, f"{links}_collection")
            if related not in known:
                known.append(related)
    session.flush()
    own = {"userId": row["user_id"], "storefront": "STEAM", "storefrontGameId": str(row["appid"])}
    imported = _one(session, tables.ImportedGame, own, now)
    imported.name, imported.playtime, imported.igdbMatchStatus = row["name"], row["playtime_forever"], "MATCHED"
    item = session.scalars(select(tables.LibraryItem).filter_by(userId=row["user_id"], gameId=game.id)).first()
    if item is None:
        session.add(tables.LibraryItem(userId=row["user_id"], gameId=game.id, status="SHELF", updatedAt=now))
    session.flush()


def _one(session: Session, table: Any, key: dict[str, Any], now: datetime) -> Any:  # noqa: ANN401 - the same
    found = session.scalars(select(table).filter_by(**key)).first()
    if found is None:
        found = table(id=uuid4().hex, updatedAt=now, **key)
        session.add(found)
    return found
