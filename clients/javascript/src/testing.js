import { createPublicKey, generateKeyPairSync, randomUUID, sign } from 'node:crypto';

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

export class TestIssuer {
  #key;

  constructor({ issuer = `https://${randomUUID()}.test.example/`, audience = 'tests' } = {}) {
    this.issuer = issuer;
    this.audience = audience;
    this.#key = generateKeyPairSync('ed25519').privateKey;
    const jwk = createPublicKey(this.#key).export({ format: 'jwk' });
    this.jwks = { keys: [{ ...jwk, kid: randomUUID(), alg: 'EdDSA', use: 'sig' }] };
  }

  async register(client) {
    await client.query('SELECT tenancy.set_issuer($1::text, ARRAY[$2::text], $3::text)',
      [this.issuer, this.audience, JSON.stringify(this.jwks)]);
    return this;
  }

  async createOrganization(client, name, members = {}, id = randomUUID()) {
    await client.query('SELECT tenancy.create_organization($1::text, $2::uuid)', [name, id]);
    for (const [subject, role] of Object.entries(members)) {
      await client.query('SELECT tenancy.set_membership($1::uuid, $2::text, $3::text, $4::text)',
        [id, subject, role, this.issuer]);
    }
    return id;
  }

  token(subject, { expiresIn = 300, ...claims } = {}) {
    const now = Math.floor(Date.now() / 1000);
    const header = encode({ alg: 'EdDSA', typ: 'JWT', kid: this.jwks.keys[0].kid });
    const payload = encode({
      iss: this.issuer, aud: this.audience, sub: subject, iat: now - 1, exp: now + expiresIn, ...claims,
    });
    const signature = sign(null, Buffer.from(`${header}.${payload}`), this.#key);
    return `${header}.${payload}.${signature.toString('base64url')}`;
  }
}

export async function createTestIssuer(client, options) {
  return new TestIssuer(options).register(client);
}
