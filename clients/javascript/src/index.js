export { sqlstateOf, statusOf } from './status.js';
export { bearer, HttpError } from './http.js';
