"""API keys made where the database lies, without a gateway: for `genplat keys` and the demo."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway import keys
from gateway.connections import open_database
from gateway.database import Database
from gateway.launcher.checks import prepare_data_folder
from gateway.launcher.lock import LOCK_FILE
from gateway.migrations import migrate
from gateway.settings import GatewaySettings
from gateway.tables import ApiKey


@contextmanager
def _database(settings: GatewaySettings) -> Iterator[Database]:
    prepare_data_folder(settings.root, LOCK_FILE)
    database = open_database(settings)
    try:
        migrate(database)
        yield database
    finally:
        database.close()


def create_local_key(settings: GatewaySettings, name: str) -> tuple[ApiKey, str]:
    """A new key of the administrator and its secret; works beside a running gateway too."""
    with _database(settings) as database:
        return keys.create_key(database=database, owner=keys.ADMIN_OWNER, name=name)


@contextmanager
def passing_key(settings: GatewaySettings, name: str) -> Iterator[str]:
    """A secret that works as long as the block."""
    key, secret = create_local_key(settings, name)
    try:
        yield secret
    finally:
        with _database(settings) as database:
            keys.revoke_key(database=database, owner=keys.ADMIN_OWNER, key_id=key.id)
