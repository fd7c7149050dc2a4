"""asyncpg: its own protocol, binary, prepared statements `__asyncpg_stmt_1__`, … kept in a cache."""

import asyncio
import io

import asyncpg

import common
from common import CLIENTS, REPEAT, same

KEYS = {
    "host": common.HOST,
    "port": common.PORT,
    "user": common.USER,
    "password": common.PASSWORD,
    "database": common.DATABASE,
    "ssl": False,
    "timeout": 20,
    "command_timeout": 60,
}


async def connect(**more):
    return await asyncpg.connect(**(KEYS | more))


async def clients():
    return [await connect(server_settings={"application_name": f"asyncpg {n}"}) for n in range(CLIENTS)]


async def close(connections):
    for connection in connections:
        await connection.close()


async def refused(error, waiting):
    try:
        await waiting
    except error:
        return
    raise AssertionError(f"not refused with {error.__name__}")


async def login():
    connection = await connect()
    same(await connection.fetchval("SELECT current_user::text"), common.USER)
    await connection.close()
    await refused(asyncpg.InvalidPasswordError, connect(password="wrong"))


async def tables():
    connection = await connect()
    await connection.execute("DROP TABLE IF EXISTS asyncpg_t, asyncpg_copy")
    await connection.execute("CREATE TABLE asyncpg_t (id int PRIMARY KEY, v text)")
    await connection.execute("CREATE TABLE asyncpg_copy (id int PRIMARY KEY, v text)")
    await connection.execute("SELECT settle()")
    await connection.close()


async def parameters():
    connections = await clients()
    for n, connection in enumerate(connections):
        await connection.execute(f"SET TimeZone TO '{common.ZONES[n]}'")
        await connection.execute(f"SET search_path TO schema_{n}, public")
    for _ in range(5):
        for n, connection in enumerate(connections):
            same(await connection.fetchval("SHOW TimeZone"), common.ZONES[n])
            same(await connection.fetchval("SELECT current_setting('search_path')"), f"schema_{n}, public")
            same(await connection.fetchval("SHOW application_name"), f"asyncpg {n}")
            same(connection.get_settings().TimeZone, common.ZONES[n])
    await close(connections)


async def prepared():
    connections = await clients()
    for n in range(REPEAT):
        for m, connection in enumerate(connections):
            same(await connection.fetchval("SELECT $1::int * 1000 + $2::int", n, m), n * 1000 + m)
    explicit = [await connection.prepare("SELECT $1::text || 'x'") for connection in connections]
    for n in range(REPEAT):
        for statement in explicit:
            same(await statement.fetchval(str(n)), f"{n}x")
    same([attribute.name for attribute in explicit[0].get_attributes()], ["?column?"])
    await close(connections)


async def one_name_many_texts():
    connections = await clients()
    for n in range(REPEAT):
        for m, connection in enumerate(connections):
            same(await connection.fetchval(f"SELECT 'client {m}' || $1::text", str(n)), f"client {m}{n}")
    await close(connections)


async def at_once():
    async def work(m):
        connection = await connect()
        for n in range(REPEAT):
            same(await connection.fetchval("SELECT $1::int * 1000 + $2::int", n, m), n * 1000 + m)
            async with connection.transaction():
                same(await connection.fetchval(f"SELECT 'client {m}'"), f"client {m}")
                same(await connection.fetchval("SELECT $1::text", str(n)), str(n))
        await connection.close()

    await asyncio.wait_for(asyncio.gather(*(work(m) for m in range(CLIENTS))), 60)


async def pools():
    """A pool of its own in front of ours: it resets each connection that is given back."""
    async with asyncpg.create_pool(min_size=CLIENTS, max_size=CLIENTS, **KEYS) as pool:
        async def work(m):
            for n in range(REPEAT):
                async with pool.acquire() as connection:
                    same(await connection.fetchval("SELECT $1::int * 1000 + $2::int", n, m), n * 1000 + m)

        await asyncio.wait_for(asyncio.gather(*(work(m) for m in range(2 * CLIENTS))), 60)


async def transactions():
    connection = await connect()
    insert = "INSERT INTO asyncpg_t VALUES ($1, $2)"
    async with connection.transaction():
        await connection.execute(insert, 1, "committed")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(insert, 2, "rolled back")
    await transaction.rollback()
    async with connection.transaction():
        await connection.execute(insert, 3, "kept")
        try:
            async with connection.transaction():
                await connection.execute(insert, 1, "again")
        except asyncpg.UniqueViolationError:
            pass
        await connection.execute(insert, 4, "kept too")
    same(await connection.fetchval("SELECT array_agg(id ORDER BY id) FROM asyncpg_t"), [1, 3, 4])
    transaction = connection.transaction()
    await transaction.start()
    await refused(asyncpg.DivisionByZeroError, connection.fetchval("SELECT 1 / $1::int", 0))
    await refused(asyncpg.InFailedSQLTransactionError, connection.fetchval("SELECT 1"))
    await transaction.rollback()
    async with connection.transaction(readonly=True):
        same(await connection.fetchval("SELECT count(*) FROM asyncpg_t"), 3)
        await refused(asyncpg.ReadOnlySQLTransactionError, connection.execute(insert, 5, "no"))
    async with connection.transaction(isolation="serializable"):
        same(await connection.fetchval("SHOW transaction_isolation"), "serializable")
    await connection.close()


async def cursors():
    connection = await connect()
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("SELECT n FROM generate_series(1, $1::int) n", 5000, prefetch=100):
            total += row[0]
        same(total, 5000 * 5001 // 2)
    await connection.close()


async def batches():
    connection = await connect()
    rows = [(n, f"batch {n}") for n in range(1000, 6000)]
    await connection.executemany("INSERT INTO asyncpg_t VALUES ($1, $2)", rows)
    same(await connection.fetchval("SELECT count(*) FROM asyncpg_t WHERE id >= 1000"), 5000)
    await refused(asyncpg.UniqueViolationError, connection.executemany("INSERT INTO asyncpg_t VALUES ($1, $2)", [(10_000, ""), (1, "")]))
    same(await connection.fetchval("SELECT count(*) FROM asyncpg_t WHERE id = 10000"), 0)
    await connection.close()


async def copies():
    connection = await connect()
    rows = [(n, common.COPY_FILLER) for n in range(common.COPIED)]
    # Binary.
    same(await connection.copy_records_to_table("asyncpg_copy", records=rows), f"COPY {common.COPIED}")
    out = io.BytesIO()
    await connection.copy_from_query("SELECT * FROM asyncpg_copy ORDER BY id", output=out)
    expected = "".join(f"{n}\t{text}\n" for n, text in rows).encode()
    same(out.getvalue() == expected, True)
    broken = io.BytesIO(b"700000\tfine\nnot a number\t\n" + b"800000\tx\n" * 100_000)
    await refused(asyncpg.InvalidTextRepresentationError, connection.copy_to_table("asyncpg_copy", source=broken))

    async def gives_up():
        yield b"700000\tfine\n"
        raise RuntimeError("the client gives up")

    await refused(RuntimeError, connection.copy_to_table("asyncpg_copy", source=gives_up()))
    same(await connection.fetchval("SELECT count(*) FROM asyncpg_copy"), common.COPIED)
    await connection.close()


async def cancelled():
    connection, other = await connect(), await connect()
    for _ in range(3):
        # asyncpg sends a cancel request when its caller gives up.
        await refused(asyncio.TimeoutError, connection.execute("SELECT pg_sleep(60)", timeout=0.3))
        for n in range(10):
            same(await connection.fetchval("SELECT $1::int", n), n)
            same(await other.fetchval("SELECT $1::int", n), n)
    await close([connection, other])


async def notifications():
    listener, sender = await connect(), await connect()
    found = []
    await listener.add_listener("asyncpg_channel", lambda _connection, _pid, _channel, payload: found.append(payload))
    for n in range(20):
        await sender.execute("SELECT pg_notify('asyncpg_channel', $1)", f"number {n}")
    for _ in range(400):
        if len(found) == 20:
            break
        await asyncio.sleep(0.05)
    same(found, [f"number {n}" for n in range(20)])
    same(await listener.fetchval("SELECT 1"), 1)
    await close([listener, sender])


async def mistakes():
    connection = await connect()
    for text, parameters, error in [
        ("SELEC 1", (), asyncpg.PostgresSyntaxError),
        ("INSERT INTO asyncpg_t VALUES ($1, $2)", (1, "again"), asyncpg.UniqueViolationError),
        ("SELECT 1 / $1::int", (0,), asyncpg.DivisionByZeroError),
        ("EXECUTE nobody_prepared_this", (), asyncpg.InvalidSQLStatementNameError),
        ("SELECT * FROM no_such_table WHERE id = $1", (1,), asyncpg.UndefinedTableError),
    ]:
        for _ in range(5):
            await refused(error, connection.fetch(text, *parameters))
            same(await connection.fetchval("SELECT $1::text", "works"), "works")
    await connection.close()


async def sizes():
    connection = await connect()
    big = "x" * common.BIG
    same(await connection.fetchval("SELECT $1::text", big) == big, True)
    rows = await connection.fetch("SELECT n, NULL::text, 'row ' || n FROM generate_series(1, $1::int) n", common.MANY)
    same(len(rows), common.MANY)
    same(tuple(rows[-1]), (common.MANY, None, f"row {common.MANY}"))
    same(tuple(await connection.fetchrow("SELECT NULL, '', $1::int[]", [1, None])), (None, "", [1, None]))
    same(await connection.fetch("SELECT 1 WHERE $1", False), [])
    await connection.close()


async def forgetting():
    connection, other = await connect(), await connect()
    for each in (connection, other):
        same(await each.fetchval("SELECT $1::int", 1), 1)
    await connection.execute("SET TimeZone TO 'Asia/Tokyo'")
    await connection.reset()
    assert await connection.fetchval("SHOW TimeZone") != "Asia/Tokyo"
    await connection.execute("DISCARD ALL")
    await connection.reload_schema_state()
    same(await connection.fetchval("SELECT $1::int", 3), 3)
    for _ in range(10):
        same(await other.fetchval("SELECT $1::int", 2), 2)
    await close([connection, other])


async def several_in_one():
    connection = await connect()
    await connection.execute("SELECT 1; INSERT INTO asyncpg_t VALUES (61, ''); SELECT 3")
    await refused(
        asyncpg.UniqueViolationError,
        connection.execute("INSERT INTO asyncpg_t VALUES (60, ''); INSERT INTO asyncpg_t VALUES (61, '')"),
    )
    same(await connection.fetchval("SELECT count(*) FROM asyncpg_t WHERE id = 60"), 0)
    await connection.close()


asyncio.run(common.run_async([
    login, tables, parameters, prepared, one_name_many_texts, at_once, pools, transactions, cursors, batches, copies,
    cancelled, notifications, mistakes, sizes, forgetting, several_in_one,
]))
