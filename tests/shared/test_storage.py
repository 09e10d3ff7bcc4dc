"""Files that appear whole or not at all, and manifests that notice every change."""

import json
from pathlib import Path

import pytest

from shared.storage import (
    MANIFEST,
    Storage,
    atomic_directory,
    atomic_file,
    manifest_problem,
    remove,
    set_aside,
)


def test_paths_stay_under_the_root(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    places = [
        storage.dataset_records("ds_a"),
        storage.run_result("run_a"),
        storage.base_model("HuggingFaceTB/SmolLM2-135M-Instruct"),
        storage.base_model("../../etc/passwd"),
        storage.diagram("dg_a", "svg"),
    ]
    assert all(place.is_relative_to(tmp_path.resolve()) for place in places)
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\0b", "-a", "x" * 81, "ä"])
def test_what_is_no_id_makes_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        Storage(tmp_path).run(name)


def test_a_diagram_has_three_formats(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a diagram format"):
        Storage(tmp_path).diagram("dg_a", "html")


def test_an_unfinished_file_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    with pytest.raises(RuntimeError), atomic_file(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with atomic_file(target) as file:
        file.write(b"whole")
    assert target.read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_unfinished_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with atomic_directory(target) as folder:
        (folder / "weights").write_bytes(b"one")
    with pytest.raises(RuntimeError), atomic_directory(target) as folder:
        (folder / "weights").write_bytes(b"two")
        raise RuntimeError
    assert (target / "weights").read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [target]
    assert manifest_problem(target) is None


def write_result(folder: Path) -> None:
    with atomic_directory(folder) as temporary:
        (temporary / "weights").write_bytes(b"weights")
        (temporary / "deep").mkdir()
        (temporary / "deep" / "config.json").write_text("{}")


def test_a_manifest_notices_every_change(tmp_path: Path) -> None:
    def problem_after(change: str) -> str | None:
        folder = tmp_path / change
        write_result(folder)
        weights = folder / "weights"
        match change:
            case "truncated":
                weights.write_bytes(b"weigh")
            case "flipped":
                weights.write_bytes(b"weighTs")
            case "removed":
                weights.unlink()
            case "linked":
                weights.rename(tmp_path / "elsewhere")
                weights.symlink_to(tmp_path / "elsewhere")
            case "added":
                (folder / "more").write_text("x")
            case "no manifest":
                (folder / MANIFEST).unlink()
            case "broken manifest":
                (folder / MANIFEST).write_text("{")
            case "odd manifest":
                (folder / MANIFEST).write_text(json.dumps({"files": ["weights"]}))
        return manifest_problem(folder)

    assert problem_after("nothing") is None
    assert problem_after("truncated") == "changed file weights"
    assert problem_after("flipped") == "changed file weights"
    assert problem_after("removed") == "missing file weights"
    assert problem_after("linked") == "missing file weights"
    assert problem_after("added") == "unexpected file more"
    assert problem_after("no manifest") == "no manifest"
    assert problem_after("broken manifest") == "unreadable manifest"
    assert problem_after("odd manifest") == "unreadable manifest"


def test_a_manifest_is_no_link_and_names_every_link(tmp_path: Path) -> None:
    write_result(tmp_path / "a")
    (tmp_path / "a" / "more").symlink_to(tmp_path / "a" / "deep")
    assert manifest_problem(tmp_path / "a") == "unexpected file more"
    write_result(tmp_path / "b")
    (tmp_path / "b" / MANIFEST).rename(tmp_path / "elsewhere")
    (tmp_path / "b" / MANIFEST).symlink_to(tmp_path / "elsewhere")
    assert manifest_problem(tmp_path / "b") == "unreadable manifest"


def test_what_is_set_aside_counts_as_left_over(tmp_path: Path) -> None:
    folder = tmp_path / "run_a"
    write_result(folder)
    aside = set_aside(folder)
    assert aside is not None and aside.match("run_a.*.tmp")
    assert (aside / "weights").is_file() and not folder.exists()
    remove(aside)
    assert list(tmp_path.iterdir()) == []
    assert set_aside(folder) is None
    remove(None)
