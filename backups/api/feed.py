"""The public status of the backup service: customer-neutral, for a status page.

Counts and instants only: no customer, no database, no store. JSON, and Atom (RFC 4287).
"""

from __future__ import annotations

from typing import Annotated, Any
from xml.sax.saxutils import escape

from fastapi import APIRouter, Depends, Response

from backups.api.calls import House, house_of
from backups.api.views import instant
from backups.fleet.states import state_of
from backups.wiring import tested_this_month

router = APIRouter(tags=["public"])
SHOWN = 50
"""Incidents that are told, newest first."""
WHAT = {
    "backup.missed": "a database had no backup as young as was promised",
    "restore_test.failed": "a backup failed its restore test",
}


def status(house: House) -> dict[str, Any]:
    """Today's coverage, the month's restore tests, incidents with start, end and cause."""
    app = house.app
    now = app.clock.now()
    newest, standings = app.notices.newest(), app.standings.standings()
    expected = [
        policy
        for policy in app.catalog.policies()
        if not policy.paused and state_of(standings, policy.customer, policy.database).back_up
    ]
    covered = sum(
        policy.database in newest
        and (now - newest[policy.database]).total_seconds() <= policy.plan.rpo_hours * 3600
        for policy in expected
    )
    tested = tested_this_month(app) & {policy.database for policy in expected}
    incidents = app.notices.incidents()[:SHOWN]
    return {
        "updated": instant(now),
        "backups": {"databases": len(expected), "covered": covered},
        "restore_tests": {
            "month": f"{now:%Y-%m}", "databases": len(expected), "passed": len(tested),
        },
        "incidents": [
            {
                "id": each.id,
                "what": WHAT.get(each.kind, each.kind),
                "started_at": instant(each.started_at),
                "ended_at": instant(each.ended_at),
                "cause": each.cause,
                "post_mortem": each.post_mortem,
            }
            for each in incidents
        ],
    }  # fmt: skip


@router.get("/feed.json", summary="The public status, for a status page")
def feed_json(house: Annotated[House, Depends(house_of)]) -> dict[str, Any]:
    return status(house)


@router.get(
    "/feed.atom",
    summary="The incidents as an Atom feed",
    response_class=Response,
    responses={200: {"content": {"application/atom+xml": {}}}},
)
def feed_atom(house: Annotated[House, Depends(house_of)]) -> Response:
    return Response(atom(status(house)), media_type="application/atom+xml")


def atom(found: dict[str, Any]) -> str:
    """The same as Atom: one entry for each incident. Pure."""
    entries = "".join(
        "<entry>"
        f"<id>urn:uuid:{escape(each['id'])}</id>"
        f"<title>{escape(each['what'])}</title>"
        f"<updated>{each['ended_at'] or each['started_at']}</updated>"
        f"<published>{each['started_at']}</published>"
        f"<content>{escape(_words(each))}</content>"
        "</entry>"
        for each in found["incidents"]
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<feed xmlns="http://www.w3.org/2005/Atom">'
        "<id>urn:bloomneo:backups:status</id><title>Backups: incidents</title>"
        f"<updated>{found['updated']}</updated>"
        "<author><name>Backups</name></author>"
        f"{entries}</feed>\n"
    )


def _words(each: dict[str, Any]) -> str:
    until = f"until {each['ended_at']}" if each["ended_at"] else "and it goes on"
    cause = f"Cause: {each['cause']} ({each['post_mortem']})" if each["cause"] else ""
    return f"From {each['started_at']} {until}. {cause}".strip()
