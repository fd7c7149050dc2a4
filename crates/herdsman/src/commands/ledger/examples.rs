//! Examples for the help texts of `herdsman ledger`.

pub(super) const RUN: &str = "\
Examples:
  herdsman ledger run
  herdsman ledger run /etc/herdsman/herdsman.yml
  herdsman ledger run --from-env

Needs no `hosts` where no node is a PostgreSQL server. Nodes are prepared as they are met: a
database without a ledger's tables gets them, and follows the log from its first entry.

With --from-env, as Kluster's adapters: one PostgreSQL node, DATABASE_ADDRESS; Kafka at
KAFKA_BOOTSTRAP_SERVERS; topics KAFKA_ALL_TOPIC (or KAFKA_MUTATION_TOPIC; default ALL),
KAFKA_ONE_TOPIC (ONE) and KAFKA_RESPONSE_TOPIC (RESPONSE).

Signals: TERM and INT let requests under way end; a second one ends at once.

Exit codes: 0 ended by a signal, 1 the log is not a ledger's, 69 another program on this machine
follows it, 78 the configuration is wrong or has no ledger.";

pub(super) const STATUS: &str = "\
Examples:
  herdsman ledger status
  herdsman ledger status --json | jq '.nodes[] | {name, lag}'

Asks the running program, and where there is none the nodes themselves; changes nothing.

Exit codes: 0 every node follows the log, 1 one does not, or nobody lets them; 69 the log cannot
be asked, 78 the configuration is wrong or has no ledger.";

pub(super) const SQL: &str = "\
Examples:
  herdsman ledger sql \"CREATE TABLE account (id bigint PRIMARY KEY, name text, balance bigint)\"
  herdsman ledger sql \"INSERT INTO account VALUES (1, 'Ada', 10)\"
  herdsman ledger sql 'UPDATE account SET name = $1 WHERE id = $2' --param \"O'Hara\" --param 1
  herdsman ledger sql --node lite \"SELECT * FROM account\" --csv
  herdsman ledger sql \"UPDATE account SET balance = balance - 1 WHERE id = 1\" \\
                      \"UPDATE account SET balance = balance + 1 WHERE id = 2\"

Statements are in the node's own dialect, but for those that change tables, which are in
PostgreSQL's. All of them are one transaction; beaten by another one, it is run again. Reads see
all that was committed before them, wherever. Where no program follows the log, this one does
for as long as it takes.

Exit codes: 0 committed, or read; 1 refused, and nothing was changed, or it is not known whether
it committed and standard error says so; 69 the log or the node cannot be asked, 78 the
configuration is wrong or has no ledger.";

pub(super) const VERIFY: &str = "\
Examples:
  herdsman ledger verify
  herdsman ledger verify --json | jq '.tables[] | select(.alike | not)'

Holds all nodes at one place of the log while it looks; transactions wait meanwhile.

Exit codes: 0 all nodes hold the same, 1 they do not or one could not be looked at, 69 the log
cannot be asked, 78 the configuration is wrong or has no ledger.";

pub(super) const SKIP: &str = "\
Examples:
  herdsman ledger skip 4711

For an entry that `ledger status` says no node can read. Its changes are in no node then.

Exit codes: 0 the word is in the log, 1 a node has applied the entry already, 69 the log cannot
be asked, 78 the configuration is wrong or has no ledger.";

pub(super) const FENCE: &str = "\
Examples:
  herdsman ledger fence maria --why \"its disk is being replaced\"

The others go on. What it missed it gets by `ledger join`.

Exit codes: 0 it is out, 1 it could not be taken out, 69 the log cannot be asked, 78 the
configuration is wrong or has no ledger.";

pub(super) const JOIN: &str = "\
Examples:
  herdsman ledger join maria
  herdsman ledger join maria --from pg

For a node that is fenced (`ledger status` says why), or that needs entries the log has trimmed.
All that it holds of the ledger's tables is dropped. Writes go on at the other nodes meanwhile;
changes of tables wait. Cut off in the middle, it stays fenced, and can be joined again.

Exit codes: 0 it follows the log, 1 it could not be brought back, 69 the log cannot be asked, 78
the configuration is wrong or has no ledger.";

pub(super) const BACKUP: &str = "\
Examples:
  herdsman ledger backup /var/backups/shop.ledger
  herdsman ledger backup --node lite shop.ledger

The program that runs the ledger writes it, with its rights. It fits nodes of every make.

Exit codes: 0 it is written, 1 it could not be, 69 the log cannot be asked, 78 the configuration
is wrong or has no ledger.";

pub(super) const RESTORE: &str = "\
Examples:
  herdsman ledger fence maria
  herdsman ledger restore maria /var/backups/shop.ledger

The file is checked whole before anything is changed. The log must still have what came after it.

Exit codes: 0 the node follows the log, 1 it could not be restored, 69 the log cannot be asked,
78 the configuration is wrong or has no ledger.";

pub(super) const TRIM: &str = "\
Examples:
  herdsman ledger trim
  herdsman ledger trim --backup /var/backups/shop.ledger

Keeps 65,536 entries before the node that is furthest behind and before the oldest backup that is
named. Fenced nodes are not waited for: they are joined from others.

Exit codes: 0 done, or there was nothing to forget; 1 a node starts or is troubled, and may need
what would go; 69 the log cannot be asked, 78 the configuration is wrong or has no ledger.";
