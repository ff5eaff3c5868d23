"""The configuration: one YAML file, with the environment over it, as frozen and validated settings."""

from outrider.config.errors import ConfigError, Problem
from outrider.config.load import SEARCHED, load
from outrider.config.schema import Breaker, Config, Limits, Log, Price, Tokens
from outrider.config.schema_cache import Cache, RouteCache
from outrider.config.schema_events import Events, KafkaEvents, RedisEvents, Webhook
from outrider.config.schema_facts import ModelFacts
from outrider.config.schema_health import Health, Hedging
from outrider.config.schema_jobs import Jobs
from outrider.config.schema_limits import Budget, LimitRule, Tier
from outrider.config.schema_provider import Attempts, Provider, ProviderLimits, Simulated, Timeouts
from outrider.config.schema_recorder import Recorder
from outrider.config.schema_redis import Redis
from outrider.config.schema_resume import Resume
from outrider.config.schema_routes import Defaults, Parameters, Route, RouteTarget
from outrider.config.schema_server import Admin, Caller, Drain, Server, Tls
from outrider.config.schema_usage import Usage
from outrider.config.values import Address

__all__ = [
    "SEARCHED",
    "Address",
    "Admin",
    "Attempts",
    "Breaker",
    "Budget",
    "Cache",
    "Caller",
    "Config",
    "ConfigError",
    "Defaults",
    "Drain",
    "Events",
    "Health",
    "Hedging",
    "Jobs",
    "KafkaEvents",
    "LimitRule",
    "Limits",
    "Log",
    "ModelFacts",
    "Parameters",
    "Price",
    "Problem",
    "Provider",
    "ProviderLimits",
    "Recorder",
    "Redis",
    "RedisEvents",
    "Resume",
    "Route",
    "RouteCache",
    "RouteTarget",
    "Server",
    "Simulated",
    "Tier",
    "Timeouts",
    "Tls",
    "Tokens",
    "Usage",
    "Webhook",
    "load",
]
