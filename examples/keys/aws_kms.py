#!/usr/bin/env python3
"""Wraps data keys with AWS KMS.

    tenancy.key_wrap_command = '/etc/postgresql/keys/aws_kms.py %o %k'

%k is a symmetric KMS key of the alias `alias/%k`, so its id has no dot. The role of the machine needs kms:Encrypt and
kms:Decrypt on that key; a condition on kms:EncryptionContextKeys keeps it to keys of pg_tenancy. KMS does not tell
which version of its key it used. Once it rotates the key, it still opens what older versions wrapped.

Needs boto3. Region, credentials and another endpoint (AWS_ENDPOINT_URL_KMS) come as boto3 finds them.

API: https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html and API_Decrypt.html
"""

import base64
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

# KMS takes one key in a request. All of them must be answered within what the server gives the command, 10 seconds.
AT_ONCE = 16
CONFIG = Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 2}, max_pool_connections=AT_ONCE)


def main(operation, key):
    if operation not in ("wrap", "unwrap"):
        sys.exit("usage: aws_kms.py wrap|unwrap KEY")
    kms = boto3.client("kms", config=CONFIG)
    alias = f"alias/{key}"

    def answer(line):
        data_key, organization, value = line.split()
        # CloudTrail shows the context, which has ids alone.
        context = {"pg_tenancy:key": key, "pg_tenancy:data_key": data_key, "pg_tenancy:organization": organization}
        value = base64.b64decode(value)
        if operation == "wrap":
            result = kms.encrypt(KeyId=alias, Plaintext=value, EncryptionContext=context)["CiphertextBlob"]
        else:
            result = kms.decrypt(KeyId=alias, CiphertextBlob=value, EncryptionContext=context)["Plaintext"]
        return f"{data_key} {base64.b64encode(result).decode()}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for line in list(pool.map(answer, sys.stdin)):
            print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
