"""How to check a bundle without us. A test does what is written here, word for word."""

from __future__ import annotations

README = r"""WHAT THIS IS

A report of one month: which databases' backups were restored and proven equal to their
source, which were not and why, and the records behind that.

  report.html          to be read, in any browser; needs nothing from the network
  report.pdf           the same in short, to be printed or filed
  report.json          all of it, canonical JSON; what the other forms are made of
  *.csv                its ledgers, for spreadsheets
  statement.dsse.json  the signed statement: in-toto Statement v1 in a DSSE envelope
  verify.pem           the key that it can be checked with

HOW TO CHECK IT

You need openssl 3, sha256sum, grep, sed and base64: no program of ours. In this folder:

1. The key. verify.pem came with this bundle, so whoever forged the one could forge the
   other. Compare it with the verify key that you were handed when you enrolled; if it differs,
   believe nothing here. Its id is the SHA-256 of the key's last 32 bytes:

    openssl pkey -pubin -in verify.pem -outform DER | tail -c 32 | sha256sum

2. The signature. This must print "Signature Verified Successfully":

    work=$(mktemp -d)
    sed -n 's/.*"payload":"\([^"]*\)".*/\1/p' statement.dsse.json | base64 -d > "$work/payload"
    sed -n 's/.*"sig":"\([^"]*\)".*/\1/p' statement.dsse.json | base64 -d > "$work/sig"
    length=$(wc -c < "$work/payload")
    printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$length" > "$work/signed"
    cat "$work/payload" >> "$work/signed"
    openssl pkeyutl -verify -pubin -inkey verify.pem -rawin \
      -in "$work/signed" -sigfile "$work/sig"

3. The files. Each must be "OK":

    grep -o '"sha256":"[0-9a-f]*"},"name":"[^"]*"' "$work/payload" \
      | sed 's/"sha256":"\([0-9a-f]*\)"},"name":"\(.*\)"/\1  \2/' > "$work/sums"
    sha256sum --check --strict "$work/sums"

   A file in this folder that is not in that list was not signed.

4. The chain. This is the digest of this statement; next month's report names it as its
   previous one, as this one names last month's:

    sha256sum statement.dsse.json

With our program all of this is `backups report check FOLDER --verify-key FILE`.

WHAT IT DOES NOT SAY

A machine signed it. It supplies evidence and claims no compliance with anything; a person's
review is a person's to sign.
"""
