#!/usr/bin/env python3
"""Wraps data keys with the transit engine of HashiCorp Vault or OpenBao.

    tenancy.key_wrap_command = '/etc/postgresql/keys/vault_transit.py %o %k'

%k is a transit key of a type with associated data: `vault write transit/keys/finops-1 type=aes256-gcm96`. The token
needs `update` on transit/encrypt/finops-1 and transit/decrypt/finops-1, nothing else. The server's environment has
VAULT_ADDR, VAULT_TOKEN_FILE (what the file sink of an agent writes) and, where they are needed, VAULT_NAMESPACE,
VAULT_CACERT and VAULT_TRANSIT_MOUNT (default: transit).

API: https://developer.hashicorp.com/vault/api-docs/secret/transit (encrypt and decrypt data, batch_input)
"""

import base64
import json
import os
import ssl
import sys
import urllib.request

# Less than what the server gives the command.
SECONDS = 8


def to_base64(text):
    return base64.b64encode(text.encode()).decode()


def post(path, body):
    with open(os.environ["VAULT_TOKEN_FILE"]) as file:
        headers = {"X-Vault-Token": file.read().strip(), "Content-Type": "application/json"}
    if namespace := os.environ.get("VAULT_NAMESPACE"):
        headers["X-Vault-Namespace"] = namespace
    mount = os.environ.get("VAULT_TRANSIT_MOUNT", "transit")
    address = f"{os.environ['VAULT_ADDR'].rstrip('/')}/v1/{mount}/{path}"
    tls = ssl.create_default_context(cafile=os.environ.get("VAULT_CACERT"))
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=SECONDS, context=tls) as response:
        return json.load(response)


def main(operation, key):
    lines = [line.split() for line in sys.stdin]
    batch = [{"associated_data": to_base64(f"{key} {data_key} {organization}")} for data_key, organization, _ in lines]
    if operation == "wrap":
        for item, (_, _, plaintext) in zip(batch, lines):
            item["plaintext"] = plaintext
        results = post(f"encrypt/{key}", {"batch_input": batch})["data"]["batch_results"]
        answers = [f"{to_base64(result['ciphertext'])} {result['key_version']}" for result in results]
    elif operation == "unwrap":
        for item, (_, _, wrapped) in zip(batch, lines):
            item["ciphertext"] = base64.b64decode(wrapped).decode()
        results = post(f"decrypt/{key}", {"batch_input": batch})["data"]["batch_results"]
        answers = [result["plaintext"] for result in results]
    else:
        sys.exit("usage: vault_transit.py wrap|unwrap KEY")
    for (data_key, _, _), answer in zip(lines, answers, strict=True):
        print(data_key, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
