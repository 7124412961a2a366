import type { Request, RequestHandler } from 'express';
import type { Open, RequestOptions, WithIdentity } from './http.js';

declare global {
  namespace Express {
    interface Request {
      withIdentity: WithIdentity;
    }
  }
}

/** Middleware that gives each request `request.withIdentity(work)`. */
export function identity(open: Open, options?: RequestOptions<Request>): RequestHandler;
