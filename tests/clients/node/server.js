import http from 'node:http';
import pg from 'pg';
import { statusOf, withIdentity } from './identity.js';

export const pool = new pg.Pool({ max: 10 }); // PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name the pooler

export const server = http.createServer(async (request, response) => {
  const token = request.headers.authorization?.replace(/^Bearer /i, '') ?? '';
  const answer = (status, body) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  try {
    answer(200, await withIdentity(pool, token, request.headers['x-request-id'], async (client) =>
      (await client.query('SELECT title, total FROM invoice WHERE total >= $1 ORDER BY id', [20])).rows));
  } catch (error) {
    answer(statusOf(error), { error: http.STATUS_CODES[statusOf(error)] });
  }
});
