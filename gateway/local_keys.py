"""API keys made where the database lies, without a gateway: for `genplat keys` and the demo."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from gateway import keys
from gateway.connections import open_database
from gateway.database import Database
from gateway.launcher.checks import prepare_data_folder
from gateway.launcher.lock import LOCK_FILE
from gateway.migrations import migrate
from gateway.scopes import Scope
from gateway.settings import GatewaySettings
from gateway.tables import ApiKey, now


@contextmanager
def _database(settings: GatewaySettings) -> Iterator[Database]:
    prepare_data_folder(settings.root, LOCK_FILE)
    database = open_database(settings)
    try:
        migrate(database)
        yield database
    finally:
        database.close()


def create_local_key(
    settings: GatewaySettings,
    name: str,
    *,
    scopes: Sequence[Scope] = ("admin",),
    days: int | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> tuple[ApiKey, str]:
    """A new key of the administrator and its secret; works beside a running gateway too."""
    expires_at = None if days is None else now() + timedelta(days=days)
    with _database(settings) as database:
        return keys.create_key(
            database=database,
            owner=keys.ADMIN_OWNER,
            name=name,
            scopes=scopes,
            expires_at=expires_at,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )


@contextmanager
def passing_key(
    settings: GatewaySettings, name: str, scopes: Sequence[Scope] = ("admin",)
) -> Iterator[str]:
    """A secret that works as long as the block."""
    key, secret = create_local_key(settings, name, scopes=scopes)
    try:
        yield secret
    finally:
        with _database(settings) as database:
            keys.revoke_key(database=database, owner=keys.ADMIN_OWNER, key_id=key.id)
