"""Every error this program raises on purpose: one closed tree.

    BackupsError                1
    ├── UsageError              2   the call's words are wrong
    ├── ConfigError            10   settings, fleet file or keys are missing or wrong
    ├── NotFound               11   no such customer, database or backup
    ├── Busy                   12   somebody else holds it            (retryable)
    ├── CatalogError           13   the catalog cannot be used
    ├── RoleMissing            14   not with the roles of this process
    ├── KeyRefused             15   a key is not given to us, or was sealed for another use
    ├── KeyServiceUnavailable  16   the key service gave no answer    (retryable)
    ├── StoreError             20   an object store failed
    │   ├── StoreUnavailable   21   no answer, throttled or 5xx       (retryable)
    │   ├── StoreDenied        22   the credentials may not do this
    │   ├── BucketMissing      23   the bucket is not there, or is not the customer's
    │   ├── ObjectMissing      24   no object under that key
    │   ├── ObjectExists       25   create-only refused: the key is taken
    │   ├── ObjectLocked       26   a lock or hold forbids deletion
    │   ├── CapabilityMissing  27   the store cannot do what was asked
    │   └── TransferDamaged    28   bytes changed on their way        (retryable)
    ├── IntegrityError         30   a backup is not what it should be
    │   ├── Damaged            31   bytes differ from what was written
    │   ├── BadSignature       32   the manifest is not signed by a trusted key
    │   ├── WrongKey           33   no identity at hand opens it
    │   └── UnknownFormat      34   written by a newer or a foreign program
    ├── EngineError            40   a database or its tools failed
    │   ├── Unreachable        41   the database server gave no answer (retryable)
    │   ├── AccessDenied       42   the database refused our login or rights
    │   ├── ToolError          43   a client tool is missing, too old or unsafe
    │   ├── DumpFailed         44   the dump did not end well          (retryable)
    │   ├── TargetRefused      45   the target is not one we may write to
    │   ├── RestoreFailed      46   the target did not take the data
    │   ├── EnvironmentLacks   47   the target server lacks what the backup needs
    │   └── RestoredInPart     48   restored, and what could not be made is named
    ├── VerificationFailed     50   the copy is not equal to its fingerprint
    ├── PlanVoid               51   what was planned is not so any more
    ├── ApprovalMissing        52   a person, or a time to think, is still missing
    ├── CallRefused            60   a call of the API is not taken
    │   ├── Unauthenticated    61   nobody's call: no token, or none that is valid
    │   ├── Forbidden          62   theirs, but not with these roles
    │   ├── SessionOver        63   a page's session is over, or a form is not ours
    │   └── TooManyCalls       64   more calls than are allowed       (retryable)
    └── Cancelled             130   stopped on request

The number is the process's exit code. `retryable` says whether the same call may succeed
later without anybody changing anything. `hint` says what a person can do next; an instance
may carry a better one than its class.
"""

from __future__ import annotations

from typing import ClassVar


class BackupsError(Exception):
    """Base of the tree; its message is one sentence and never holds a secret."""

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


class UsageError(BackupsError):
    exit_code = 2
    hint = "See `backups --help`."


class ConfigError(BackupsError):
    exit_code = 10
    hint = "Run `backups init` for a new home, or name an existing one with --home."


class NotFound(BackupsError):
    exit_code = 11
    hint = "`backups status` and `backups list` show what there is."


class Busy(BackupsError):
    exit_code = 12
    retryable = True
    hint = "Wait for the other one to end, then try again."


class CatalogError(BackupsError):
    exit_code = 13
    hint = "The catalog can be rebuilt from the buckets: `backups catalog rebuild`."


class RoleMissing(BackupsError):
    exit_code = 14
    hint = "Another worker does that: see `backups worker --roles`."


class KeyRefused(BackupsError):
    exit_code = 15
    hint = "Whoever owns the key decides: see its policy and grants, and `backups key show`."


class KeyServiceUnavailable(BackupsError):
    exit_code = 16
    retryable = True
    hint = "Check the network and the service's status, then try again."


class StoreError(BackupsError):
    exit_code = 20
    hint = "`backups store check` examines the bucket."


class StoreUnavailable(StoreError):
    exit_code = 21
    retryable = True
    hint = "Check the endpoint and the network; the call was retried and may be tried again."


class StoreDenied(StoreError):
    exit_code = 22
    hint = "Check the credentials or role, and the bucket's policy."


class BucketMissing(StoreError):
    exit_code = 23
    hint = "Check the bucket's name, region and owner in the store URL."


class ObjectMissing(StoreError):
    exit_code = 24
    hint = "Something this program wrote is gone: compare the bucket with its manifests."


class ObjectExists(StoreError):
    exit_code = 25
    hint = "Nothing was overwritten. Two writers may share this bucket and prefix."


class ObjectLocked(StoreError):
    exit_code = 26
    hint = "It can be deleted when its lock has ended."


class CapabilityMissing(StoreError):
    exit_code = 27
    hint = "Choose a store that can do it, or change the policy."


class TransferDamaged(StoreError):
    exit_code = 28
    retryable = True
    hint = "Bytes were altered between here and the store; look at the network path."


class IntegrityError(BackupsError):
    exit_code = 30
    hint = "Do not use this backup; restore from another one."


class Damaged(IntegrityError):
    exit_code = 31
    hint = "This copy was altered after it was written; restore from another backup."


class BadSignature(IntegrityError):
    exit_code = 32
    hint = "Check that the verify key is the one handed over at enrolment."


class WrongKey(IntegrityError):
    exit_code = 33
    hint = "Use the identity of one of the recipients that `backups show` lists."


class UnknownFormat(IntegrityError):
    exit_code = 34
    hint = "A newer release may read it."


class EngineError(BackupsError):
    exit_code = 40
    hint = "Read the server's own log for the reason."


class Unreachable(EngineError):
    exit_code = 41
    retryable = True
    hint = "Check host, port, TLS settings and that the server is running."


class AccessDenied(EngineError):
    exit_code = 42
    hint = "Check the user, its password reference and its rights on the database."


class ToolError(EngineError):
    exit_code = 43
    hint = "Install the database's own client tools, of the server's version or newer."


class DumpFailed(EngineError):
    exit_code = 44
    retryable = True
    hint = "Nothing was committed; the next run starts anew."


class TargetRefused(EngineError):
    exit_code = 45
    hint = "Name a database that does not exist yet."


class RestoreFailed(EngineError):
    exit_code = 46
    hint = "What had been restored was removed; the backup itself is untouched."


class EnvironmentLacks(EngineError):
    exit_code = 47
    hint = "Install what is named on the target server, or restore elsewhere."


class RestoredInPart(EngineError):
    exit_code = 48
    hint = "The copy is there under its name. Make what is listed by hand, or do without it."


class VerificationFailed(BackupsError):
    exit_code = 50
    hint = "The copy was not given its name; compare the differences listed."
    texts: str = ""
    """Both sides' definitions, for the person at the terminal: never for a log or a record."""


class PlanVoid(BackupsError):
    exit_code = 51
    hint = "Nothing was changed. Plan it anew, and look at what is different."


class ApprovalMissing(BackupsError):
    exit_code = 52
    hint = "`backups replace show` says what it waits for."


class CallRefused(BackupsError):
    exit_code = 60
    hint = "Look up the call in the API's description, /openapi.json."


class Unauthenticated(CallRefused):
    exit_code = 61
    hint = "Call again with a valid token: Authorization: Bearer TOKEN."


class Forbidden(CallRefused):
    exit_code = 62
    hint = "The token's roles don't allow it; somebody else of your company may."


class SessionOver(CallRefused):
    exit_code = 63
    hint = "Open the page anew from your dashboard."


class TooManyCalls(CallRefused):
    exit_code = 64
    retryable = True
    hint = "Wait a little, then call again."


class Cancelled(BackupsError):
    exit_code = 130
    hint = "Nothing half done was left behind."
