"""Services that wrap keys, as far as the scripts of examples/keys speak to them: stand_in.py vault|kms LOG.

Prints the port that it listens on. LOG gets a line for each request: what is asked for and how many keys. Everything is
encrypted with AES-256-GCM, bound to what the request binds it to, so a wrong binding does not open.
"""

import base64
import binascii
import http.server
import json
import os
import re
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.stand-in"


class Refused(Exception):
    """The status and the body of the answer."""


def seal(key, plaintext, bound):
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, bound)


def unseal(key, sealed, bound):
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], bound)


class Vault:
    """https://developer.hashicorp.com/vault/api-docs/secret/transit"""

    def __init__(self):
        self.versions = {}

    def answer(self, path, headers, body):
        if headers.get("X-Vault-Token") != TOKEN:
            raise Refused(403, {"errors": ["permission denied"]})
        match = re.fullmatch(r"/v1/transit/(encrypt|decrypt|rotate)/(\w[\w.-]*)", path)
        if not match:
            raise Refused(404, {"errors": ["no handler for route"]})
        operation, name = match.groups()
        versions = self.versions.setdefault(name, [os.urandom(32)])
        if operation == "rotate":
            versions.append(os.urandom(32))
            return "rotate 0", {}
        batch = body["batch_input"]
        results = [getattr(self, operation)(versions, item) for item in batch]
        if any("error" in result for result in results):
            raise Refused(400, {"data": {"batch_results": results}})
        return f"{operation} {len(batch)}", {"data": {"batch_results": results}}

    def encrypt(self, versions, item):
        plaintext, bound = (base64.b64decode(item[name], validate=True) for name in ("plaintext", "associated_data"))
        sealed = base64.b64encode(seal(versions[-1], plaintext, bound)).decode()
        return {"ciphertext": f"vault:v{len(versions)}:{sealed}", "key_version": len(versions)}

    def decrypt(self, versions, item):
        match = re.fullmatch(r"vault:v(\d+):(.+)", item["ciphertext"])
        try:
            bound = base64.b64decode(item["associated_data"], validate=True)
            sealed = base64.b64decode(match[2], validate=True)
            return {"plaintext": base64.b64encode(unseal(versions[int(match[1]) - 1], sealed, bound)).decode()}
        except InvalidTag:
            return {"error": "cipher: message authentication failed"}


class Kms:
    """https://docs.aws.amazon.com/kms/latest/APIReference/"""

    def __init__(self):
        self.keys = {}

    def answer(self, path, headers, body):
        signature = r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/[a-z0-9-]+/kms/aws4_request, .*, Signature=\w{64}"
        if path != "/" or not re.fullmatch(signature, headers.get("Authorization", "")):
            raise Refused(400, {"__type": "IncompleteSignatureException"})
        target = headers["X-Amz-Target"]
        key = self.keys.setdefault(body["KeyId"], os.urandom(32))
        context = body["EncryptionContext"]
        if not context or not all(isinstance(text, str) for pair in context.items() for text in pair):
            raise Refused(400, {"__type": "ValidationException"})
        bound = json.dumps(context, sort_keys=True).encode()
        arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        if target == "TrentService.Encrypt":
            blob = seal(key, base64.b64decode(body["Plaintext"], validate=True), bound)
            return "encrypt 1", {"CiphertextBlob": base64.b64encode(blob).decode(), "KeyId": arn}
        if target == "TrentService.Decrypt":
            try:
                plaintext = unseal(key, base64.b64decode(body["CiphertextBlob"], validate=True), bound)
            except InvalidTag:
                raise Refused(400, {"__type": "InvalidCiphertextException"}) from None
            return "decrypt 1", {"Plaintext": base64.b64encode(plaintext).decode(), "KeyId": arn}
        raise Refused(400, {"__type": "UnknownOperationException"})


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 200
        try:
            asked, answer = service.answer(self.path, self.headers, json.loads(body or "{}"))
        except Refused as refused:
            status, answer = refused.args
            asked = f"refused {status}"
        except (binascii.Error, KeyError, TypeError, ValueError) as error:
            status, answer, asked = 400, {"errors": [repr(error)]}, "malformed"
        print(asked, file=log, flush=True)
        answer = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


service = {"vault": Vault, "kms": Kms}[sys.argv[1]]()
log = open(sys.argv[2], "a")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
