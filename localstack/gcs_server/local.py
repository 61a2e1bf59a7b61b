"""Tokens, and what tests steer the server by; the latter below /_local/, and not Google's.

POST /_local/accounts  {"name", "impersonators"?: [email], "token_seconds"?: n}  -> JSON key
POST /_local/roles     {"name": "projects/P/roles/R", "permissions": [...]}
POST /_local/revoke    {"email", "disable"?: true}      its tokens are refused from now on
GET  /_local/health
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl

from access import EVERY_BUCKET, EVERY_OBJECT, Accounts, OAuthError
from refusals import Refusal, invalid
from wire import Call, Reply


class Local:
    """The handlers of tokens and test controls."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts

    def token(self, call: Call) -> Reply:
        """Source: developers.google.com/identity/protocols/oauth2/service-account"""
        form = dict(parse_qsl(call.body.whole().decode("ascii", "replace")))
        try:
            return Reply.of(self.accounts.grant(form, f"{call.base}/token"))
        except OAuthError as error:
            return Reply.of(error.document, 400)

    def impersonate(self, call: Call) -> Reply:
        """Source: cloud.google.com/iam/docs/reference/credentials/rest/v1/
        projects.serviceAccounts/generateAccessToken. Its errors carry a status word."""
        try:
            caller = self.accounts.caller(call.headers.get("Authorization"))
            request = call.body.json()
            if set(request) - {"scope", "lifetime", "delegates"} or request.get("delegates"):
                raise invalid("this local server knows scope and lifetime only")
            token, end = self.accounts.impersonate(caller, call.names["email"], request)
        except Refusal as refusal:
            words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
            error = {"code": refusal.status, "message": str(refusal)}
            error["status"] = words.get(refusal.status, "UNKNOWN")
            return Reply.of({"error": error}, refusal.status)
        # Whole seconds: google-auth reads this one format only.
        expires = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Reply.of({"accessToken": token, "expireTime": expires})

    # --- test controls ----------------------------------------------------------------

    def health(self, _call: Call) -> Reply:
        return Reply.of({"status": "ok"})

    def make_account(self, call: Call) -> Reply:
        wanted = call.body.json()
        if set(wanted) - {"name", "impersonators", "token_seconds"}:
            raise invalid("an account has name, impersonators and token_seconds")
        account = self.accounts.add(
            str(wanted.get("name")),
            impersonators=frozenset(wanted.get("impersonators", ())),
            token_seconds=int(wanted.get("token_seconds", 3600)),
        )
        return Reply.of(account.document(f"{call.base}/token"))

    def make_role(self, call: Call) -> Reply:
        """A custom role; cloud.google.com/iam/docs/creating-custom-roles"""
        wanted = call.body.json()
        permissions = frozenset(wanted.get("permissions", ()))
        if unknown := permissions - EVERY_OBJECT - EVERY_BUCKET:
            raise invalid(f"unknown permissions: {', '.join(sorted(unknown))}")
        self.accounts.roles[str(wanted["name"])] = permissions
        return Reply.of({"name": wanted["name"], "includedPermissions": sorted(permissions)})

    def revoke(self, call: Call) -> Reply:
        wanted = call.body.json()
        account = self.accounts.accounts.get(str(wanted.get("email")))
        if account is None:
            raise invalid("no such account")
        account.disabled = bool(wanted.get("disable", False))
        self.accounts.revoke(account.email)
        return Reply.of({})
