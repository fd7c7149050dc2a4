// pgjdbc at a ledger: transfers that keep their sum, a counter, batches, savepoints and levels of isolation.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public final class LedgerChecks {
    private static final int CLIENTS = 3;
    private static final int TURNS = 3;
    private static final String TOTAL = "SELECT sum(balance) FROM account WHERE id <= 4";
    private static final String ADD = "UPDATE account SET balance = balance + ? WHERE id = ?";

    private interface Check {
        void run() throws Exception;
    }

    private interface Work {
        void run(int client, Connection connection) throws Exception;
    }

    private static Connection connect() throws SQLException {
        Properties keys = new Properties();
        keys.setProperty("user", System.getenv("PGUSER"));
        keys.setProperty("password", System.getenv("PGPASSWORD"));
        keys.setProperty("prepareThreshold", "1");
        keys.setProperty("sslmode", "disable");
        keys.setProperty("loginTimeout", "20");
        keys.setProperty("socketTimeout", "60");
        String server = System.getenv("PGHOST") + ":" + System.getenv("PGPORT");
        return DriverManager.getConnection("jdbc:postgresql://" + server + "/" + System.getenv("PGDATABASE"), keys);
    }

    /** Does the same at several clients at once. */
    private static void together(Work work) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(CLIENTS);
        List<Future<?>> all = new ArrayList<>();
        for (int n = 0; n < CLIENTS; n++) {
            int client = n;
            all.add(threads.submit(() -> {
                try (Connection connection = connect()) {
                    work.run(client, connection);
                }
                return null;
            }));
        }
        for (Future<?> one : all) {
            one.get();
        }
        threads.shutdown();
    }

    private static void add(Connection connection, int by, int id) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(ADD)) {
            statement.setInt(1, by);
            statement.setInt(2, id);
            same(statement.executeUpdate(), 1);
        }
    }

    private static long number(Connection connection, String text) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(text)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    private static void same(Object found, Object expected) {
        if (!found.equals(expected)) {
            throw new AssertionError("found " + found + " instead of " + expected);
        }
    }

    private static void refused(String state, Check check) throws Exception {
        try {
            check.run();
        } catch (SQLException error) {
            same(error.getSQLState(), state);
            return;
        }
        throw new AssertionError("not refused with " + state);
    }

    private static void transfers() throws Exception {
        try (Connection watching = connect()) {
            long before = number(watching, TOTAL);
            together((client, connection) -> {
                connection.setAutoCommit(false);
                for (int turn = 0; turn < TURNS;) {
                    try {
                        add(connection, -2, 1 + (client + turn) % 4);
                        add(connection, 2, 1 + (client + turn + 1) % 4);
                        connection.commit();
                        turn++;
                    } catch (SQLException error) {
                        // Others were first: it is done again.
                        same(error.getSQLState(), "40001");
                        connection.rollback();
                    }
                }
            });
            same(number(watching, TOTAL), before);
        }
    }

    private static void counter() throws Exception {
        String balance = "SELECT balance FROM account WHERE id = 20";
        try (Connection watching = connect()) {
            long before = number(watching, balance);
            together((client, connection) -> {
                for (int turn = 0; turn < TURNS; turn++) {
                    add(connection, 1, 20);
                }
            });
            same(number(watching, balance), before + CLIENTS * TURNS);
        }
    }

    private static void batches() throws Exception {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            try (PreparedStatement statement =
                    connection.prepareStatement("INSERT INTO account (id, name, balance) VALUES (?, ?, 0)")) {
                for (int id = 40; id < 60; id++) {
                    statement.setInt(1, id);
                    statement.setString(2, "java " + id);
                    statement.addBatch();
                }
                same(statement.executeBatch().length, 20);
            }
            connection.commit();
            connection.setAutoCommit(true);
            same(number(connection, "SELECT count(*) FROM account WHERE id >= 40 AND id < 60"), 20L);
            try (Statement statement = connection.createStatement()) {
                same(statement.executeUpdate("DELETE FROM account WHERE id >= 40 AND id < 60"), 20);
            }
        }
    }

    private static void savepoints() throws Exception {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            long before = number(connection, TOTAL);
            Savepoint here = connection.setSavepoint("here");
            add(connection, 1000, 1);
            refused("42703", () -> number(connection, "SELECT nothing"));
            connection.rollback(here);
            add(connection, 0, 2);
            connection.commit();
            same(number(connection, TOTAL), before);
            connection.rollback();
        }
    }

    private static void levels() throws Exception {
        try (Connection one = connect(); Connection other = connect()) {
            for (Connection connection : List.of(one, other)) {
                connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
                connection.setAutoCommit(false);
                number(connection, TOTAL);
            }
            add(one, 1, 10);
            one.commit();
            add(other, 1, 12);
            refused("40001", other::commit);
            other.rollback();
            other.setReadOnly(true);
            refused("25006", () -> add(other, 1, 12));
            other.rollback();
        }
    }

    /** Rows a few at a time, by a portal that stays open. */
    private static void fetchSizes() throws Exception {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            try (PreparedStatement statement = connection.prepareStatement("SELECT n FROM generate_series(1, ?) n")) {
                statement.setInt(1, 25);
                statement.setFetchSize(10);
                int found = 0;
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) {
                        found++;
                    }
                }
                same(found, 25);
            }
            connection.commit();
        }
    }

    public static void main(String[] arguments) {
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("transfers", LedgerChecks::transfers);
        checks.put("counter", LedgerChecks::counter);
        checks.put("batches", LedgerChecks::batches);
        checks.put("savepoints", LedgerChecks::savepoints);
        checks.put("levels", LedgerChecks::levels);
        checks.put("fetch sizes", LedgerChecks::fetchSizes);
        checks.forEach((name, check) -> {
            long began = System.nanoTime();
            try {
                check.run();
            } catch (Throwable error) {
                System.out.println("FAILED " + name);
                error.printStackTrace(System.out);
                System.exit(1);
            }
            System.out.printf("ok %s (%.2f s)%n", name, (System.nanoTime() - began) / 1e9);
        });
        System.exit(0);
    }
}
