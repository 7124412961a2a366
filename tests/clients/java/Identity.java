import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import javax.sql.DataSource;

public final class Identity {
    public interface Work<T> {
        T run(Connection connection) throws SQLException;
    }

    /** One transaction as the member that the token names. */
    public static <T> T withIdentity(DataSource pool, String token, String correlationId, Work<T> work)
            throws SQLException {
        String authenticate = "SELECT tenancy.authenticate(?, correlation_id => ?)";
        try (Connection connection = pool.getConnection()) {
            connection.setAutoCommit(false);
            try (PreparedStatement statement = connection.prepareStatement(authenticate)) {
                statement.setString(1, token);
                statement.setString(2, correlationId);
                statement.execute();
                T result = work.run(connection);
                connection.commit();
                return result;
            } catch (Throwable error) {
                connection.rollback();
                throw error;
            }
        }
    }

    /** What an API answers: the SQLSTATE says who is to blame. */
    public static int statusOf(SQLException error) {
        switch (String.valueOf(error.getSQLState())) {
            case "28000": return 401; // no, bad or expired token; no membership
            case "42501": return 403; // the role may not
            default: return 500;
        }
    }
}
