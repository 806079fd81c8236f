// node-postgres: queries, parameters, cursors, COPY by pg-copy-streams.

const [host, port, user, database] = process.argv.slice(2);
const assert = require("node:assert");
const { pipeline } = require("node:stream/promises");
const { Readable } = require("node:stream");
const { Client, Pool } = require("pg");
const Cursor = require("pg-cursor");
const copy = require("pg-copy-streams");

const options = { host, port: Number(port), user, database };
const LONG = "SELECT count(*) FROM generate_series(1, 100000000000) AS g(n) WHERE n % 3 = 5";

function done(step) {
    console.log(step);
}

async function main() {
    const client = new Client(options);
    await client.connect();
    assert.deepEqual((await client.query("SELECT 1 AS n")).rows, [{ n: 1 }]);
    done("connect");

    const columns = await client.query(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position",
        ["raw", "airlines"],
    );
    assert.deepEqual(columns.rows.map((row) => row.column_name), ["carrier", "name"]);
    done("introspect");

    const values = await client.query(
        "SELECT $1::int AS a, $2::text AS b, $3::float8 AS c, $4::bool AS d, $5::bytea AS e, $6::timestamptz AS f, $7::int[] AS g, $8::text AS h",
        [7, "ä\\", 1.5, true, Buffer.from([0, 255]), new Date(0), [1, 2], null],
    );
    assert.deepEqual(values.rows[0], { a: 7, b: "ä\\", c: 1.5, d: true, e: Buffer.from([0, 255]), f: new Date(0), g: [1, 2], h: null });
    const cursor = client.query(new Cursor("SELECT flight FROM raw.flights LIMIT 2500"));
    assert.equal((await cursor.read(1000)).length, 1000);
    assert.equal((await cursor.read(5000)).length, 1500);
    await cursor.close();
    done("read");

    await client.query("CREATE SCHEMA client_node; CREATE TABLE client_node.t (n int, s text)");
    await client.query("BEGIN");
    assert.equal((await client.query("INSERT INTO client_node.t VALUES ($1, $2), (2, NULL)", [1, "a"])).rowCount, 2);
    await client.query("COMMIT");
    const returned = await client.query({ name: "add", text: "INSERT INTO client_node.t (n) VALUES ($1) RETURNING n", values: [3] });
    assert.deepEqual(returned.rows, [{ n: 3 }]);
    await assert.rejects(client.query("SELECT 1 / 0"), { code: "22012" });
    done("write");

    const pool = new Pool({ ...options, statement_timeout: 1000 });
    await assert.rejects(pool.query(LONG), { code: "57014" });
    await pool.end();
    const busy = client.query(LONG);
    setTimeout(() => {
        const other = new Client(options);
        other.processID = client.processID;
        other.secretKey = client.secretKey;
        other.connection.on("connect", () => other.connection.cancel(client.processID, client.secretKey));
        other.connection.connect(options.port, options.host);
    }, 1000);
    await assert.rejects(busy, { code: "57014" });
    done("cancel");

    const sink = client.query(copy.from("COPY client_node.t FROM STDIN (FORMAT csv)"));
    await pipeline(Readable.from(["10,x\n1", "1,\"a,b\"\n"]), sink);
    assert.equal(sink.rowCount, 2);
    let text = "";
    for await (const chunk of client.query(copy.to("COPY (SELECT * FROM client_node.t WHERE n >= 10 ORDER BY n) TO STDOUT"))) {
        text += chunk;
    }
    assert.equal(text, "10\tx\n11\ta,b\n");
    done("COPY");

    const encrypted = new Client({ ...options, ssl: { rejectUnauthorized: false } });
    await encrypted.connect();
    assert.equal(encrypted.connection.stream.encrypted, true);
    await encrypted.end();
    done("TLS");
    await client.end();
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
