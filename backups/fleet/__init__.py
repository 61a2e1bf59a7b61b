"""The fleet file: whose database goes where, declared in YAML."""

from backups.fleet.load import load_fleet, policies
from backups.fleet.rules import DEFAULT_PLANS, Fleet, fleet_schema
from backups.fleet.secrets import resolve_key, resolve_password

__all__ = [
    "DEFAULT_PLANS",
    "Fleet",
    "fleet_schema",
    "load_fleet",
    "policies",
    "resolve_key",
    "resolve_password",
]
