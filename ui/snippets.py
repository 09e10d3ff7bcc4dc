"""The code that a page offers for copying: how to call a model, and a run as YAML."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

Snippet = tuple[str, str, str]


def chat_snippets(base_url: str, model: str) -> list[Snippet]:
    """``(element id, title, text)`` for each way to call ``model``."""
    return [
        *call_snippets(base_url, model),
        ("snippet-javascript", "JavaScript, with the openai package", _javascript(base_url, model)),
        ("snippet-diagram", "A diagram in one request", _diagram(base_url, model)),
    ]


def call_snippets(base_url: str, model: str) -> list[Snippet]:
    """The two ways that most people want."""
    return [
        ("snippet-curl", "curl", _curl(base_url, model)),
        ("snippet-python", "Python, with the openai package", python_snippet(base_url, model)),
    ]


def _curl(base_url: str, model: str) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    return (
        f"curl {base_url}/v1/chat/completions \\\n"
        '  -H "Authorization: Bearer $GENPLAT_API_KEY" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d '{body}'"
    )


def python_snippet(base_url: str, model: str) -> str:
    return (
        "import os\n"
        "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={json.dumps(base_url + '/v1')},\n"
        '                api_key=os.environ["GENPLAT_API_KEY"])\n'
        "answer = client.chat.completions.create(\n"
        f"    model={json.dumps(model)},\n"
        '    messages=[{"role": "user", "content": "Hello"}],\n'
        ")\n"
        "print(answer.choices[0].message.content)"
    )


def _javascript(base_url: str, model: str) -> str:
    return (
        'import OpenAI from "openai";\n\n'
        "const client = new OpenAI({\n"
        f"  baseURL: {json.dumps(base_url + '/v1')},\n"
        "  apiKey: process.env.GENPLAT_API_KEY,\n"
        "});\n"
        "const answer = await client.chat.completions.create({\n"
        f"  model: {json.dumps(model)},\n"
        '  messages: [{ role: "user", content: "Hello" }],\n'
        "});\n"
        "console.log(answer.choices[0].message.content);"
    )


def _diagram(base_url: str, model: str) -> str:
    body = json.dumps({"model": model, "scenario": "The user asks the shop for a receipt."})
    return (
        f"curl {base_url}/api/diagrams \\\n"
        '  -H "Authorization: Bearer $GENPLAT_API_KEY" \\\n'
        "  -H 'Content-Type: application/json' -H 'Accept: image/png' \\\n"
        f"  -d '{body}' \\\n"
        "  -o diagram.png"
    )


def spec_yaml(spec: Mapping[str, Any]) -> str:
    """A run's spec, in the order of its fields, without those that leave everything open. An empty
    prefix stays: it says that there is none."""
    known = {
        name: value
        for name, value in spec.items()
        if value not in (None, "auto", []) and (value != "" or name == "task_prefix")
    }
    text: str = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    return text.strip()
