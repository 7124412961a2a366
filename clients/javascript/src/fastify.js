import { forRequest } from './http.js';

export function identity(fastify, { open, ...options }, done) {
  fastify.decorateRequest('withIdentity', null);
  fastify.addHook('onRequest', async (request) => {
    request.withIdentity = forRequest(open, request, options);
  });
  fastify.addHook('onError', async (request, reply, error) => {
    if (error.name === 'HttpError' && error.headers) reply.headers(error.headers);
  });
  done();
}

// Not a scope of its own: the routes that register the plugin have it.
identity[Symbol.for('skip-override')] = true;
identity[Symbol.for('fastify.display-name')] = 'pg-tenancy';
