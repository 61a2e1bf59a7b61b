"""One attempt to deliver: by a signed webhook or by mail. What fails is an answer, in words."""

from __future__ import annotations

import json
import re
import smtplib
import ssl
from datetime import datetime, timedelta
from email.message import EmailMessage
from urllib.parse import urlsplit

from backups.errors import BackupsError
from backups.fleet.secrets import resolve_key, resolve_password
from backups.notify.events import CONTENT_TYPE
from backups.notify.http import LIMIT, Reply, request
from backups.notify.model import Answer, Delivery, Endpoint
from backups.notify.signing import headers
from providers.network import Network

GONE = 410


def send(endpoint: Endpoint, delivery: Delivery, now: datetime, network: Network) -> Answer:
    """One attempt, at most some 15 seconds long. Raises nothing that the receiver causes.

    `network` is what a customer's endpoint may lead to; the operator's may be anywhere."""
    try:
        if endpoint.kind == "email":
            return _mail(endpoint, delivery)
        return _post(endpoint, delivery, now, network if endpoint.customer else Network())
    except BackupsError as error:
        return Answer(delivered=False, words=str(error))


def _post(endpoint: Endpoint, delivery: Delivery, now: datetime, network: Network) -> Answer:
    body = delivery.body.encode()
    secrets = [resolve_password(reference) for reference in endpoint.secrets]
    signed = headers(delivery.event, body, now, secrets)
    reply = request(
        "POST",
        endpoint.url,
        network,
        headers={"content-type": CONTENT_TYPE, **signed},
        body=body,
    )
    if isinstance(reply, str):
        return Answer(delivered=False, words=reply)
    return Answer(
        delivered=200 <= reply.status <= 299,
        words=f"it answered {reply.status}",
        gone=reply.status == GONE,
        wait=_wait(reply.retry_after),
    )


def _wait(text: str) -> timedelta | None:
    # Only the form in seconds; a date is for caches.
    return timedelta(seconds=int(text)) if re.fullmatch(r"[0-9]{1,6}", text) else None


def ping(reference: str, *, trouble: bool) -> Answer:
    """Call the dead-man's URL, or what is below it for trouble (healthchecks.io, "Signaling
    Failures"). Raises nothing."""
    try:
        direct = reference.startswith(("http://", "https://"))
        url = reference if direct else resolve_key(reference).reveal().strip()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return Answer(delivered=False, words="the dead-man's URL is none")
        if trouble:
            url = parts._replace(path=parts.path.rstrip("/") + "/fail").geturl()
        reply = request("GET", url, Network())
    except BackupsError as error:
        return Answer(delivered=False, words=str(error))
    if isinstance(reply, Reply):
        return Answer(200 <= reply.status <= 299, f"it answered {reply.status}")
    return Answer(delivered=False, words=reply)


# --- mail -----------------------------------------------------------------------------


def _mail(endpoint: Endpoint, delivery: Delivery) -> Answer:
    try:
        refused = _send_mail(endpoint, _message(endpoint, delivery))
    except (smtplib.SMTPException, OSError) as error:
        return Answer(delivered=False, words=_in_words(error))
    if refused:
        # Sent again, those who got it would get it twice; who did not is said.
        return Answer(True, f"accepted, but for {refused} of its recipients")
    return Answer(True, "accepted by the mail server")


def _send_mail(endpoint: Endpoint, message: EmailMessage) -> int:
    """How many recipients were refused while others were not."""
    where = urlsplit(endpoint.url)
    host, port = where.hostname or "", where.port or 0
    context = ssl.create_default_context()
    if where.scheme == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=LIMIT, context=context)
    else:
        client = smtplib.SMTP(host, port, timeout=LIMIT)
    with client:
        if where.scheme == "starttls":
            client.starttls(context=context)
        if endpoint.user is not None and endpoint.password is not None:
            client.login(endpoint.user, resolve_password(endpoint.password).reveal())
        return len(client.send_message(message))


def _in_words(error: Exception) -> str:
    # Of what a server says the code only: its text may repeat what it was sent.
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server answered {error.smtp_code}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({code for code, _ in error.recipients.values()})
        return f"no recipient was accepted: {', '.join(map(str, codes))}"
    if isinstance(error, ssl.SSLError):
        return "the mail server's certificate, or TLS itself, failed"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"the mail server failed: {type(error).__name__}"


def _message(endpoint: Endpoint, delivery: Delivery) -> EmailMessage:
    event = json.loads(delivery.body)
    data = event["data"]
    message = EmailMessage()
    state = f" {data['state']}" if "state" in data else ""
    message["Subject"] = f"[backups] {delivery.type}{state}: {_line(delivery.subject)}"
    message["From"] = endpoint.sender
    message["To"] = ", ".join(endpoint.recipients)
    # One id at every attempt, by which mail programs recognise a second copy.
    message["Message-ID"] = f"<{delivery.event}@{endpoint.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834
    lines = [f"{name}: {_line(str(value))}" for name, value in data.items() if value]
    message.set_content(
        "\n".join((data.get("words", delivery.type), "", *lines, "", f"event {delivery.event}"))
    )
    return message


def _line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)
