"""A backup read for proof: which check a failure of its bytes belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from backups.errors import BackupsError, IntegrityError
from backups.format.age import Identity
from backups.format.fingerprint import read
from backups.format.manifest import context
from backups.model import Fingerprint, Manifest
from backups.ports import Blocks, ObjectStore, Progress
from backups.run.reader import fetched, find_artifact, named
from backups.run.rewrapped import Headers


class Reading:
    """All of a backup's artifacts, through the restore role, each read once and to its end."""

    def __init__(
        self,
        store: ObjectStore,
        manifest: Manifest,
        identities: Sequence[Identity],
        progress: Progress,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._identities = identities
        self._progress = progress
        self._whole: set[str] = set()
        self.stage: Literal["downloaded", "authentic"] = "downloaded"
        """What is being done to the bytes."""
        self.failed: BackupsError | None = None
        """What went wrong with them."""
        self.objects = 0
        """Downloaded, with the digest of the manifest."""
        self.plain_bytes = 0

    def fingerprint(self) -> Fingerprint:
        """What the source contained. Raises Damaged, WrongKey, ObjectMissing."""
        data = b"".join(self.artifact("fingerprint"))
        self.stage = "authentic"
        return read(data, self._manifest.fingerprint_sha256)

    def artifact(self, name: str) -> Blocks:
        """Its plain bytes; whatever goes wrong with them is kept, too."""
        try:
            yield from self._blocks(name)
        except BackupsError as error:
            self.failed = error
            raise
        self._whole.add(name)

    def rest(self) -> None:
        """Read what nobody asked for: all of the backup is tested."""
        for artifact in self._manifest.artifacts:
            if artifact.name not in self._whole:
                for _ in self.artifact(artifact.name):
                    pass

    def _blocks(self, name: str) -> Blocks:
        artifact = find_artifact(self._manifest, name)
        total, done = artifact.plain_bytes, 0
        self.stage = "downloaded"
        headers = Headers(self._store, self._manifest.database, self._manifest.backup)
        for index, segment, data in fetched(self._store, artifact):
            self.objects += 1
            self.stage = "authentic"
            expected = context(self._manifest, artifact, index)
            try:
                for block in headers.open(
                    data, self._identities, expected, segment.key, segment.plain_bytes
                ):
                    yield block
                    done += len(block)
                    self.plain_bytes += len(block)
                    self._progress(f"reading {name}", done, total)
            except IntegrityError as error:
                raise named(error, segment.key) from error
            self.stage = "downloaded"
