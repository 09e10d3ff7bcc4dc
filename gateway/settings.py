"""The gateway's own settings, beside those that all services share."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from shared.settings import Settings

SQLITE_FILE = "genplat.db"


class GatewaySettings(Settings):
    """GENPLAT_* variables that the gateway reads."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65_535)
    database_url: str = Field("", description="PostgreSQL; empty: SQLite in the data folder.")
    inference_url: str = Field("http://127.0.0.1:8001", description="The inference service.")
    admin_key: SecretStr = Field(
        SecretStr(""), description="Seeds one admin key at first start; also logs in at /login."
    )
    login_token: SecretStr = Field(
        SecretStr(""), description="Made by `genplat up` for the printed login link."
    )
    allowed_hosts: str = Field(
        "localhost,127.0.0.1,[::1]",
        description="Host names that requests may carry, by comma; `genplat up` adds its own.",
    )
    secure_cookies: bool = Field(False, description="Set where a proxy speaks TLS to browsers.")
    session_days: int = Field(30, ge=1)
    max_upload_bytes: int = Field(512 * 1024 * 1024, ge=1024)
    max_body_bytes: int = Field(2 * 1024 * 1024, ge=1024, description="Of every other request.")
    disk_reserve_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Room kept for SQLite, given back where the disk is full; 0 for none.",
    )
    max_sse_streams: int = Field(20, ge=1, description="Open event streams an owner may hold.")
    key_abandoned_seconds: float = Field(
        60, gt=0, description="An Idempotency-Key whose gateway died is free again after this."
    )
    upstreams_file: Path | None = Field(
        None, description="YAML that declares service LLMs for routes (docs/orchestrator.md)."
    )
    request_log: Literal["content", "metadata", "none"] = Field(
        "content", description="What is kept of each request (docs/requests.md)."
    )
    request_log_masks: bool = Field(
        True, description="Keep e-mail addresses, phone numbers, cards, keys as [email] and so on."
    )
    request_log_days: float = Field(30, gt=0, description="After these requests are forgotten.")
    inference_timeout_seconds: float = Field(300, gt=0)
    batch_concurrency: int = Field(
        0,
        ge=0,
        le=1024,
        description="Requests of batches under way at once; 0: half of what the engine answers.",
    )
    batch_lease_seconds: float = Field(
        30, gt=0, description="A batch whose gateway died is worked on again after this."
    )
    model_root: Path | None = Field(
        None, description="Where local model folders may lie; empty: `imports` in the data folder."
    )
    dataset_root: Path | None = Field(
        None,
        description="Where local dataset repositories lie; empty: `imports` in the data folder.",
    )
    experiment_seconds: float = Field(
        60, gt=0, description="How often running experiments are looked at."
    )
    readiness_prompts: int = Field(
        30,
        ge=0,
        le=500,
        description="Prompts a day that a route's fallback is measured with; 0: only when asked.",
    )
    prepare_bundled_model: bool = Field(
        True, description="Convert the bundled model at the first start."
    )

    evaluation_lease_seconds: float = Field(
        30, gt=0, description="An evaluation whose gateway died is gone on with after this."
    )
    evaluation_requests: int = Field(
        16, ge=1, le=256, description="Answers that an evaluation asks for at once."
    )
    synthesis_lease_seconds: float = Field(
        30, gt=0, description="A synthesis whose gateway died is gone on with after this."
    )
    synthesis_requests: int = Field(
        8, ge=1, le=256, description="Answers that a synthesis asks for at once."
    )

    @property
    def sqlalchemy_url(self) -> str:
        """The database URL for SQLAlchemy, PostgreSQL through psycopg 3."""
        if not self.database_url:
            return f"sqlite:///{self.root / SQLITE_FILE}"
        scheme, _, rest = self.database_url.partition("://")
        return (
            f"postgresql+psycopg://{rest}" if scheme.startswith("postgres") else self.database_url
        )

    @property
    def import_root(self) -> Path:
        """The folder under which local model folders may be registered."""
        return (self.model_root or self.root / "imports").expanduser().resolve()

    @property
    def dataset_import_root(self) -> Path:
        """The folder of local dataset repositories, each in ``<owner>/<name>``."""
        return (self.dataset_root or self.root / "imports").expanduser().resolve()

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host.strip() for host in self.allowed_hosts.split(",") if host.strip())

    @property
    def static_dir(self) -> Path:
        import ui

        return Path(ui.__file__).parent / "static"


class CommandSettings(Settings):
    """What commands read that talk to a GenPlat somewhere."""

    url: str = Field("", description="The GenPlat that commands talk to.")
    api_key: SecretStr = Field(SecretStr(""), description="A key of that GenPlat.")
    once: str = Field(
        "", description="A command that is repeated with the same value creates nothing twice."
    )
