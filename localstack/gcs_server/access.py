"""Who calls, and what they may do: service accounts, tokens, roles and conditions.

Tokens: RFC 7523 (JWT bearer grant), developers.google.com/identity/protocols/oauth2/
service-account; impersonation: cloud.google.com/iam/docs/reference/credentials/rest/v1/
projects.serviceAccounts/generateAccessToken. Rights: cloud.google.com/storage/docs/
access-control/iam-roles and /iam-json. Scopes: cloud.google.com/storage/docs/oauth-scopes.
"""

from __future__ import annotations

# ruff: noqa: TID251  (a server of its own, not a part of the project)
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from refusals import Refusal, denied, invalid
from state import Bucket, Json

PROJECT = "local-project"
GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
"""What google-auth names as the audience, whatever the key's token_uri says."""
SCOPE = "https://www.googleapis.com/auth/"
OBJECTS = (
    "create", "delete", "get", "getIamPolicy", "list", "overrideUnlockedRetention", "restore",
    "setIamPolicy", "setRetention", "update",
)  # fmt: skip
BUCKETS = (
    "create", "delete", "enableObjectRetention", "get", "getIamPolicy", "list", "setIamPolicy",
    "update",
)  # fmt: skip
EVERY_OBJECT = frozenset(f"storage.objects.{verb}" for verb in OBJECTS)
EVERY_BUCKET = frozenset(f"storage.buckets.{verb}" for verb in BUCKETS)
ROLES: dict[str, frozenset[str]] = {
    "roles/storage.objectCreator": frozenset({"storage.objects.create"}),
    "roles/storage.objectViewer": frozenset({"storage.objects.get", "storage.objects.list"}),
    "roles/storage.objectUser": frozenset(
        f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list", "update")
    ),
    "roles/storage.objectAdmin": EVERY_OBJECT,
    "roles/storage.bucketViewer": frozenset({"storage.buckets.get", "storage.buckets.list"}),
    "roles/storage.legacyObjectReader": frozenset({"storage.objects.get"}),
    "roles/storage.legacyBucketReader": frozenset(
        {"storage.buckets.get", "storage.objects.list"}
    ),
    "roles/storage.legacyBucketWriter": frozenset(
        {"storage.buckets.get"}
        | {f"storage.objects.{verb}" for verb in ("create", "delete", "list")}
    ),
    "roles/storage.admin": EVERY_OBJECT | EVERY_BUCKET,
}


@dataclass
class Account:
    """A service account with one key."""

    email: str
    key: rsa.RSAPrivateKey
    key_id: str
    impersonators: frozenset[str] = frozenset()
    """Who holds roles/iam.serviceAccountTokenCreator on it."""
    token_seconds: int = 3600
    disabled: bool = False

    def document(self, token_uri: str) -> Json:
        """The JSON key file that Google's console hands out."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": self.key_id,
            "private_key": pem.decode(),
            "client_email": self.email,
            "client_id": "100000000000000000000",
            "token_uri": token_uri,
        }


@dataclass(frozen=True)
class Token:
    """An access token: whose, for what, until when."""

    email: str
    scopes: frozenset[str]
    expires: float


@dataclass
class Accounts:
    """Every service account and every token in force."""

    owner: str = ""
    """May do everything; by default the account whose key the tests are given."""
    accounts: dict[str, Account] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    roles: dict[str, frozenset[str]] = field(default_factory=lambda: dict(ROLES))

    def add(self, name: str, **options: Any) -> Account:
        """A new service account, or a new key and new options for a known one."""
        if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", name):
            raise invalid("a service account is named by 6 to 30 of a-z, 0-9 and '-'")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        email = f"{name}@{PROJECT}.iam.gserviceaccount.com"
        return self._keep(Account(email, key, secrets.token_hex(20), **options))

    def add_from(self, document: Json) -> Account:
        """The account of a key file, so that a restart keeps the file valid."""
        key = load_pem_private_key(document["private_key"].encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return self._keep(Account(document["client_email"], key, document["private_key_id"]))

    def _keep(self, account: Account) -> Account:
        self.accounts[account.email] = account
        return account

    def grant(self, form: dict[str, str], token_uri: str) -> Json:
        """An access token for a signed assertion, RFC 7523 section 2.1 and 3.1."""
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            raise OAuthError("unsupported_grant_type", "only the JWT bearer grant")
        assertion = form.get("assertion", "")
        try:
            claims = jwt.decode(assertion, options={"verify_signature": False})
            account = self.accounts.get(str(claims.get("iss")))
            if account is None or account.disabled:
                raise OAuthError("invalid_grant", "Invalid grant: account not found")
            claims = jwt.decode(
                assertion,
                account.key.public_key(),
                algorithms=["RS256"],
                audience=[token_uri, GOOGLE_AUDIENCE],
                options={"require": ["iss", "aud", "exp", "iat"]},
            )
        except jwt.InvalidSignatureError as error:
            raise OAuthError("invalid_grant", "Invalid JWT Signature.") from error
        except jwt.InvalidTokenError as error:
            raise OAuthError("invalid_grant", f"Invalid JWT: {error}") from error
        if claims["exp"] - claims["iat"] > 3600:
            raise OAuthError("invalid_grant", "Invalid JWT: a token lives an hour at most")
        scopes = str(claims.get("scope", "")).split()
        if not scopes:
            raise OAuthError("invalid_scope", "Empty or missing scope not allowed.")
        seconds = account.token_seconds
        token = self.issue(account.email, scopes, seconds)
        return {"access_token": token, "expires_in": seconds, "token_type": "Bearer"}

    def issue(self, email: str, scopes: list[str], seconds: float) -> str:
        token = "ya29." + secrets.token_urlsafe(48)
        self.tokens[token] = Token(email, frozenset(scopes), time.time() + seconds)
        return token

    def impersonate(self, caller: Token, target: str, request: Json) -> tuple[str, float]:
        """generateAccessToken; returns the token and when it expires."""
        account = self.accounts.get(target)
        allowed = account is not None and caller.email in account.impersonators
        if account is None or not allowed or account.disabled:
            raise Refusal(
                403, "forbidden",
                "Permission 'iam.serviceAccounts.getAccessToken' denied on resource "
                "(or it may not exist).",
            )  # fmt: skip
        lifetime = re.fullmatch(r"(\d{1,5})s", str(request.get("lifetime", "3600s")))
        scopes = request.get("scope")
        if not lifetime or not 0 < int(lifetime[1]) <= 3600 or not scopes:
            raise invalid("Request contains an invalid argument.")
        seconds = min(int(lifetime[1]), account.token_seconds)
        return self.issue(target, list(scopes), seconds), time.time() + seconds

    def revoke(self, email: str) -> None:
        for key in [key for key, token in self.tokens.items() if token.email == email]:
            del self.tokens[key]

    def caller(self, header: str | None) -> Token:
        """Who holds the bearer token (RFC 6750). Raises Refusal 401."""
        if not header:
            raise Refusal(401, "required", "Login Required", location="Authorization")
        scheme, _, value = header.partition(" ")
        token = self.tokens.get(value.strip())
        if scheme.lower() != "bearer" or token is None or time.time() >= token.expires:
            challenge = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'}
            raise Refusal(
                401, "authError", "Invalid Credentials",
                location="Authorization", headers=challenge,
            )  # fmt: skip
        return token

    def permits(
        self,
        token: Token,
        bucket: Bucket | None,
        permission: str,
        name: str = "",
        prefix: str = "",
    ) -> bool:
        """By the bucket's policy. `name`: the object; `prefix`: what a listing asks for."""
        if not in_scope(token, permission):
            raise Refusal(
                403,
                "insufficientPermissions",
                "Request had insufficient authentication scopes.",
            )
        if token.email == self.owner:
            return True
        if bucket is None:
            return False
        resource = resource_name(bucket.name, name)
        return any(
            permission in self.roles.get(binding["role"], ())
            and f"serviceAccount:{token.email}" in binding["members"]
            and condition(binding)(resource, prefix)
            for binding in bucket.bindings
        )

    def require(
        self,
        token: Token,
        bucket: Bucket | None,
        permission: str,
        name: str = "",
        prefix: str = "",
    ) -> None:
        if not self.permits(token, bucket, permission, name, prefix):
            resource = resource_name(bucket.name if bucket else "-", name)
            raise denied(token.email, permission, resource)


class OAuthError(Exception):
    """A refusal of the token endpoint, RFC 6749 section 5.2."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.document = {"error": code, "error_description": description}


def in_scope(token: Token, permission: str) -> bool:
    """Reading needs any scope, rights and metadata full control, the rest read_write."""
    scopes = {scope.removeprefix(SCOPE) for scope in token.scopes}
    verb = permission.rpartition(".")[2]
    wanted = {"cloud-platform", "devstorage.full_control"}
    if verb in {"get", "list", "create", "delete"}:
        wanted.add("devstorage.read_write")
    if verb in {"get", "list"}:
        wanted.add("devstorage.read_only")
    return bool(scopes & wanted)


def resource_name(bucket: str, name: str) -> str:
    return f"projects/_/buckets/{bucket}" + (f"/objects/{name}" if name else "")


# --- conditions -----------------------------------------------------------------------

_TEXT = r"""(?:"([^"\\]*)"|'([^'\\]*)')"""
_NAME_STARTS = re.compile(rf"resource\.name\.startsWith\({_TEXT}\)")
_NAME_IS = re.compile(rf"resource\.name\s*==\s*{_TEXT}")
_TYPE_IS = re.compile(rf"resource\.type\s*==\s*{_TEXT}")
_LIST_PREFIX = re.compile(
    r"api\.getAttribute\(\s*['\"]storage\.googleapis\.com/objectListPrefix['\"]\s*,"
    rf"\s*(?:''|\"\")\s*\)\.startsWith\({_TEXT}\)"
)
Test = Callable[[str, str], bool]


def condition(binding: Json) -> Test:
    """The test of a binding's condition over resource name and listing prefix.

    A small part of the Common Expression Language: comparisons joined by && and ||, without
    parentheses. cloud.google.com/iam/docs/conditions-attribute-reference
    """
    expression = binding.get("condition", {}).get("expression")
    if expression is None:
        return lambda _resource, _prefix: True
    either = [[_term(term) for term in part.split("&&")] for part in expression.split("||")]
    return lambda resource, prefix: any(
        all(test(resource, prefix) for test in terms) for terms in either
    )


def _term(text: str) -> Test:
    text = text.strip()
    if found := _NAME_STARTS.fullmatch(text):
        start = found[1] or found[2] or ""
        return lambda resource, _prefix: resource.startswith(start)
    if found := _NAME_IS.fullmatch(text):
        whole = found[1] or found[2]
        return lambda resource, _prefix: resource == whole
    if found := _TYPE_IS.fullmatch(text):
        kind = (found[1] or found[2]).removeprefix("storage.googleapis.com/")
        return lambda resource, _prefix: (
            kind == ("Object" if "/objects/" in resource else "Bucket")
        )
    if found := _LIST_PREFIX.fullmatch(text):
        lead = found[1] or found[2] or ""
        return lambda _resource, prefix: bool(prefix) and prefix.startswith(lead)
    raise invalid(f"this local server does not understand the condition: {text}")
