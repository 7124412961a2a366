import { forRequest } from './http.js';

export function identity(open, options) {
  return (request, response, next) => {
    request.withIdentity = forRequest(open, request, options);
    next();
  };
}
