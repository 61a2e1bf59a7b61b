"""Which blocks hold evidence for which rule of auditors. Pointers, never a claim. Pure."""

from __future__ import annotations

from verify.report.proofs import (
    Control,
)

CONTROLS: tuple[Control, ...] = (
    Control(
        "SOC 2", "A1.2", "backup processes are designed, run and watched",
        ("policy", "backups", "posture", "exceptions"),
    ),
    Control(
        "SOC 2", "A1.3", "recovery is tested, for every month of the period",
        ("coverage", "tests", "timings", "exceptions", "self_test"),
    ),
    Control(
        "ISO 27001:2022", "A.8.13", "backups follow a policy and are tested, not on live data",
        ("policy", "backups", "retention", "coverage", "tests", "plaintext"),
    ),
    Control(
        "HIPAA", "164.308(a)(7)(ii)(A)", "retrievable exact copies",
        ("backups", "coverage", "tests"),
    ),
    Control(
        "HIPAA", "164.308(a)(7)(ii)(D)", "periodic testing, and what was corrected",
        ("identity", "tests", "exceptions"),
    ),
    Control(
        "NIST SP 800-53", "CP-9(1)", "testing for reliability and integrity, by what sample",
        ("tests", "cold_starts", "self_test"),
    ),
    Control(
        "NIST SP 800-53", "CP-9(2)", "functions restored from a sample of backups",
        ("tests", "timings"),
    ),
    Control(
        "NIST SP 800-53", "CP-9(8)", "cryptographic protection, and custody of keys",
        ("access", "posture"),
    ),
    Control(
        "DORA", "Article 12", "scope and frequency, separate systems, RTO and RPO measured",
        ("coverage", "policy", "tests", "plaintext", "timings"),
    ),
    Control(
        "AWS Backup Audit Manager", "controls",
        "each resource in a plan, at its frequency and retention, encrypted, locked, restored "
        "in time, nothing deleted by hand",
        ("policy", "backups", "retention", "posture", "timings"),
    ),
)  # fmt: skip
"""Each rule asks for more than a report can show: people, decisions, other systems."""
