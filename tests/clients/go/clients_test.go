// pgx behind PgBouncer, and lib/pq once.
package clients

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"reflect"
	"sync"
	"testing"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
	"github.com/lib/pq"
)

const globex = "bbbbbbbb-0000-4000-8000-000000000002"

var (
	ctx  = context.Background()
	own  = map[string][]string{"ALICE": {"acme one", "acme two", "acme three"}, "BOB": {"globex one", "globex two"}}
	pool *pgxpool.Pool
)

func TestMain(m *testing.M) {
	var err error
	if pool, err = Connect(ctx); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

type querier interface {
	Query(ctx context.Context, sql string, arguments ...interface{}) (pgx.Rows, error)
}

func titles(from querier) ([]string, error) {
	rows, err := from.Query(ctx, "SELECT title FROM invoice WHERE id < $1 ORDER BY id", 1000)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var title string
		if err := rows.Scan(&title); err != nil {
			return nil, err
		}
		found = append(found, title)
	}
	return found, rows.Err()
}

func as(subject string, work func(pgx.Tx) error) error {
	return WithIdentity(ctx, pool, os.Getenv("TOKEN_"+subject), nil, work)
}

func shownTo(subject string) (found []string, err error) {
	err = as(subject, func(tx pgx.Tx) error {
		found, err = titles(tx)
		return err
	})
	return
}

func same(t *testing.T, expected, got interface{}) {
	t.Helper()
	if !reflect.DeepEqual(expected, got) {
		t.Fatalf("expected %v, got %v", expected, got)
	}
}

func good(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, code string, status int, err error) {
	t.Helper()
	var error *pgconn.PgError
	if !errors.As(err, &error) {
		t.Fatalf("expected %s, got %v", code, err)
	}
	same(t, []interface{}{code, status}, []interface{}{error.Code, StatusOf(err)})
}

func count(t *testing.T, subject, title string) (n int) {
	t.Helper()
	good(t, as(subject, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT count(*) FROM invoice WHERE title = $1", title).Scan(&n)
	}))
	return
}

func TestEachMemberSeesTheirOwnRowsAndNobodySeesAnyAfterwards(t *testing.T) {
	for turn := 0; turn < 20; turn++ {
		for subject, rows := range own {
			found, err := shownTo(subject)
			good(t, err)
			same(t, rows, found)
			_, err = titles(pool)
			refused(t, "28000", 401, err)
		}
	}
}

func TestRequestsAtTheSameTimeSeeTheirOwnRows(t *testing.T) {
	var group sync.WaitGroup
	for n := 0; n < 40; n++ {
		subject := []string{"ALICE", "BOB"}[n%2]
		group.Add(1)
		go func() {
			defer group.Done()
			if found, err := shownTo(subject); err != nil || !reflect.DeepEqual(found, own[subject]) {
				t.Errorf("%s sees %v, %v", subject, found, err)
			}
		}()
	}
	group.Wait()
}

func TestTheRowsOfAnotherOrganizationAreNotFoundByTheirId(t *testing.T) {
	good(t, as("ALICE", func(tx pgx.Tx) error {
		var title string
		good(t, tx.QueryRow(ctx, "SELECT title FROM invoice WHERE id = $1", 1).Scan(&title))
		same(t, "acme one", title)
		same(t, pgx.ErrNoRows, tx.QueryRow(ctx, "SELECT title FROM invoice WHERE id = $1", 101).Scan(&title))
		for _, write := range []string{"UPDATE invoice SET total = 0 WHERE id = $1", "DELETE FROM invoice WHERE id = $1"} {
			tag, err := tx.Exec(ctx, write, 101)
			good(t, err)
			same(t, int64(0), tag.RowsAffected())
		}
		return nil
	}))
}

func TestANewRowBelongsToTheOrganizationOfTheMember(t *testing.T) {
	title, request := "it's; -- 世界 $1", "go-7"
	good(t, WithIdentity(ctx, pool, os.Getenv("TOKEN_BOB"), &request, func(tx pgx.Tx) error {
		var organization string
		insert := "INSERT INTO invoice (title, total) VALUES ($1, $2) RETURNING organization_id::text"
		good(t, tx.QueryRow(ctx, insert, title, "12.50").Scan(&organization))
		same(t, globex, organization)
		return nil
	}))
	same(t, []int{1, 0}, []int{count(t, "BOB", title), count(t, "ALICE", title)})
}

func TestWithoutATokenNothingIsShown(t *testing.T) {
	_, err := titles(pool)
	refused(t, "28000", 401, err)
	_, err = shownTo("OF_NOBODY")
	refused(t, "28000", 401, err)
}

func TestAnExpiredTokenIsRefused(t *testing.T) {
	_, err := shownTo("EXPIRED")
	refused(t, "28000", 401, err)
}

func TestAReaderReadsAndMayNotWrite(t *testing.T) {
	found, err := shownTo("VICTOR")
	good(t, err)
	same(t, own["ALICE"], found)
	refused(t, "42501", 403, as("VICTOR", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE invoice SET total = 0 WHERE id = $1", 1)
		return err
	}))
}

func smuggle(tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "INSERT INTO invoice (organization_id, title) VALUES ($1, 'smuggled')", globex)
	return err
}

func TestARowForAnotherOrganizationIsRefused(t *testing.T) {
	refused(t, "42501", 403, as("ALICE", smuggle))
}

func TestANestedTransactionUndoesItsOwnWorkAndKeepsTheMember(t *testing.T) {
	good(t, as("ALICE", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO invoice (title) VALUES ('kept')")
		good(t, err)
		refused(t, "42501", 403, tx.BeginFunc(ctx, func(nested pgx.Tx) error {
			_, err := nested.Exec(ctx, "INSERT INTO invoice (title) VALUES ('undone')")
			good(t, err)
			return smuggle(nested)
		}))
		found, err := titles(tx)
		same(t, own["ALICE"], found)
		return err
	}))
	same(t, []int{1, 0, 0}, []int{count(t, "ALICE", "kept"), count(t, "ALICE", "undone"), count(t, "BOB", "kept")})
}

func TestAnErrorOfTheApplicationUndoesEverythingAndLeavesNothingToTheNextUser(t *testing.T) {
	failure := errors.New("of the application")
	same(t, failure, as("ALICE", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM invoice")
		good(t, err)
		return failure
	}))
	same(t, 500, StatusOf(failure))
	for subject, rows := range own {
		found, err := shownTo(subject)
		good(t, err)
		same(t, rows, found)
	}
}

func TestASwallowedErrorIsReportedByCommit(t *testing.T) {
	err := as("ALICE", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO invoice (title) VALUES ('swallowed')")
		good(t, err)
		_, _ = tx.Exec(ctx, "SELECT 1 / 0")
		return nil
	})
	same(t, true, errors.Is(err, pgx.ErrTxCommitRollback))
	same(t, 0, count(t, "ALICE", "swallowed"))
}

func TestCopyIntoATemporaryTableAndInsertFromThere(t *testing.T) {
	rows := pgx.CopyFromRows([][]interface{}{{"copied"}, {"copied"}})
	refused(t, "0A000", 500, as("ALICE", func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"invoice"}, []string{"title"}, rows)
		return err
	}))
	rows = pgx.CopyFromRows([][]interface{}{{"copied"}, {"copied"}})
	good(t, as("ALICE", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "CREATE TEMPORARY TABLE incoming (title text) ON COMMIT DROP")
		good(t, err)
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"incoming"}, []string{"title"}, rows)
		good(t, err)
		_, err = tx.Exec(ctx, "INSERT INTO invoice (title) SELECT title FROM incoming")
		return err
	}))
	same(t, []int{2, 0}, []int{count(t, "ALICE", "copied"), count(t, "BOB", "copied")})
}

// lib/pq sends the startup parameter extra_float_digits, and without binary_parameters it prepares statements in a step
// of their own, which takes a round trip and outside of a transaction another server connection.
func TestLibPqWorksWithTheParameterThatThePoolerIgnores(t *testing.T) {
	database, err := sql.Open("postgres", "sslmode=disable binary_parameters=yes")
	good(t, err)
	defer database.Close()
	for subject, rows := range own {
		tx, err := database.Begin()
		good(t, err)
		_, err = tx.Exec("SELECT tenancy.authenticate($1)", os.Getenv("TOKEN_"+subject))
		good(t, err)
		var n int
		good(t, tx.QueryRow("SELECT count(*) FROM invoice WHERE id < $1", 1000).Scan(&n))
		same(t, len(rows), n)
		good(t, tx.Commit())
	}
	var refused *pq.Error
	same(t, true, errors.As(database.QueryRow("SELECT FROM invoice WHERE id < $1", 1000).Scan(), &refused))
	same(t, pq.ErrorCode("28000"), refused.Code)
}
