"""Settings of how providers are watched, and of targets that are asked beside each other."""

from pydantic import Field

from outrider.config.section import Section
from outrider.config.values import Duration

_DAY = 86_400  # seconds


class Health(Section):
    """When providers are asked whether they answer."""

    interval: Duration = Field(
        default=60.0,
        ge=0,
        le=_DAY,
        description="Silence after which a provider is asked, by the cheapest call it has. 0: never.",
    )
    down_interval: Duration = Field(
        default=10.0, ge=0.1, le=_DAY, description="Between two questions to one that does not serve."
    )
    hold: Duration = Field(
        default=15.0,
        ge=0,
        le=_DAY,
        description="How long the sidecar stays ready after its last provider went down.",
    )


class Hedging(Section):
    """When the next target of a plan is asked beside the first one. Who begins first answers."""

    enabled: bool = Field(default=False, description="Whether that is done at all.")
    quantile: float = Field(
        default=0.95,
        ge=0.5,
        lt=1,
        description="A target is slow once it has taken longer to begin than this share of its last answers.",
    )
    max_share: float = Field(
        default=0.05, gt=0, le=1, description="Share of the requests with several targets that may be hedged."
    )
    min_samples: int = Field(
        default=20, ge=1, le=100, description="Answers of a target before it can be called slow."
    )
