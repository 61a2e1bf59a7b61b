"""How a backup is recovered with stock tools alone. Pure.

Prints bash, one command per line. Everything it acts on is read from the signed manifest by
pattern, which canonical JSON makes safe: members come in one order, without white space, and
a quote inside a text is always escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import parse_qs, unquote, urlsplit

from backups.errors import UsageError
from backups.format.manifest import PAYLOAD_TYPE
from backups.model import Manifest

_OPEN = (
    "# The manifest, and who signed it. Go on only when it verifies.",
    'fetch "v1/$DATABASE/$BACKUP_ID/manifest.dsse.json" manifest.dsse.json',
    r"""sed -n 's/.*"payload":"\([^"]*\)".*/\1/p' manifest.dsse.json """
    "| base64 -d > manifest.json",
    r"""sed -n 's/.*"sig":"\([^"]*\)".*/\1/p' manifest.dsse.json """
    "| base64 -d > manifest.sig",
    f"printf 'DSSEv1 %d %s %d ' {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} "
    '"$(wc -c < manifest.json)" | cat - manifest.json > manifest.pae',
    'openssl pkeyutl -verify -pubin -inkey "$VERIFY_KEY" -rawin -in manifest.pae '
    "-sigfile manifest.sig",
    "# It must be of this backup, not of another by the same signer.",
    r"""grep -F "\"backup\":\"$BACKUP_ID\",\"customer\":" manifest.json """
    r"""| grep -F "\"database\":\"$DATABASE\",\"engine\":" > /dev/null""",
    "# The encrypted segments, and that they are the ones signed for.",
    """grep -o '"key":"[^"]*","plain_bytes":[0-9]*,"sha256":"[^"]*"' manifest.json """
    r"""| sed 's/"key":"\([^"]*\)".*"sha256":"\([^"]*\)"/\2  \1/' > segments.sha256""",
    "cut -c 67- segments.sha256 | while read -r key; do "
    'mkdir -p "${key%/*}"; fetch "$key" "$key" < /dev/null; done',
    "sha256sum --check --quiet segments.sha256",
    "# Decrypt: `plain NAME` prints an artifact, segment after segment.",
    r"""plain() { grep -o "\"name\":\"$1\",\"segments\":\[[^]]*" manifest.json """
    """| grep -o '"key":"[^"]*"' | cut -d '"' -f 4 """
    '| while read -r key; do age -d -i "$IDENTITY" "$key"; done | zstd -dc; }',
    "plain fingerprint > fingerprint.json",
)

_LAST: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "postgresql": (
            "# Into a new database. Roles that exist already are left as they are.",
            "plain roles > roles.sql",
            "psql -X -d postgres -f roles.sql",
            'createdb -T template0 "$TARGET"',
            "export PGOPTIONS='-c lc_monetary=C'  # amounts of money are written so",
            "# What can't be made is named, and the rest is restored.",
            'plain archive | pg_restore -d "$TARGET" || test "${PIPESTATUS[0]}" = 0',
            """if grep -q '"name":"members"' manifest.json; then plain members """
            """| psql -X -q -v ON_ERROR_STOP=1 -d "$TARGET" > /dev/null; fi""",
        ),
        "mariadb": (
            "# Into a new database. Its rights are in grants.sql, for users that exist.",
            "# Events act at once where the event scheduler is on: turn it off first.",
            "plain grants > grants.sql",
            'mariadb-admin create "$TARGET"',
            'plain dump | mariadb "$TARGET"',
        ),
        "mysql": (
            "# Into a new database. Its rights are in grants.sql, for users that exist.",
            "# These are MySQL's own tools; MariaDB's bear the same names.",
            "# Events act at once where the event scheduler is on: turn it off first.",
            "plain grants > grants.sql",
            'mysqladmin create "$TARGET"',
            'plain dump | mysql --binary-mode "$TARGET"',
        ),
        "sqlite": (
            "# Into a new file: it is the database.",
            "set -o noclobber",
            'plain database > "$TARGET.db"',
        ),
    }
)
"""What to do with the artifacts, by engine; an engine not named gets them as files."""


def recipe(manifest: Manifest, store_url: str) -> str:
    """A bash script that recovers this backup, one command per line; comments included.

    It wants the identity in identity.txt and the verify key in verify-key.pem beside it.
    `manifest` comes from `manifest.verify`: its ids are ids. Raises UsageError for a store
    URL that is none.
    """
    as_files = tuple(f"plain {item.name} > {item.name}.out" for item in manifest.artifacts)
    head = _head(manifest.database, manifest.backup, _fetch(store_url))
    return "\n".join((*head, *_OPEN, *_LAST.get(manifest.engine, as_files)))


def readme_text() -> str:
    """The content of `<prefix>/README.txt`."""
    fetches = "\n".join(f"    {_fetch(url)}" for url in _EXAMPLES)
    lines = (
        *_head("DATABASE-ID", "BACKUP-ID", _fetch(_EXAMPLES[0])),
        *_OPEN,
        *_LAST["postgresql"],
    )
    return _README.format(fetches=fetches, script="\n".join(f"    {line}" for line in lines))


def _head(database: str, backup: str, fetch: str) -> tuple[str, ...]:
    return (
        "set -euo pipefail; umask 077",
        f"DATABASE={database} BACKUP_ID={backup}",
        "IDENTITY=identity.txt  # the age identity of one of the recipients",
        "VERIFY_KEY=verify-key.pem  # handed over at enrolment",
        'TARGET="$DATABASE-restored"  # the new database',
        fetch,
    )


# --- downloading ----------------------------------------------------------------------

_EXAMPLES = (
    "s3://BUCKET/PREFIX",
    "gs://BUCKET/PREFIX",
    "az://ACCOUNT/CONTAINER/PREFIX",
    "file:///FOLDER",
)


def _fetch(store_url: str) -> str:
    """A shell function: `fetch KEY FILE`."""
    parts = urlsplit(store_url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    command = _FETCHES.get(parts.scheme)
    if command is None:
        raise UsageError(f"no store is known by {parts.scheme[:20]!r}")
    return f"fetch() {{ {command(parts.netloc, unquote(parts.path), options)}; }}"


def _s3(bucket: str, path: str, options: Mapping[str, str]) -> str:
    flags = "".join(
        _flag(flag, options.get(name))
        for flag, name in (
            ("--endpoint-url", "endpoint"),
            ("--region", "region"),
            ("--profile", "profile"),
        )
    )
    return f'aws{flags} s3 cp --only-show-errors {_below(f"s3://{bucket}{path}")} "$2"'


def _gs(bucket: str, path: str, options: Mapping[str, str]) -> str:
    endpoint = options.get("endpoint")
    setting = (
        f"CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE={shlex.quote(endpoint)} " if endpoint else ""
    )
    return f'{setting}gcloud storage cp {_below(f"gs://{bucket}{path}")} "$2"'


def _az(account: str, path: str, options: Mapping[str, str]) -> str:
    container, _, prefix = path.strip("/").partition("/")
    where = _flag("--blob-endpoint", options.get("endpoint")) or _flag(
        "--account-name", account
    )
    return (
        f"az storage blob download --only-show-errors --output none --auth-mode login{where}"
        f'{_flag("--container-name", container)} --name {_below(prefix)} --file "$2"'
    )


def _file(_host: str, path: str, _options: Mapping[str, str]) -> str:
    return f'cp -- {_below(path)} "$2"'


_FETCHES: Mapping[str, Callable[[str, str, Mapping[str, str]], str]] = MappingProxyType(
    {"s3": _s3, "gs": _gs, "az": _az, "file": _file}
)


def _below(root: str) -> str:
    """The key under `root`, quoted for the shell."""
    root = root.rstrip("/")
    return f'{shlex.quote(root + "/")}"$1"' if root else '"$1"'


def _flag(name: str, value: str | None) -> str:
    return f" {name} {shlex.quote(value)}" if value else ""


_README = """\
How to get these backups back with ordinary tools
=================================================

This folder holds encrypted database backups, written by the program `backups` (format v1).
You do not need that program to restore them. You need:

  * the tools age, zstd, openssl (1.1.1 or newer), bash, and your cloud's command line;
    for PostgreSQL also psql, createdb and pg_restore, not older than the source server;
  * an age identity (a line AGE-SECRET-KEY-1...) of one of the recipients, in identity.txt;
  * the verify key that you were given at enrolment, in verify-key.pem. Take it from where
    you kept it, not from this bucket: it proves who wrote the backup.

What lies here
--------------

  v1/DATABASE-ID/BACKUP-ID/manifest.dsse.json   what the backup consists of, signed
  v1/DATABASE-ID/BACKUP-ID/00000.age ...        its encrypted pieces (segments)

A folder without a manifest is no backup: that run did not end well. Backup ids sort by time,
so the last folder with a manifest is the newest backup. A manifest may name segments in
the folder of an earlier backup of the same database.

Steps
-----

Save the following as recover.sh in an empty folder, put in the right names, and run it with
`bash recover.sh`. Where libpq variables (PGHOST, PGUSER ...) are needed, set them before.

{script}

The line fetch() is for your kind of store; use one of these:

{fetches}

What may go wrong
-----------------

  * "Signature Verification Failure": the manifest was not written by the holder of the key
    that you have. Do not restore it; take another backup, or ask for the right key.
  * sha256sum names a segment: it was altered or replaced. In a bucket with versions, an
    older version of that object may still be the right one; manifest.json holds version ids.
  * "no identity matched any of the recipients": the identity is not one of those the backup
    was encrypted to. If the backup has a file headers-<n>.age-bundle, its keys were
    rotated. For a new identity, replace a segment's old header by the new one, then go on
    as above (after the check by sha256sum, not before):
      jq -j --arg k KEY '.headers[$k].header' BUNDLE > new
      tail -c +$(( $(jq --arg k KEY '.headers[$k].skip' BUNDLE) + 1 )) KEY >> new; mv new KEY
  * The new database has another encoding or locale than the source: fingerprint.json, field
    `settings`, has the source's `encoding`, `collate` and `ctype`; give them to createdb as
    --encoding, --lc-collate and --lc-ctype. The source database's owner, rights and
    settings are there too, and as comments in roles.sql: pg_restore does not set them.
"""
