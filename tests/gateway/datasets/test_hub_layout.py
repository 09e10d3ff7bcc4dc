"""Which files of a repository hold a split. The layouts are those of the hub's documentation on
"File names and splits" and "Manual configuration" (the YAML header `configs`)."""

import pytest

from gateway.datasets.hub_layout import Repository, described, split_files


@pytest.mark.parametrize(
    ("files", "config", "split", "found"),
    [
        (["data/train-00000-of-00001.parquet", "README.md"], None, "train", [0]),
        (["data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet"], None, "train",
         [1, 0]),
        (["train.jsonl", "test.jsonl"], None, "test", [1]),
        (["train.jsonl", "test.jsonl"], "default", "train", [0]),
        (["data/train.csv", "data/test.csv"], None, "train", [0]),
        (["my_train_file_1.csv", "my_train_file_2.csv", "test.csv"], None, "train", [0, 1]),
        (["my_train_10.csv", "my_train_9.csv"], None, "train", [1, 0]),
        (["train/a.jsonl", "train/b.jsonl", "test/a.jsonl"], None, "train", [0, 1]),
        (["data/train/a.json", "data/test/a.json"], None, "test", [1]),
        (["en/train.parquet", "de/train.parquet"], "de", "train", [1]),
        (["data/de/train-0.parquet", "data/en/train-0.parquet"], "en", "train", [1]),
        # What the hub makes of every dataset on its branch refs/convert/parquet.
        (["default/train/0000.parquet", "default/train/0001.parquet"], None, "train", [0, 1]),
        (["main/train/0000.parquet", "main/train/0001.parquet"], "main", "train", [0, 1]),
        (["val.jsonl"], None, "validation", [0]),
        (["data/dev-0.parquet"], None, "validation", [0]),
        # The best type of several.
        (["train.csv", "train.jsonl", "train.parquet"], None, "train", [2]),
        (["train.jsonl.gz", "train.py", "train.zip", "constrained.csv", "trainer.json"], None,
         "train", []),
        (["train.jsonl"], "de", "train", []),
        (["train.jsonl"], None, "../../etc/passwd", []),
        ([], None, "train", []),
    ],
)  # fmt: skip
def test_by_names(files: list[str], config: str | None, split: str, found: list[int]) -> None:
    assert split_files(Repository(files), config, split) == [files[index] for index in found]


FILES = ["a/one.csv", "a/two.csv", "b/one.csv", "b/deep/er/x.csv", "train.csv"]
READMES = {
    "a pattern": ("configs: [{config_name: default, data_files: 'a/*.csv'}]", None, [0, 1]),
    "a list": ("configs: [{config_name: x, data_files: ['a/two.csv', b/one.csv]}]", "x", [1, 2]),
    "splits": (
        "configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: a/one.csv\n"
        "  - split: train\n    path: [a/two.csv, 'b/*.csv']\n", None, [1, 2],
    ),
    "the only one": ("configs: [{config_name: x, data_files: a/one.csv}]", None, [0]),
    "the default one": (
        "configs: [{config_name: x, data_files: a/one.csv}, "
        "{config_name: y, default: true, data_files: a/two.csv}]", None, [1],
    ),
    "none of several": (
        "configs: [{config_name: x, data_files: a/one.csv}, "
        "{config_name: y, data_files: a/two.csv}]", None, [],
    ),
    "another": ("configs: [{config_name: x, data_files: a/one.csv}]", "z", []),
    "a folder": (
        "configs: [{config_name: x, data_dir: b, data_files: '*.csv'}]", "x", [2],
    ),
    "two stars": ("configs: [{config_name: x, data_files: 'b/**/*.csv'}]", "x", [3, 2]),
    "no files declared": ("configs: [{config_name: x}]", None, [4]),
    "nonsense": ("configs: 7\nx: [", None, [4]),
    "a bomb": ("a: &a [x,x]\nb: &b [*a,*a]\nconfigs: *b", None, [4]),
}  # fmt: skip


@pytest.mark.parametrize("case", READMES)
def test_by_the_readme(case: str) -> None:
    header, config, found = READMES[case]
    readme = f"---\nlicense: mit\n{header}\n---\n# A dataset\n"
    assert split_files(Repository(FILES, readme), config, "train") == [FILES[i] for i in found]


def test_what_there_is_instead() -> None:
    readme = "---\nconfigs: [{config_name: x, data_files: a}]\n---\n"
    assert described(Repository(FILES, readme)) == "Its configs are x"
    assert described(Repository(["train.csv", "x.py"])) == "Its data files are train.csv"
    assert described(Repository(["x.py"])) == "It holds no data file"
