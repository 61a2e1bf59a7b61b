"""The audit chain checked, and its head handed out: what lies in a customer's own bucket is
out of our reach, so a chain that was rewritten no longer fits it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from backups.errors import IntegrityError, ObjectExists, StoreDenied
from backups.format.audit import (
    Head,
    digest,
    follow,
    head_key,
    is_head_key,
    sign_head,
    text_of,
    verify_head,
)
from backups.keeping import FIRST
from backups.ports import Audit, Clock, ObjectStore
from backups.run.reader import fetch


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that was followed from its first record to its last."""

    digests: tuple[str, ...]
    """Of record 1, 2, and so on; 64 bytes of text each."""

    @property
    def head(self) -> str:
        """The last digest."""
        return self.digests[-1] if self.digests else FIRST


@dataclass(frozen=True, slots=True)
class HeadsChecked:
    """What the heads in one store said of a chain."""

    agree: int
    problems: tuple[str, ...]


def read_chain(audit: Audit) -> Chain:
    """Follow every record. Raises Damaged, naming the first that does not follow."""
    return Chain(tuple(digest(record) for record in follow(audit.records())))


def publish(chain: Chain, store: ObjectStore, key: Ed25519PrivateKey, clock: Clock) -> bool:
    """Put the head into a store, as a writer; False when today's is there already."""
    now = clock.now()
    head = Head(text_of(now), chain.head, len(chain.digests))
    with suppress(ObjectExists):
        store.put(head_key(now), sign_head(head, key))
        return True
    return False


def check_heads(
    chain: Chain, store: ObjectStore, keys: Sequence[Ed25519PublicKey]
) -> HeadsChecked:
    """Hold every head that lies in a store against the chain. Raises StoreError's kinds
    when the store can't be read at all."""
    agree, problems = 0, []
    for info in store.list("v1/audit/"):
        if not is_head_key(info.key):
            continue
        try:
            head = verify_head(fetch(store, info.key), keys)
        except (IntegrityError, StoreDenied) as error:
            problems.append(f"{info.key}: {error}")
            continue
        if head.sequence > len(chain.digests):
            problems.append(
                f"{info.key} was published at record {head.sequence}: the chain ends at "
                f"{len(chain.digests)}, so records were cut off"
            )
        elif head.sequence and chain.digests[head.sequence - 1] != head.digest:
            problems.append(f"{info.key}: record {head.sequence} or an earlier one was changed")
        else:
            agree += 1
    return HeadsChecked(agree, tuple(problems))
