"""Browser sessions and the log-in's limits; knows no HTTP beyond the cookie's name."""

import hmac
import secrets
import threading
import time
from collections import OrderedDict, deque
from datetime import timedelta
from urllib.parse import urlsplit

from sqlmodel import col, delete

from gateway import keys
from gateway.database import Database
from gateway.scopes import may
from gateway.settings import GatewaySettings
from gateway.tables import ApiKey, LoginSession, now
from shared.errors import Forbidden, TooManyRequests, Unauthorized

COOKIE = "genplat_session"
TRIES_PER_MINUTE = 20
_MAX_CLIENTS = 10_000


class LoginLimit:
    """At most so many tries a minute and client; the least recent clients are forgotten."""

    def __init__(self, tries: int = TRIES_PER_MINUTE, seconds: float = 60) -> None:
        self.tries, self.seconds = tries, seconds
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, client: str) -> None:
        """Note a try, or raise where there were too many."""
        moment = time.monotonic()
        with self._lock:
            tries = self._seen.setdefault(client, deque())
            self._seen.move_to_end(client)
            while tries and tries[0] <= moment - self.seconds:
                tries.popleft()
            if len(tries) >= self.tries:
                raise TooManyRequests(
                    "Too many tries to log in. Wait a minute, then try again.",
                    retry_after=max(1.0, tries[0] + self.seconds - moment),
                )
            tries.append(moment)
            while len(self._seen) > _MAX_CLIENTS:
                self._seen.popitem(last=False)


def login(
    *, database: Database, settings: GatewaySettings, limit: LoginLimit, secret: str, client: str
) -> str:
    """The value of a new session's cookie for whoever knows the login token or an API key."""
    limit.count(client)
    token = settings.login_token.get_secret_value()
    # Both are tried every time: the answer takes as long whichever was right.
    is_token = bool(token) and hmac.compare_digest(secret.encode(), token.encode())
    key = keys.authenticate(database=database, secret=secret) if secret else None
    if not is_token and key is None:
        raise Unauthorized(
            "This key or token is not valid. `genplat up` prints a login link; "
            "`genplat keys create` makes a key.",
            param="token",
        )
    if key is not None and not is_token and not may(key.scopes, "admin"):
        raise Forbidden("This key may not open the pages: it lacks the scope admin.", param="token")
    opened_by = None if is_token else key
    return _start_session(database=database, settings=settings, key=opened_by)


def _start_session(*, database: Database, settings: GatewaySettings, key: ApiKey | None) -> str:
    """A session of the key's owner; without a key, the administrator's."""
    value = secrets.token_urlsafe(32)
    ends = now() + timedelta(days=settings.session_days)
    if key is not None and key.expires_at is not None:
        ends = min(ends, key.expires_at)
    with database.write() as session:
        session.exec(delete(LoginSession).where(col(LoginSession.expires_at) < now()))
        session.add(
            LoginSession(
                sha256=keys.hash_secret(value),
                owner=key.owner if key else keys.ADMIN_OWNER,
                key_id=key.id if key else None,
                expires_at=ends,
            )
        )
    return value


def session_owner(*, database: Database, cookie: str) -> str | None:
    """Whose session a cookie's value belongs to, or None."""
    with database.read() as session:
        found = session.get(LoginSession, keys.hash_secret(cookie))
    return None if found is None or found.expires_at <= now() else found.owner


def logout(*, database: Database, cookie: str) -> None:
    """End the session here: a copy of the cookie is worth nothing afterwards."""
    with database.write() as session:
        found = session.get(LoginSession, keys.hash_secret(cookie))
        if found is not None:
            session.delete(found)


def safe_next(target: str | None) -> str:
    """Where to go after the log-in: a path on this site, else the home page."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")):
        return "/"
    if not target.isprintable() or "\\" in target or urlsplit(target).netloc:
        return "/"
    return target
