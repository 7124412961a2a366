package clients

import (
	"context"
	"errors"
	"net/http"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

// WithIdentity runs work in one transaction as the member that the token names.
func WithIdentity(ctx context.Context, pool *pgxpool.Pool, token string, correlationID *string, work func(pgx.Tx) error) error {
	return pool.BeginFunc(ctx, func(tx pgx.Tx) error {
		authenticate := "SELECT tenancy.authenticate($1, correlation_id => $2)"
		if _, err := tx.Exec(ctx, authenticate, token, correlationID); err != nil {
			return err
		}
		return work(tx)
	})
}

// StatusOf is what an API answers: the SQLSTATE says who is to blame.
func StatusOf(err error) int {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "28000" {
		return http.StatusUnauthorized // no, bad or expired token; no membership
	}
	if errors.As(err, &refused) && refused.Code == "42501" {
		return http.StatusForbidden // the role may not
	}
	return http.StatusInternalServerError
}
