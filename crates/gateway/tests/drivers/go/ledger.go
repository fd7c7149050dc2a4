package main

import (
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What is done at a ledger: transfers that keep their sum, in every mode of executing statements.

const (
	ledgerClients = 3
	ledgerTurns   = 3
	ledgerTotal   = "SELECT sum(balance)::bigint FROM account WHERE id <= 4"
)

// together does the same at several clients at once; the first that fails is told.
func together(work func(client int, conn *pgx.Conn)) {
	var all sync.WaitGroup
	problems := make(chan any, ledgerClients)
	for client := range ledgerClients {
		all.Add(1)
		go func() {
			defer all.Done()
			defer func() {
				if problem := recover(); problem != nil {
					problems <- problem
				}
			}()
			conn := connect(pgx.QueryExecModeCacheStatement)
			work(client, conn)
			must(conn.Close(ctx))
		}()
	}
	all.Wait()
	if len(problems) > 0 {
		panic(<-problems)
	}
}

// beaten says whether others were first: then it is done again.
func beaten(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "40001"
}

func transfer(conn *pgx.Conn, from, to int) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, move := range []struct{ id, by int }{{from, -2}, {to, 2}} {
			if _, err := tx.Exec(ctx, "UPDATE account SET balance = balance + $1 WHERE id = $2", move.by, move.id); err != nil {
				return err
			}
		}
		return nil
	})
}

func ledgerTransfers() {
	conn := connect(pgx.QueryExecModeCacheStatement)
	before := one[int64](conn, ledgerTotal)
	together(func(client int, conn *pgx.Conn) {
		for turn := range ledgerTurns {
			err := transfer(conn, 1+(client+turn)%4, 1+(client+turn+1)%4)
			for beaten(err) {
				err = transfer(conn, 1+(client+turn)%4, 1+(client+turn+1)%4)
			}
			must(err)
		}
	})
	same(one[int64](conn, ledgerTotal), before)
	must(conn.Close(ctx))
}

func ledgerCounter() {
	conn := connect(pgx.QueryExecModeCacheStatement)
	balance := "SELECT balance FROM account WHERE id = $1"
	before := one[int64](conn, balance, 20)
	together(func(_ int, conn *pgx.Conn) {
		for range ledgerTurns {
			do(conn, "UPDATE account SET balance = balance + $1 WHERE id = $2", 1, 20)
		}
	})
	same(one[int64](conn, balance, 20), before+ledgerClients*ledgerTurns)
	must(conn.Close(ctx))
}

// Statements without a name are described in one breath and executed in the next.
func ledgerModes() {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		conn := connect(mode)
		same(one[string](conn, "SELECT name FROM account WHERE id = $1", 3), "a3")
		do(conn, "UPDATE account SET balance = balance WHERE id = $1", 3)
		fails("42703", conn, "SELECT nothing")
		must(conn.Close(ctx))
	}
}

// A batch is one transaction, all of it or nothing.
func ledgerBatch() {
	conn := connect(pgx.QueryExecModeCacheStatement)
	count := "SELECT count(*)::int FROM account WHERE id IN (30, 31)"
	insert := "INSERT INTO account (id, name, balance) VALUES ($1, $2, 0)"
	batch := &pgx.Batch{}
	batch.Queue(insert, 30, "thirty")
	batch.Queue(insert, 30, "again")
	refused("23505", conn.SendBatch(ctx, batch).Close())
	same(one[int](conn, count), 0)
	batch = &pgx.Batch{}
	batch.Queue(insert, 30, "thirty")
	batch.Queue(insert, 31, "thirty-one")
	must(conn.SendBatch(ctx, batch).Close())
	same(one[int](conn, count), 2)
	do(conn, "DELETE FROM account WHERE id IN (30, 31)")
	must(conn.Close(ctx))
}

func ledgerChecks() []check {
	return []check{
		{"transfers", ledgerTransfers}, {"counter", ledgerCounter}, {"modes", ledgerModes}, {"batch", ledgerBatch},
	}
}
