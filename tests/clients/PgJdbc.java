// pgjdbc: metadata, fetch sizes, batches, cancel, CopyManager.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.*;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class PgJdbc {
    static final String LONG = "SELECT count(*) FROM generate_series(1, 100000000000) AS g(n) WHERE n % 3 = 5";

    static void done(String step) {
        System.out.println(step);
    }

    static void equal(Object found, Object wanted) {
        if (!String.valueOf(found).equals(String.valueOf(wanted))) {
            throw new AssertionError("found " + found + ", wanted " + wanted);
        }
    }

    static Connection connect(String[] args, String tls) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", args[2]);
        properties.setProperty("sslmode", tls);
        return DriverManager.getConnection("jdbc:postgresql://" + args[0] + ":" + args[1] + "/" + args[3], properties);
    }

    public static void main(String[] args) throws Exception {
        Connection connection = connect(args, "disable");
        Statement statement = connection.createStatement();
        ResultSet one = statement.executeQuery("SELECT 1");
        one.next();
        equal(one.getInt(1), 1);
        done("connect");

        DatabaseMetaData meta = connection.getMetaData();
        ResultSet columns = meta.getColumns(null, "raw", "airlines", null);
        columns.next();
        equal(columns.getString("COLUMN_NAME"), "carrier");
        ResultSet tables = meta.getTables(null, "raw", "%", null);
        int count = 0;
        while (tables.next()) count++;
        equal(count >= 5, true);
        meta.getPrimaryKeys(null, "raw", "airlines").next();
        meta.getIndexInfo(null, "raw", "airlines", false, true).next();
        meta.getImportedKeys(null, "raw", "airlines").next();
        meta.getTypeInfo().next();
        meta.getSchemas().next();
        done("introspect");

        read(connection);
        done("read");
        write(connection);
        done("write");

        Statement slow = connection.createStatement();
        new Thread(() -> {
            try {
                Thread.sleep(1000);
                slow.cancel();
            } catch (Exception error) {
                throw new RuntimeException(error);
            }
        }).start();
        try {
            slow.executeQuery(LONG);
            throw new AssertionError("the query was not cancelled");
        } catch (SQLException error) {
            equal(error.getSQLState(), "57014");
        }
        done("cancel");

        CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
        equal(copies.copyIn("COPY client_jdbc.t (n, s) FROM STDIN CSV", new StringReader("1000,a\n1001,\"b,c\"\n")), 2);
        StringWriter out = new StringWriter();
        equal(copies.copyOut("COPY (SELECT n, s FROM client_jdbc.t WHERE n >= 1000 ORDER BY n) TO STDOUT", out), 2);
        equal(out.toString(), "1000\ta\n1001\tb,c\n");
        done("COPY");

        Connection encrypted = connect(args, "require");
        equal(encrypted.createStatement().executeQuery("SELECT 1").next(), true);
        done("TLS");
    }

    static void read(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        PreparedStatement many = connection.prepareStatement("SELECT flight, origin FROM raw.flights WHERE month = ?");
        many.setFetchSize(1000);
        many.setInt(1, 1);
        ResultSet rows = many.executeQuery();
        int count = 0;
        while (rows.next()) count++;
        equal(count, 27004);
        connection.commit();
        connection.setAutoCommit(true);
        PreparedStatement typed = connection.prepareStatement(
            "SELECT ?::int, ?::bigint, ?::numeric(8,2), ?::float8, ?::text, ?::bool, ?::date, ?::timestamp, ?::bytea, ?::uuid, ?::text");
        UUID id = UUID.fromString("6f1f0f2e-5d0b-4c0b-9b0a-1f2e3d4c5b6a");
        // From the fifth run on the driver asks for binary results.
        for (int run = 0; run < 8; run++) {
            typed.setInt(1, 7);
            typed.setLong(2, -5_000_000_000L);
            typed.setBigDecimal(3, new BigDecimal("-12.34"));
            typed.setDouble(4, 1.5);
            typed.setString(5, "ä\\");
            typed.setBoolean(6, true);
            typed.setDate(7, Date.valueOf("2020-02-29"));
            typed.setTimestamp(8, Timestamp.valueOf("2020-01-02 03:04:05.678"));
            typed.setBytes(9, new byte[] {0, -1});
            typed.setObject(10, id);
            typed.setNull(11, Types.VARCHAR);
            ResultSet row = typed.executeQuery();
            row.next();
            equal(row.getInt(1), 7);
            equal(row.getLong(2), -5_000_000_000L);
            equal(row.getBigDecimal(3), "-12.34");
            equal(row.getDouble(4), 1.5);
            equal(row.getString(5), "ä\\");
            equal(row.getBoolean(6), true);
            equal(row.getDate(7), "2020-02-29");
            equal(row.getTimestamp(8), "2020-01-02 03:04:05.678");
            equal(row.getBytes(9).length, 2);
            equal(row.getObject(10), id);
            equal(row.getString(11), null);
        }
    }

    static void write(Connection connection) throws SQLException {
        connection.createStatement().execute("CREATE SCHEMA client_jdbc; CREATE TABLE client_jdbc.t (n int, s text, p numeric(8,2), at timestamptz)");
        PreparedStatement insert = connection.prepareStatement("INSERT INTO client_jdbc.t VALUES (?, ?, ?, ?)");
        connection.setAutoCommit(false);
        for (int number = 0; number < 50; number++) {
            insert.setInt(1, number);
            insert.setString(2, "row " + number);
            insert.setBigDecimal(3, new BigDecimal(number));
            insert.setTimestamp(4, new Timestamp(0));
            insert.addBatch();
        }
        equal(insert.executeBatch().length, 50);
        Savepoint point = connection.setSavepoint();
        equal(connection.createStatement().executeUpdate("DELETE FROM client_jdbc.t"), 50);
        connection.rollback(point);
        connection.commit();
        connection.setAutoCommit(true);
        ResultSet rows = connection.createStatement().executeQuery("SELECT count(*) FROM client_jdbc.t");
        rows.next();
        equal(rows.getInt(1), 50);
    }
}
