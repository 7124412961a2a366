package clients

import (
	"context"

	"github.com/jackc/pgx/v4/pgxpool"
)

// Connect needs PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE, which name the pooler.
func Connect(ctx context.Context) (*pgxpool.Pool, error) {
	return pgxpool.Connect(ctx, "statement_cache_mode=describe") // statements without a name
}
