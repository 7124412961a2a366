// JDBC behind PgBouncer. Prints TAP: https://testanything.org

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import javax.sql.DataSource;
import org.postgresql.ds.PGPoolingDataSource;

@SuppressWarnings("deprecation") // the pool of the driver is enough for a test
public final class Clients {
    interface Promise {
        void keep() throws Exception;
    }

    static final String GLOBEX = "bbbbbbbb-0000-4000-8000-000000000002";
    static final Map<String, List<String>> OWN =
            Map.of("ALICE", List.of("acme one", "acme two", "acme three"), "BOB", List.of("globex one", "globex two"));
    static final DataSource POOL = pool("prepareThreshold=0");
    static int passed, failed;

    static DataSource pool(String options) {
        Map<String, String> names = System.getenv();
        PGPoolingDataSource pool = new PGPoolingDataSource();
        pool.setUrl("jdbc:postgresql://" + names.get("PGHOST") + ":" + names.get("PGPORT") + "/" + names.get("PGDATABASE")
                + "?" + options);
        pool.setUser(names.get("PGUSER"));
        pool.setPassword(names.get("PGPASSWORD"));
        pool.setMaxConnections(4);
        return pool;
    }

    static String token(String of) {
        return System.getenv("TOKEN_" + of);
    }

    static <T> T as(String subject, Identity.Work<T> work) throws SQLException {
        return Identity.withIdentity(POOL, token(subject), null, work);
    }

    static List<String> texts(Connection connection, String sql, Object... parameters) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < parameters.length; n++) statement.setObject(n + 1, parameters[n]);
            List<String> found = new ArrayList<>();
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next()) found.add(rows.getString(1));
            }
            return found;
        }
    }

    static int changed(Connection connection, String sql, Object... parameters) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < parameters.length; n++) statement.setObject(n + 1, parameters[n]);
            return statement.executeUpdate();
        }
    }

    static List<String> titles(Connection connection) throws SQLException {
        return texts(connection, "SELECT title FROM invoice WHERE id < ? ORDER BY id", 1000);
    }

    static int smuggle(Connection connection) throws SQLException {
        return changed(connection, "INSERT INTO invoice (organization_id, title) VALUES (?::uuid, 'smuggled')", GLOBEX);
    }

    static List<String> titled(String subject, String title) throws SQLException {
        return as(subject, connection -> texts(connection, "SELECT title FROM invoice WHERE title = ?", title));
    }

    static List<String> shownToNobody(DataSource pool) throws SQLException {
        try (Connection connection = pool.getConnection()) {
            return titles(connection);
        }
    }

    static void same(Object expected, Object found) {
        if (!Objects.equals(expected, found)) throw new AssertionError("expected " + expected + ", got " + found);
    }

    static void refused(String state, int status, Callable<?> work) throws Exception {
        try {
            work.call();
        } catch (SQLException error) {
            same(List.of(state, status), List.of(error.getSQLState(), Identity.statusOf(error)));
            return;
        }
        throw new AssertionError("expected " + state + ", got no error");
    }

    static void test(String promise, Promise promised) {
        try {
            promised.keep();
            passed++;
            System.out.println("ok " + (passed + failed) + " - " + promise);
        } catch (Throwable error) {
            failed++;
            System.out.println("not ok " + (passed + failed) + " - " + promise + "\n# "
                    + error.toString().replace("\n", "\n# "));
        }
    }

    public static void main(String[] arguments) {
        for (String mode : List.of("prepareThreshold=0", "prepareThreshold=0&autosave=always", "preferQueryMode=simple")) {
            test("each member sees their own rows, with " + mode, () -> {
                DataSource pool = pool(mode);
                ExecutorService threads = Executors.newFixedThreadPool(4);
                List<Future<List<String>>> found = new ArrayList<>();
                List<List<String>> expected = new ArrayList<>();
                for (int turn = 0; turn < 20; turn++) {
                    for (String subject : OWN.keySet()) {
                        expected.add(OWN.get(subject));
                        found.add(threads.submit(
                                () -> Identity.withIdentity(pool, token(subject), null, Clients::titles)));
                    }
                }
                for (int n = 0; n < found.size(); n++) same(expected.get(n), found.get(n).get());
                threads.shutdown();
                refused("28000", 401, () -> shownToNobody(pool));
            });
        }

        test("the rows of another organization are not found by their id", () -> as("ALICE", connection -> {
            same(List.of("acme one"), texts(connection, "SELECT title FROM invoice WHERE id = ?", 1));
            same(List.of(), texts(connection, "SELECT title FROM invoice WHERE id = ?", 101));
            same(0, changed(connection, "UPDATE invoice SET total = 0 WHERE id = ?", 101));
            same(0, changed(connection, "DELETE FROM invoice WHERE id = ?", 101));
            return null;
        }));

        test("a new row belongs to the organization of the member", () -> {
            String title = "it's; -- 世界 $1";
            String insert = "INSERT INTO invoice (title, total) VALUES (?, ?) RETURNING organization_id";
            same(List.of(GLOBEX), Identity.withIdentity(POOL, token("BOB"), "java-7",
                    connection -> texts(connection, insert, title, new BigDecimal("12.50"))));
            same(List.of(title), titled("BOB", title));
            same(List.of(), titled("ALICE", title));
        });

        test("without a token nothing is shown", () -> {
            refused("28000", 401, () -> shownToNobody(POOL));
            refused("28000", 401, () -> Identity.withIdentity(POOL, "", null, Clients::titles));
            refused("28000", 401, () -> Identity.withIdentity(POOL, null, null, Clients::titles));
        });

        test("an expired token is refused", () -> refused("28000", 401, () -> as("EXPIRED", Clients::titles)));

        test("a reader reads and may not write", () -> {
            same(OWN.get("ALICE"), as("VICTOR", Clients::titles));
            refused("42501", 403, () -> as("VICTOR",
                    connection -> changed(connection, "UPDATE invoice SET total = 0 WHERE id = ?", 1)));
        });

        test("a row for another organization is refused",
                () -> refused("42501", 403, () -> as("ALICE", Clients::smuggle)));

        test("a savepoint undoes its own work and keeps the member", () -> {
            as("ALICE", connection -> {
                changed(connection, "INSERT INTO invoice (title) VALUES ('kept')");
                Savepoint attempt = connection.setSavepoint();
                changed(connection, "INSERT INTO invoice (title) VALUES ('undone')");
                try {
                    smuggle(connection);
                    throw new AssertionError("it was not refused");
                } catch (SQLException error) {
                    same("42501", error.getSQLState());
                    connection.rollback(attempt);
                }
                same(OWN.get("ALICE"), titles(connection));
                return null;
            });
            same(List.of("kept"), titled("ALICE", "kept"));
            same(List.of(), titled("ALICE", "undone"));
            same(List.of(), titled("BOB", "kept"));
        });

        test("an error of the application undoes everything and leaves nothing to the next user", () -> {
            try {
                as("ALICE", connection -> {
                    changed(connection, "DELETE FROM invoice");
                    throw new IllegalStateException("of the application");
                });
                throw new AssertionError("it was swallowed");
            } catch (IllegalStateException error) {
                same("of the application", error.getMessage());
            }
            refused("28000", 401, () -> shownToNobody(POOL));
            for (String subject : OWN.keySet()) same(OWN.get(subject), as(subject, Clients::titles));
        });

        test("what follows a swallowed error is not committed", () -> {
            as("ALICE", connection -> {
                changed(connection, "INSERT INTO invoice (title) VALUES ('swallowed')");
                try {
                    return texts(connection, "SELECT 1 / 0");
                } catch (SQLException error) {
                    same("22012", error.getSQLState());
                    return null;
                }
            });
            same(List.of(), titled("ALICE", "swallowed"));
        });

        System.out.println("1.." + (passed + failed) + "\n# pass " + passed + "\n# fail " + failed);
        System.exit(failed == 0 ? 0 : 1);
    }
}
