//! Statements that are the same for every batch.

use tokio_postgres::Statement;
use tokio_postgres::types::Type;

use super::lanes;
use super::session::Session;
use crate::config::Mode;
use crate::error::MeshError;
use crate::install::{CLOCK, MEMORY, ORDER};
use crate::names::{self, KNEW, NODE, STAMP};

/// Those.
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) truncated: Statement,
    pub(super) progress: Statement,
    pub(super) finish: Statement,
    /// Notes how far a lane brings sources, where the session is of a lane.
    pub(super) lane: Option<Statement>,
}

impl Fixed {
    pub(super) async fn prepare(
        session: &Session,
        mode: Mode,
        lane: u16,
    ) -> Result<Self, MeshError> {
        let truncated = format!(
            "INSERT INTO {} AS t (rel, {STAMP}, {NODE}, {KNEW}) SELECT unnest($1), unnest($2), unnest($3), unnest($4)::jsonb
ON CONFLICT (rel) DO UPDATE SET {STAMP} = excluded.{STAMP}, {NODE} = excluded.{NODE}, {KNEW} = excluded.{KNEW}
WHERE (t.{STAMP}, t.{NODE}) < (excluded.{STAMP}, excluded.{NODE})",
            names::own("truncates")
        );
        let refuse = names::own("refuse");
        let (lsn, before) = match mode {
            Mode::Columns => ("v.lsn::pg_lsn".to_owned(), ""),
            Mode::Untouched => (
                format!(
                    "CASE WHEN v.before IS NULL OR p.lsn = v.before::pg_lsn OR {refuse}('{ORDER}', 'what comes before it was not applied') THEN v.lsn::pg_lsn END"
                ),
                ", unnest($8) AS before",
            ),
        };
        let progress = format!(
            "UPDATE {} AS p SET lsn = {lsn}, commit_lsn = v.commit_lsn::pg_lsn, heartbeat = greatest(p.heartbeat, v.heartbeat),
  committed = 'epoch'::timestamptz + v.committed * interval '1 microsecond', applied = clock_timestamp(),
  rows = p.rows + v.rows, transactions = p.transactions + v.transactions
FROM (SELECT unnest($1) AS source, unnest($2) AS lsn, unnest($3) AS commit_lsn, unnest($4) AS heartbeat, unnest($5) AS committed,
  unnest($6) AS rows, unnest($7) AS transactions{before}) AS v WHERE p.source = v.source",
            names::own("progress")
        );
        // What other lanes record is counted there.
        let mine = if lane == 0 { "" } else { " FILTER (WHERE xmin = pg_current_xact_id()::xid)" };
        let floor = format!("'{}.floor'::regclass", names::SCHEMA);
        let finish = format!(
            "SELECT pg_replication_origin_xact_setup($1::text::pg_lsn, 'epoch'::timestamptz + $2 * interval '1 microsecond'),
  CASE WHEN coalesce(pg_sequence_last_value({floor}), 0) < $3 THEN setval({floor}, $3) END,
  c.n, c.last FROM (SELECT count(*){mine} AS n, coalesce(max(id), $4) AS last FROM {} WHERE id > $4) AS c",
            names::own("conflicts")
        );
        // Time, whether the clock has to be past it, the last conflict, what the server still has to know the time of.
        let checked = format!(
            "SELECT pg_replication_origin_xact_setup($1::text::pg_lsn, 'epoch'::timestamptz + $2 * interval '1 microsecond'), NULL, c.n, c.last,
  CASE WHEN $3 AND (date_part('epoch', clock_timestamp()) * 1000000)::bigint <= $2 THEN {refuse}('{CLOCK}', 'the clock is not past the commit time of what is applied') END,
  CASE WHEN $5 <> 0 AND pg_xact_commit_timestamp($5::text::xid8::xid) IS NULL THEN {refuse}('{MEMORY}', 'more commit times are forgotten than was known') END
FROM (SELECT count(*) AS n, coalesce(max(id), $4) AS last FROM {} WHERE id > $4) AS c",
            names::own("conflicts")
        );
        let (finish, finish_types) = match mode {
            Mode::Columns => (finish, vec![Type::TEXT, Type::INT8, Type::INT8, Type::INT8]),
            Mode::Untouched => {
                (checked, vec![Type::TEXT, Type::INT8, Type::BOOL, Type::INT8, Type::INT8])
            }
        };
        let what = "prepare statements";
        let longs = Type::INT8_ARRAY;
        let prepare = |sql: String, types: Vec<Type>| async move {
            let prepared = session.client.prepare_typed(&sql, &types).await;
            prepared.map_err(|error| session.failed(what, error))
        };
        let texts = Type::TEXT_ARRAY;
        let mut progress_types = vec![Type::INT2_ARRAY, texts.clone(), texts.clone()];
        progress_types.extend(vec![longs.clone(); 4]);
        let lane = match lane {
            0 => None,
            _ => Some(prepare(lanes::note(lane), progress_types.clone()).await?),
        };
        if mode == Mode::Untouched {
            progress_types.push(texts.clone());
        }
        Ok(Self {
            truncated: prepare(truncated, vec![texts.clone(), longs, Type::INT2_ARRAY, texts])
                .await?,
            progress: prepare(progress, progress_types).await?,
            finish: prepare(finish, finish_types).await?,
            lane,
        })
    }
}
