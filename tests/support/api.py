"""What the API promises."""

from __future__ import annotations

import importlib
import pkgutil

import outrider.v1

SERVICES = frozenset(
    service.full_name
    for module in pkgutil.iter_modules(outrider.v1.__path__, "outrider.v1.")
    if module.name.endswith("_pb2")
    for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()
)
"""The full name of every service in proto/outrider/v1."""
