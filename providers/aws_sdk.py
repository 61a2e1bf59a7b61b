"""Sessions of Amazon's SDK that read its descriptions of services once per process.

A session reads and parses several megabytes of JSON before its first client. All sessions of
this module share one loader, which keeps what it parsed: the first client of a process takes
about 0.2 s, each further one 0.04 s.
"""

from __future__ import annotations

import boto3
import botocore.session
from botocore.loaders import create_loader

_LOADER = create_loader()


def core_session(profile: str | None = None) -> botocore.session.Session:
    """A botocore session on the shared loader. Raises botocore's ProfileNotFound later, when
    the profile is first asked for."""
    session = botocore.session.Session(profile=profile)
    session.register_component("data_loader", _LOADER)
    return session


def new_session(
    profile: str | None = None, core: botocore.session.Session | None = None
) -> boto3.session.Session:
    """A boto3 session; `core` is its botocore session, made by `core_session`."""
    session = boto3.session.Session(
        profile_name=profile, botocore_session=core or core_session()
    )
    # boto3 adds its own folder again with each session.
    _LOADER.search_paths[:] = dict.fromkeys(_LOADER.search_paths)
    return session
