import type { IncomingHttpHeaders } from 'node:http';

export type { Identity, Job } from './identity.js';

/** The SQLSTATE of the database's own error, wherever driver or mapper keep it; undefined if there is none. */
export function sqlstateOf(error: unknown): string | undefined;

/**
 * What an API answers: 401 for 28000 (no, bad or expired token; no membership), 403 for 42501 (the role may not),
 * 500 for everything else, also where the server refused the application's own login.
 */
export function statusOf(error: unknown): 401 | 403 | 500;

/** The bearer token of a request's headers; an empty string without one. */
export function bearer(headers: IncomingHttpHeaders): string;

/** The error that the middleware throws in place of 28000 and 42501; `cause` is the error of the driver or mapper. */
export class HttpError extends Error {
  readonly status: 401 | 403;
  readonly statusCode: 401 | 403;
  readonly expose: true;
  readonly headers?: Record<string, string>;
  readonly cause: unknown;
}
