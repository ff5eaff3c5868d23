"""The configuration: one YAML file, with the environment over it, as frozen and validated settings."""

from outrider.config.errors import ConfigError, Problem
from outrider.config.load import SEARCHED, load
from outrider.config.schema import Breaker, Config, Defaults, Limits, Log, ModelAlias, Price, Tokens
from outrider.config.schema_provider import Attempts, Provider, ProviderLimits, Simulated, Timeouts
from outrider.config.schema_server import Admin, Caller, Drain, Server, Tls
from outrider.config.values import Address

__all__ = [
    "SEARCHED",
    "Address",
    "Admin",
    "Attempts",
    "Breaker",
    "Caller",
    "Config",
    "ConfigError",
    "Defaults",
    "Drain",
    "Limits",
    "Log",
    "ModelAlias",
    "Price",
    "Problem",
    "Provider",
    "ProviderLimits",
    "Server",
    "Simulated",
    "Timeouts",
    "Tls",
    "Tokens",
    "load",
]
