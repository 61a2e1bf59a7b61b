"""The ports: what the use cases ask of the world. Adapters satisfy them by shape."""

from backups.ports.engines import Dump, Engine, Restoration
from backups.ports.keys import KeyWrapper
from backups.ports.queues import Job, Lane, Queue, Role, Seat, Told
from backups.ports.records import (
    Agenda,
    Archive,
    Audit,
    Catalog,
    Diary,
    Leases,
    Ledger,
    Reconciliation,
    Standings,
)
from backups.ports.stores import Body, ObjectStore
from backups.ports.world import Blocks, Clock, Entropy, Progress, Vault

__all__ = [
    "Agenda",
    "Archive",
    "Audit",
    "Blocks",
    "Body",
    "Catalog",
    "Clock",
    "Diary",
    "Dump",
    "Engine",
    "Entropy",
    "Job",
    "KeyWrapper",
    "Lane",
    "Leases",
    "Ledger",
    "ObjectStore",
    "Progress",
    "Queue",
    "Reconciliation",
    "Restoration",
    "Role",
    "Seat",
    "Standings",
    "Told",
    "Vault",
]
