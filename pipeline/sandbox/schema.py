"""The tables of IGDB that the sandbox has (https://api-docs.igdb.com/#endpoints, igdbapi.proto)."""

from pipeline.sandbox.conditions import Path

FIELDS = {
    "external_games": "id category countries created_at external_game_source game game_release_format media name "
    "platform uid updated_at url year checksum",
    "games": "id age_ratings aggregated_rating aggregated_rating_count alternative_names artworks bundles category "
    "collection collections cover created_at checksum dlcs expanded_games expansions external_games first_release_date "
    "follows forks franchise franchises game_engines game_localizations game_modes game_status game_type genres hypes "
    "involved_companies keywords language_supports multiplayer_modes name parent_game platforms player_perspectives "
    "ports rating rating_count release_dates remakes remasters screenshots similar_games slug standalone_expansions "
    "status storyline summary tags themes total_rating total_rating_count updated_at url version_parent version_title "
    "videos websites",
    "genres": "id created_at name slug updated_at url checksum",
    "platforms": "id abbreviation alternative_name category created_at generation name platform_logo platform_family "
    "platform_type slug summary updated_at url versions websites checksum",
    "covers": "id alpha_channel animated game height width image_id url checksum game_localization",
    "alternative_names": "id checksum comment game name",
}
REFERENCES = {
    "external_games": {"game": "games", "platform": "platforms"},
    "games": {
        "alternative_names": "alternative_names",
        "cover": "covers",
        "genres": "genres",
        "platforms": "platforms",
        "parent_game": "games",
        "version_parent": "games",
    },
    "covers": {"game": "games"},
    "alternative_names": {"game": "games"},
}
TEXTS = frozenset({"uid", "name", "slug", "url", "checksum", "image_id", "abbreviation", "alternative_name", "comment"})
SEARCHED = "games"
"""The one of them in which `search` looks here."""


def is_known(table: str, path: Path) -> bool:
    """Whether the path names fields of IGDB; beyond a table the sandbox does not hold, anything goes."""
    head, rest = path[0], path[1:]
    known = head == "*" or head in FIELDS[table].split()
    further = REFERENCES.get(table, {}).get(head)
    return known and (not rest or further is None or is_known(further, rest))
