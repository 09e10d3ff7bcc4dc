"""The OpenAPI document of one deployment: how to call it, with examples that work as they are."""

from typing import Any

from gateway.deployments import DeploymentView
from gateway.keys import PREFIX

_EXAMPLE_INPUT = "A customer orders a coffee; the barista makes it and calls the customer's name."


def deployment_openapi(deployment: DeploymentView) -> dict[str, Any]:
    name = deployment.name
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": "1",
            "description": f"The model `{deployment.model}` over `{deployment.base_model}`.",
        },
        "paths": {
            f"/api/deployments/{name}/predict": {"post": _predict()},
            "/v1/chat/completions": {"post": _chat(name)},
        },
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"An API key (`{PREFIX}…`). Where you are logged in, none.",
                }
            }
        },
        "security": [{"key": []}, {}],
    }


def _operation(
    *,
    operation_id: str,
    summary: str,
    schema: dict[str, Any],
    example: dict[str, Any],
    answer: dict[str, Any],
) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": operation_id,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        },
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {"application/json": {"schema": answer}},
            },
            "503": {"description": "The model is not loaded yet; see Retry-After."},
        },
    }


def _predict() -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    return _operation(
        operation_id="predict",
        summary="Predict: answer one input or several",
        schema=_object(
            {
                "inputs": {"oneOf": [text, {"type": "array", "items": text, "minItems": 1}]},
                "parameters": _object(_parameters(), required=[]),
            },
            required=["inputs"],
        ),
        example={"inputs": [_EXAMPLE_INPUT], "parameters": {"max_tokens": 300, "temperature": 0}},
        answer=_object(
            {
                "outputs": {"type": "array", "items": {"type": "string"}},
                "usage": {"type": "object", "additionalProperties": {"type": "integer"}},
            },
            required=["outputs", "usage"],
        ),
    )


def _chat(name: str) -> dict[str, Any]:
    message = _object(
        {
            "role": {"type": "string", "enum": ["system", "user", "assistant"]},
            "content": {"type": "string"},
        },
        required=["role", "content"],
    )
    return _operation(
        operation_id="chat",
        summary="Chat: answer a conversation in OpenAI's shape",
        schema=_object(
            {
                "model": {"type": "string", "const": name},
                "messages": {"type": "array", "items": message, "minItems": 1},
                "stream": {"type": "boolean", "default": False},
                "diagram": _object(
                    {
                        "format": {"type": "string", "enum": ["svg", "png"]},
                        "max_attempts": {"type": "integer", "minimum": 1, "maximum": 8},
                    },
                    required=[],
                ),
            }
            | _parameters(),
            required=["model", "messages"],
        ),
        example={
            "model": name,
            "messages": [{"role": "user", "content": _EXAMPLE_INPUT}],
            "max_tokens": 300,
        },
        answer={"type": "object", "additionalProperties": True},
    )


def _parameters() -> dict[str, Any]:
    return {
        "max_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "seed": {"type": "integer"},
        "stop": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
    }


def _object(properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})
