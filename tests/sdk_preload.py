"""Imported by the server that commands are forked from: the SDK of S3 has read its files."""

from providers.aws_sdk import new_session

new_session().client(
    "s3", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
).close()
