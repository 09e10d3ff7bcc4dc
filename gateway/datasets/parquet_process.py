"""Reads a Parquet file in a process of its own: the file may come from anybody, and claim more
rows, deeper nesting or longer texts than there is memory. The process has a limit and no secret.

Run as ``python -m gateway.datasets.parquet_process FILE``. It writes lines of JSON: the names of
the columns, then each row as the list of its values, or a text where a row is refused, then null.
A file that cannot be read ends it with an object that holds ``code`` and ``message``.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.datasets.csv_rows import MAX_COLUMNS
from gateway.datasets.lines import MAX_LINE

CPU_SECONDS = 600
MEMORY_BYTES = 1024 * 1024 * 1024
_BATCH_ROWS = 64
_BUFFER_BYTES = 1024 * 1024
# Of the file's own description.
_MAX_DEPTH = 32
_MAX_METADATA = 32 * 1024 * 1024


class Refused(Exception):
    """Why the file is not read: a code and a sentence."""


def main(path: str) -> None:
    _limit()
    try:
        for line in _lines(path):
            sys.stdout.write(f"{line}\n")
    except Refused as error:
        code, message = error.args
        sys.stdout.write(json.dumps({"code": code, "message": message}))
    except (MemoryError, pa.ArrowMemoryError):
        said = "the file needs more memory than a dataset may: its row groups or texts are huge."
        sys.stdout.write(json.dumps({"code": "too_large", "message": said}))
    except UnicodeDecodeError:
        said = "a text in it is not UTF-8."
        sys.stdout.write(json.dumps({"code": "not_utf8", "message": said}))
    except (pa.ArrowException, OSError, ValueError) as error:
        said = f"the Parquet file is damaged, or of a kind that cannot be read: {str(error)[:200]}"
        sys.stdout.write(json.dumps({"code": "bad_parquet", "message": f"{said.rstrip('.')}."}))


def _lines(path: str) -> Iterator[str]:
    file = pq.ParquetFile(
        path,
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
        thrift_string_size_limit=_MAX_METADATA,
        thrift_container_size_limit=_MAX_METADATA,
        schema_depth_limit=_MAX_DEPTH,
    )
    schema = file.schema_arrow
    _check_names(schema.names)
    yield json.dumps(schema.names)
    # Pictures and sounds are never read, however large.
    read = [field.name for field in schema if not _holds_bytes(field.type)]
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=read, use_threads=False):
        for row in batch.to_pylist():
            line = _encoded([row.get(name) for name in schema.names])
            too_long = f"the row is longer than {MAX_LINE:,} characters. Shorten or split it."
            yield line if len(line) <= MAX_LINE else json.dumps(too_long)
    yield "null"


def _check_names(names: list[str]) -> None:
    if len(names) > MAX_COLUMNS:
        said = f"the file has {len(names)} columns; at most {MAX_COLUMNS} are read."
        raise Refused("too_many_columns", said)
    if len(set(names)) != len(names):
        raise Refused("duplicate_column", "a column's name is there twice. Rename or remove one.")


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return True
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))


def _encoded(values: list[Any]) -> str:
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_finite(values), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _limit() -> None:
    # Windows has no such limits.
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        # macOS knows this one and refuses to set it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        # A crash is expected of some files; it leaves nothing behind.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    main(sys.argv[1])
