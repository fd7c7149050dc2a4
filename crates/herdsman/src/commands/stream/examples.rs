//! Examples for the help texts of `herdsman stream`.

pub(super) const RUN: &str = "\
Examples:
  herdsman stream run
  herdsman stream run --until-idle             deliver what there is, then end
  herdsman stream run | jq -r .table           with the sink `{ stdout: {} }`

`herdsman run` does the same beside watching, where the configuration has sinks. TERM and INT end
it once what is under way has been delivered; a second one ends it at once and loses nothing.

Exit codes: 0 ended as told, 1 the stream cannot go on, 78 the configuration is wrong.";

pub(super) const INIT: &str = "\
Examples:
  herdsman stream init                         here
  herdsman stream init handlers && cd handlers && cargo run
  herdsman stream init --path ~/src/herdsman   against a working copy

Never overwrites a file, and looks at no server.";

pub(super) const DIAGNOSE: &str = "\
Examples:
  herdsman stream diagnose
  herdsman stream diagnose --json | jq '.findings[]'

Exit codes: 0 the stream can run, 1 something is in its way, 4 and 9 as for `primary`.";

pub(super) const STATUS: &str = "\
Examples:
  herdsman stream status
  herdsman stream status --json | jq .slot.retained

Asks the server and looks into the folder `stream.state`; no running Herdsman is needed.";

pub(super) const PEEK: &str = "\
Examples:
  herdsman stream peek                         what waits in the slot, as JSON lines
  herdsman stream peek -n 5
  herdsman stream peek --shape debezium

The slot stays where it is: a temporary copy of it is read. Works while a stream runs.";

pub(super) const SNAPSHOT: &str = "\
Examples:
  herdsman stream snapshot public.users
  herdsman stream snapshot 'shop.*'            every table that matches

Exit codes: 0 all rows are delivered, 1 not all.";

pub(super) const DLQ: &str = "\
Examples:
  herdsman stream dlq list
  herdsman stream dlq show hook:0/16B3748:2
  herdsman stream dlq replay --sink hook";

pub(super) const DLQ_LIST: &str = "\
Examples:
  herdsman stream dlq list
  herdsman stream dlq list --json | jq -r '.[].error'";

pub(super) const DLQ_SHOW: &str = "\
Examples:
  herdsman stream dlq show hook:0/16B3748:2 | jq .change
  herdsman stream dlq show --all";

pub(super) const DLQ_REPLAY: &str = "\
Examples:
  herdsman stream dlq replay hook:0/16B3748:2
  herdsman stream dlq replay --sink hook

What is delivered leaves the list. Where one fails again, it and those behind it stay. Newer changes
of the same row may have been delivered long ago: make sure that an old one is still wanted.

Exit codes: 0 all are delivered, 1 some stay.";

pub(super) const DLQ_DROP: &str = "\
Examples:
  herdsman stream dlq drop hook:0/16B3748:2
  herdsman stream dlq drop --all";

pub(super) const SLOTS: &str = "\
Examples:
  herdsman stream slots list
  herdsman stream slots create
  herdsman stream slots drop old_slot --yes";

pub(super) const SLOTS_LIST: &str = "\
Examples:
  herdsman stream slots list
  herdsman stream slots list --json | jq -r '.[].name'

KEPT is what the server keeps on disk for the slot, WAITING what of it is not confirmed.";

pub(super) const SLOTS_CREATE: &str = "\
Examples:
  herdsman stream slots create                 that of the configuration
  herdsman stream slots create herdsman_test

A slot keeps log from now on, until it is read or dropped: create none that nobody reads.";

pub(super) const SLOTS_DROP: &str = "\
Examples:
  herdsman stream slots drop --yes             that of the configuration
  herdsman stream slots drop old_slot --yes";

pub(super) const RECREATE: &str = "\
Examples:
  herdsman stream recreate --yes
  herdsman stream recreate --yes && herdsman stream snapshot 'public.*'";
