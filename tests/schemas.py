"""YAML documents, and their validation by the schemas of GitHub, GitLab, Docker and pre-commit."""

import io
from typing import Any

import jsonschema


def documents(text: str) -> list[dict[str, Any]]:
    """Return the documents in a YAML text."""
    from ruamel.yaml import YAML

    return list(YAML(typ="safe").load_all(io.StringIO(text)))


def check_schema(document: object, kind: str) -> None:
    """Validate a document with a schema of check-jsonschema, such as `github-workflows`, or with pre-commit's own."""
    if kind == "pre-commit":
        import cfgv
        from pre_commit.clientlib import CONFIG_SCHEMA

        cfgv.validate(document, CONFIG_SCHEMA)
        return
    from check_jsonschema.builtin_schemas import get_builtin_schema

    schema = get_builtin_schema(f"vendor.{kind}")
    jsonschema.validators.validator_for(schema)(schema).validate(document)


def scripts(document: Any) -> list[str]:
    """Return the shell scripts in a pipeline's document."""
    if isinstance(document, list):
        return [script for item in document for script in scripts(item)]
    if not isinstance(document, dict):
        return []
    found = [value for key, value in document.items() if key == "run" and isinstance(value, str)]
    for key in ("script", "before_script", "after_script"):
        found += ["\n".join(document[key])] if isinstance(document.get(key), list) else []
    return found + [script for value in document.values() for script in scripts(value)]
