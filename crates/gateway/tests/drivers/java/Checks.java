// pgjdbc: its own protocol; statements prepared on the server as S_1, S_2, … from the first execution.

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;

public final class Checks {
    // More than the gateway's pool has server connections.
    private static final int CLIENTS = 6;
    private static final int REPEAT = 100;
    private static final int BIG = 10 * 1024 * 1024;
    private static final int MANY = 100_000;
    private static final int COPIED = 40_000;
    private static final String FILLER = "copied ".repeat(13);
    private static final String[] ZONES = {
        "Asia/Tokyo", "America/Lima", "Europe/Paris", "Africa/Cairo", "Asia/Kolkata", "Pacific/Auckland"
    };

    private interface Check {
        void run() throws Exception;
    }

    private static Connection connect(String... more) throws SQLException {
        Properties keys = new Properties();
        keys.setProperty("user", System.getenv("PGUSER"));
        keys.setProperty("password", System.getenv("PGPASSWORD"));
        keys.setProperty("prepareThreshold", "1");
        keys.setProperty("sslmode", "disable");
        keys.setProperty("loginTimeout", "20");
        keys.setProperty("socketTimeout", "60");
        for (int n = 0; n + 1 < more.length; n += 2) {
            keys.setProperty(more[n], more[n + 1]);
        }
        String server = System.getenv("PGHOST") + ":" + System.getenv("PGPORT");
        return DriverManager.getConnection("jdbc:postgresql://" + server + "/" + System.getenv("PGDATABASE"), keys);
    }

    private static List<Connection> clients(String... more) throws SQLException {
        List<Connection> all = new ArrayList<>();
        for (int n = 0; n < CLIENTS; n++) {
            String[] keys = Arrays.copyOf(more, more.length + 2);
            keys[more.length] = "ApplicationName";
            keys[more.length + 1] = "java " + n;
            all.add(connect(keys));
        }
        return all;
    }

    private static void close(List<Connection> all) throws SQLException {
        for (Connection connection : all) {
            connection.close();
        }
    }

    private static void run(Connection connection, String text) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(text);
        }
    }

    private static String one(Connection connection, String text, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            for (int n = 0; n < values.length; n++) {
                statement.setObject(n + 1, values[n]);
            }
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getString(1);
            }
        }
    }

    private static void same(Object found, Object expected) {
        if (!expected.equals(found)) {
            throw new AssertionError("found " + found + " instead of " + expected);
        }
    }

    private static void refused(String state, Check check) throws Exception {
        try {
            check.run();
        } catch (SQLException error) {
            if (!state.equals(error.getSQLState())) {
                throw error;
            }
            return;
        }
        throw new AssertionError("not refused with " + state);
    }

    private static void login() throws Exception {
        try (Connection connection = connect()) {
            same(one(connection, "SELECT current_user::text"), System.getenv("PGUSER"));
        }
        refused("28P01", () -> connect("password", "wrong"));
    }

    private static void tables() throws Exception {
        try (Connection connection = connect()) {
            run(connection, "DROP TABLE IF EXISTS java_t, java_copy");
            run(connection, "CREATE TABLE java_t (id int PRIMARY KEY, v text)");
            run(connection, "CREATE TABLE java_copy (id int PRIMARY KEY, v text)");
            run(connection, "SELECT settle()");
        }
    }

    private static void parameters() throws Exception {
        List<Connection> all = clients();
        for (int n = 0; n < CLIENTS; n++) {
            run(all.get(n), "SET TimeZone TO '" + ZONES[n] + "'");
            all.get(n).setSchema("schema_" + n);
        }
        for (int round = 0; round < 5; round++) {
            for (int n = 0; n < CLIENTS; n++) {
                same(one(all.get(n), "SHOW TimeZone"), ZONES[n]);
                same(one(all.get(n), "SHOW application_name"), "java " + n);
                same(one(all.get(n), "SHOW search_path"), "schema_" + n);
                // The driver insists on its own.
                same(one(all.get(n), "SHOW DateStyle"), "ISO, MDY");
            }
        }
        all.get(0).setClientInfo("ApplicationName", "renamed");
        same(one(all.get(1), "SHOW application_name"), "java 1");
        same(one(all.get(0), "SHOW application_name"), "renamed");
        close(all);
    }

    private static void prepared(String... more) throws Exception {
        List<Connection> all = clients(more);
        List<PreparedStatement> statements = new ArrayList<>();
        for (Connection connection : all) {
            statements.add(connection.prepareStatement("SELECT ?::int * 1000 + ?::int"));
        }
        for (int n = 0; n < REPEAT; n++) {
            for (int m = 0; m < CLIENTS; m++) {
                PreparedStatement statement = statements.get(m);
                statement.setInt(1, n);
                statement.setInt(2, m);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(rows.getInt(1), n * 1000 + m);
                }
            }
        }
        close(all);
    }

    private static void oneNameManyTexts() throws Exception {
        List<Connection> all = clients();
        for (int n = 0; n < REPEAT; n++) {
            for (int m = 0; m < CLIENTS; m++) {
                // S_1 of each client is another text.
                same(one(all.get(m), "SELECT 'client " + m + " ' || ?::text", n), "client " + m + " " + n);
            }
        }
        close(all);
    }

    private static void everyQueryMode() throws Exception {
        for (String mode : List.of("simple", "extended", "extendedForPrepared", "extendedCacheEverything")) {
            prepared("preferQueryMode", mode);
        }
    }

    private static void atOnce() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(CLIENTS);
        List<Future<?>> futures = new ArrayList<>();
        for (int m = 0; m < CLIENTS; m++) {
            final int client = m;
            futures.add(threads.submit(() -> {
                try (Connection connection = connect()) {
                    for (int n = 0; n < REPEAT; n++) {
                        connection.setAutoCommit(true);
                        same(one(connection, "SELECT ?::int * 1000 + ?::int", n, client), "" + (n * 1000 + client));
                        connection.setAutoCommit(false);
                        same(one(connection, "SELECT 'client " + client + "'"), "client " + client);
                        same(one(connection, "SELECT ?::text", n), "" + n);
                        connection.commit();
                    }
                }
                return null;
            }));
        }
        for (Future<?> future : futures) {
            future.get(60, TimeUnit.SECONDS);
        }
        threads.shutdown();
    }

    private static void insert(Connection connection, int id, String text) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO java_t VALUES (?, ?)")) {
            statement.setInt(1, id);
            statement.setString(2, text);
            statement.executeUpdate();
        }
    }

    private static void transactions() throws Exception {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            insert(connection, 1, "committed");
            connection.commit();
            insert(connection, 2, "rolled back");
            connection.rollback();
            insert(connection, 3, "kept");
            Savepoint savepoint = connection.setSavepoint("s");
            refused("23505", () -> insert(connection, 1, "again"));
            refused("25P02", () -> one(connection, "SELECT 1"));
            connection.rollback(savepoint);
            insert(connection, 4, "kept too");
            connection.commit();
            same(one(connection, "SELECT array_agg(id ORDER BY id)::text FROM java_t"), "{1,3,4}");
            connection.commit();
            connection.setReadOnly(true);
            same(one(connection, "SELECT count(*) FROM java_t"), "3");
            refused("25006", () -> insert(connection, 5, "no"));
            connection.rollback();
            connection.setReadOnly(false);
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            same(one(connection, "SHOW transaction_isolation"), "serializable");
            connection.commit();
        }
    }

    private static void readOnlyWithoutTransactions() throws Exception {
        // Here the driver sets the session's characteristics.
        try (Connection connection = connect("readOnlyMode", "always"); Connection other = connect()) {
            connection.setReadOnly(true);
            for (int n = 0; n < 10; n++) {
                same(one(connection, "SELECT ?::int", n), "" + n);
                refused("25006", () -> insert(connection, 5, "no"));
                insert(other, 200 + n, "may");
            }
            connection.setReadOnly(false);
            insert(connection, 210, "may again");
        }
    }

    private static void autosave() throws Exception {
        try (Connection connection = connect("autosave", "always")) {
            connection.setAutoCommit(false);
            insert(connection, 300, "kept");
            refused("23505", () -> insert(connection, 300, "again"));
            insert(connection, 301, "kept too");
            connection.commit();
            same(one(connection, "SELECT count(*) FROM java_t WHERE id IN (300, 301)"), "2");
            connection.commit();
        }
    }

    private static void fetchSizes() throws Exception {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            try (PreparedStatement statement = connection.prepareStatement("SELECT n FROM generate_series(1, ?) n")) {
                statement.setFetchSize(100);
                statement.setInt(1, 5000);
                long total = 0;
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) {
                        total += rows.getInt(1);
                    }
                }
                same(total, 5000L * 5001 / 2);
            }
            connection.commit();
        }
    }

    private static void batches() throws Exception {
        for (String rewrite : List.of("false", "true")) {
            try (Connection connection = connect("reWriteBatchedInserts", rewrite)) {
                connection.setAutoCommit(false);
                run(connection, "DELETE FROM java_t WHERE id >= 1000");
                try (PreparedStatement statement = connection.prepareStatement("INSERT INTO java_t VALUES (?, ?)")) {
                    for (int n = 1000; n < 4000; n++) {
                        statement.setInt(1, n);
                        statement.setString(2, "batch " + n);
                        statement.addBatch();
                    }
                    same(statement.executeBatch().length, 3000);
                    connection.commit();
                    statement.setInt(1, 5000);
                    statement.setString(2, "fine");
                    statement.addBatch();
                    statement.setInt(1, 1000);
                    statement.addBatch();
                    try {
                        statement.executeBatch();
                        throw new AssertionError("a batch with a row that is there was accepted");
                    } catch (BatchUpdateException error) {
                        same(error.getSQLState(), "23505");
                    }
                    connection.rollback();
                }
                same(one(connection, "SELECT count(*) FROM java_t WHERE id >= 1000"), "3000");
                connection.commit();
            }
        }
    }

    private static void copies() throws Exception {
        StringBuilder rows = new StringBuilder();
        for (int n = 0; n < COPIED; n++) {
            rows.append(n).append('\t').append(FILLER).append('\n');
        }
        try (Connection connection = connect()) {
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            same(copy.copyIn("COPY java_copy FROM STDIN", new StringReader(rows.toString())), (long) COPIED);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            copy.copyOut("COPY (SELECT * FROM java_copy ORDER BY id) TO STDOUT", out);
            same(out.toString(StandardCharsets.UTF_8).contentEquals(rows), true);
            String broken = "700000\tfine\nnot a number\t\n" + "800000\tx\n".repeat(50_000);
            refused("22P02", () -> copy.copyIn("COPY java_copy FROM STDIN", new StringReader(broken)));
            CopyIn given = copy.copyIn("COPY java_copy FROM STDIN");
            byte[] fine = "700000\tfine\n".getBytes(StandardCharsets.UTF_8);
            given.writeToCopy(fine, 0, fine.length);
            given.cancelCopy();
            InputStream breaks = new InputStream() {
                @Override
                public int read() throws IOException {
                    throw new IOException("the file broke");
                }
            };
            try {
                copy.copyIn("COPY java_copy FROM STDIN", breaks);
                throw new AssertionError("a broken COPY succeeded");
            } catch (IOException expected) {
                same(expected.getMessage(), "the file broke");
            }
            same(one(connection, "SELECT count(*) FROM java_copy"), "" + COPIED);
        }
    }

    private static void cancelled() throws Exception {
        try (Connection connection = connect(); Connection other = connect()) {
            try (Statement statement = connection.createStatement()) {
                Timer timer = new Timer(true);
                timer.schedule(new TimerTask() {
                    @Override
                    public void run() {
                        try {
                            statement.cancel();
                        } catch (SQLException error) {
                            throw new IllegalStateException(error);
                        }
                    }
                }, 300);
                refused("57014", () -> statement.execute("SELECT pg_sleep(60)"));
                timer.cancel();
            }
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                refused("57014", () -> statement.execute("SELECT pg_sleep(60)"));
            }
            for (int n = 0; n < 10; n++) {
                same(one(connection, "SELECT ?::int", n), "" + n);
                same(one(other, "SELECT ?::int", n), "" + n);
            }
        }
    }

    private static void notifications() throws Exception {
        try (Connection listener = connect(); Connection sender = connect()) {
            run(listener, "LISTEN java_channel");
            for (int n = 0; n < 20; n++) {
                one(sender, "SELECT pg_notify('java_channel', ?)", "number " + n);
            }
            PGConnection receiving = listener.unwrap(PGConnection.class);
            int found = 0;
            for (int n = 0; n < 200 && found < 20; n++) {
                PGNotification[] some = receiving.getNotifications(100);
                for (PGNotification notification : some == null ? new PGNotification[0] : some) {
                    same(notification.getParameter(), "number " + found);
                    found++;
                }
            }
            same(found, 20);
            same(one(listener, "SELECT 1"), "1");
        }
    }

    private static void mistakes() throws Exception {
        Map<String, String> cases = new LinkedHashMap<>();
        cases.put("SELEC 1", "42601");
        cases.put("INSERT INTO java_t VALUES (1, 'again')", "23505");
        cases.put("SELECT 1 / 0", "22012");
        cases.put("EXECUTE nobody_prepared_this", "26000");
        cases.put("SELECT * FROM no_such_table", "42P01");
        cases.put("SELECT 'not a number'::int", "22P02");
        try (Connection connection = connect()) {
            for (Map.Entry<String, String> entry : cases.entrySet()) {
                for (int n = 0; n < 5; n++) {
                    refused(entry.getValue(), () -> run(connection, entry.getKey()));
                    same(one(connection, "SELECT ?::text", "works"), "works");
                }
            }
        }
    }

    private static void sizes(String... more) throws Exception {
        try (Connection connection = connect(more)) {
            String big = "x".repeat(BIG);
            same(one(connection, "SELECT ?::text", big).equals(big), true);
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::bytea, NULL, ''")) {
                byte[] bytes = big.getBytes(StandardCharsets.UTF_8);
                statement.setBytes(1, bytes);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(Arrays.equals(rows.getBytes(1), bytes), true);
                    same(rows.getString(2) == null, true);
                    same(rows.getString(3), "");
                }
            }
            String many = "SELECT n, NULL::text, 'row ' || n FROM generate_series(1, ?) n";
            try (PreparedStatement statement = connection.prepareStatement(many)) {
                statement.setInt(1, MANY);
                int count = 0;
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) {
                        count++;
                        same(rows.getInt(1), count);
                    }
                }
                same(count, MANY);
            }
            Array array = connection.createArrayOf("int4", new Integer[] {1, null});
            same(one(connection, "SELECT ?::int[]", array), "{1,NULL}");
        }
    }

    private static void sizesInBinary() throws Exception {
        sizes("binaryTransfer", "true", "binaryTransferEnable", "int4,bytea,text,int4_array");
    }

    private static void forgetting() throws Exception {
        try (Connection connection = connect(); Connection other = connect()) {
            for (int n = 0; n < 5; n++) {
                same(one(connection, "SELECT ?::int", n), "" + n);
                same(one(other, "SELECT ?::int", n), "" + n);
            }
            run(connection, "SET TimeZone TO 'Asia/Tokyo'");
            // The driver notices both in the command tag and prepares anew.
            run(connection, "DEALLOCATE ALL");
            same(one(connection, "SELECT ?::int", 7), "7");
            run(connection, "DISCARD ALL");
            same(one(connection, "SELECT ?::int", 8), "8");
            same("Asia/Tokyo".equals(one(connection, "SHOW TimeZone")), false);
            for (int n = 0; n < 5; n++) {
                same(one(other, "SELECT ?::int", n), "" + n);
            }
        }
    }

    private static void severalInOne() throws Exception {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            same(statement.execute("SELECT 1; INSERT INTO java_t VALUES (61, ''); SELECT 3"), true);
            same(statement.getMoreResults(), false);
            same(statement.getUpdateCount(), 1);
            same(statement.getMoreResults(), true);
            String twice = "INSERT INTO java_t VALUES (60, ''); INSERT INTO java_t VALUES (61, '')";
            refused("23505", () -> statement.execute(twice));
            same(one(connection, "SELECT count(*) FROM java_t WHERE id = 60"), "0");
        }
    }

    private static void generatedKeys() throws Exception {
        try (Connection connection = connect()) {
            String insert = "INSERT INTO java_t VALUES (?, ?)";
            try (PreparedStatement statement = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
                statement.setInt(1, 400);
                statement.setString(2, "returned");
                statement.executeUpdate();
                try (ResultSet rows = statement.getGeneratedKeys()) {
                    rows.next();
                    same(rows.getInt("id"), 400);
                }
            }
            same(connection.getMetaData().getTables(null, "public", "java_t", null).next(), true);
        }
    }

    public static void main(String[] arguments) {
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("login", Checks::login);
        checks.put("tables", Checks::tables);
        checks.put("parameters", Checks::parameters);
        checks.put("prepared", Checks::prepared);
        checks.put("one name, many texts", Checks::oneNameManyTexts);
        checks.put("every query mode", Checks::everyQueryMode);
        checks.put("at once", Checks::atOnce);
        checks.put("transactions", Checks::transactions);
        checks.put("read only without transactions", Checks::readOnlyWithoutTransactions);
        checks.put("autosave", Checks::autosave);
        checks.put("fetch sizes", Checks::fetchSizes);
        checks.put("batches", Checks::batches);
        checks.put("copies", Checks::copies);
        checks.put("cancelled", Checks::cancelled);
        checks.put("notifications", Checks::notifications);
        checks.put("mistakes", Checks::mistakes);
        checks.put("sizes", Checks::sizes);
        checks.put("sizes in binary", Checks::sizesInBinary);
        checks.put("forgetting", Checks::forgetting);
        checks.put("several in one", Checks::severalInOne);
        checks.put("generated keys", Checks::generatedKeys);
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
