"""The only place that knows concrete classes: what a command needs, put together.

Two doors that never share a key: `taking` loads the signing key and public recipients,
`giving` loads identities.
"""

from backups.wiring.app import App, init, join, opened
from backups.wiring.applying import (
    apply,
    propose,
    refuse_backup,
    standing,
    standing_in_words,
)
from backups.wiring.auditing import publish_heads
from backups.wiring.enrolling import (
    answered,
    canaries,
    documents_for,
    examination,
    recoverable,
    recoverable_backups,
    refuse_trespass,
    stores_of,
)
from backups.wiring.giving import (
    choose,
    from_nearest,
    giving_back,
    last_time,
    operation,
    recovery,
    restore_identities,
    restore_ports,
)
from backups.wiring.leaving import erase, in_state, offboard
from backups.wiring.placing import move as move_catalog
from backups.wiring.proving import tested_this_month, verdicts
from backups.wiring.pruning import examine, hold_ports, prunable, prune
from backups.wiring.safekeeping import back_up_catalog, restore_catalog
from backups.wiring.scrubbing import scrub_ports
from backups.wiring.stores import (
    bare_store,
    declared_stores,
    destination_at,
    lacking,
    manifest_of,
    place_of,
    places,
    store_of,
)
from backups.wiring.taking import backup_ports, copy_ports, copy_to, source_of, unwhole
from backups.wiring.unsealing import has_identity
from backups.wiring.watching import endpoints, measured, test_endpoint, watch

__all__ = [
    "App",
    "answered",
    "apply",
    "back_up_catalog",
    "backup_ports",
    "bare_store",
    "canaries",
    "choose",
    "copy_ports",
    "copy_to",
    "declared_stores",
    "destination_at",
    "documents_for",
    "endpoints",
    "erase",
    "examination",
    "examine",
    "from_nearest",
    "giving_back",
    "has_identity",
    "hold_ports",
    "in_state",
    "init",
    "join",
    "lacking",
    "last_time",
    "manifest_of",
    "measured",
    "move_catalog",
    "offboard",
    "opened",
    "operation",
    "place_of",
    "places",
    "propose",
    "prunable",
    "prune",
    "publish_heads",
    "recoverable",
    "recoverable_backups",
    "recovery",
    "refuse_backup",
    "refuse_trespass",
    "restore_catalog",
    "restore_identities",
    "restore_ports",
    "scrub_ports",
    "source_of",
    "standing",
    "standing_in_words",
    "store_of",
    "stores_of",
    "test_endpoint",
    "tested_this_month",
    "unwhole",
    "verdicts",
    "watch",
]
