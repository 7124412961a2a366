// Secrets that travel sealed: no statement, parameter, result, pooler or log has the value, and no memory of Postgres.
//
//     await client.query('BEGIN');
//     await client.query('SELECT tenancy.authenticate($1)', [token]);
//     const sealed = await seal(client, 'aws', value);
//     await client.query('SELECT tenancy.put_secret($1, $2, sealed => true)', ['aws', sealed]);
//     const revealed = await reveal(client, 'aws', 'nightly cost import');
//     await client.query('COMMIT');
//
// Needs pg, and hpke (RFC 9180), which has no dependencies. Format: docs/secret-format.md.

import { webcrypto } from 'node:crypto';
import { AEAD_AES_256_GCM, CipherSuite, KDF_HKDF_SHA256, KEM_DHKEM_X25519_HKDF_SHA256 } from 'hpke';

globalThis.crypto ??= webcrypto; // node 18

const suite = new CipherSuite(KEM_DHKEM_X25519_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_256_GCM);
const ENCAPSULATED_KEY = 32;

const RECIPIENT = 'SELECT tenancy.org_id() AS organization, * FROM tenancy.secret_recipient($1)';

// The number of the version is part of what the message is sealed for, so it is asked for first. Without a number the
// function tells what is wrong.
const REVEAL = `
SELECT tenancy.org_id() AS organization, number, tenancy.reveal_secret($1, $2, number, $3, $4) AS message
  FROM (SELECT (SELECT v.number FROM tenancy.secret_version v JOIN tenancy.secret s ON s.id = v.secret
                 WHERE s.name = $1 AND v.state = 'current')) AS current_version (number)`;

// Seals a value for put_secret, begin_rotation or supply_value of the secret with this name.
export async function seal(client, name, value, domain = 'secret') {
  const { rows: [recipient] } = await client.query(RECIPIENT, [domain]);
  const publicKey = await suite.DeserializePublicKey(recipient.public_key);
  const info = record('pg_tenancy/submission/1', idOf(recipient.organization), name);
  const { encapsulatedSecret, ciphertext } = await suite.Seal(publicKey, Buffer.from(value), { info });
  return Buffer.concat([idOf(recipient.key_id), encapsulatedSecret, ciphertext]).toString('base64');
}

// Returns the current value. The role needs the permissions read and reveal in the secret's domain.
export async function reveal(client, name, purpose, actionType = null) {
  const keys = await suite.GenerateKeyPair(); // for this one message
  const publicKey = Buffer.from(await suite.SerializePublicKey(keys.publicKey));
  const { rows: [revealed] } = await client.query(REVEAL, [name, purpose, actionType, publicKey]);
  const version = Buffer.alloc(8);
  version.writeBigInt64BE(BigInt(revealed.number));
  const info = record('pg_tenancy/delivery/1', idOf(revealed.organization), name, version, purpose);
  const message = Buffer.from(revealed.message, 'base64');
  const [key, ciphertext] = [message.subarray(0, ENCAPSULATED_KEY), message.subarray(ENCAPSULATED_KEY)];
  return Buffer.from(await suite.Open(keys, key, ciphertext, { info })).toString();
}

const idOf = (uuid) => Buffer.from(uuid.replaceAll('-', ''), 'hex');

// Each part is preceded by its length.
function record(...parts) {
  return Buffer.concat(parts.flatMap((part) => {
    const bytes = Buffer.from(part);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return [length, bytes];
  }));
}
