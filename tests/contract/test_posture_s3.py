"""How a bucket of S3 is set up, looked at on a real endpoint; and, on the wire, what that
endpoint does not know: owners, public policies, rights that are missing, external ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

import pytest

from backups.clock import SystemClock
from backups.errors import StoreDenied
from backups.model import Outcome
from backups.ports import Clock
from providers.access import Access, Role
from providers.posture import Judged, View, looking, unfinished_uploads
from providers.urls import parse_store_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.s3
CLOCK = SystemClock()
ROLES: tuple[Role, ...] = ("writer", "restorer", "pruner")
ROLE = "arn:aws:iam::000000000000:role/backups"
EXTERNAL = "bloomneo-of-acme"
MakeView = Callable[..., View]


@dataclass(frozen=True)
class Off(SystemClock):
    """A clock that is wrong."""

    seconds: int

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)


def view_of(url: str, clock: Clock = CLOCK, principal: str | None = None) -> View:
    access: dict[Role, Access] = {
        role: Access(role, "acme", principal, EXTERNAL) for role in ROLES
    }
    return View(parse_store_url(url), access, clock, timedelta(days=30))


def look(view: View, name: str) -> Judged:
    with looking(view) as looks:
        return looks[name]()


@pytest.fixture
def view(bucket: str, s3_endpoint: str) -> MakeView:
    """`view(**options)`: of the fresh bucket, below the prefix `pre/fix`."""

    def make(bucket: str = bucket, clock: Clock = CLOCK, **options: str) -> View:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        where = quote(s3_endpoint, safe="")
        return view_of(f"s3://{bucket}/pre/fix?endpoint={where}&{query}".rstrip("&"), clock)

    return make


# --- on a real endpoint ---------------------------------------------------------------


def test_a_plain_bucket_of_the_cloud_as_it_is_made(view: MakeView) -> None:
    with looking(view()) as looks:
        found = {name: judge()[0] for name, judge in looks.items()}
    assert found == {
        "region": "passed",
        "clock": "passed",
        "owner": "warning",
        "versioning": "passed",
        "lock": "warning",
        "public_access": "passed",
        "lifecycle": "passed",
        "encryption": "passed",
        "uploads": "passed",
        "credentials": "warning",
        "external_id": "unproven",
    }


def test_another_region_than_is_asked(view: MakeView, s3_client: S3Client, bucket: str) -> None:
    s3_client.create_bucket(
        Bucket=f"{bucket}-eu",
        CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
    )
    outcome, words = look(view(f"{bucket}-eu", region="us-east-1"), "region")
    assert (outcome, "?region=eu-central-1" in words) == ("warning", True)
    assert look(view(f"{bucket}-eu", region="eu-central-1"), "region")[0] == "passed"


@pytest.mark.parametrize(
    ("seconds", "outcome", "said"),
    [(0, "passed", "within"), (200, "passed", "within"), (360, "failed", "ahead of"),
     (-3600, "failed", "behind")],
)  # fmt: skip
def test_the_clock(seconds: int, outcome: Outcome, said: str, view: MakeView) -> None:
    found, words = look(view(clock=Off(seconds)), "clock")
    assert (found, said in words) == (outcome, True)


def test_an_endpoint_that_does_not_look_at_owners_proves_nothing(view: MakeView) -> None:
    assert look(view(owner="000000000000"), "owner")[0] == "unproven"


def test_versions(view: MakeView, bucket: str, s3_client: S3Client) -> None:
    def found(**declared: str) -> Outcome:
        return look(view(**declared), "versioning")[0]

    assert found() == "passed"
    assert found(versions="true") == found(lock="governance") == "failed"
    for status in ("Enabled", "Suspended"):
        s3_client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": status}
        )
        on = status == "Enabled"
        assert found() == ("failed" if on else "warning")
        assert found(versions="true") == ("passed" if on else "failed")


def test_locks(view: MakeView, bucket: str, s3_client: S3Client) -> None:
    locked = f"{bucket}-locked"
    s3_client.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    assert look(view(lock="compliance"), "lock")[0] == "failed"
    assert look(view(locked), "lock")[0] == "warning"
    assert look(view(locked, lock="compliance"), "lock")[0] == "passed"
    s3_client.put_object_lock_configuration(
        Bucket=locked,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 7}},
        },
    )
    outcome, words = look(view(locked, lock="governance"), "lock")
    assert (outcome, "7 days" in words) == ("failed", True)


DAY = datetime(2026, 12, 1, tzinfo=UTC)


RULES: list[tuple[str, Any]] = [
    ("failed", {"Filter": {}, "Expiration": {"Days": 29}}),
    ("failed", {"Filter": {"Prefix": "pre/fix/v1/"}, "Expiration": {"Days": 7}}),
    ("failed", {"Filter": {"Prefix": "pre/"}, "Expiration": {"Date": DAY}}),
    (
        "failed",
        {
            "Filter": {"And": {"Prefix": "pre/", "ObjectSizeGreaterThan": 10}},
            "Expiration": {"Days": 1},
        },
    ),
    (
        "failed",
        {"Filter": {}, "Transitions": [{"Days": 3, "StorageClass": "DEEP_ARCHIVE"}]},
    ),
    ("warning", {"Filter": {}, "Expiration": {"Days": 30}}),
    ("warning", {"Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 3}}),
    ("passed", {"Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}),
    ("passed", {"Filter": {"Prefix": "pre/fixed/"}, "Expiration": {"Days": 1}}),
    ("passed", {"Filter": {"Prefix": "pre/fix/logs/"}, "Expiration": {"Days": 1}}),
    ("passed", {"Filter": {"Tag": {"Key": "k", "Value": "v"}}, "Expiration": {"Days": 1}}),
    ("passed", {"Filter": {}, "Status": "Disabled", "Expiration": {"Days": 1}}),
    (
        "passed",
        {"Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
    ),
    (
        "passed",
        {"Filter": {}, "Transitions": [{"Days": 0, "StorageClass": "GLACIER_IR"}]},
    ),
]


def test_lifecycle_rules(view: MakeView, bucket: str, s3_client: S3Client) -> None:
    with looking(view()) as looks:
        for outcome, rule in RULES:
            rules: Any = [{"ID": "theirs", "Status": "Enabled", **rule}]
            s3_client.put_bucket_lifecycle_configuration(
                Bucket=bucket, LifecycleConfiguration={"Rules": rules}
            )
            found, words = looks["lifecycle"]()
            assert (found, "theirs" in words) == (outcome, outcome != "passed"), rule


def test_uploads_that_somebody_left(view: MakeView, bucket: str, s3_client: S3Client) -> None:
    started = {
        key: s3_client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        for key in ("pre/fix/v1/shop/big.age", "elsewhere/big")
    }
    it = view()
    (upload,) = unfinished_uploads(it.url, it.access["pruner"], CLOCK)
    assert upload.key == "v1/shop/big.age"
    assert upload.upload_id == started["pre/fix/v1/shop/big.age"]
    assert abs(upload.started - CLOCK.now()) < timedelta(minutes=1)
    outcome, words = look(it, "uploads")
    assert (outcome, words.startswith("1 unfinished")) == ("warning", True)
    s3_client.abort_multipart_upload(
        Bucket=bucket, Key="pre/fix/v1/shop/big.age", UploadId=upload.upload_id
    )
    assert look(it, "uploads")[0] == "passed"


def test_other_stores_have_no_unfinished_uploads() -> None:
    for url in ("gs://bucket-1/x", "memory:x", "file:///srv"):
        assert unfinished_uploads(parse_store_url(url), Access("pruner"), CLOCK) == []


def test_credentials(view: MakeView, monkeypatch: pytest.MonkeyPatch) -> None:
    it = view()
    outcome, words = look(it, "credentials")
    assert (outcome, "static key (env)" in words) == ("warning", True)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "lent")
    assert look(it, "credentials")[0] == "passed"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere/at/all")
    assert look(it, "credentials")[0] == "failed"


def test_a_role_that_is_lent_to_anybody(bucket: str, s3_endpoint: str) -> None:
    url = f"s3://{bucket}?endpoint={s3_endpoint}"
    outcome, words = look(view_of(url, principal=ROLE), "external_id")
    assert outcome == "failed"
    assert "a wrong external id" in words
    assert "shows none" in words


# --- on the wire ----------------------------------------------------------------------


@dataclass
class Said:
    status: int
    body: str = ""


@dataclass
class Wire:
    """An endpoint that gives the same answer to every question of one kind."""

    url: str
    answers: dict[str, Said | Callable[[dict[str, str]], Said]] = field(default_factory=dict)
    """By what the question's query has, or `sts`."""

    def view(self, query: str = "", principal: str | None = None) -> View:
        return view_of(f"s3://bucket?endpoint={self.url}{query}", principal=principal)


EMPTY = Said(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
DENIED = Said(403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
UNKNOWN = Said(501, "<Error><Code>NotImplemented</Code><Message>no</Message></Error>")


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length).decode()
            kind = "sts" if self.command == "POST" else self.path.partition("?")[2]
            facts = {name.lower(): value for name, value in self.headers.items()}
            facts |= {name: values[0] for name, values in parse_qs(body).items()}
            said: Any = next(
                (said for name, said in wire.answers.items() if name in kind), EMPTY
            )
            said = said(facts) if callable(said) else said
            self.send_response(said.status)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        wire = Wire(f"http://127.0.0.1:{server.server_address[1]}")
        yield wire
        server.shutdown()
        thread.join()


RIGHTS = [
    ("region", "location", "s3:GetBucketLocation"),
    ("versioning", "versioning", "s3:GetBucketVersioning"),
    ("lock", "object-lock", "s3:GetBucketObjectLockConfiguration"),
    ("public_access", "publicAccessBlock", "s3:GetBucketPublicAccessBlock"),
    ("lifecycle", "lifecycle", "s3:GetLifecycleConfiguration"),
    ("encryption", "encryption", "s3:GetEncryptionConfiguration"),
    ("uploads", "uploads", "s3:ListBucketMultipartUploads"),
    ("owner", "list-type", "s3:ListBucket"),
]


def test_what_may_not_be_looked_at_is_unproven(wire: Wire) -> None:
    with looking(wire.view("&owner=111122223333")) as looks:
        for name, asks, right in RIGHTS:
            wire.answers = {asks: DENIED}
            outcome, words = looks[name]()
            assert (outcome, f"grant {right}" in words) == ("unproven", True), name
            wire.answers = {asks: UNKNOWN}
            outcome, words = looks[name]()
            assert (outcome, "does not say" in words) == ("unproven", True), name


def test_the_clock_is_told_by_a_refusal_too(wire: Wire) -> None:
    wire.answers["location"] = DENIED
    with looking(replace(wire.view(), clock=Off(-900))) as looks:
        assert looks["region"]()[0] == "unproven"
        wire.answers["list-type"] = DENIED
        assert looks["clock"]()[0] == "failed"


def owned_by(owner: str) -> Callable[[dict[str, str]], Said]:
    def answer(facts: dict[str, str]) -> Said:
        asked = facts.get("x-amz-expected-bucket-owner", owner)
        return EMPTY if asked == owner else DENIED

    return answer


def test_whose_bucket_it_is(wire: Wire) -> None:
    wire.answers["list-type"] = owned_by("111122223333")
    assert look(wire.view("&owner=111122223333"), "owner")[0] == "passed"
    outcome, words = look(wire.view("&owner=444455556666"), "owner")
    assert (outcome, "does not belong" in words) == ("failed", True)
    assert look(wire.view(), "owner")[0] == "warning"


def test_a_bucket_that_does_not_block_the_public(wire: Wire) -> None:
    wire.answers["publicAccessBlock"] = Said(
        404, "<Error><Code>NoSuchPublicAccessBlockConfiguration</Code></Error>"
    )
    status = "<PolicyStatus><IsPublic>{}</IsPublic></PolicyStatus>"
    with looking(wire.view()) as looks:
        for said, outcome in (
            (Said(200, status.format("true")), "failed"),
            (Said(200, status.format("false")), "warning"),
            (Said(404, "<Error><Code>NoSuchBucketPolicy</Code></Error>"), "warning"),
            (DENIED, "unproven"),
            (Said(500, "<Error><Code>InternalError</Code></Error>"), "unproven"),
        ):
            wire.answers["policyStatus"] = said
            found, words = looks["public_access"]()
            assert found == outcome
            assert "BlockPublicPolicy" in words or said is DENIED


def test_a_bucket_without_encryption_of_its_own(wire: Wire) -> None:
    code = "ServerSideEncryptionConfigurationNotFoundError"
    wire.answers["encryption"] = Said(404, f"<Error><Code>{code}</Code></Error>")
    assert look(wire.view(), "encryption")[0] == "warning"


def test_a_delete_that_wants_a_second_factor(wire: Wire) -> None:
    wire.answers["versioning"] = Said(
        200,
        "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>"
        "</VersioningConfiguration>",
    )
    outcome, words = look(wire.view("&versions=true"), "versioning")
    assert (outcome, "MFA" in words) == ("failed", True)


def lent(external_id: str | None) -> Callable[[dict[str, str]], Said]:
    """STS: lends to who shows this external id; None: also to who shows none."""

    def answer(facts: dict[str, str]) -> Said:
        shown = facts.get("ExternalId", external_id or EXTERNAL)
        if shown != EXTERNAL or (external_id and "ExternalId" not in facts):
            return Said(
                403,
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message>"
                "</Error></ErrorResponse>",
            )
        end = (CLOCK.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Said(
            200,
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId>"
            "<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
            f"<Expiration>{end}</Expiration></Credentials></AssumeRoleResult>"
            "</AssumeRoleResponse>",
        )

    return answer


def test_external_ids(wire: Wire) -> None:
    view = wire.view(principal=ROLE)
    wire.answers["sts"] = lent(EXTERNAL)
    assert look(view, "external_id")[0] == "passed"
    wire.answers["sts"] = lent(None)
    outcome, words = look(view, "external_id")
    assert (outcome, "none" in words, "a wrong" in words) == ("failed", True, False)
    # Where the role is not lent to us either, a refusal of others proves nothing.
    wire.answers["sts"] = lent("of-somebody-else")
    stranger = {
        role: replace(access, external_id="another") for role, access in view.access.items()
    }
    with pytest.raises(StoreDenied):
        look(replace(view, access=stranger), "external_id")
