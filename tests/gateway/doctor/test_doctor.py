"""What the doctor finds on this machine, and what it says where something lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.doctor import machine, programs, report, service_llms, variables
from gateway.doctor.finding import Finding
from gateway.launcher.lock import StackLock
from gateway.settings import GatewaySettings


def test_the_whole_report_for_machines_keeps_secrets(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "doctor", "--json", "--data-dir", str(tmp_path)],
        env={**os.environ, "GENPLAT_ADMIN_KEY": "my-own-secret-key", "GENPLAT_LOGLEVEL": "DEBUG"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert result.returncode == 0, [f for f in findings.values() if f["state"] == "fail"]
    assert findings["Renderer"]["found"] == "draws"
    assert findings["Queue"]["found"].startswith("embedded: ")
    assert findings["GENPLAT_ADMIN_KEY"]["found"] == "*** (set)"
    assert findings["GENPLAT_PORT"]["found"] == "8000"
    assert findings["GENPLAT_LOGLEVEL"]["state"] == "warn"
    assert "my-own-secret-key" not in result.stdout


def test_a_setting_that_a_service_cannot_read_fails() -> None:
    findings = variables.values({**os.environ, "GENPLAT_MAX_ROWS": "x"})
    (failed,) = [finding for finding in findings if finding.state == "fail"]
    assert failed.name == "Settings" and failed.way_out.startswith("GENPLAT_MAX_ROWS: ")


def test_the_report_for_people_marks_what_fails_and_says_the_way_out() -> None:
    text = report(
        [Finding("Python", "ok", "3.11"), Finding("Java", "fail", "none", "install one")],
        as_json=False,
    )
    assert text.splitlines() == [
        "ok    Python  3.11",
        "FAIL  Java    none",
        "              → install one",
    ]


def test_a_redis_that_does_not_answer_fails() -> None:
    finding = programs.queue(GatewaySettings(redis_url="redis://127.0.0.1:9/0"))
    assert finding.state == "fail" and "GENPLAT_REDIS_URL" in finding.way_out


@pytest.mark.parametrize("url", ["localhost:6379", "", "redis://[::1/0"])
def test_a_redis_address_that_is_none_fails(url: str) -> None:
    finding = programs.queue(GatewaySettings(redis_url=url))
    assert finding.state == "fail" and "GENPLAT_REDIS_URL is no address" in finding.way_out


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:secret@127.0.0.1:9/x", "does not answer"),
        ("postgresql://me:secret@db:port/x", "GENPLAT_DATABASE_URL is no address"),
    ],
)
def test_a_database_that_cannot_be_used_fails(tmp_path: Path, url: str, said: str) -> None:
    finding = programs.database(GatewaySettings(data_dir=tmp_path / "data", database_url=url))
    assert finding.state == "fail" and said in finding.found + finding.way_out
    assert not (tmp_path / "data").exists()
    assert "secret" not in finding.found + finding.way_out


def test_the_database_of_the_data_folder_is_not_made(tmp_path: Path) -> None:
    finding = programs.database(GatewaySettings(data_dir=tmp_path / "data"))
    assert (finding.state, finding.found) == ("ok", "SQLite in the data folder")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"GENPLAT_JAVA": "/no/such/java"}, "Java"),
        ({"GENPLAT_JAVA": "java"}, "Java"),  # the service takes a path, and no name
        ({"GENPLAT_PLANTUML_JAR": "/no/such.jar"}, "PlantUML"),
        ({"GENPLAT_PLANTUML_URL": "http://127.0.0.1:9"}, "Renderer"),
        ({"GENPLAT_PLANTUML_URL": "http://me:secret@127.0.0.1:9"}, "Renderer"),
        ({"GENPLAT_PLANTUML_URL": "http://me:secret@[::1"}, "Renderer"),
    ],
)
def test_a_renderer_that_is_not_there_fails(environment: dict[str, str], name: str) -> None:
    (failed,) = [f for f in programs.renderer(environment) if f.state == "fail"]
    assert failed.name == name and failed.way_out
    assert "secret" not in failed.found


def test_a_stack_that_starts_or_is_down_is_told(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    assert "not running" in programs.platform_running(settings).found
    lock = StackLock(tmp_path)
    lock.take()
    assert "starting" in programs.platform_running(settings).found
    lock.note(pid=1, url="http://127.0.0.1:9")
    assert programs.platform_running(settings).state == "warn"
    lock.release()


def test_the_disk_is_measured_before_the_folder_exists(tmp_path: Path) -> None:
    finding = machine.disk(tmp_path / "not" / "yet")
    assert "GB free" in finding.found


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("redis://:pass@host:6379/0", "redis://***@host:6379/0"),
        ("postgresql://me:pass@db/genplat", "postgresql://***@db/genplat"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("plain", "plain"),
        ("localhost,127.0.0.1,[::1]", "localhost,127.0.0.1,[::1]"),
        (
            "postgresql://db/genplat?user=u&password=pass&sslmode=require",
            "postgresql://db/genplat?user=u&password=***&sslmode=require",
        ),
        ("redis://host/0?db=1&Pass%77ord=p@ss", "redis://host/0?db=1&Pass%77ord=***"),
        # Characters that should have been written as %XX, a scheme that was left out.
        ("redis://:1/pass@host:6379/0", "redis://***@host:6379/0"),
        ("redis://:1?pass@host:6379/0", "redis://***@host:6379/0"),
        ("redis://:1#pass@host:6379/0", "redis://***@host:6379/0"),
        ("me:pass@db/genplat", "***@db/genplat"),
        ("redis://:pass/word@host:6379/0", "***"),
        ("redis://:pass@[::1/0", "***"),
    ],
)
def test_passwords_in_urls_are_masked(value: str, shown: str) -> None:
    assert variables.mask(value) == shown


def test_a_secret_is_masked_whole() -> None:
    assert variables.mask("s3cret", secret=True) == "***"
    assert variables.mask("", secret=True) == ""


def test_declared_service_llms_are_looked_at_and_not_asked(tmp_path: Path) -> None:
    def finding(text: str, **environment: str) -> Finding:
        file = tmp_path / "upstreams.yaml"
        file.write_text(text)
        settings = GatewaySettings(data_dir=tmp_path, upstreams_file=file)
        return service_llms.upstreams(settings, environment)

    one = "upstreams: [{name: large, base_url: 'http://127.0.0.1:9/v1', model: m, api_key_env: K}]"
    assert finding(one, K="secret").state == "ok"
    lacking = finding(one)
    assert (lacking.state, "K is not set" in (lacking.way_out or "")) == ("warn", True)
    wrong = finding("upstreams: [{name: large}]")
    assert wrong.state == "fail" and "upstreams.0.base_url" in (wrong.way_out or "")
    assert service_llms.upstreams(GatewaySettings(data_dir=tmp_path), {}).state == "ok"
