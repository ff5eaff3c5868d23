"""Settings of providers: how they are reached, for how long, how often and how hard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from outrider.config.schema_facts import ModelFacts
from outrider.config.section import Section
from outrider.config.values import AnyCase, BaseUrl, Duration, FailureKind, HeaderName, HeaderValue, Secret

_HOUR = 3600  # seconds
_DAY = 24 * _HOUR


class Timeouts(Section):
    """Limits of time for one attempt; all of them lie inside the caller's deadline."""

    connect: Duration = Field(
        default=5.0, gt=0, le=_DAY, description="Until the connection to the provider stands."
    )
    first_event: Duration = Field(default=60.0, gt=0, le=_DAY, description="Until the first content arrives.")
    idle: Duration = Field(default=60.0, gt=0, le=_DAY, description="Between two pieces of content.")
    total: Duration = Field(default=600.0, gt=0, le=_DAY, description="Until the answer is whole.")


class Attempts(Section):
    """How a target is tried again, always before its first content and within the caller's deadline."""

    max_attempts: int = Field(
        default=3, ge=1, le=20, description="Tries at one target, the first one included."
    )
    base_delay: Duration = Field(
        default=1.0, ge=0, le=_HOUR, description="Longest wait before the second try."
    )
    factor: float = Field(default=2.0, ge=1, le=10, description="How much longer each further wait may be.")
    max_delay: Duration = Field(default=8.0, ge=0, le=_HOUR, description="Longest wait of our own choice.")
    max_retry_after: Duration = Field(
        default=60.0, ge=0, le=_DAY, description="Longest wait that a provider's Retry-After may ask for."
    )
    retry_budget: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Retries as a share of requests, besides ten a second. 0: nothing is retried.",
    )


class ProviderLimits(Section):
    """What a provider is spared."""

    requests_per_minute: float | None = Field(
        default=None, gt=0, le=10_000_000, description="Requests per minute, spread evenly. None: no limit."
    )
    requests_per_day: int | None = Field(
        default=None, ge=1, le=10**12, description="Requests in a calendar day, in UTC. None: no limit."
    )
    tokens_per_minute: float | None = Field(
        default=None, gt=0, le=10**12, description="Tokens per minute, of prompt and answer. None: no limit."
    )
    max_concurrency: int = Field(default=256, ge=1, le=100_000, description="Requests at the same time.")
    max_waiting: int = Field(
        default=1024, ge=0, le=1_000_000, description="Requests that may wait for their turn."
    )
    max_wait: Duration = Field(
        default=10.0, ge=0, le=_HOUR, description="Longest wait for a turn; then it is shed."
    )

    @property
    def limits_rates(self) -> bool:
        """Whether there is anything that a fleet has to count together."""
        rates = (self.requests_per_minute, self.requests_per_day, self.tokens_per_minute)
        return any(rate is not None for rate in rates)


class Simulated(Section):
    """How the simulated provider behaves. It needs no network and no key, and repeats itself exactly."""

    script: str | None = Field(
        default=None,
        description="The answer to everything, or a list of steps. None: the last message comes back.",
    )
    pace: Duration = Field(default=0.02, ge=0, le=_HOUR, description="Wait between two pieces of the answer.")
    first_token_delay: Duration = Field(
        default=0.1, ge=0, le=_HOUR, description="Wait before the first piece."
    )
    chunk_chars: int = Field(default=4, ge=1, le=1_000_000, description="Characters in a piece.")
    failure: Annotated[FailureKind, AnyCase] | None = Field(
        default=None,
        description="What goes wrong, also with _midway: after half of the answer. None: nothing.",
    )
    failure_rate: float = Field(
        default=1.0, ge=0, le=1, description="Share of requests in which it goes wrong."
    )
    seed: int = Field(
        default=0, ge=0, le=2**63 - 1, description="Chooses which ones; the same seed, the same ones."
    )
    replay: Path | None = Field(
        default=None,
        description="A folder of the recorder: what was recorded there is answered, and nothing else.",
    )


class Provider(Section):
    """One place where answers come from. At most one of `api_key` and `api_key_file` is set."""

    format: Annotated[Literal["openai", "anthropic", "simulated"], AnyCase] | None = Field(
        default=None, description="The wire format. None: the vendor's whose name it bears, else openai."
    )
    api_key: Secret | None = Field(
        default=None, description="The key. None, and no file: a vendor that needs one is disabled."
    )
    api_key_file: Path | None = Field(
        default=None, description="A file that holds it, read again when it changes."
    )
    base_url: BaseUrl | None = Field(
        default=None, description="Where the API is. None: at the vendor whose name it bears."
    )
    transport: Annotated[Literal["direct", "sdk"], AnyCase] = Field(
        default="direct", description="How it is reached: our own HTTP client, or the vendor's official one."
    )
    default_model: str | None = Field(
        default=None, description="The model used where none is named. None: the vendor's."
    )
    models: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="Models that callers may name without the provider."
    )
    model_facts: Mapping[str, ModelFacts] = Field(
        default={}, description="What is known of its models, over what the catalogue says, by model."
    )
    headers: Mapping[HeaderName, HeaderValue] = Field(
        default={}, repr=False, description="HTTP headers sent with every request."
    )
    done_marker: bool = Field(
        default=True,
        description="Whether its streams end with [DONE]. false: a finish reason and the end of the body do.",
    )
    timeouts: Timeouts | None = Field(
        default=None, description="Instead of the common timeouts; what is left out is common."
    )
    attempts: Attempts | None = Field(
        default=None, description="Instead of the common attempts; what is left out is common."
    )
    limits: ProviderLimits = Field(default=ProviderLimits(), description="What the provider is spared.")
    simulated: Simulated | None = Field(default=None, description="How the simulated provider behaves.")
