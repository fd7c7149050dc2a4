//! What is asked of a node.

/// Version, settings and rights. The functions are those that applying needs. `search_path` plays no part: everything is
/// in `pg_catalog`.
pub(super) const FACTS: &str = "
select to_jsonb(f)::text from (select current_setting('server_version_num')::int as version,
  current_setting('server_version') as version_text,
  case when has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
    then (select system_identifier::text from pg_control_system()) || '/' ||
      (select oid::text from pg_database where datname = current_database()) else '' end as identity,
  current_database() as database, r.rolname as role, r.rolsuper as superuser,
  r.rolsuper or r.rolreplication or exists (select from pg_roles m where m.rolname = 'rds_replication'
    and pg_has_role(m.oid, 'member')) as replication,
  r.rolsuper or r.rolbypassrls as bypasses_row_security,
  has_database_privilege(current_database(), 'CREATE') as may_create,
  case when current_setting('server_version_num')::int < 150000 then r.rolsuper
    else has_parameter_privilege('session_replication_role', 'SET') end as may_be_replica,
  array(select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace
    and p.proname = any(array['pg_replication_origin_create', 'pg_replication_origin_drop', 'pg_replication_origin_oid',
      'pg_replication_origin_session_setup', 'pg_replication_origin_session_reset',
      'pg_replication_origin_session_is_setup', 'pg_replication_origin_xact_setup'])
    and not has_function_privilege(p.oid, 'EXECUTE') order by 1) as forbidden,
  pg_is_in_recovery() as in_recovery, current_setting('wal_level') as wal_level,
  current_setting('track_commit_timestamp') = 'on' as commit_times,
  current_setting('max_replication_slots')::int as max_slots, current_setting('max_wal_senders')::int as max_senders,
  (select count(*) from pg_stat_replication r where not exists (select from pg_replication_slots l
    where l.active_pid = r.pid and l.slot_name ~ '^herdsman_')) as used_senders,
  coalesce(current_setting('max_active_replication_origins', true), current_setting('max_replication_slots'))::int
    as max_origins,
  (select count(*) from pg_replication_origin) as used_origins
  from pg_roles r where r.rolname = current_user) f";

/// What there is of the mesh: relations and functions of its schemas, all schemas, and the roles that we are as good as.
pub(super) const OWN: &str = "
select to_jsonb(f)::text from (select set_config('search_path', 'pg_catalog', true) as was) s, lateral (select
  array(select nspname::text from pg_namespace where nspname !~ '^pg_' order by 1) as schemas,
  array(select rolname::text from pg_roles where pg_has_role(oid, 'member') order by 1) as member_of,
  array(select rolname::text from pg_roles order by 1) as roles,
  array(select c.relname::text from pg_class c where c.relnamespace = to_regnamespace('herdsman')
    and c.relkind in ('r', 'S') order by 1) as relations,
  (select coalesce(jsonb_object_agg(n.nspname || '.' || p.proname, p.prosrc), '{}') from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('herdsman', 'herdsman_gone', 'herdsman_parts')) as functions,
  (select coalesce(jsonb_object_agg(c.relname, jsonb_build_object('full_identity', c.relreplident = 'f',
      'by_time', exists (select from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
        where i.indrelid = c.oid and i.indisvalid and a.attname = '_herdsman_stamp'), 'key',
      (select coalesce(jsonb_agg(jsonb_build_array(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod))
          order by k.place), '[]')
        from pg_index i cross join lateral unnest(i.indkey::int2[]) with ordinality as k (number, place)
          join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
        where i.indrelid = c.oid and i.indisprimary))), '{}') from pg_class c
    where c.relnamespace = to_regnamespace('herdsman_gone') and c.relkind = 'r') as gone
  where s.was is not null) f";

/// Who a node is, as JSON.
pub(super) const MESH: &str = "
select jsonb_build_object('name', name, 'format', format, 'node', node, 'node_name', node_name)::text from herdsman.mesh";

/// The members as a node knows them.
pub(super) const MEMBERS: &str = "select node, name, state from herdsman.members order by node";

/// Whether a publication sends computed columns; versions before 18 do not know that.
pub(super) const GENERATED: &str = "select coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false) from pg_publication p where p.pubname = $1";

/// How far a node is.
pub(super) const PROGRESS: &str = "select source, lsn::text from herdsman.progress order by source";

/// What the mesh has noted about tables.
pub(super) const PREPARED: &str = "select rel, identity, spread from herdsman.tables order by rel";

/// Which of these types, functions and sequences there are not.
pub(super) const LACKING: &str = "
select array(select x from unnest($1::text[]) x where case split_part(x, ' ', 1)
  when 'type' then to_regtype(substr(x, 6)) is null
  when 'function' then to_regprocedure(substr(x, 10)) is null
  else to_regclass(substr(x, 10)) is null end)";

/// All tables that could be meant, each as JSON. The first subquery makes every name come with its schema.
pub(super) const TABLES: &str = "
with path as materialized (select set_config('search_path', 'pg_catalog', true) as was)
select jsonb_build_object('schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence,
  'partition', c.relispartition, 'typed', c.reloftype <> 0, 'identity', c.relreplident,
  'identity_index', (select i.relname from pg_index x join pg_class i on i.oid = x.indexrelid
    where x.indrelid = c.oid and x.indisreplident),
  'owned', pg_has_role(c.relowner, 'usage'), 'owner', pg_get_userbyid(c.relowner),
  'row_security', row_security_active(c.oid),
  'policies', c.relrowsecurity or exists (select from pg_policy p where p.polrelid = c.oid),
  'inherits', not c.relispartition and c.relkind = 'r'
    and exists (select from pg_inherits h where h.inhrelid = c.oid or h.inhparent = c.oid),
  'rules', exists (select from pg_rewrite w where w.ev_class = c.oid),
  'columns', (select coalesce(jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname,
      'type', format_type(a.atttypid, a.atttypmod), 'base', b.nspname || '.' || b.typname, 'composite', b.typtype = 'c',
      'not_null', a.attnotnull, 'generated', a.attgenerated::text, 'identity', a.attidentity::text,
      'default', pg_get_expr(d.adbin, d.adrelid),
      'collation', case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end,
      'deterministic', coalesce(l.collisdeterministic, true)) order by a.attnum), '[]')
    from pg_attribute a join pg_type t on t.oid = a.atttypid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      left join pg_collation l on l.oid = a.attcollation
      cross join lateral (with recursive down as (select t.oid as at
          union all select case when y.typtype = 'd' then y.typbasetype else y.typelem end from down
            join pg_type y on y.oid = down.at
            where y.typtype = 'd' or (y.typelem <> 0 and y.typsubscript = 'array_subscript_handler'::regproc))
        select e.typname, e.typtype, o.nspname from down join pg_type e on e.oid = down.at
          join pg_namespace o on o.oid = e.typnamespace
        where e.typtype <> 'd' and not (e.typelem <> 0 and e.typsubscript = 'array_subscript_handler'::regproc)
        limit 1) b
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  'indexes', (select coalesce(jsonb_agg(jsonb_build_object('name', i.relname,
      'columns', (select jsonb_agg(k.number order by k.place) from unnest(x.indkey::int2[]) with ordinality as k (number, place)
        where k.place <= x.indnkeyatts),
      'unique', x.indisunique, 'primary', x.indisprimary, 'immediate', x.indimmediate, 'valid', x.indisvalid,
      'partial', x.indpred is not null, 'exclusion', x.indisexclusion, 'nulls_alike', x.indnullsnotdistinct,
      'definition', pg_get_indexdef(x.indexrelid), 'constraint', k.conname,
      'constraint_definition', pg_get_constraintdef(k.oid)) order by i.relname), '[]')
    from pg_index x join pg_class i on i.oid = x.indexrelid
      left join pg_constraint k on k.conindid = x.indexrelid and k.conrelid = c.oid and k.contype in ('p', 'u', 'x')
    where x.indrelid = c.oid and x.indislive),
  'constraints', (select coalesce(jsonb_agg(jsonb_build_object('name', k.conname, 'kind', k.contype,
      'definition', pg_get_constraintdef(k.oid), 'columns', coalesce(to_jsonb(k.conkey), '[]'),
      'to_schema', tn.nspname, 'to_name', tc.relname,
      'to_columns', (select coalesce(jsonb_agg(ta.attname order by u.place), '[]')
        from unnest(k.confkey) with ordinality as u (number, place)
        join pg_attribute ta on ta.attrelid = k.confrelid and ta.attnum = u.number)) order by k.conname), '[]')
    from pg_constraint k left join pg_class tc on tc.oid = nullif(k.confrelid, 0)
      left join pg_namespace tn on tn.oid = tc.relnamespace
    where k.conrelid = c.oid and k.contype in ('c', 'f')),
  'triggers', (select coalesce(jsonb_agg(jsonb_build_object('name', g.tgname, 'kind', g.tgtype, 'enabled', g.tgenabled,
      'function', pn.nspname || '.' || p.proname) order by g.tgname), '[]')
    from pg_trigger g join pg_proc p on p.oid = g.tgfoid join pg_namespace pn on pn.oid = p.pronamespace
    where g.tgrelid = c.oid and not g.tgisinternal),
  'sequences', (select coalesce(jsonb_agg(jsonb_build_object('schema', sn.nspname, 'name', s.relname, 'column', a.attname,
      'kind', d.deptype, 'type', format_type(q.seqtypid, null),
      'grants', (select coalesce(jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), x.privilege_type)), '[]')
        from aclexplode(s.relacl) x left join pg_roles r on r.oid = x.grantee where x.grantee <> s.relowner))
      order by s.relname), '[]')
    from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S' join pg_namespace sn on sn.oid = s.relnamespace
      join pg_sequence q on q.seqrelid = s.oid
      join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
    where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid
      and d.refobjsubid > 0 and d.deptype in ('a', 'i')),
  'grants', (select coalesce(jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), x.privilege_type) order by r.rolname,
      x.privilege_type), '[]')
    from aclexplode(c.relacl) x left join pg_roles r on r.oid = x.grantee where x.grantee <> c.relowner),
  'needs', (select coalesce(jsonb_agg(distinct w.what), '[]') from (
      select 'type ' || format_type(a.atttypid, null) as what from pg_attribute a join pg_type t on t.oid = a.atttypid
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and t.typnamespace <> 'pg_catalog'::regnamespace
      union all
      select case d.refclassid when 'pg_proc'::regclass then 'function ' || d.refobjid::regprocedure::text
          else 'sequence ' || d.refobjid::regclass::text end
        from pg_depend d
        where (d.refclassid = 'pg_proc'::regclass
            or (d.refclassid = 'pg_class'::regclass and exists (select from pg_class s where s.oid = d.refobjid
              and s.relkind = 'S' and not exists (select from pg_depend o where o.classid = 'pg_class'::regclass
                and o.objid = s.oid and o.refobjid = c.oid and o.deptype in ('a', 'i')))))
          and ((d.classid = 'pg_attrdef'::regclass and exists (select from pg_attrdef f where f.oid = d.objid and f.adrelid = c.oid))
            or (d.classid = 'pg_constraint'::regclass and exists (select from pg_constraint k where k.oid = d.objid and k.conrelid = c.oid))
            or (d.classid = 'pg_class'::regclass and exists (select from pg_index x where x.indexrelid = d.objid and x.indrelid = c.oid)))
    ) w)
)::text
from path, pg_class c join pg_namespace n on n.oid = c.relnamespace
where path.was is not null and c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname !~ '^pg_'
  and n.nspname <> all(array['information_schema', 'herdsman', 'herdsman_gone', 'herdsman_monitor'])
  and c.relname <> 'pgr66_avc'
order by n.nspname, c.relname";

/// The sequences that columns of tables take their values from.
pub(super) const SEQUENCES: &str = "
select jsonb_build_object('schema', sn.nspname, 'name', s.relname, 'table_schema', n.nspname, 'table_name', c.relname,
  'column', a.attname, 'type', format_type(case when a.atttypid in ('int2'::regtype, 'int4'::regtype)
      and (q.seqtypid = 'int8'::regtype or a.atttypid = 'int2'::regtype) then a.atttypid else q.seqtypid end, null),
  'identity', a.attidentity <> '', 'owned', pg_has_role(s.relowner, 'usage'),
  'snowflake', exists (select from pg_attrdef d where d.adrelid = c.oid and d.adnum = a.attnum
    and pg_get_expr(d.adbin, d.adrelid) = 'herdsman.id()'),
  'start', q.seqstart, 'min', q.seqmin, 'max', q.seqmax, 'increment', q.seqincrement, 'cache', q.seqcache,
  'cycle', q.seqcycle,
  'indexed', exists (select from pg_index x where x.indrelid = c.oid and x.indkey[0] = a.attnum and x.indisvalid
    and x.indpred is null and x.indexprs is null)
)::text
from (select set_config('search_path', 'pg_catalog', true) as was) path, pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join lateral (
    select o.objid as oid from pg_depend o where o.classid = 'pg_class'::regclass and o.refclassid = 'pg_class'::regclass
      and o.refobjid = c.oid and o.refobjsubid = a.attnum and o.deptype in ('a', 'i')
    union
    select o.refobjid from pg_attrdef d join pg_depend o on o.classid = 'pg_attrdef'::regclass and o.objid = d.oid
      and o.refclassid = 'pg_class'::regclass and o.refobjid <> c.oid where d.adrelid = c.oid and d.adnum = a.attnum
  ) u on true
  join pg_class s on s.oid = u.oid and s.relkind = 'S' join pg_namespace sn on sn.oid = s.relnamespace
  join pg_sequence q on q.seqrelid = s.oid
where path.was is not null and c.relkind = 'r' and n.nspname !~ '^pg_' and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
order by n.nspname, c.relname, a.attnum, sn.nspname, s.relname";
