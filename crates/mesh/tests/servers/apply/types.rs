//! Values of all kinds.

use herdsman_sandbox::on_each_version;

use super::assert_same;
use super::pump::{Pump, applier};
use crate::proof::Mesh;

const TABLES: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'happy');
CREATE DOMAIN short AS varchar(8) CHECK (VALUE <> '');
CREATE TYPE pair AS (a int, "b c" text);
CREATE TABLE everything (
  k1 int, "k 2" text, twice int GENERATED ALWAYS AS (k1 * 2) STORED, seq bigint GENERATED ALWAYS AS IDENTITY,
  i2 int2, i8 int8, n numeric, n2 numeric(10,2), f4 float4, f8 float8, b bool, c char(5), vc varchar(10), big text, "Odd ""name" text,
  by bytea, j json, jb jsonb, ints int[], texts text[], grid int[][], r int4range, mr int4multirange, tr tstzrange, e mood, d short, es mood[],
  p pair, ts timestamp, tz timestamptz, da date, ti time, ttz timetz, iv interval, u uuid, bi bit(4), vb varbit, ip inet, ci cidr, ma macaddr, m money, x xml, pt point, o oid, tv tsvector,
  PRIMARY KEY ("k 2", k1));
CREATE TABLE keys_only (a int, b text, PRIMARY KEY (a, b));
CREATE TABLE counted (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
"#;

const ROWS: &str = r#"
INSERT INTO everything (k1, "k 2") VALUES (1, 'nulls'), (2, '');
INSERT INTO everything VALUES (3, E'quotes '' " \\ \n \t {} , é 漢 😀', DEFAULT, DEFAULT,
  -32768, 9223372036854775807, 'NaN', -12345678.90, '-Infinity', 0.1::float8 + 0.2, true, 'ab', 'NULL', 'NULL', '{"a,b"}',
  '\x00ff5c', '{ "a" :  [1, 2] , "a": null}', '{"b": "\\ \" é"}', '{1,NULL,3}', ARRAY['', 'NULL', NULL, 'a,b', '{}', E'\\"\n'], '{{1,2},{3,4}}',
  '[1,5)', '{[1,3),[7,9)}', '[2020-01-01 00:00+00,)', 'it''s "ok"', 'dom', ARRAY['sad','it''s "ok"']::mood[], ROW(1, E'x,"y')::pair,
  'infinity', '2024-02-29 23:59:59.123456+05:30', '0044-03-15 BC', '24:00', '12:00:00.5-03', '1 year -2 mons +3 days -04:05:06.7',
  'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', B'1010', B'10101', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', -1.5, '<a>&lt;</a>', '(1.5,-2)', 4294967295, 'fat:1 cat:2A'),
  (4, repeat('long key ', 20), DEFAULT, DEFAULT, 0, 0, 1e200, 0, 1e-40, 5e-324, false, '', '', '', '', '', 'null', 'null', '{}', '{}', '{}', 'empty', '{}', 'empty', 'sad', 'é', '{}',
  ROW(NULL, NULL)::pair, '-infinity', '-infinity', 'infinity', '00:00', '00:00+00', '0', '00000000-0000-0000-0000-000000000000', B'0000', B'', '1.2.3.4', '::/0', '00:00:00:00:00:00', 0, '', '(0,0)', 0, '');
INSERT INTO keys_only VALUES (1, 'a'), (1, 'A'), (2, '');
INSERT INTO counted (v) SELECT 'row ' || i FROM generate_series(1, 5) AS i;
INSERT INTO counted OVERRIDING SYSTEM VALUE VALUES (100, 'by hand');
"#;

on_each_version! {
    async fn values_of_all_types_arrive_equal(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        mesh.on("n1", ROWS).await;
        pump.carry(&mesh, "n1", &mut at, 1000).await.unwrap();
        for table in ["everything", "keys_only", "counted"] {
            assert_same(&mesh, table, "t.ctid").await;
        }
        // Large values that are not touched, key changes, and NULL instead of something.
        let large = "UPDATE everything SET big = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) AS i), by = decode(repeat('00ff', 9000), 'hex'), jb = to_jsonb(ARRAY(SELECT i FROM generate_series(1, 5000) AS i)) WHERE k1 >= 3";
        mesh.on("n1", large).await;
        pump.carry(&mesh, "n1", &mut at, 1000).await.unwrap();
        mesh.on("n1", r#"UPDATE everything SET i2 = 7, ints = NULL WHERE k1 = 3; UPDATE everything SET k1 = 30, "k 2" = 'moved' WHERE k1 = 3; UPDATE everything SET b = NOT b WHERE k1 = 4;
                         UPDATE keys_only SET b = 'c' WHERE b = 'A'; DELETE FROM keys_only WHERE a = 2; UPDATE counted SET v = NULL WHERE id % 2 = 0"#).await;
        pump.carry(&mesh, "n1", &mut at, 1000).await.unwrap();
        for (table, key) in [("everything", "ROW(k1, \"k 2\")"), ("keys_only", "ROW(a, b)"), ("counted", "id")] {
            assert_same(&mesh, table, key).await;
        }
        let large = "SELECT min(octet_length(big)) > 2000 AND count(*) = 2 FROM everything WHERE k1 > 3";
        assert_eq!(mesh.ask("n2", large).await.unwrap(), "t");
        assert_eq!(mesh.ask("n2", "SELECT count(*) FROM herdsman.conflicts").await.unwrap(), "0");
    }
}
