// Go's pgx: its own protocol, in every mode of executing statements that it has.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// More than the gateway's pool has server connections.
	clients = 6
	repeat  = 100
	big     = 10 * 1024 * 1024
	many    = 100_000
	copied  = 40_000
)

var zones = []string{"Asia/Tokyo", "America/Lima", "Europe/Paris", "Africa/Cairo", "Asia/Kolkata", "Pacific/Auckland"}

var ctx = context.Background()

// A check ends at the first thing that is not as it should be.
type check struct {
	name string
	run  func()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func same[T comparable](found, expected T) {
	if found != expected {
		panic(fmt.Errorf("found %v instead of %v", found, expected))
	}
}

func refused(code string, err error) {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) || answer.Code != code {
		panic(fmt.Errorf("not refused with %s but: %v", code, err))
	}
}

func dial(change func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("sslmode=disable connect_timeout=20")
	must(err)
	if change != nil {
		change(config)
	}
	return pgx.ConnectConfig(ctx, config)
}

func connect(mode pgx.QueryExecMode) *pgx.Conn {
	conn, err := dial(func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = mode })
	must(err)
	return conn
}

func connectAll(mode pgx.QueryExecMode) []*pgx.Conn {
	var all []*pgx.Conn
	for n := range clients {
		conn, err := dial(func(config *pgx.ConnConfig) {
			config.DefaultQueryExecMode = mode
			config.RuntimeParams["application_name"] = fmt.Sprint("go ", n)
		})
		must(err)
		all = append(all, conn)
	}
	return all
}

func closeAll(all []*pgx.Conn) {
	for _, conn := range all {
		must(conn.Close(ctx))
	}
}

func one[T any](conn *pgx.Conn, text string, values ...any) T {
	var found T
	must(conn.QueryRow(ctx, text, values...).Scan(&found))
	return found
}

func do(conn *pgx.Conn, text string, values ...any) {
	_, err := conn.Exec(ctx, text, values...)
	must(err)
}

func fails(code string, conn *pgx.Conn, text string, values ...any) {
	_, err := conn.Exec(ctx, text, values...)
	refused(code, err)
}

func login() {
	conn := connect(pgx.QueryExecModeCacheStatement)
	same(one[string](conn, "SELECT current_user::text"), os.Getenv("PGUSER"))
	must(conn.Close(ctx))
	_, err := dial(func(config *pgx.ConnConfig) { config.Password = "wrong" })
	refused("28P01", err)
}

func tables() {
	conn := connect(pgx.QueryExecModeCacheStatement)
	do(conn, "DROP TABLE IF EXISTS go_t, go_copy")
	do(conn, "CREATE TABLE go_t (id int PRIMARY KEY, v text)")
	do(conn, "CREATE TABLE go_copy (id int PRIMARY KEY, v text)")
	do(conn, "SELECT settle()")
	must(conn.Close(ctx))
}

func parameters(mode pgx.QueryExecMode) {
	all := connectAll(mode)
	for n, conn := range all {
		do(conn, fmt.Sprintf("SET TimeZone TO '%s'", zones[n]))
		do(conn, fmt.Sprintf("SET search_path TO schema_%d, public", n))
	}
	for range 5 {
		for n, conn := range all {
			same(one[string](conn, "SELECT current_setting('TimeZone')"), zones[n])
			same(one[string](conn, "SELECT current_setting('search_path')"), fmt.Sprintf("schema_%d, public", n))
			same(one[string](conn, "SELECT current_setting('application_name')"), fmt.Sprint("go ", n))
			same(conn.PgConn().ParameterStatus("TimeZone"), zones[n])
		}
	}
	closeAll(all)
}

func interleaved(mode pgx.QueryExecMode) {
	all := connectAll(mode)
	for n := range repeat {
		for m, conn := range all {
			same(one[int](conn, "SELECT $1::int * 1000 + $2::int", n, m), n*1000+m)
		}
	}
	closeAll(all)
}

func oneNameManyTexts() {
	all := connectAll(pgx.QueryExecModeCacheStatement)
	for m, conn := range all {
		_, err := conn.Prepare(ctx, "same", fmt.Sprintf("SELECT 'client %d ' || $1::text", m))
		must(err)
	}
	for n := range repeat {
		for m, conn := range all {
			same(one[string](conn, "same", fmt.Sprint(n)), fmt.Sprintf("client %d %d", m, n))
		}
	}
	for _, conn := range all {
		must(conn.Deallocate(ctx, "same"))
		_, err := conn.Prepare(ctx, "same", "SELECT 'another'")
		must(err)
		same(one[string](conn, "same"), "another")
	}
	closeAll(all)
}

func atOnce(mode pgx.QueryExecMode) {
	var group sync.WaitGroup
	problems := make(chan any, clients)
	for m := range clients {
		group.Add(1)
		go func() {
			defer group.Done()
			defer func() {
				if problem := recover(); problem != nil {
					problems <- problem
				}
			}()
			conn := connect(mode)
			for n := range repeat {
				same(one[int](conn, "SELECT $1::int * 1000 + $2::int", n, m), n*1000+m)
				must(pgx.BeginFunc(ctx, conn, func(pgx.Tx) error {
					same(one[string](conn, fmt.Sprintf("SELECT 'client %d'", m)), fmt.Sprint("client ", m))
					same(one[string](conn, "SELECT $1::text", fmt.Sprint(n)), fmt.Sprint(n))
					return nil
				}))
			}
			must(conn.Close(ctx))
		}()
	}
	group.Wait()
	select {
	case problem := <-problems:
		panic(problem)
	default:
	}
}

func transactions(mode pgx.QueryExecMode) {
	conn := connect(mode)
	insert := "INSERT INTO go_t VALUES ($1, $2)"
	do(conn, "DELETE FROM go_t")
	must(pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insert, 1, "committed")
		return err
	}))
	tx, err := conn.Begin(ctx)
	must(err)
	do(conn, insert, 2, "rolled back")
	must(tx.Rollback(ctx))
	must(pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		do(conn, insert, 3, "kept")
		err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			_, err := inner.Exec(ctx, insert, 1, "again")
			return err
		})
		refused("23505", err)
		do(conn, insert, 4, "kept too")
		return nil
	}))
	same(one[string](conn, "SELECT array_agg(id ORDER BY id)::text FROM go_t"), "{1,3,4}")
	tx, err = conn.Begin(ctx)
	must(err)
	fails("22012", conn, "SELECT 1 / $1::int", 0)
	fails("25P02", conn, "SELECT 1")
	if err = tx.Commit(ctx); !errors.Is(err, pgx.ErrTxCommitRollback) {
		panic(fmt.Errorf("a failed transaction was committed: %v", err))
	}
	tx, err = conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	must(err)
	same(one[int](conn, "SELECT count(*)::int FROM go_t"), 3)
	fails("25006", conn, insert, 5, "no")
	must(tx.Rollback(ctx))
	tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	must(err)
	same(one[string](conn, "SELECT current_setting('transaction_isolation')"), "serializable")
	must(tx.Commit(ctx))
	must(conn.Close(ctx))
}

func batches(mode pgx.QueryExecMode) {
	conn := connect(mode)
	for range 5 {
		batch := &pgx.Batch{}
		for n := range 100 {
			batch.Queue("SELECT $1::int", n)
		}
		results := conn.SendBatch(ctx, batch)
		for n := range 100 {
			var found int
			must(results.QueryRow().Scan(&found))
			same(found, n)
		}
		must(results.Close())
		batch = &pgx.Batch{}
		batch.Queue("SELECT $1::int", 1)
		batch.Queue("SELECT 1 / $1::int", 0)
		batch.Queue("SELECT $1::int", 3)
		refused("22012", conn.SendBatch(ctx, batch).Close())
		same(one[string](conn, "SELECT $1::text", "works"), "works")
	}
	must(conn.Close(ctx))
}

func pipelines() {
	conn := connect(pgx.QueryExecModeCacheStatement)
	pipeline := conn.PgConn().StartPipeline(ctx)
	pipeline.SendPrepare("piped", "SELECT $1::text", nil)
	for range 50 {
		pipeline.SendQueryPrepared("piped", [][]byte{[]byte("x")}, nil, nil)
		must(pipeline.Sync())
	}
	found := 0
	for {
		results, err := pipeline.GetResults()
		must(err)
		if results == nil {
			break
		}
		if reader, is := results.(*pgconn.ResultReader); is {
			result := reader.Read()
			must(result.Err)
			same(string(result.Rows[0][0]), "x")
			found++
		}
	}
	must(pipeline.Close())
	same(found, 50)
	must(conn.Close(ctx))
}

func copies() {
	conn := connect(pgx.QueryExecModeCacheStatement)
	filler := strings.Repeat("copied ", 13)
	count, err := conn.CopyFrom(ctx, pgx.Identifier{"go_copy"}, []string{"id", "v"},
		pgx.CopyFromSlice(copied, func(n int) ([]any, error) { return []any{n, filler}, nil }))
	must(err)
	same(count, int64(copied))
	var expected, found strings.Builder
	for n := range copied {
		fmt.Fprintf(&expected, "%d\t%s\n", n, filler)
	}
	_, err = conn.PgConn().CopyTo(ctx, &found, "COPY (SELECT * FROM go_copy ORDER BY id) TO STDOUT")
	must(err)
	same(found.String() == expected.String(), true)
	broken := "700000\tfine\nnot a number\t\n" + strings.Repeat("800000\tx\n", 50_000)
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(broken), "COPY go_copy FROM STDIN")
	refused("22P02", err)
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"go_copy"}, []string{"id", "v"},
		pgx.CopyFromFunc(func() ([]any, error) { return nil, errors.New("the client gives up") }))
	if err == nil {
		panic("a broken COPY succeeded")
	}
	same(one[int](conn, "SELECT count(*)::int FROM go_copy"), copied)
	must(conn.Close(ctx))
}

func cancelled() {
	conn, other := connect(pgx.QueryExecModeCacheStatement), connect(pgx.QueryExecModeCacheStatement)
	go func() {
		time.Sleep(300 * time.Millisecond)
		_ = conn.PgConn().CancelRequest(ctx)
	}()
	fails("57014", conn, "SELECT pg_sleep(60)")
	must(conn.PgConn().CancelRequest(ctx))
	// What was cancelled too late may still arrive.
	_, _ = conn.Exec(ctx, "SELECT pg_sleep(0.2)")
	for n := range 10 {
		same(one[int](conn, "SELECT $1::int", n), n)
		same(one[int](other, "SELECT $1::int", n), n)
	}
	closeAll([]*pgx.Conn{conn, other})
}

func notifications() {
	listener, sender := connect(pgx.QueryExecModeCacheStatement), connect(pgx.QueryExecModeCacheStatement)
	do(listener, "LISTEN go_channel")
	for n := range 20 {
		do(sender, "SELECT pg_notify('go_channel', $1)", fmt.Sprint("number ", n))
	}
	limited, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	for n := range 20 {
		notification, err := listener.WaitForNotification(limited)
		must(err)
		same(notification.Payload, fmt.Sprint("number ", n))
	}
	same(one[int](listener, "SELECT 1"), 1)
	closeAll([]*pgx.Conn{listener, sender})
}

func mistakes(mode pgx.QueryExecMode) {
	conn := connect(mode)
	do(conn, "INSERT INTO go_t VALUES ($1, $2) ON CONFLICT DO NOTHING", 1, "there")
	for range 5 {
		fails("42601", conn, "SELEC 1")
		same(one[string](conn, "SELECT $1::text", "works"), "works")
		fails("23505", conn, "INSERT INTO go_t VALUES ($1, $2)", 1, "again")
		same(one[string](conn, "SELECT $1::text", "works"), "works")
		fails("22012", conn, "SELECT 1 / $1::int", 0)
		same(one[string](conn, "SELECT $1::text", "works"), "works")
		fails("26000", conn, "EXECUTE nobody_prepared_this")
		same(one[string](conn, "SELECT $1::text", "works"), "works")
		fails("42P01", conn, "SELECT * FROM no_such_table WHERE id = $1", 1)
		same(one[string](conn, "SELECT $1::text", "works"), "works")
	}
	must(conn.Close(ctx))
}

func sizes(mode pgx.QueryExecMode) {
	conn := connect(mode)
	text := strings.Repeat("x", big)
	same(one[string](conn, "SELECT $1::text", text) == text, true)
	same(string(one[[]byte](conn, "SELECT $1::bytea", []byte(text))) == text, true)
	rows, err := conn.Query(ctx, "SELECT n, NULL::text, 'row ' || n FROM generate_series(1, $1::int) n", many)
	must(err)
	count := 0
	for rows.Next() {
		var n int
		var nothing *string
		var named string
		must(rows.Scan(&n, &nothing, &named))
		count++
		if n != count || nothing != nil {
			panic("a row is not as it was made")
		}
	}
	must(rows.Err())
	same(count, many)
	same(one[int](conn, "SELECT count(*)::int FROM generate_series(1, 3) n WHERE $1::bool", false), 0)
	must(conn.Close(ctx))
}

func forgetting() {
	conn, other := connect(pgx.QueryExecModeCacheStatement), connect(pgx.QueryExecModeCacheStatement)
	same(one[int](conn, "SELECT $1::int", 1), 1)
	same(one[int](other, "SELECT $1::int", 1), 1)
	do(conn, "SET TimeZone TO 'Asia/Tokyo'")
	must(conn.DeallocateAll(ctx))
	same(one[int](conn, "SELECT $1::int", 2), 2)
	_, err := conn.Exec(ctx, "DISCARD ALL", pgx.QueryExecModeSimpleProtocol)
	must(err)
	_, err = conn.Exec(ctx, "SELECT $1::int", 3)
	refused("26000", err)
	for n := range 10 {
		same(one[int](other, "SELECT $1::int", n), n)
	}
	closeAll([]*pgx.Conn{conn, other})
}

func severalInOne() {
	conn := connect(pgx.QueryExecModeSimpleProtocol)
	do(conn, "DELETE FROM go_t WHERE id IN (60, 61)")
	results, err := conn.PgConn().Exec(ctx, "SELECT 1; INSERT INTO go_t VALUES (61, ''); SELECT 3").ReadAll()
	must(err)
	same(len(results), 3)
	fails("23505", conn, "INSERT INTO go_t VALUES (60, ''); INSERT INTO go_t VALUES (61, '')")
	same(one[int](conn, "SELECT count(*)::int FROM go_t WHERE id = 60"), 0)
	must(conn.Close(ctx))
}

func main() {
	checks := []check{{"login", login}, {"tables", tables}}
	modes := []struct {
		name string
		mode pgx.QueryExecMode
	}{
		{"cache statement", pgx.QueryExecModeCacheStatement},
		{"cache describe", pgx.QueryExecModeCacheDescribe},
		{"describe exec", pgx.QueryExecModeDescribeExec},
		{"exec", pgx.QueryExecModeExec},
		{"simple", pgx.QueryExecModeSimpleProtocol},
	}
	inEveryMode := []struct {
		name string
		run  func(pgx.QueryExecMode)
	}{
		{"parameters", parameters}, {"interleaved", interleaved}, {"at once", atOnce}, {"transactions", transactions},
		{"batches", batches}, {"mistakes", mistakes}, {"sizes", sizes},
	}
	for _, mode := range modes {
		for _, each := range inEveryMode {
			checks = append(checks, check{each.name + ", " + mode.name, func() { each.run(mode.mode) }})
		}
	}
	checks = append(checks, []check{
		{"one name, many texts", oneNameManyTexts}, {"pipelines", pipelines}, {"copies", copies}, {"cancelled", cancelled},
		{"notifications", notifications}, {"forgetting", forgetting}, {"several in one", severalInOne},
	}...)
	if len(os.Args) > 1 && os.Args[1] == "ledger" {
		checks = ledgerChecks()
	}
	for _, each := range checks {
		began := time.Now()
		func() {
			defer func() {
				if problem := recover(); problem != nil {
					fmt.Printf("FAILED %s\n%v\n", each.name, problem)
					os.Exit(1)
				}
			}()
			each.run()
		}()
		fmt.Printf("ok %s (%.2f s)\n", each.name, time.Since(began).Seconds())
	}
}
