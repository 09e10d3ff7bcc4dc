"""API keys: made once, shown once, kept as hashes. Knows no HTTP."""

import contextlib
import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, delete, select

from gateway.database import Database
from gateway.paging import Page, paginate
from gateway.scopes import Scope
from gateway.tables import ApiKey, LoginSession, now
from shared.errors import Conflict, InvalidRequest, NotFound, Unauthorized

PREFIX = "gp-"
ADMIN_OWNER = "admin"
ADMIN_KEY_NAME = "GENPLAT_ADMIN_KEY"
MIN_ADMIN_KEY = 16
MAX_KEYS = 1000
_LAST_USED_STEP = timedelta(minutes=1)


def hash_secret(secret: str) -> str:
    """256 random bits need no slow hash: there is no dictionary to try."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create_key(
    *,
    database: Database,
    owner: str,
    name: str,
    scopes: Sequence[Scope] = ("admin",),
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret, which nobody can read again."""
    if not scopes:
        raise InvalidRequest("scopes: a key needs one at least.", param="scopes")
    if expires_at is not None and expires_at <= now():
        raise InvalidRequest("expires_at is in the past.", param="expires_at")
    secret = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        owner=owner,
        name=check_name(name),
        hint=secret[:7],
        sha256=hash_secret(secret),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    return _store(database, key), secret


def check_name(name: str) -> str:
    """A name for people: some visible characters on one line."""
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidRequest("name must be 1 to 100 visible characters on one line.", param="name")
    return name


def _store(database: Database, key: ApiKey) -> ApiKey:
    with database.write() as session:
        live = select(ApiKey.id).where(ApiKey.owner == key.owner, col(ApiKey.revoked_at).is_(None))
        if len(session.exec(live.limit(MAX_KEYS)).all()) >= MAX_KEYS:
            raise Conflict(f"There are {MAX_KEYS} keys already. Revoke some that are not used.")
        session.add(key)
    return key


def check_admin_key(secret: str) -> None:
    """Refuse a key that could be guessed; none at all is right."""
    if 0 < len(secret) < MIN_ADMIN_KEY:
        raise InvalidRequest(f"GENPLAT_ADMIN_KEY is shorter than {MIN_ADMIN_KEY} characters.")


def seed_admin_key(*, database: Database, secret: str) -> None:
    """Store GENPLAT_ADMIN_KEY once; it takes the place of the one before it. A key that was
    revoked by hand stays revoked."""
    if not secret:
        return
    digest = hash_secret(secret)
    with database.write() as session:
        seeded = session.exec(
            select(ApiKey).where(
                ApiKey.owner == ADMIN_OWNER,
                ApiKey.name == ADMIN_KEY_NAME,
                col(ApiKey.revoked_at).is_(None),
            )
        ).all()
        for earlier in seeded:
            if earlier.sha256 != digest:
                # Deleted and not revoked: it may be set again later.
                _end_sessions(session, earlier.id)
                session.delete(earlier)
        if session.exec(select(ApiKey).where(ApiKey.sha256 == digest)).first() is None:
            session.add(
                ApiKey(owner=ADMIN_OWNER, name=ADMIN_KEY_NAME, hint=secret[:4], sha256=digest)
            )


def list_keys(
    *, database: Database, owner: str, after: str | None = None, limit: int = 20
) -> Page[ApiKey]:
    """The keys that work, newest first."""
    query = select(ApiKey).where(ApiKey.owner == owner, col(ApiKey.revoked_at).is_(None))
    with database.read() as session:
        return paginate(
            session=session, query=query, table=ApiKey, key=ApiKey.id, after=after, limit=limit
        )


def revoke_key(*, database: Database, owner: str, key_id: str) -> None:
    with database.write() as session:
        key = session.get(ApiKey, key_id)
        if key is None or key.owner != owner or key.revoked_at is not None:
            raise NotFound(f"There is no key {key_id[:80]!r}.")
        key.revoked_at = now()
        session.add(key)
        _end_sessions(session, key.id)


def _end_sessions(session: Session, key_id: str) -> None:
    """Whoever logged in with a key is out when the key is."""
    session.exec(delete(LoginSession).where(col(LoginSession.key_id) == key_id))


def authenticate(*, database: Database, secret: str) -> ApiKey | None:
    """The key that a secret belongs to, if it works. `Unauthorized` says so of one whose time is
    over.

    The look-up is by hash: how long it takes tells nothing of a stored secret's characters.
    """
    with database.read() as session:
        key = session.exec(
            select(ApiKey).where(
                ApiKey.sha256 == hash_secret(secret), col(ApiKey.revoked_at).is_(None)
            )
        ).first()
    if key is None:
        return None
    check_time(key)
    if key.last_used_at is None or now() - key.last_used_at > _LAST_USED_STEP:
        # A locked database must not turn a good key away for the sake of a date.
        with contextlib.suppress(OperationalError):
            _touch(database, key.id)
    return key


def check_time(key: ApiKey) -> None:
    """`Unauthorized` where the key's time is over."""
    if key.expires_at is not None and key.expires_at <= now():
        raise Unauthorized(
            f"This API key expired on {key.expires_at:%Y-%m-%d}. Make a new one.",
            code="key_expired",
        )


def _touch(database: Database, key_id: str) -> None:
    with database.write() as session:
        key = session.get(ApiKey, key_id)
        if key is not None:
            key.last_used_at = now()
            session.add(key)
