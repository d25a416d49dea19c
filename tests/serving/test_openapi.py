"""The OpenAPI document is complete, and the service does what it says."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.serving.conftest import Service, visit

pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service

PROBLEM = {"schema": {"$ref": "#/components/schemas/ProblemOut"}}
CLOSED_ERRORS = {"400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "431", "500", "503", "504"}
SCHEMATHESIS = Path(__file__).resolve().parents[1] / "assets/schemathesis"
SCHEMATHESIS_SECONDS = 400


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    """The document as it is published."""
    found: dict[str, Any] = service.client_with(None).get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_says_what_it_is(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    assert len(operations) >= 13
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation.get("description"), name
        assert set(operation["tags"]) <= described, name
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)


def test_every_operation_but_the_probes_demands_a_key(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    (scheme,) = document["components"]["securitySchemes"].items()
    assert (scheme[1]["type"], scheme[1]["scheme"]) == ("http", "bearer")
    unsecured = {name for name, operation in operations.items() if operation.get("security") != [{scheme[0]: []}]}
    assert unsecured == {"GET /livez", "GET /readyz"}


def test_every_operation_lists_its_errors(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        answers = operation["responses"]
        assert "default" in answers
        for status, answer in answers.items():
            assert answer["headers"].keys() >= {"X-Request-ID", "traceresponse"}
            if status == "default" or status >= "400":
                assert answer["content"] == {"application/problem+json": PROBLEM}, (name, status)
        if "security" in operation:
            assert answers.keys() >= CLOSED_ERRORS, name
            assert "Retry-After" in answers["429"]["headers"]
            assert "Retry-After" in answers["503"]["headers"]


def test_every_body_has_examples_that_fit_its_schema(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    with_body = {name: operation["requestBody"] for name, operation in operations.items() if "requestBody" in operation}
    assert len(with_body) >= 6
    for name, body in with_body.items():
        for kind, content in body["content"].items():
            examples = [content["example"]] if "example" in content else []
            if "$ref" in content["schema"]:
                examples += document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["examples"]
            assert examples, (name, kind)
            validator = Draft202012Validator({**content["schema"], "components": document["components"]})
            for example in examples:
                validator.validate(example)


@pytest.mark.slow
def test_schemathesis_finds_nothing(service: Service, client: httpx.Client, tmp_path: Path) -> None:
    """Every check of schemathesis, over examples, boundary values, random bodies and chains of requests."""
    visit(client, "ada", [f"i{number}" for number in range(12)])
    key = service.client(scopes=("read", "write", "admin")).headers["Authorization"]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(SCHEMATHESIS / "config.toml")),
        *("run", f"{service.url}/openapi.json", "--header", f"Authorization: {key}", "--checks", "all"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "5", "--seed", "20"),
        *("--continue-on-failure", "--no-shrink", "--suppress-health-check", "all"),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": str(SCHEMATHESIS / "hooks.py")}
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | hooks,
        capture_output=True,
        text=True,
        timeout=SCHEMATHESIS_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
