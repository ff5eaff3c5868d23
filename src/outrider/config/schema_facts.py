"""Settings of what is known of models."""

from pydantic import Field

from outrider.config.section import Section


class ModelFacts(Section):
    """What is known of a model. What is left out is as the catalogue has it, or not known."""

    context_tokens: int | None = Field(
        default=None, ge=1, le=10**9, description="Tokens of prompt and answer together."
    )
    vision: bool | None = Field(default=None, description="Whether it takes images.")
    audio: bool | None = Field(default=None, description="Whether it takes sound.")
    files: bool | None = Field(default=None, description="Whether it takes files, other than text.")
    tools: bool | None = Field(default=None, description="Whether it calls tools.")
    json_schema: bool | None = Field(default=None, description="Whether it holds answers to a JSON schema.")
    reasoning: bool | None = Field(default=None, description="Whether it can be asked to reason.")
