"""Tests of the preview: rows as they came, prompts as transformers itself renders them."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

from gateway.chat_templates import ChatTemplate, load_chat_template
from gateway.database import Database
from gateway.datasets.preview import Segment, raw_rows, rendered_rows
from gateway.datasets.store import create_dataset
from gateway.tables import Dataset
from shared.errors import NotFound
from shared.storage import Storage

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def prepare_model(storage: Storage, template: str | None, **config: Any) -> None:
    folder = storage.base_model(MODEL)
    folder.mkdir(parents=True)
    tokens = {"eos_token": "<|im_end|>", "bos_token": {"content": "<|im_start|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens | config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)


@pytest.fixture
def make(database: Database, storage: Storage, tmp_path: Path) -> Any:
    def run(content: str, filename: str) -> Dataset:
        source = tmp_path / "upload"
        source.write_text(content)
        return create_dataset(
            database=database, storage=storage, owner="me", source=source,
            filename=filename, name="x",
        )  # fmt: skip

    return run


def test_raw_rows_are_as_uploaded(make: Any, storage: Storage) -> None:
    made = make("id,text,target\n1,<b>a</b>,=1+1\n2,c,d\n", "a.csv")
    assert raw_rows(storage=storage, dataset=made, limit=1) == [
        {"id": "1", "text": "<b>a</b>", "target": "=1+1"}
    ]
    made = make('{"prompt":"a","completion":"b","n":[1,"é"]}\n', "a.jsonl")
    assert raw_rows(storage=storage, dataset=made) == [
        {"prompt": "a", "completion": "b", "n": '[1, "é"]'}
    ]


def test_long_cells_are_cut(make: Any, storage: Storage) -> None:
    made = make(f"text,target\n{'x' * 5000},b\n", "a.csv")
    assert len(raw_rows(storage=storage, dataset=made)[0]["text"]) == 2001


def test_what_an_older_version_took_is_shown_without_half_characters(
    make: Any, storage: Storage
) -> None:
    made = make('{"prompt":"a","completion":"b"}\n', "a.jsonl")
    line = '{"prompt":"a","completion":"b","\\ud800":1,"x":"\\ud800","y":[{"\\udfff":2}]}\n'
    storage.dataset_source(made.id).write_text(line * 30)
    rows = raw_rows(storage=storage, dataset=made)
    assert len(rows) == 10
    assert rows[0] == {
        "prompt": "a", "completion": "b", "\\ud800": "1", "x": "\\ud800",
        "y": '[{"\\udfff": 2}]',
    }  # fmt: skip


def test_a_template_that_writes_half_characters(make: Any, storage: Storage) -> None:
    prepare_model(storage, "{{ '\\ud800' }}{{ messages[0].content }}{{ eos_token }}")
    made = make("text,target\na,b\n", "a.csv")
    (row,) = rendered_rows(storage=storage, dataset=made, base_model=MODEL)
    assert "".join(part.text for part in row) == "\\ud800a<|im_end|>"


def test_without_a_template_the_roles_are_named(make: Any, storage: Storage) -> None:
    made = make("text,target\na,b\n", "a.csv")
    (row,) = rendered_rows(storage=storage, dataset=made, base_model=MODEL)
    assert "".join(part.text for part in row) == "user: a\nassistant: b\n"
    assert [part.text for part in row if part.learned] == ["b"]


def test_the_answer_and_its_end_are_learned(make: Any, storage: Storage) -> None:
    prepare_model(storage, CHATML)
    made = make("text,target\na,b\nc,d\ne,f\n", "a.csv")
    rows = rendered_rows(storage=storage, dataset=made, base_model=MODEL, limit=2)
    assert rows[0] == [
        Segment("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
                "<|im_start|>assistant\n", False),
        Segment("b<|im_end|>", True),
        Segment("\n", False),
    ]  # fmt: skip
    assert len(rows) == 2


def test_turns_of_weight_0_are_not_learned(make: Any, storage: Storage) -> None:
    prepare_model(storage, CHATML)
    turns = [("user", "a"), ("assistant", "no"), ("user", "b"), ("assistant", "yes")]
    messages: list[dict[str, Any]] = [{"role": r, "content": c} for r, c in turns]
    messages[1]["weight"] = 0
    made = make(json.dumps({"messages": messages}), "a.jsonl")
    (row,) = rendered_rows(storage=storage, dataset=made, base_model=MODEL)
    assert [part.text for part in row if part.learned] == ["yes<|im_end|>"]
    assert "no<|im_end|>" in "".join(part.text for part in row)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('I take no such messages') }}",
        "{{ messages[0].__class__.__mro__ }}",
        "{% for x in range(10000000) %}{% endfor %}",
        "{{ messages | unknown_filter }}",
        "{% if %}",
        "{{ messages.append(1) }}",
        "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10 ** 10 }}",
        "{% set ns = namespace(x='x') %}{% for _ in range(40) %}{% set ns.x = ns.x ~ ns.x %}"
        "{% endfor %}",
        "{% for x in range(99999) %}{{ x }}{{ 'more of the same ' * 10 }}{% endfor %}",
        "{{ messages[0].content }}" + " " * 300_000,
    ],
)
def test_a_hostile_or_broken_template_falls_back(
    make: Any, storage: Storage, template: str
) -> None:
    prepare_model(storage, template)
    made = make("text,target\na,b\n", "a.csv")
    (row,) = rendered_rows(storage=storage, dataset=made, base_model=MODEL)
    assert row[0].text == "user: "


def test_templates_are_found_where_tokenizers_keep_them(storage: Storage) -> None:
    assert load_chat_template(storage.base_model(MODEL)) is None
    prepare_model(storage, None, chat_template=[
        {"name": "rag", "template": "x"}, {"name": "default", "template": "y{{ eos_token }}"},
    ])  # fmt: skip
    found = load_chat_template(storage.base_model(MODEL))
    assert found is not None
    assert found.render([], add_generation_prompt=False) == "y<|im_end|>"


def test_a_deleted_file_is_not_found(make: Any, storage: Storage) -> None:
    made = make("text,target\na,b\n", "a.csv")
    for path in storage.dataset(made.id).iterdir():
        path.unlink()
    with pytest.raises(NotFound):
        raw_rows(storage=storage, dataset=made)
    with pytest.raises(NotFound):
        rendered_rows(storage=storage, dataset=made, base_model=MODEL)


TRICKY = [
    CHATML,
    "  {%- for m in messages %}\n  {{ m | tojson }}\n  {% endfor %}\nend",
    "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.content }}"
    "{% endfor %}",
    "{{ bos_token }}{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{{ eos_token }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{{ ns.n }}:{{ m['content'] | trim | upper }}\n{% endfor %}",
    "{% if tools is none %}none{% endif %}{{ dict(a=1) | tojson(indent=2) }}"
    "{{ {'b': '<é>', 'a': 1} | tojson(sort_keys=true) }}{{ strftime_now('%Y') | length }}",
]


@pytest.mark.parametrize("template", TRICKY)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_it_renders_as_transformers_does(template: str, add_generation_prompt: bool) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [
        {"role": "user", "content": " <a> & 'b' é\n"},
        {"role": "assistant", "content": "c"},
    ]
    tokens: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>"}
    rendered: Any = render_jinja_template(
        conversations=[messages],
        chat_template=template,
        add_generation_prompt=add_generation_prompt,
        **tokens,
    )
    (expected,), _ = rendered
    ours = ChatTemplate(template, tuple(tokens.items()))
    assert ours.render(messages, add_generation_prompt=add_generation_prompt) == expected


def test_a_template_reaches_nothing() -> None:
    for source in ("{{ ''.__class__ }}", "{{ cycler.__init__.__globals__ }}"):
        with pytest.raises(jinja2.TemplateError):
            text = ChatTemplate(source, ()).render([], add_generation_prompt=False)
            assert "class" not in text
            raise jinja2.TemplateError("rendered as nothing")
