"""From the options of `outrider generate` to a request."""

from __future__ import annotations

import json
import sys
from mimetypes import guess_type
from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli.command_error import usage_error
from outrider.cli.files import read, read_stdin, read_text

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def to_request(arguments: argparse.Namespace) -> v1.GenerateRequest:
    """The request. Reads standard input where that is asked for or piped. Raises CommandError."""
    request = v1.GenerateRequest(model=arguments.model)
    if arguments.system:
        request.messages.add(role=v1.ROLE_SYSTEM, parts=[v1.Part(text=arguments.system)])
    question = request.messages.add(role=v1.ROLE_USER)
    question.parts.extend(v1.Part(image=image_of(path)) for path in arguments.image)
    question.parts.add(text=_prompt(arguments.prompt))
    if arguments.max_tokens is not None:
        request.sampling.max_output_tokens = arguments.max_tokens
    if arguments.temperature is not None:
        request.sampling.temperature = arguments.temperature
    if arguments.schema:
        request.response_format.json_schema.json_schema = schema_of(arguments.schema)
    return request


def _prompt(argument: str | None) -> str:
    """The prompt: the argument, then what standard input holds."""
    piped = argument == "-" or not sys.stdin.isatty()
    texts = [argument if argument != "-" else None, read_stdin() if piped else None]
    prompt = "\n\n".join(text for text in texts if text and not text.isspace())
    if not prompt:
        raise usage_error(
            'there is no prompt; try `outrider generate "Why is the sky blue?"`, or pipe one in'
        )
    return prompt


def image_of(path: Path) -> v1.Media:
    """An image as a request carries it. Raises CommandError."""
    kind = guess_type(path.name)[0] or ""
    if not kind.startswith("image/"):
        raise usage_error(f"{path} does not say what kind of image it is; name it .png, .jpeg, .gif or .webp")
    return v1.Media(data=read(path), mime_type=kind, filename=path.name)


def schema_of(path: Path) -> str:
    """The text of a JSON Schema. Raises CommandError."""
    text = read_text(path)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise usage_error(f"{path} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise usage_error(f"{path} is not a JSON Schema: it must hold a JSON object")
    return text
