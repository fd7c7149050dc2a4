//! Clients of the gateway, and its pools.

use ratatui_core::layout::{Constraint, Layout, Rect};
use ratatui_core::terminal::Frame;
use ratatui_core::text::Line;

use super::paint::{Paint, table};
use super::{number, rate};
use crate::commands::top::data::Data;
use crate::commands::top::samples::Sample;
use crate::commands::top::state::State;
use crate::show::clean;

/// Of which there is one for each pool.
pub(in crate::commands::top) const POOLS: &str = "pgbouncer_pools_server_active_connections";

const HEADER: [&str; 10] =
    ["DATABASE", "USER", "NODE", "ACTIVE", "IDLE", "LOGIN", "TX/S", "STMT/S", "WAIT S/S", "ERRORS"];

const LABELS: [&str; 3] = ["database", "user", "node"];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, paint: Paint) {
    let data = state.data();
    let clients = data.samples().map_or(&[][..], |samples| samples.all("herdsman_gateway_clients"));
    if clients.is_empty() {
        let text = "no gateway: the configuration has no section `gateway`";
        return frame.render_widget(Line::styled(text, paint.dim()), area);
    }
    let parts = [Constraint::Length(2), Constraint::Fill(1)];
    let [above, below] = Layout::vertical(parts).areas(area);
    let told: Vec<_> = clients
        .iter()
        .map(|sample| format!("{:.0} {}", sample.value, sample.label("state").replace('_', " ")))
        .collect();
    frame.render_widget(Line::raw(format!("clients: {}", told.join(", "))), above);
    let pools = data.samples().map_or(&[][..], |samples| samples.all(POOLS));
    let lines = pools.iter().map(|pool| (paint.plain(), row(data, pool))).collect();
    table(frame, below, HEADER, lines, state.line, paint);
}

fn row(data: &Data, pool: &Sample) -> [String; 10] {
    let now = |name: &str| number(data.samples().and_then(|all| all.alike(name, pool, &LABELS)));
    let grows = |name: &str| rate(data.rate(name, pool, &LABELS));
    let [database, user, node] = LABELS.map(|label| clean(pool.label(label)));
    [
        database,
        user,
        node,
        format!("{:.0}", pool.value),
        now("pgbouncer_pools_server_idle_connections"),
        now("pgbouncer_pools_server_login_connections"),
        grows("pgbouncer_stats_sql_transactions_pooled_total"),
        grows("pgbouncer_stats_queries_pooled_total"),
        grows("pgbouncer_stats_client_wait_seconds_total"),
        now("herdsman_gateway_errors_total"),
    ]
}
