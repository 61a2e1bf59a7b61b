"""Format v1: age, segments and manifests. FORMAT.md is the specification."""
