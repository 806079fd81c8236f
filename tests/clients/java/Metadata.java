import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.SQLFeatureNotSupportedException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Comparator;
import java.util.StringJoiner;

/**
 * Asks pgjdbc's DatabaseMetaData for everything, about the tables of setup.sql, and prints the answers.
 *
 * <pre>java -cp postgresql.jar Metadata.java jdbc:postgresql://127.0.0.1:5433/lake?user=ada</pre>
 *
 * The first argument is the URL. A line is `name: value` or, for a result set, `name` and then one line a row,
 * two blanks in front. What the driver itself does not support says so and is no failure.
 */
public final class Metadata {
    private static int failures;

    public static void main(String[] arguments) throws SQLException {
        try (Connection connection = DriverManager.getConnection(arguments[0])) {
            DatabaseMetaData about = connection.getMetaData();
            scalars(about);
            names(about);
            columns(about);
            keys(about);
            routines(about);
            results(connection);
        }
        System.out.println("failures: " + failures);
        System.exit(failures == 0 ? 0 : 1);
    }

    private interface Question {
        Object ask() throws SQLException;
    }

    private static void print(String name, Question question, String... columns) {
        try {
            Object answer = question.ask();
            if (answer instanceof ResultSet rows) {
                System.out.println(name);
                rows(rows, columns);
            } else {
                System.out.println(name + ": " + answer);
            }
        } catch (SQLFeatureNotSupportedException error) {
            System.out.println(name + ": not supported by the driver");
        } catch (SQLException error) {
            failures++;
            System.out.println(name + ": FAILED " + error.getSQLState() + " " + error.getMessage());
        }
    }

    /** Every row is read whole; printed are the columns asked for, or all. */
    private static void rows(ResultSet rows, String... columns) throws SQLException {
        ResultSetMetaData shape = rows.getMetaData();
        int count = 0;
        while (rows.next()) {
            StringJoiner all = new StringJoiner("|");
            for (int at = 1; at <= shape.getColumnCount(); at++) {
                Object value = rows.getObject(at);
                String label = shape.getColumnLabel(at);
                if (columns.length == 0 || Arrays.asList(columns).contains(label)) {
                    all.add(String.valueOf(value));
                }
            }
            if (columns.length != 1 || !columns[0].equals("#")) {
                System.out.println("  " + all);
            }
            count++;
        }
        if (columns.length == 1 && columns[0].equals("#")) {
            System.out.println(count > 0 ? "  some" : "  none");
        }
        rows.close();
    }

    /** Every method without parameters that gives a number, a text or a boolean. */
    private static void scalars(DatabaseMetaData about) {
        Method[] methods = DatabaseMetaData.class.getMethods();
        Arrays.sort(methods, Comparator.comparing(Method::getName));
        for (Method method : methods) {
            Class<?> type = method.getReturnType();
            boolean plain = type == String.class || type.isPrimitive() && type != void.class;
            if (method.getParameterCount() == 0 && plain) {
                print(method.getName(), () -> called(method, about));
            }
        }
    }

    private static Object called(Method method, Object target) throws SQLException {
        try {
            return method.invoke(target);
        } catch (InvocationTargetException error) {
            if (error.getCause() instanceof SQLException cause) {
                throw cause;
            }
            throw new SQLException(error.getCause());
        } catch (IllegalAccessException error) {
            throw new SQLException(error);
        }
    }

    private static void names(DatabaseMetaData about) {
        print("getCatalogs", about::getCatalogs);
        print("getSchemas", about::getSchemas);
        print("getSchemas(shop)", () -> about.getSchemas("lake", "sh%"));
        print("getTableTypes", about::getTableTypes);
        print("getTables", () -> about.getTables(null, "shop", "%", null), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE", "REMARKS");
        print("getTables(TABLE)", () -> about.getTables("lake", null, "%", new String[] {"TABLE"}), "TABLE_NAME");
        print("getTables(VIEW)", () -> about.getTables(null, "shop", "b%", new String[] {"VIEW"}), "TABLE_NAME", "REMARKS");
        print("getTables(all types)",
            () -> about.getTables(null, "shop", "%", new String[] {"TABLE", "VIEW", "INDEX", "SEQUENCE", "TYPE",
                "SYSTEM TABLE", "SYSTEM VIEW", "SYSTEM INDEX", "FOREIGN TABLE", "MATERIALIZED VIEW",
                "PARTITIONED TABLE", "TEMPORARY TABLE"}), "TABLE_NAME", "TABLE_TYPE");
        print("getTables(system)",
            () -> about.getTables(null, "pg_catalog", "pg_cl%", new String[] {"SYSTEM TABLE"}), "TABLE_NAME");
        print("getTypeInfo", about::getTypeInfo, "#");
        print("getUDTs", () -> about.getUDTs(null, null, "%", null));
        print("getClientInfoProperties", about::getClientInfoProperties);
        print("getTablePrivileges", () -> about.getTablePrivileges(null, "shop", "customers"), "#");
        print("getColumnPrivileges", () -> about.getColumnPrivileges(null, "shop", "customers", "%"), "#");
        print("getSuperTypes", () -> about.getSuperTypes(null, null, null));
        print("getSuperTables", () -> about.getSuperTables(null, null, null));
        print("getAttributes", () -> about.getAttributes(null, null, null, null));
        print("getPseudoColumns", () -> about.getPseudoColumns(null, null, null, null));
    }

    private static void columns(DatabaseMetaData about) {
        String[] shown = {"TABLE_NAME", "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS",
            "NULLABLE", "REMARKS", "COLUMN_DEF", "ORDINAL_POSITION", "IS_NULLABLE", "IS_AUTOINCREMENT"};
        print("getColumns", () -> about.getColumns(null, "shop", "%", "%"), shown);
        print("getColumns(mixed case)", () -> about.getColumns("lake", "public", "Mixed Case", null), shown);
        print("getColumns(system)", () -> about.getColumns(null, "pg_catalog", "pg_class", "%"), "#");
        print("getVersionColumns", () -> about.getVersionColumns(null, "shop", "orders"), "#");
    }

    private static void keys(DatabaseMetaData about) {
        print("getPrimaryKeys", () -> about.getPrimaryKeys(null, "shop", "orders"));
        print("getPrimaryKeys(none)", () -> about.getPrimaryKeys(null, "public", "Mixed Case"));
        print("getBestRowIdentifier",
            () -> about.getBestRowIdentifier(null, "shop", "customers", DatabaseMetaData.bestRowSession, false));
        print("getIndexInfo", () -> about.getIndexInfo(null, "shop", "customers", true, true),
            "TABLE_NAME", "NON_UNIQUE", "INDEX_NAME", "COLUMN_NAME", "ORDINAL_POSITION");
        print("getIndexInfo(all)", () -> about.getIndexInfo(null, "shop", "orders", false, true),
            "TABLE_NAME", "NON_UNIQUE", "INDEX_NAME", "COLUMN_NAME", "ORDINAL_POSITION");
        print("getImportedKeys", () -> about.getImportedKeys(null, "shop", "orders"));
        print("getExportedKeys", () -> about.getExportedKeys(null, "shop", "customers"));
        print("getCrossReference",
            () -> about.getCrossReference(null, "shop", "customers", null, "shop", "orders"));
    }

    private static void routines(DatabaseMetaData about) {
        print("getProcedures", () -> about.getProcedures(null, null, "%"));
        print("getProcedureColumns", () -> about.getProcedureColumns(null, null, "upper", "%"), "#");
        print("getFunctions", () -> about.getFunctions(null, "pg_catalog", "upper"), "#");
        print("getFunctionColumns", () -> about.getFunctionColumns(null, "pg_catalog", "upper", "%"), "#");
    }

    /** What the driver looks up about results: base tables, types of arrays, keys of rows to be updated. */
    private static void results(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT id, name, tags, balance FROM shop.customers ORDER BY id")) {
            ResultSetMetaData shape = rows.getMetaData();
            for (int at = 1; at <= shape.getColumnCount(); at++) {
                int column = at;
                print("column " + at, () -> shape.getColumnName(column) + " " + shape.getColumnTypeName(column) + " "
                    + shape.getColumnClassName(column) + " nullable " + shape.isNullable(column) + " counts itself "
                    + shape.isAutoIncrement(column));
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT count(*) FROM shop.customers WHERE id = ANY (?)")) {
            Array ids = connection.createArrayOf("int8", new Long[] {1L, 7L});
            statement.setArray(1, ids);
            ResultSet rows = statement.executeQuery();
            rows.next();
            System.out.println("array parameter: " + rows.getLong(1));
            System.out.println("parameter: " + statement.getParameterMetaData().getParameterTypeName(1));
        }
    }
}
