"""The monthly report: a pure, reproducible function of evidence and policies."""
