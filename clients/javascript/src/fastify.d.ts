import type { FastifyPluginCallback, FastifyRequest } from 'fastify';
import type { Open, RequestOptions, WithIdentity } from './http.js';

declare module 'fastify' {
  interface FastifyRequest {
    withIdentity: WithIdentity;
  }
}

/** Plugin that gives each request `request.withIdentity(work)`; its option `open` opens the transaction. */
export const identity: FastifyPluginCallback<{ open: Open } & RequestOptions<FastifyRequest>>;
