import { STATUS_CODES } from 'node:http';
import { statusOf } from './status.js';

/** The error that the middleware throws: `status` and `statusCode` for the framework, the database's error as `cause`. */
export class HttpError extends Error {
  constructor(status, cause) {
    super(STATUS_CODES[status], { cause });
    this.name = 'HttpError';
    this.status = status;
    this.statusCode = status;
    this.expose = true;
    if (status === 401) this.headers = { 'WWW-Authenticate': 'Bearer' };
  }
}

/** The bearer token of a request's headers; an empty string without one. */
export function bearer(headers) {
  return /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1] ?? '';
}

/** What the middleware of each framework is made of: `work => result` for the person of a request. */
export function forRequest(open, request, { organization, token, correlationId } = {}) {
  return async (...work) => {
    const who = {
      token: token ? await token(request) : bearer(request.headers),
      organization: organization ? await organization(request) : undefined,
      correlationId: correlationId ? await correlationId(request) : request.headers['x-request-id'],
    };
    try {
      return await open(who, ...work);
    } catch (error) {
      const status = statusOf(error);
      throw status === 500 ? error : new HttpError(status, error);
    }
  };
}
