"""The command as a person types it: keys, help, and its answers to wrong input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import cli, keys
from gateway.database import Database, make_engine
from gateway.settings import GatewaySettings


def owner_of(secret: str, root: Path) -> str | None:
    database = Database(make_engine(GatewaySettings(data_dir=root).sqlalchemy_url))
    try:
        key = keys.authenticate(database=database, secret=secret)
        return key.owner if key else None
    finally:
        database.close()


def test_a_key_is_printed_once_and_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["keys", "create", "--name", "laptop", "--data-dir", str(tmp_path)]) == 0
    output = capsys.readouterr()
    secret = output.out.strip()
    assert secret.startswith("gp-") and len(secret) == 46
    assert "shown once" in output.err
    assert owner_of(secret, tmp_path) == keys.ADMIN_OWNER
    assert not any(secret.encode() in file.read_bytes() for file in tmp_path.glob("genplat.db*"))


def test_a_key_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "create", "--name", "ci", "--json", "--data-dir", str(tmp_path)]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["name"] == "ci" and owner_of(made["key"], tmp_path)


def test_a_key_may_be_for_one_thing_and_a_while(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["keys", "create", "--name", "shop", "--json", "--data-dir", str(tmp_path)]
    assert cli.main([*command, "--scope", "infer", "--scope", "read", "--days", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["scopes"] == ["infer", "read"]
    for wrong in (
        ["--scope", "root"],
        ["--days", "0"],
        ["--days", "soon"],
        ["--tokens-per-minute", "0"],
    ):
        with pytest.raises(SystemExit):
            cli.main([*command, *wrong])


def test_a_bad_name_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["keys", "create", "--name", " ", "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("genplat: name must be")


def test_a_damaged_database_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "genplat.db").write_bytes(b"not a database at all" * 100)
    assert cli.main(["keys", "create", "--name", "x", "--data-dir", str(tmp_path)]) == 2
    assert "genplat.db" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["postgresql://me:secret@db:port/genplat", "localhost/genplat"])
def test_a_database_address_that_is_none_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
) -> None:
    monkeypatch.setenv("GENPLAT_DATABASE_URL", url)
    assert cli.main(["keys", "create", "--name", "x", "--data-dir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("genplat: GENPLAT_DATABASE_URL ") and "secret" not in line


def test_the_data_folder_comes_from_the_environment_too(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "keys", "create", "--name", "x"],
        env={**os.environ, "GENPLAT_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data" / "genplat.db").is_file()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_the_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")  # so that the folder stays open to others
    assert cli.main(["keys", "create", "--name", "x", "--data-dir", str(tmp_path)]) == 0
    assert (tmp_path / "genplat.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["keys", "create", "--help"]])
def test_help_needs_no_service(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    assert "genplat" in capsys.readouterr().out


def test_training_without_services_says_what_is_wrong_with_its_config(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "train", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode != 0
    assert "none.yaml" in result.stderr + result.stdout
    assert "Traceback" not in result.stderr
