//! Examples for the help texts of `herdsman mesh`.

pub(super) const UP: &str = "\
Examples:
  herdsman mesh up --plan                      every statement, and nothing is done
  herdsman mesh up                             shows the steps and asks
  herdsman mesh up --yes                       for scripts
  herdsman mesh up --merge                     where several members have rows already

Can be run again at any time: it does what is missing, and nothing where nothing is.

Exit codes: 0 done, or nothing to do; 1 something is in the way, 2 it was not confirmed,
78 the configuration is wrong or has no mesh.";

pub(super) const STATUS: &str = "\
Examples:
  herdsman mesh status
  herdsman mesh status --watch
  herdsman mesh status --json | jq '.targets[].links'
  herdsman mesh status --direct                without a running Herdsman: the members are asked

Exit codes: 0 every member works, 1 one does not, 69 Herdsman cannot be asked, 78 the
configuration is wrong or has no mesh.";

pub(super) const VERIFY: &str = "\
Examples:
  herdsman mesh verify
  herdsman mesh verify --table 'sales.*' --json
  herdsman mesh verify --repair                put right what differs

Writes go on. A key that differs is looked at again until what was on its way has arrived.

Exit codes: 0 the members hold the same, 1 they do not or it cannot be said, 78 the
configuration is wrong or has no mesh.";

pub(super) const CONFLICTS: &str = "\
Examples:
  herdsman mesh conflicts
  herdsman mesh conflicts --table public.orders --since 1h
  herdsman mesh conflicts --follow --json | jq -c '{key, winner, why}'

Each member records what it decided, so that the same conflict may be listed once for each.";

pub(super) const PAUSE: &str = "\
Examples:
  herdsman mesh pause                          every link
  herdsman mesh pause n1:n2                    what n1 wrote does not come to n2 any more

What is written meanwhile waits in the log of the server it was written on. Asks the running
Herdsman, with the token of `mesh.control`.

Exit codes: 0 held, 1 there is no such link, 69 Herdsman cannot be asked or has no token,
78 the configuration is wrong or has no mesh.";

pub(super) const RESUME: &str = "\
Examples:
  herdsman mesh resume
  herdsman mesh resume n1:n2

Exit codes: as for `pause`.";

pub(super) const ADD: &str = "\
Examples:
  herdsman mesh add n4                         listed in `hosts` and `mesh.nodes`
  herdsman mesh add n4 --donor n2

A running Herdsman that knows the node has to apply changes meanwhile. Writers wait for nothing.
Interrupted, the same command goes on.

Exit codes: 0 it is a member; 1 something is in the way, 2 there is no such node, 78 the
configuration is wrong or has no mesh.";

pub(super) const REMOVE: &str = "\
Examples:
  herdsman mesh remove n4                      once the others have all that it wrote
  herdsman mesh remove n4 --dead               it is lost, and does not come back
  herdsman mesh remove n4 --cancel             it stays: undoes a removal that has not ended

Its rows stay where they are; the others drop what they kept for it. Interrupted, the same
command goes on.

Exit codes: 0 it has left; 1 something is in the way, 2 there is no such node or it was not
confirmed, 78 the configuration is wrong or has no mesh.";

pub(super) const DOWN: &str = "\
Examples:
  herdsman mesh down                           every node, once nothing applies changes
  herdsman mesh down n4                        one that was given up and is there again

Exit codes: 0 nothing of the mesh is left there; 1 something is in the way, 2 there is no such
node or it was not confirmed, 78 the configuration is wrong or has no mesh.";

pub(super) const DDL: &str = "\
Examples:
  herdsman mesh ddl 'ALTER TABLE orders ADD COLUMN note text'
  herdsman mesh ddl 'CREATE TABLE tags (id bigint PRIMARY KEY, name text)' 'CREATE INDEX ON tags (name)'
  herdsman mesh ddl --role app 'ALTER TABLE orders DROP COLUMN note'
  herdsman mesh ddl --retry 1795288958643468   complete a job, or do it again

A running Herdsman does it. All members must be there. Who writes these tables waits meanwhile.

Exit codes: 0 done on all members; 1 nothing was changed, or a member was lost on the way and
makes up for it (the message says which), 2 no statement, 78 the configuration is wrong or has
no mesh.";

pub(super) const SEQUENCES: &str = "\
Examples:
  herdsman mesh sequences
  herdsman mesh sequences --plan               every statement, and nothing is done
  herdsman mesh sequences --fix

Exit codes: 0 no two members give the same keys; 1 some do, or have none left, 78 the
configuration is wrong or has no mesh.";

pub(super) const ORPHANS: &str = "\
Examples:
  herdsman mesh orphans
  herdsman mesh orphans --repair               delete them, on one member, for all

A parent deleted on one member while a child is inserted on another leaves the child alone.

Exit codes: 0 there are none, or they were deleted; 1 there are some, 78 the configuration is
wrong or has no mesh.";

pub(super) const RUN: &str = "\
Examples:
  herdsman mesh run
  herdsman mesh run /etc/herdsman/herdsman.yml

Several may run at a time: each member is worked on by one of them, and by another one when
that falls silent. `herdsman run` does the same beside watching, and can be asked and told.

Exit codes: 0 ended as told, 78 the configuration is wrong or has no mesh.";

pub(super) const LOADTEST: &str = "\
Examples:
  herdsman mesh loadtest insert                800 rows, as the python example
  herdsman mesh loadtest update                one row, updated from three sides
  herdsman mesh loadtest select
  herdsman mesh loadtest insert --rows 100000 --writers 8
  herdsman mesh loadtest update --seconds 60

Exit codes: 0 all was done and the members hold the same; 1 not, or it cannot be said,
78 the configuration is wrong or has no mesh.";
