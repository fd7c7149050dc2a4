-- Take
WITH clash AS (
INSERT INTO "herdsman"."conflicts" (rel, key, kind, winner, why, held, held_stamp, held_node, arriving, arriving_stamp, arriving_node, arriving_seen, arriving_seen_node)
SELECT 'public."it''s ""odd"""', (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r), v.kind,
  CASE WHEN (v.hs, v.hno) < (v.s, v.n) THEN 'arriving' ELSE 'held' END,
  CASE WHEN v.hs = v.s THEN 'same microsecond, greater node' ELSE concat('written later (' || abs(v.s - v.hs) || ' µs)') END,
  v.held, v.hs, v.hno, (SELECT to_jsonb(r) FROM (SELECT ($1)[v.i]::numeric(10,2) AS "k", ($2)[v.i]::character varying AS "a b", ($3)[v.i]::text[] AS "tags", ($4)[v.i]::bigint AS "seq") AS r), v.s, v.n, v.b, v.bn
FROM (
  SELECT v.*, to_jsonb(t) - '{_herdsman_stamp,_herdsman_node}'::text[] AS held, t._herdsman_stamp AS hs, t._herdsman_node AS hno,
    CASE WHEN v.b = (-9223372036854775808) THEN 'insert_insert' ELSE 'update_update' END AS kind
  FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn, generate_subscripts($5, 1) AS i) AS v JOIN "public"."it's ""odd""" AS t ON t."k" = v.c0 AND t."a b" = v.c1 WHERE t._herdsman_node <> v.n AND (v.b, v.bn) <> (t._herdsman_stamp, t._herdsman_node) AND NOT ((t._herdsman_stamp, t._herdsman_node) < (v.s, v.n) AND (v.b, v.bn) > (t._herdsman_stamp, t._herdsman_node) AND v.bn = t._herdsman_node)
  UNION ALL
  SELECT v.*, NULL, g._herdsman_stamp, g._herdsman_node, 'update_delete'
  FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn, generate_subscripts($5, 1) AS i) AS v JOIN "herdsman_gone"."public.""it's """"odd""""""" AS g ON g."k" = v.c0 AND g."a b" = v.c1
  WHERE EXISTS (SELECT FROM "herdsman_gone"."public.""it's """"odd""""""") AND g._herdsman_node <> v.n
    AND CASE WHEN (g._herdsman_stamp, g._herdsman_node) < (v.s, v.n) THEN g._herdsman_node <> v.n AND (v.b, v.bn) <> (g._herdsman_stamp, g._herdsman_node) AND NOT ((g._herdsman_stamp, g._herdsman_node) < (v.s, v.n) AND (v.b, v.bn) > (g._herdsman_stamp, g._herdsman_node) AND v.bn = g._herdsman_node) AND NOT v.b = (-9223372036854775808)
      ELSE (g._herdsman_seen, g._herdsman_seen_node) <> (v.s, v.n) AND NOT ((g._herdsman_seen, g._herdsman_seen_node) > (v.s, v.n) AND g._herdsman_seen_node = v.n) END
    AND NOT EXISTS (SELECT FROM "public"."it's ""odd""" AS t WHERE t."k" = v.c0 AND t."a b" = v.c1 AND (t._herdsman_stamp, t._herdsman_node) <> (v.s, v.n))
  UNION ALL
  SELECT v.*, NULL, (SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), 'truncate'
  FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn, generate_subscripts($5, 1) AS i) AS v
  WHERE EXISTS (SELECT FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AND (v.s, v.n) < (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))
    AND CASE WHEN (SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') = 3 THEN v.n <> 3 ELSE v.n <> (SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AND (SELECT _herdsman_knew FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') IS NOT NULL AND v.s > coalesce(((SELECT _herdsman_knew FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') ->> v.n::text)::bigint, 0) END
) AS v
)
MERGE INTO "public"."it's ""odd""" AS t USING (SELECT v.* FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn) AS v WHERE NOT EXISTS (SELECT FROM "herdsman_gone"."public.""it's """"odd""""""" AS g WHERE g."k" = v.c0 AND g."a b" = v.c1 AND (g._herdsman_stamp, g._herdsman_node) > (v.s, v.n))
  AND (v.s, v.n) >= (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))) AS v ON t."k" = v.c0 AND t."a b" = v.c1
WHEN MATCHED AND (t._herdsman_stamp, t._herdsman_node) < (v.s, v.n) THEN UPDATE SET "k" = v.c0, "tags" = v.c2, _herdsman_stamp = v.s, _herdsman_node = v.n
WHEN NOT MATCHED THEN INSERT ("k", "a b", "tags", "seq", _herdsman_stamp, _herdsman_node) OVERRIDING SYSTEM VALUE VALUES (v.c0, v.c1, v.c2, v.c3, v.s, v.n);
-- Put
MERGE INTO "public"."it's ""odd""" AS t USING (SELECT v.* FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn) AS v WHERE NOT EXISTS (SELECT FROM "herdsman_gone"."public.""it's """"odd""""""" AS g WHERE g."k" = v.c0 AND g."a b" = v.c1 AND (g._herdsman_stamp, g._herdsman_node) > (v.s, v.n))
  AND (v.s, v.n) >= (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))) AS v ON t."k" = v.c0 AND t."a b" = v.c1
WHEN MATCHED AND (t._herdsman_stamp, t._herdsman_node) < (v.s, v.n) THEN UPDATE SET "k" = v.c0, "tags" = v.c2, _herdsman_stamp = v.s, _herdsman_node = v.n
WHEN NOT MATCHED THEN INSERT ("k", "a b", "tags", "seq", _herdsman_stamp, _herdsman_node) OVERRIDING SYSTEM VALUE VALUES (v.c0, v.c1, v.c2, v.c3, v.s, v.n);
-- Plain
UPDATE "public"."it's ""odd""" AS t SET "k" = v.c0, "tags" = v.c2, _herdsman_stamp = v.s, _herdsman_node = v.n FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn) AS v WHERE t."k" = v.c0 AND t."a b" = v.c1 AND t._herdsman_stamp = v.b AND t._herdsman_node = v.bn AND (t._herdsman_stamp, t._herdsman_node) < (v.s, v.n);
-- Bury
WITH clash AS (
INSERT INTO "herdsman"."conflicts" (rel, key, kind, winner, why, held, held_stamp, held_node, arriving, arriving_stamp, arriving_node, arriving_seen, arriving_seen_node)
SELECT 'public."it''s ""odd"""', (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r), v.kind,
  CASE WHEN (v.hs, v.hno) < (v.s, v.n) THEN 'arriving' ELSE 'held' END,
  CASE WHEN v.hs = v.s THEN 'same microsecond, greater node' ELSE concat('written later (' || abs(v.s - v.hs) || ' µs)') END,
  v.held, v.hs, v.hno, v.arriving, v.s, v.n, v.b, v.bn
FROM (
  SELECT v.*, to_jsonb(t) - '{_herdsman_stamp,_herdsman_node}'::text[] AS held, t._herdsman_stamp AS hs, t._herdsman_node AS hno, 'update_delete' AS kind, NULL::jsonb AS arriving
  FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn, unnest($7) AS h, unnest($8) AS hn) AS v JOIN "public"."it's ""odd""" AS t ON t."k" = v.c0 AND t."a b" = v.c1 WHERE t._herdsman_node <> v.n AND (v.b, v.bn) <> (t._herdsman_stamp, t._herdsman_node) AND NOT ((t._herdsman_stamp, t._herdsman_node) < (v.s, v.n) AND (v.b, v.bn) > (t._herdsman_stamp, t._herdsman_node) AND v.bn = t._herdsman_node) AND (t._herdsman_stamp, t._herdsman_node) <> (v.h, v.hn)
) AS v
), dead AS (
DELETE FROM "public"."it's ""odd""" AS t USING (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn, unnest($7) AS h, unnest($8) AS hn) AS v WHERE t."k" = v.c0 AND t."a b" = v.c1 AND (t._herdsman_stamp, t._herdsman_node) < (v.s, v.n)
)
INSERT INTO "herdsman_gone"."public.""it's """"odd""""""" AS g ("k", "a b", _herdsman_stamp, _herdsman_node, _herdsman_seen, _herdsman_seen_node)
SELECT v.c0, v.c1, v.s, v.n, v.b, v.bn FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn, unnest($7) AS h, unnest($8) AS hn) AS v
ON CONFLICT ("k", "a b") DO UPDATE SET _herdsman_stamp = excluded._herdsman_stamp, _herdsman_node = excluded._herdsman_node, _herdsman_seen = excluded._herdsman_seen, _herdsman_seen_node = excluded._herdsman_seen_node
WHERE (g._herdsman_stamp, g._herdsman_node) < (excluded._herdsman_stamp, excluded._herdsman_node);
-- Drop
DELETE FROM "public"."it's ""odd""" AS t USING (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn) AS v WHERE t."k" = v.c0 AND t."a b" = v.c1 AND t._herdsman_stamp = v.b AND t._herdsman_node = v.bn AND (t._herdsman_stamp, t._herdsman_node) < (v.s, v.n);
-- Keep
INSERT INTO "herdsman_gone"."public.""it's """"odd""""""" AS g ("k", "a b", _herdsman_stamp, _herdsman_node, _herdsman_seen, _herdsman_seen_node)
SELECT v.c0, v.c1, v.s, v.n, v.b, v.bn FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn) AS v
ON CONFLICT ("k", "a b") DO UPDATE SET _herdsman_stamp = excluded._herdsman_stamp, _herdsman_node = excluded._herdsman_node, _herdsman_seen = excluded._herdsman_seen, _herdsman_seen_node = excluded._herdsman_seen_node
WHERE (g._herdsman_stamp, g._herdsman_node) < (excluded._herdsman_stamp, excluded._herdsman_node);
-- Recheck
WITH lost AS (
DELETE FROM "public"."it's ""odd""" AS t USING (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn) AS v JOIN "herdsman_gone"."public.""it's """"odd""""""" AS g ON g."k" = v.c0 AND g."a b" = v.c1
WHERE EXISTS (SELECT FROM "herdsman_gone"."public.""it's """"odd""""""" WHERE _herdsman_stamp >= (SELECT min(s) FROM unnest($3) AS s)) AND t."k" = v.c0 AND t."a b" = v.c1 AND (t._herdsman_stamp, t._herdsman_node) < (g._herdsman_stamp, g._herdsman_node)
RETURNING v.c0, v.c1, to_jsonb(t) - '{_herdsman_stamp,_herdsman_node}'::text[] AS arriving, t._herdsman_stamp AS s, t._herdsman_node AS n, g._herdsman_stamp AS hs, g._herdsman_node AS hno
), emptied AS (
DELETE FROM "public"."it's ""odd""" AS t USING (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn) AS v
WHERE EXISTS (SELECT FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AND t."k" = v.c0 AND t."a b" = v.c1 AND (t._herdsman_stamp, t._herdsman_node) < (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))
RETURNING v.c0, v.c1, to_jsonb(t) - '{_herdsman_stamp,_herdsman_node}'::text[] AS arriving, t._herdsman_stamp AS s, t._herdsman_node AS n, NULL::bigint AS hs, NULL::smallint AS hno
)
INSERT INTO "herdsman"."conflicts" (rel, key, kind, winner, why, held, held_stamp, held_node, arriving, arriving_stamp, arriving_node, arriving_seen, arriving_seen_node)
SELECT 'public."it''s ""odd"""', (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r), v.kind,
  CASE WHEN (v.hs, v.hno) < (v.s, v.n) THEN 'arriving' ELSE 'held' END,
  CASE WHEN v.hs = v.s THEN 'same microsecond, greater node' ELSE concat('written later (' || abs(v.s - v.hs) || ' µs)') END,
  v.held, v.hs, v.hno, v.arriving, v.s, v.n, NULL::bigint, NULL::smallint
FROM (
  SELECT l.*, NULL::jsonb AS held, 'update_delete' AS kind FROM lost AS l
  UNION ALL SELECT l.*, NULL, 'truncate' FROM emptied AS l
) AS v;
-- Fresh
INSERT INTO "public"."it's ""odd""" AS t ("k", "a b", "tags", "seq", _herdsman_stamp, _herdsman_node) OVERRIDING SYSTEM VALUE
SELECT v.c0, v.c1, v.c2, v.c3, v.s, v.n FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn) AS v
WHERE NOT EXISTS (SELECT FROM "herdsman_gone"."public.""it's """"odd""""""" AS g WHERE g."k" = v.c0 AND g."a b" = v.c1 AND (g._herdsman_stamp, g._herdsman_node) > (v.s, v.n))
  AND (v.s, v.n) >= (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))
  AND NOT EXISTS (SELECT FROM "herdsman"."evicted" AS e WHERE e.rel = 'public."it''s ""odd"""' AND e.key = (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r) AND (e._herdsman_stamp, e._herdsman_node) >= (v.s, v.n))
ON CONFLICT ("k", "a b") DO NOTHING;
-- Lock
SELECT FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn) AS v JOIN "public"."it's ""odd""" AS t ON t."k" = v.c0 AND t."a b" = v.c1 ORDER BY t."k", t."a b" FOR UPDATE OF t;
-- Clash
INSERT INTO "herdsman"."conflicts" (rel, key, kind, winner, why, held, held_stamp, held_node, arriving, arriving_stamp, arriving_node, arriving_seen, arriving_seen_node)
SELECT 'public."it''s ""odd"""', (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r), v.kind,
  CASE WHEN (v.hs, v.hno) < (v.s, v.n) THEN 'arriving' ELSE 'held' END,
  CASE WHEN v.hs = v.s THEN 'same microsecond, greater node' ELSE concat('written later (' || abs(v.s - v.hs) || ' µs)') END,
  v.held, v.hs, v.hno, (SELECT to_jsonb(r) FROM (SELECT ($1)[v.i]::numeric(10,2) AS "k", ($2)[v.i]::character varying AS "a b", ($3)[v.i]::text[] AS "tags", ($4)[v.i]::bigint AS "seq") AS r), v.s, v.n, v.b, v.bn
FROM (
  SELECT v.*, to_jsonb(t) - '{_herdsman_stamp,_herdsman_node}'::text[] AS held, t._herdsman_stamp AS hs, t._herdsman_node AS hno,
    CASE WHEN v.b = (-9223372036854775808) THEN 'insert_insert' ELSE 'update_update' END AS kind
  FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn, generate_subscripts($5, 1) AS i) AS v JOIN "public"."it's ""odd""" AS t ON t."k" = v.c0 AND t."a b" = v.c1 WHERE t._herdsman_node <> v.n AND (v.b, v.bn) <> (t._herdsman_stamp, t._herdsman_node) AND NOT ((t._herdsman_stamp, t._herdsman_node) < (v.s, v.n) AND (v.b, v.bn) > (t._herdsman_stamp, t._herdsman_node) AND v.bn = t._herdsman_node)
  UNION ALL
  SELECT v.*, NULL, g._herdsman_stamp, g._herdsman_node, 'update_delete'
  FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn, generate_subscripts($5, 1) AS i) AS v JOIN "herdsman_gone"."public.""it's """"odd""""""" AS g ON g."k" = v.c0 AND g."a b" = v.c1
  WHERE EXISTS (SELECT FROM "herdsman_gone"."public.""it's """"odd""""""") AND g._herdsman_node <> v.n
    AND CASE WHEN (g._herdsman_stamp, g._herdsman_node) < (v.s, v.n) THEN g._herdsman_node <> v.n AND (v.b, v.bn) <> (g._herdsman_stamp, g._herdsman_node) AND NOT ((g._herdsman_stamp, g._herdsman_node) < (v.s, v.n) AND (v.b, v.bn) > (g._herdsman_stamp, g._herdsman_node) AND v.bn = g._herdsman_node) AND NOT v.b = (-9223372036854775808)
      ELSE (g._herdsman_seen, g._herdsman_seen_node) <> (v.s, v.n) AND NOT ((g._herdsman_seen, g._herdsman_seen_node) > (v.s, v.n) AND g._herdsman_seen_node = v.n) END
    AND NOT EXISTS (SELECT FROM "public"."it's ""odd""" AS t WHERE t."k" = v.c0 AND t."a b" = v.c1 AND (t._herdsman_stamp, t._herdsman_node) <> (v.s, v.n))
  UNION ALL
  SELECT v.*, NULL, (SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), 'truncate'
  FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn, generate_subscripts($5, 1) AS i) AS v
  WHERE EXISTS (SELECT FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AND (v.s, v.n) < (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))
    AND CASE WHEN (SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') = 3 THEN v.n <> 3 ELSE v.n <> (SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AND (SELECT _herdsman_knew FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') IS NOT NULL AND v.s > coalesce(((SELECT _herdsman_knew FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') ->> v.n::text)::bigint, 0) END
) AS v;
-- Upsert
INSERT INTO "public"."it's ""odd""" AS t ("k", "a b", "tags", "seq", _herdsman_stamp, _herdsman_node) OVERRIDING SYSTEM VALUE
SELECT v.c0, v.c1, v.c2, v.c3, v.s, v.n FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn) AS v
WHERE NOT EXISTS (SELECT FROM "herdsman_gone"."public.""it's """"odd""""""" AS g WHERE g."k" = v.c0 AND g."a b" = v.c1 AND (g._herdsman_stamp, g._herdsman_node) > (v.s, v.n))
  AND (v.s, v.n) >= (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))
  AND NOT EXISTS (SELECT FROM "herdsman"."evicted" AS e WHERE e.rel = 'public."it''s ""odd"""' AND e.key = (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r) AND (e._herdsman_stamp, e._herdsman_node) >= (v.s, v.n))
ON CONFLICT ("k", "a b") DO UPDATE SET "k" = excluded."k", "tags" = excluded."tags", _herdsman_stamp = excluded._herdsman_stamp, _herdsman_node = excluded._herdsman_node
WHERE (t._herdsman_stamp, t._herdsman_node) < (excluded._herdsman_stamp, excluded._herdsman_node);
-- Clear
DELETE FROM "public"."it's ""odd""" AS t USING (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn) AS v WHERE t."k" = v.c0 AND t."a b" = v.c1 AND (t._herdsman_stamp, t._herdsman_node) < (v.s, v.n);
-- Rivals
SELECT v.i, 'one', (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r)::text, (SELECT to_jsonb(r) FROM (SELECT t."k" AS "k", t."a b" AS "a b") AS r)::text
FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn, generate_subscripts($5, 1) AS i) AS v JOIN "public"."it's ""odd""" AS t ON t."tags" = v.c2 AND t."a b" = v.c1 AND NOT (t."k" = v.c0 AND t."a b" = v.c1)
WHERE NOT EXISTS (SELECT FROM "herdsman_gone"."public.""it's """"odd""""""" AS g WHERE g."k" = v.c0 AND g."a b" = v.c1 AND (g._herdsman_stamp, g._herdsman_node) > (v.s, v.n))
  AND (v.s, v.n) >= (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))
  AND NOT EXISTS (SELECT FROM "herdsman"."evicted" AS e WHERE e.rel = 'public."it''s ""odd"""' AND e.key = (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r) AND (e._herdsman_stamp, e._herdsman_node) >= (v.s, v.n))
  AND NOT EXISTS (SELECT FROM "public"."it's ""odd""" AS t WHERE t."k" = v.c0 AND t."a b" = v.c1);
-- Evict
INSERT INTO "herdsman"."evicted" AS e (rel, key, row, _herdsman_stamp, _herdsman_node, clash)
SELECT 'public."it''s ""odd"""', (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r), (SELECT to_jsonb(r) FROM (SELECT ($1)[v.i] AS "k", ($2)[v.i] AS "a b", ($3)[v.i] AS "tags", ($4)[v.i] AS "seq") AS r), v.s, v.n, '' FROM (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3)::text[] AS c2, unnest($4)::bigint AS c3, unnest($5) AS s, unnest($6) AS n, unnest($7) AS b, unnest($8) AS bn, generate_subscripts($5, 1) AS i) AS v
WHERE NOT EXISTS (SELECT FROM "herdsman_gone"."public.""it's """"odd""""""" AS g WHERE g."k" = v.c0 AND g."a b" = v.c1 AND (g._herdsman_stamp, g._herdsman_node) > (v.s, v.n))
  AND (v.s, v.n) >= (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))
ON CONFLICT (rel, key) DO UPDATE SET row = excluded.row, _herdsman_stamp = excluded._herdsman_stamp, _herdsman_node = excluded._herdsman_node, clash = '', at = excluded.at
WHERE (e._herdsman_stamp, e._herdsman_node) < (excluded._herdsman_stamp, excluded._herdsman_node);
-- Forget
DELETE FROM "herdsman"."evicted" AS e USING (SELECT unnest($1)::numeric(10,2) AS c0, unnest($2)::character varying AS c1, unnest($3) AS s, unnest($4) AS n, unnest($5) AS b, unnest($6) AS bn) AS v WHERE e.rel = 'public."it''s ""odd"""' AND e.key = (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r) AND (e._herdsman_stamp, e._herdsman_node) < (v.s, v.n);
-- empty, own: false
WITH lost AS (
DELETE FROM "public"."it's ""odd""" AS t WHERE (t._herdsman_stamp, t._herdsman_node) < (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))
RETURNING t."k" AS c0, t."a b" AS c1, CASE WHEN t._herdsman_node <> (SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AND (SELECT _herdsman_knew FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') IS NOT NULL AND t._herdsman_stamp > coalesce(((SELECT _herdsman_knew FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') ->> t._herdsman_node::text)::bigint, 0) THEN to_jsonb(t) - '{_herdsman_stamp,_herdsman_node}'::text[] END AS held, t._herdsman_stamp AS hs, t._herdsman_node AS hno
)
INSERT INTO "herdsman"."conflicts" (rel, key, kind, winner, why, held, held_stamp, held_node, arriving, arriving_stamp, arriving_node, arriving_seen, arriving_seen_node)
SELECT 'public."it''s ""odd"""', (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r), v.kind,
  CASE WHEN (v.hs, v.hno) < (v.s, v.n) THEN 'arriving' ELSE 'held' END,
  CASE WHEN v.hs = v.s THEN 'same microsecond, greater node' ELSE concat('written later (' || abs(v.s - v.hs) || ' µs)') END,
  v.held, v.hs, v.hno, v.arriving, v.s, v.n, NULL::bigint, NULL::smallint
FROM (
  SELECT l.*, NULL::jsonb AS arriving, (SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AS s, (SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AS n, 'truncate' AS kind FROM lost AS l WHERE l.held IS NOT NULL
) AS v;
-- empty, own: true
WITH lost AS (
DELETE FROM "public"."it's ""odd""" AS t WHERE (t._herdsman_stamp, t._herdsman_node) < (coalesce((SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-9223372036854775808)::bigint), coalesce((SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""'), (-32768)::smallint))
RETURNING t."k" AS c0, t."a b" AS c1, CASE WHEN true THEN to_jsonb(t) - '{_herdsman_stamp,_herdsman_node}'::text[] END AS held, t._herdsman_stamp AS hs, t._herdsman_node AS hno
)
INSERT INTO "herdsman"."conflicts" (rel, key, kind, winner, why, held, held_stamp, held_node, arriving, arriving_stamp, arriving_node, arriving_seen, arriving_seen_node)
SELECT 'public."it''s ""odd"""', (SELECT to_jsonb(r) FROM (SELECT v.c0 AS "k", v.c1 AS "a b") AS r), v.kind,
  CASE WHEN (v.hs, v.hno) < (v.s, v.n) THEN 'arriving' ELSE 'held' END,
  CASE WHEN v.hs = v.s THEN 'same microsecond, greater node' ELSE concat('written later (' || abs(v.s - v.hs) || ' µs)') END,
  v.held, v.hs, v.hno, v.arriving, v.s, v.n, NULL::bigint, NULL::smallint
FROM (
  SELECT l.*, NULL::jsonb AS arriving, (SELECT _herdsman_stamp FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AS s, (SELECT _herdsman_node FROM "herdsman"."truncates" WHERE rel = 'public."it''s ""odd"""') AS n, 'truncate' AS kind FROM lost AS l WHERE l.held IS NOT NULL
) AS v;
