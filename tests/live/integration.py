"""What `.env.integration` says."""

from pathlib import Path

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

NEEDED = (
    "TEST_USER_ID",
    "STEAM_API_KEY",
    "STEAM_ID64",
    "IGDB_CLIENT_ID",
    "IGDB_CLIENT_SECRET",
    "DATABASE_URL",
    "S3_BUCKET",
)


class _File(BaseSettings):
    model_config = SettingsConfigDict(extra="allow", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings passes all of its sources
        init_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file alone: nothing that this shell happens to have set may lead the check to another database."""
        return (dotenv_settings,)


def read_integration(file: Path) -> dict[str, str]:
    """Names and values of the file, those that are empty left out."""
    named = _File(_env_file=file).model_extra or {}
    return {name.upper(): value for name, value in named.items() if value}
