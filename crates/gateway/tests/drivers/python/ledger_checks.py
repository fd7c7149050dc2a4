"""psycopg 3 at a ledger: transfers and a counter, with prepared statements and several clients at once."""

import threading

import psycopg
from psycopg import errors

import common
from common import same

TURNS = 3


def connect(**more):
    keys = {
        "host": common.HOST,
        "port": common.PORT,
        "user": common.USER,
        "password": common.PASSWORD,
        "dbname": common.DATABASE,
        "connect_timeout": 20,
        # Prepared from the first execution.
        "prepare_threshold": 0,
    }
    return psycopg.connect(**(keys | more))


def one(connection, text, parameters=None):
    return connection.execute(text, parameters).fetchone()[0]


def together(work, clients=3):
    failures = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001: told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def transfers():
    total = "SELECT sum(balance) FROM account WHERE id <= 4"
    with connect() as connection:
        before = one(connection, total)

    def transfer(number):
        with connect() as connection:
            for turn in range(TURNS):
                ids = (1 + (number + turn) % 4, 1 + (number + turn + 1) % 4)
                while True:
                    try:
                        with connection.transaction():
                            for by, account in zip((-2, 2), ids):
                                connection.execute(
                                    "UPDATE account SET balance = balance + %s WHERE id = %s", (by, account)
                                )
                        break
                    except errors.SerializationFailure:
                        pass

    together(transfer)
    with connect() as connection:
        same(one(connection, total), before)


def counter():
    with connect(autocommit=True) as connection:
        before = one(connection, "SELECT balance FROM account WHERE id = %s", (20,))

    def count(_):
        with connect(autocommit=True) as connection:
            for _ in range(TURNS):
                connection.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (1, 20))

    together(count)
    with connect(autocommit=True) as connection:
        same(one(connection, "SELECT balance FROM account WHERE id = %s", (20,)), before + 3 * TURNS)


def cursors():
    with connect() as connection:
        with connection.cursor(name="some") as cursor:
            cursor.execute("SELECT id FROM account WHERE id <= 4 ORDER BY id")
            same([row[0] for row in cursor], [1, 2, 3, 4])
        connection.rollback()


def failed():
    with connect() as connection:
        try:
            connection.execute("SELECT nothing")
        except errors.UndefinedColumn:
            pass
        try:
            connection.execute("SELECT 1")
        except errors.InFailedSqlTransaction:
            pass
        else:
            raise AssertionError("a failed transaction went on")
        connection.rollback()
        same(one(connection, "SELECT 1"), 1)


for check in [transfers, counter, cursors, failed]:
    check()
    print(f"ok {check.__name__}", flush=True)
