"""What a dump does not carry: the database's own properties, and the roles it refers to.

The properties stand in `Fingerprint.settings`, so that a restore finds and compares them:
`encoding`, `collate`, `ctype`, `locale provider`, `locale`, `owner`, `rights` (JSON: a
sorted list of [grantee, privilege, with grant option]; no grantee is PUBLIC), `public
schema` (present or absent), `comment` (absent where there is none), `connection limit` (absent
where there is none), and `set <name>` or `set <name> for <role>` for settings.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import dict_row

from backups.engines.postgres.create import assignment
from backups.model import Fingerprint

_LOCALE = {
    14: "'c'::\"char\" AS provider, NULL AS locale",
    15: "datlocprovider AS provider, daticulocale AS locale",
    16: "datlocprovider AS provider, daticulocale AS locale",
    17: "datlocprovider AS provider, datlocale AS locale",
}
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}

_REFERRED = """
    WITH RECURSIVE direct AS (
        SELECT refobjid AS oid FROM pg_shdepend s
         WHERE refclassid = 'pg_authid'::regclass
           AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
           -- An extension and its parts belong to whoever created it, also in a copy.
           AND NOT (s.deptype = 'o' AND (s.classid = 'pg_extension'::regclass OR EXISTS (
               SELECT FROM pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid
                  AND d.deptype = 'e')))
        UNION
        SELECT datdba FROM pg_database WHERE datname = current_database()
        UNION
        SELECT a.grantee FROM pg_database d, aclexplode(d.datacl) a
         WHERE d.datname = current_database() AND a.grantee <> 0
        UNION
        SELECT setrole FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
         WHERE d.datname = current_database() AND setrole <> 0
    ), wider AS (
        SELECT oid FROM direct
        UNION
        SELECT m.roleid FROM pg_auth_members m JOIN wider w ON w.oid = m.member
    )"""
_ROLES = f"""{_REFERRED}
    SELECT r.rolname AS name, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb,
           r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolconnlimit,
           r.rolvaliduntil::text AS until, r.oid IN (SELECT oid FROM direct) AS direct
      FROM wider JOIN pg_roles r USING (oid)
     WHERE r.rolname !~ '^pg_' ORDER BY 1"""  # noqa: S608
_MEMBERS = f"""{_REFERRED}
    SELECT g.rolname AS granted, r.rolname AS member, bool_or(m.admin_option) AS admin
      FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
      JOIN pg_roles r ON r.oid = m.member
     WHERE m.member IN (SELECT oid FROM wider) GROUP BY 1, 2 ORDER BY 1, 2"""  # noqa: S608
_USERS = f"""{_REFERRED}, narrower AS (
        SELECT oid FROM direct
        UNION
        SELECT m.member FROM pg_auth_members m JOIN narrower w ON w.oid = m.roleid)
    SELECT r.rolname, g.rolname,
           bool_or(coalesce((to_jsonb(m)->>'inherit_option')::bool, r.rolinherit))
      FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
      JOIN pg_roles r ON r.oid = m.member
     WHERE m.roleid IN (SELECT oid FROM narrower) AND g.rolname !~ '^pg_'
     GROUP BY 1, 2 ORDER BY 1, 2"""  # noqa: S608
_RIGHTS = """
    SELECT coalesce(r.rolname, ''), a.privilege_type, bool_or(a.is_grantable)
      FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
      LEFT JOIN pg_roles r ON r.oid = a.grantee
     WHERE d.datname = current_database() GROUP BY 1, 2 ORDER BY 1, 2"""
_SET = """
    SELECT coalesce(r.rolname, ''), unnest(setconfig)
      FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
      LEFT JOIN pg_roles r ON r.oid = s.setrole
     WHERE d.datname = current_database() ORDER BY 1, 2"""
_STAYS = """
    SELECT nullif(t.spcname, 'pg_default'), d.datistemplate, d.datallowconn
      FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
     WHERE d.datname = current_database()"""
_SERVER_WIDE = f"""{_REFERRED}
    SELECT r.rolname, unnest(s.setconfig)
      FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
     WHERE s.setdatabase = 0 AND r.oid IN (SELECT oid FROM wider) AND r.rolname !~ '^pg_'
     ORDER BY 1, 2"""  # noqa: S608
_ATTRIBUTES = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}


def settings(connection: Connection[Any]) -> dict[str, str]:
    """The database's own properties, as the module says."""
    major = min(connection.info.server_version // 10000, max(_LOCALE))
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"""SELECT pg_encoding_to_char(encoding) AS encoding, datcollate AS collate,
                   datctype AS ctype, pg_get_userbyid(datdba) AS owner, {_LOCALE[major]},
                   EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public') AS public,
                   shobj_description(oid, 'pg_database') AS comment,
                   datconnlimit AS connections
              FROM pg_database WHERE datname = current_database()"""  # noqa: S608
        ).fetchone()
    if row is None:
        return {}
    found = {name: str(row[name]) for name in ("encoding", "collate", "ctype", "owner")}
    found["locale provider"] = PROVIDERS.get(_text(row["provider"]), "unknown")
    if row["locale"]:
        found["locale"] = str(row["locale"])
    found["public schema"] = "present" if row["public"] else "absent"
    if row["comment"] is not None:
        found["comment"] = str(row["comment"])
    if row["connections"] >= 0:
        found["connection limit"] = str(row["connections"])
    rights = connection.execute(_RIGHTS).fetchall()
    found["rights"] = json.dumps([list(right) for right in rights], ensure_ascii=False)
    for role, setting in connection.execute(_SET):
        name, _, value = setting.partition("=")
        found[f"set {name} for {role}" if role else f"set {name}"] = value
    return found


def stays(connection: Connection[Any]) -> tuple[str, ...]:
    """What of the database's properties a copy does not get, in words."""
    row = connection.execute(_STAYS).fetchone()
    tablespace, template, connections = row or (None, False, True)
    words = []
    if tablespace:
        words.append(
            f"the database lies in the tablespace {tablespace}: a copy lies in its server's "
            "default one"
        )
    if template:
        words.append("the database is marked as a template: a copy is not")
    if not connections:
        words.append("the database takes no connections: a copy does")
    return tuple(words)


def roles(connection: Connection[Any]) -> tuple[str, ...]:
    """The roles that the database refers to by itself; the server's own are not listed."""
    return tuple(row[0] for row in connection.execute(_ROLES) if row[-1])


def members(connection: Connection[Any]) -> tuple[tuple[str, str, bool], ...]:
    """Who is a member of roles that the database refers to, or of such members: role, group,
    and whether it has the group's rights without becoming it."""
    return tuple((row[0], row[1], row[2]) for row in connection.execute(_USERS))


def extensions(connection: Connection[Any]) -> dict[str, str]:
    """Name to version."""
    rows = connection.execute("SELECT extname, extversion FROM pg_extension")
    return dict(rows.fetchall())


def lacks(connection: Connection[Any], expected: Fingerprint) -> tuple[str, ...]:
    """What the server lacks for a copy of that, in words."""
    rows = connection.execute("SELECT name FROM pg_available_extensions")
    available = {row[0] for row in rows}
    present = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
    return (
        *(
            f"extension {name!r} {version} must be installed on the server first"
            for name, version in sorted(expected.extensions.items())
            if name not in available
        ),
        *(
            f"role {name!r} will be made, without login"
            for name in expected.roles
            if name not in present
        ),
    )


def roles_sql(connection: Connection[Any]) -> bytes:
    """SQL that makes these roles, and those they are members of, where they are missing, and
    gives them the settings that they have on the whole server.

    For people and psql; passwords are not in it. What belongs to the database itself
    follows as a comment, as it needs the new database's name.
    """
    lines = [
        "-- Roles that the database refers to, without passwords. Those that exist already",
        "-- are left as they are.",
        "SET standard_conforming_strings = on;",
        "SET client_encoding = 'UTF8';",
    ]
    theirs: dict[str, list[str]] = defaultdict(list)
    for role, setting in connection.execute(_SERVER_WIDE):
        name, _, value = setting.partition("=")
        statement = f"ALTER ROLE {_identifier(connection, role)}"
        theirs[role].append(statement + assignment(name, value).as_string(connection))
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(_ROLES).fetchall():
            words = [word if row[key] else f"NO{word}" for key, word in _ATTRIBUTES.items()]
            if row["rolconnlimit"] >= 0:
                words.append(f"CONNECTION LIMIT {row['rolconnlimit']}")
            if row["until"]:
                words.append(f"VALID UNTIL {_literal(connection, row['until'])}")
            name = _identifier(connection, row["name"])
            made = "; ".join([f"CREATE ROLE {name} {' '.join(words)}", *theirs[row["name"]]])
            lines.append(_unless_exists(connection, row["name"], made))
        for row in cursor.execute(_MEMBERS).fetchall():
            admin = " WITH ADMIN OPTION" if row["admin"] else ""
            granted, member = (_identifier(connection, row[k]) for k in ("granted", "member"))
            lines.append(f"GRANT {granted} TO {member}{admin};")
    lines.append("-- Properties of the database itself, for its restored copy:")
    lines += [
        f"--   {json.dumps(name)}: {json.dumps(value)}"
        for name, value in sorted(settings(connection).items())
    ]
    return ("\n".join(lines) + "\n").encode()


def _unless_exists(connection: Connection[Any], role: str, statement: str) -> str:
    test = f"SELECT FROM pg_roles WHERE rolname = {_literal(connection, role)}"
    body = f"BEGIN IF NOT EXISTS ({test}) THEN {statement}; END IF; END"
    return f"DO {_literal(connection, body)};"


def _identifier(connection: Connection[Any], name: str) -> str:
    return sql.Identifier(name).as_string(connection)


def _literal(connection: Connection[Any], text: str) -> str:
    return sql.Literal(text).as_string(connection).strip()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
