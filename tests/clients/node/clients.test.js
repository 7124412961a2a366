// node-postgres behind PgBouncer, with tokens that jose makes.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import * as jose from 'jose';
import pg from 'pg';
import Cursor from 'pg-cursor';

import { statusOf, withIdentity } from './identity.js';
import { reveal, seal } from './sealed_delivery.js';

const ISSUER = 'https://node.example/';
const AUDIENCE = 'invoices';
const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'];
const ACME = 'aaaaaaaa-0000-4000-8000-000000000001';
const GLOBEX = 'bbbbbbbb-0000-4000-8000-000000000002';
const OWN = { alice: ['acme one', 'acme two', 'acme three'], bob: ['globex one', 'globex two'] };
const TITLES = 'SELECT title FROM invoice WHERE id < 1000 ORDER BY id';

const keys = {};
let admin;
let pool;

function pooled(options) {
  return new pg.Pool({
    host: process.env.PG_TENANCY_POOLER_HOST,
    port: Number(process.env.PG_TENANCY_POOLER_PORT),
    user: 'test_tenancy_application',
    ...options,
  });
}

async function makeKey(algorithm, kid = algorithm) {
  const { publicKey, privateKey } = await jose.generateKeyPair(algorithm);
  const jwk = { ...(await jose.exportJWK(publicKey)), kid, alg: algorithm, use: 'sig' };
  return { algorithm, kid, publicKey, privateKey, jwk };
}

async function register(...registered) {
  const jwks = JSON.stringify({ keys: registered.map((key) => key.jwk) });
  await admin.query('SELECT tenancy.set_issuer($1, ARRAY[$2], $3)', [ISSUER, AUDIENCE, jwks]);
}

function claims(subject) {
  return new jose.SignJWT({ role: 'authenticated' }).setIssuer(ISSUER).setAudience(AUDIENCE).setSubject(subject)
    .setIssuedAt().setExpirationTime('5m');
}

function sign(jwt, key = keys.ES256) {
  return jwt.setProtectedHeader({ alg: key.algorithm, kid: key.kid, typ: 'JWT' }).sign(key.privateKey);
}

const tokenOf = (subject, key) => sign(claims(subject), key);
const titles = async (client) => (await client.query(TITLES)).rows.map((row) => row.title);
const as = (token, work) => withIdentity(pool, token, null, work);

// A client without identity; one whose transaction is open when the work fails is not used again.
async function bare(from, work) {
  const client = await from.connect();
  let broken;
  try {
    await work(client);
  } catch (error) {
    broken = error;
    throw error;
  } finally {
    client.release(broken);
  }
}

before(async () => {
  admin = new pg.Client();
  await admin.connect();
  for (const algorithm of ALGORITHMS) keys[algorithm] = await makeKey(algorithm);
  await register(...Object.values(keys));
  const member = 'SELECT tenancy.set_membership($1, $2, $3)';
  const members = [[ACME, 'alice', 'admin'], [ACME, 'victor', 'reader'], [GLOBEX, 'bob', 'admin'], [GLOBEX, 'grace', 'admin']];
  for (const [organization, subject, role] of members) await admin.query(member, [organization, subject, role]);
  pool = pooled({ max: 4 });
});

after(async () => {
  await pool?.end();
  await admin?.end();
});

for (const algorithm of ALGORITHMS) {
  test(`a token signed with ${algorithm} shows the member's rows and no others`, async () => {
    for (const subject of ['alice', 'bob']) {
      const token = await tokenOf(subject, keys[algorithm]);
      assert.deepEqual(await as(token, titles), OWN[subject]);
    }
  });
}

test("another organization's rows are not found by their id", async () => {
  await as(await tokenOf('alice'), async (client) => {
    const byId = (id) => client.query('SELECT title FROM invoice WHERE id = $1', [id]);
    assert.deepEqual((await byId(1)).rows, [{ title: 'acme one' }]);
    assert.deepEqual((await byId(101)).rows, []);
    assert.equal((await client.query('UPDATE invoice SET total = $1 WHERE id = $2', ['0', 101])).rowCount, 0);
    assert.equal((await client.query('DELETE FROM invoice WHERE id = ANY ($1)', [[101, 102]])).rowCount, 0);
  });
});

test('a new row belongs to the member and is audited under the request', async () => {
  const insert = 'INSERT INTO invoice (title, total, details) VALUES ($1, $2, $3) RETURNING id, organization_id';
  const [row] = await withIdentity(pool, await tokenOf('bob'), 'node-7', async (client) =>
    (await client.query(insert, ["it's; -- 世界", '12345678901234567890.12', { lines: [1, 2] }])).rows);
  assert.equal(row.organization_id, GLOBEX);
  assert.deepEqual(await as(await tokenOf('alice'), async (client) =>
    (await client.query('SELECT FROM invoice WHERE id = $1', [row.id])).rowCount), 0);
  const sql = `SELECT organization, subject, correlation_id, new_values ->> 'title' AS title, new_values ->> 'total' AS total
                 FROM tenancy.audit_trail WHERE table_name = 'invoice' AND new_values ->> 'id' = $1::text`;
  assert.deepEqual((await admin.query(sql, [row.id])).rows, [{
    organization: GLOBEX, subject: 'bob', correlation_id: 'node-7', title: "it's; -- 世界", total: '12345678901234567890.12',
  }]);
});

test('a row for another organization is refused with 42501', async () => {
  const insert = 'INSERT INTO invoice (organization_id, title) VALUES ($1, $2)';
  await assert.rejects(
    as(await tokenOf('alice'), (client) => client.query(insert, [GLOBEX, 'smuggled'])),
    (error) => error.code === '42501' && statusOf(error) === 403,
  );
  assert.equal((await admin.query("SELECT FROM invoice WHERE title = 'smuggled'")).rowCount, 0);
});

test('a reader reads and does not write', async () => {
  const token = await tokenOf('victor');
  assert.deepEqual(await as(token, titles), OWN.alice);
  await assert.rejects(as(token, (client) => client.query('UPDATE invoice SET total = 0')), { code: '42501' });
});

test('without a token there is no access, inside of a transaction and outside, whoever came before', async () => {
  await as(await tokenOf('alice'), titles);
  await assert.rejects(pool.query(TITLES), (error) => error.code === '28000' && statusOf(error) === 401);
  await bare(pool, async (client) => {
    await client.query('BEGIN');
    await assert.rejects(client.query(TITLES), { code: '28000' });
    await client.query('ROLLBACK');
  });
});

test('tokens that are not good are refused with 28000, and nothing is told of them', async (t) => {
  const good = await tokenOf('alice');
  const [header, payload, signature] = good.split('.');
  const encode = (value) => jose.base64url.encode(JSON.stringify(value));
  const now = Math.floor(Date.now() / 1000);
  const stranger = await makeKey('ES256');
  const pem = await jose.exportSPKI(keys.RS256.publicKey);
  const confused = claims('alice').setProtectedHeader({ alg: 'HS256', kid: 'RS256' });
  const tokens = {
    'expired': await sign(claims('alice').setExpirationTime(now - 120)),
    'not yet valid': await sign(claims('alice').setNotBefore(now + 600)),
    'without an end': await sign(new jose.SignJWT({}).setIssuer(ISSUER).setAudience(AUDIENCE).setSubject('alice')),
    'for another audience': await sign(claims('alice').setAudience('another')),
    'of another issuer': await sign(claims('alice').setIssuer('https://node.example')),
    'of nobody': await sign(claims('')),
    'of no member': await tokenOf('mallory'),
    'unsecured': new jose.UnsecuredJWT({}).setIssuer(ISSUER).setAudience(AUDIENCE).setSubject('alice').setExpirationTime('5m').encode(),
    'unsecured, with a signature': `${encode({ alg: 'none', kid: 'ES256' })}.${payload}.${signature}`,
    'of another subject under the signature': `${header}.${encode({ ...jose.decodeJwt(good), sub: 'bob' })}.${signature}`,
    'with another signature': `${header}.${payload}.${(await tokenOf('bob')).split('.')[2]}`,
    'without a signature': `${header}.${payload}.`,
    "signed by a stranger's key under a known kid": await tokenOf('alice', stranger),
    'with an unknown kid': await sign(claims('alice'), { ...keys.ES256, kid: 'unknown' }),
    'signed with RSA under the kid of an EC key': await sign(claims('alice'), { ...keys.RS256, kid: 'ES256' }),
    'signed by PS256 with the name of the RS256 key': await sign(claims('alice'), { ...keys.PS256, kid: 'RS256' }),
    'with the public key as HMAC secret': await confused.sign(new TextEncoder().encode(pem)),
    'with its key in the header': await claims('alice')
      .setProtectedHeader({ alg: 'ES256', kid: 'ES256', jwk: stranger.jwk }).sign(stranger.privateKey),
    'with a critical header': await claims('alice')
      .setProtectedHeader({ alg: 'ES256', kid: 'ES256', crit: ['b64'], b64: true }).sign(keys.ES256.privateKey),
    'encrypted': await new jose.EncryptJWT({}).setIssuer(ISSUER).setAudience(AUDIENCE).setSubject('alice').setExpirationTime('5m')
      .setProtectedHeader({ alg: 'RSA-OAEP-256', enc: 'A256GCM' })
      .encrypt(await jose.importJWK({ ...keys.RS256.jwk, alg: 'RSA-OAEP-256', use: 'enc' }, 'RSA-OAEP-256')),
  };
  for (const [name, token] of Object.entries(tokens)) {
    await t.test(name, async () => {
      await assert.rejects(as(token, titles), (error) => {
        assert.equal(error.code, '28000', error.message);
        const said = JSON.stringify({ ...error, message: error.message });
        for (const part of token.split('.').filter((part) => part.length > 20)) assert.ok(!said.includes(part), said);
        return true;
      });
      await assert.rejects(pool.query(TITLES), { code: '28000' });
    });
  }
  assert.deepEqual(await as(good, titles), OWN.alice, 'and the good one still is good');
});

test('keys are rotated with an overlap', async () => {
  const next = await makeKey('ES256', 'next');
  const [oldToken, newToken] = [await tokenOf('alice'), await tokenOf('alice', next)];
  await assert.rejects(as(newToken, titles), { code: '28000' });
  await register(...Object.values(keys), next);
  for (const token of [oldToken, newToken]) assert.deepEqual(await as(token, titles), OWN.alice);
  await register(next);
  await assert.rejects(as(oldToken, titles), { code: '28000' });
  assert.deepEqual(await as(newToken, titles), OWN.alice);
  await register(...Object.values(keys));
});

test('a suspended member is refused from the next transaction on', async () => {
  const token = await tokenOf('bob');
  const set = "SELECT tenancy.set_membership($1, 'bob', 'admin', status => $2)";
  assert.deepEqual(await as(token, titles), OWN.bob);
  await admin.query(set, [GLOBEX, 'suspended']);
  await assert.rejects(as(token, titles), { code: '28000' });
  await admin.query(set, [GLOBEX, 'active']);
  assert.deepEqual(await as(token, titles), OWN.bob);
});

test('many requests at once share one server connection, and each sees its own', async () => {
  const processes = new Set();
  await Promise.all(Array.from({ length: 60 }, async (_, n) => {
    const subject = ['alice', 'bob'][n % 2];
    const token = await tokenOf(subject, keys[ALGORITHMS[n % 4]]);
    const request = as(token, async (client) => {
      processes.add((await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid);
      assert.deepEqual(await titles(client), OWN[subject]);
      if (n % 5 === 0) await client.query('SELECT 1 / $1::integer', [0]);
      assert.deepEqual(await titles(client), OWN[subject]);
    });
    await (n % 5 === 0 ? assert.rejects(request, { code: '22012' }) : request);
  }));
  assert.equal(processes.size, 1, 'they did not share a server connection');
});

test('a failed statement that the work swallows is not taken for a commit', async () => {
  await assert.rejects(as(await tokenOf('alice'), async (client) => {
    await client.query("INSERT INTO invoice (title) VALUES ('swallowed')");
    await client.query('SELECT 1 / 0').catch(() => {});
  }), /nothing was committed/);
  assert.equal((await admin.query("SELECT FROM invoice WHERE title = 'swallowed'")).rowCount, 0);
});

// One client, because before 1.21 PgBouncer does not keep the names of several apart.
test('a named statement made for one organization never answers for another', async () => {
  const single = pooled({ max: 1 });
  const named = async (client) => (await client.query({ name: 'node titles', text: TITLES })).rows.map((row) => row.title);
  try {
    for (const mode of ['auto', 'force_generic_plan']) {
      for (let round = 0; round < 16; round += 1) {
        const subject = ['alice', 'bob'][Math.floor(round / 8)];
        await withIdentity(single, await tokenOf(subject), null, async (client) => {
          await client.query(`SET LOCAL plan_cache_mode = ${mode}`);
          assert.deepEqual(await named(client), OWN[subject]);
        });
        await bare(single, (client) => assert.rejects(named(client), { code: '28000' }));
      }
    }
  } finally {
    await single.query('DEALLOCATE ALL');
    await single.end();
  }
});

test('a cursor reads the rows of its member in portions', async () => {
  await as(await tokenOf('alice'), async (client) => {
    const cursor = client.query(new Cursor(TITLES));
    assert.deepEqual((await cursor.read(2)).map((row) => row.title), OWN.alice.slice(0, 2));
    assert.deepEqual((await cursor.read(2)).map((row) => row.title), OWN.alice.slice(2));
    await cursor.close();
  });
});

// A client that keeps what passes it, both ways.
function listening(client) {
  const heard = [];
  const query = async (text, values) => {
    const result = await client.query(text, values);
    heard.push(JSON.stringify([values, result.rows]));
    return result;
  };
  return { query, heard };
}

test('a value travels sealed both ways, and is refused under another name', async () => {
  const [name, value, next] = ['billing-api ä', 'MARK-1 "€"\n', 'MARK-2'];
  const [alice, bob] = [await tokenOf('alice'), await tokenOf('bob')];
  const put = 'SELECT tenancy.put_secret($1, $2, sealed => true)';
  await as(alice, async (client) => {
    const wire = listening(client);
    await wire.query(put, [name, await seal(wire, name, value)]);
    assert.equal(await reveal(wire, name, 'to test; ä'), value);
    await wire.query('SELECT tenancy.begin_rotation($1, $2, sealed => true)', [name, await seal(wire, name, next)]);
    await wire.query('SELECT tenancy.report_health($1, 2, true), tenancy.promote($1, 2)', [name]);
    assert.equal(await reveal(wire, name, 'to test'), next);
    assert.equal(wire.heard.length, 7);
    assert.doesNotMatch(wire.heard.join(), /MARK|TUFSSy/, 'in the clear or as base64');
    const { rows } = await client.query("SELECT tenancy.reveal_secret($1, 'test', 1) AS value", [name]);
    assert.deepEqual(rows, [{ value }], 'the database has the value itself');
  });
  await assert.rejects(as(alice, async (client) => client.query(put, ['gcp', await seal(client, 'aws', 'v')])), { code: '22023' });
  await assert.rejects(as(alice, (client) => reveal(client, 'unknown', 'to test')), { code: '42704' });
  await assert.rejects(as(bob, (client) => reveal(client, name, 'to test')), { code: '42704' });
});

test('without BEGIN the identity ends with the statement that gave it', async () => {
  const token = await tokenOf('alice');
  await bare(pool, async (client) => {
    await client.query('SELECT tenancy.authenticate($1)', [token]); // without BEGIN: for this statement alone
    await assert.rejects(client.query(TITLES), { code: '28000' });
  });
});

test('the server of docs/clients.md answers 200 with own rows, and 401 without a good token', async () => {
  process.env.PGHOST = process.env.PG_TENANCY_POOLER_HOST; // the other connections are made already, or name theirs
  process.env.PGPORT = process.env.PG_TENANCY_POOLER_PORT;
  process.env.PGUSER = 'test_tenancy_application';
  const { server, pool: serverPool } = await import('./server.js');
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const get = async (token) => {
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, {
      headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), 'x-request-id': 'web-1' },
    });
    return [response.status, await response.json()];
  };
  try {
    const [status, rows] = await get(await tokenOf('victor'));
    assert.equal(status, 200);
    assert.deepEqual(rows.slice(0, 2), [{ title: 'acme two', total: '20' }, { title: 'acme three', total: '30' }]);
    assert.ok(!JSON.stringify(rows).includes('globex'));
    for (const token of [undefined, '', 'no token', await tokenOf('mallory')]) {
      assert.deepEqual(await get(token), [401, { error: 'Unauthorized' }]);
    }
  } finally {
    server.closeAllConnections?.();
    await new Promise((resolve) => { server.close(resolve); });
    await serverPool.end();
  }
});
