//! What is known of functions, by name.

use std::fmt;

/// Names of functions that are volatile and yet do no harm: no lasting effect, and a reader's answer is as good.
macro_rules! harmless {
    () => {
        "random random_normal gen_random_uuid uuidv4 uuidv7 clock_timestamp timeofday pg_sleep pg_sleep_for \
         pg_sleep_until pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size pg_database_size \
         pg_tablespace_size pg_partition_tree pg_partition_ancestors"
    };
}

/// One row for each function name: `proname::text`, and whether no function of that name, in any schema, is volatile.
///
/// Harmless volatile built-ins such as `random` count as non-volatile, and an aggregate is as volatile as the functions it
/// is made of. Feed the rows to [`Functions::from_catalogue`].
pub const CATALOGUE_SQL: &str = concat!(
    "SELECT p.proname::text, pg_catalog.bool_and(\
       p.provolatile <> 'v' AND NOT EXISTS (\
         SELECT FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc part ON part.oid IN (a.aggtransfn, a.aggfinalfn, \
           a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn) \
         WHERE a.aggfnoid = p.oid AND part.provolatile = 'v') \
       OR p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (string_to_array('",
    harmless!(),
    "', ' ')::name[])) \
     FROM pg_catalog.pg_proc p GROUP BY p.proname"
);

/// Built-in functions that are non-volatile in every overload, in every supported version that has them, and can be called
/// from SQL. The oracle's tests compare it with `pg_proc` of real servers.
pub(super) const BUILTIN: &str = include_str!("builtin.txt");

/// Reserved words and others that cannot name a function: a parenthesis after them is syntax.
const KEYWORDS: &str = "all analyse analyze and any array as asc asymmetric both case cast check collate column \
    constraint create current_catalog current_date current_role current_time current_timestamp current_user default \
    deferrable desc distinct do else end except false fetch for foreign from grant group having in initially intersect \
    into lateral leading limit localtime localtimestamp not null offset on only or order placing primary references \
    returning select session_user some symmetric table then to trailing true union unique user using variadic when \
    where window with between bigint bit boolean char character coalesce dec decimal exists extract float greatest \
    grouping inout int integer interval least national nchar none normalize nullif numeric out position precision real \
    row setof smallint time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest \
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable";

/// Syntax in newer versions. In older ones they can name functions: not syntax where the catalogue has a volatile one.
const NEW_SYNTAX: &str = "json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar \
    json_serialize json_table json_value";

/// Built-in functions that change something, assign a transaction id or only work on a primary, whatever their declared
/// volatility. A hint for a reader does not lift them.
const CHANGING: &[&str] = &[
    "nextval",
    "setval",
    "pg_notify",
    "txid_current",
    "pg_current_xact_id",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
    "pg_logical_emit_message",
    "pg_walfile_name",
    "pg_walfile_name_offset",
    "lo_creat",
    "lo_create",
    "lo_export",
    "lo_from_bytea",
    "lo_import",
    "lo_put",
    "lo_truncate",
    "lo_truncate64",
    "lo_unlink",
    "lowrite",
    "dblink",
    "dblink_exec",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_drop_replication_slot",
    "pg_logical_slot_get_changes",
    "pg_logical_slot_get_binary_changes",
];

/// Built-in functions whose effect or answer belongs to one server session.
const OF_THE_SESSION: &[&str] = &[
    "currval",
    "lastval",
    "set_config",
    "setseed",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_all",
    "pg_advisory_unlock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_backend_pid",
    "pg_cursor",
    "pg_prepared_statement",
    "pg_listening_channels",
    "pg_my_temp_schema",
    "pg_export_snapshot",
    "pg_replication_origin_session_setup",
    "pg_replication_origin_session_reset",
    // pg_trgm: sets its threshold for the session.
    "set_limit",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "lo_open",
    "lo_close",
    "loread",
    "dblink_connect",
    "dblink_connect_u",
    "dblink_disconnect",
    "dblink_open",
    "dblink_fetch",
    "dblink_close",
    "dblink_send_query",
    "dblink_get_result",
];

/// Longer identifiers are cut off by the server, so they may name anything.
const LONGEST: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    Safe,
    Volatile,
    /// To the writer or, if `session`, to one session.
    Belongs {
        name: &'static str,
        session: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) known: Known,
    /// Unquoted and unqualified, it is syntax.
    pub(super) keyword: bool,
}

impl Entry {
    pub(super) const NOTHING: Self = Self { known: Known::Nothing, keyword: false };
}

struct Slot {
    start: usize,
    length: usize,
    entry: Entry,
}

/// What is known of functions: of the built-in ones, or of all that the catalogue of a database lists.
pub struct Functions {
    /// Open addressing; the length is a power of two, at most half of it filled.
    slots: Box<[Slot]>,
    names: Vec<u8>,
    catalogue: bool,
}

impl Functions {
    /// The functions PostgreSQL comes with. Good until the catalogue is known, except that an unqualified call of a user's
    /// overload of a built-in name cannot be told from the built-in; a call qualified with anything but `pg_catalog` counts
    /// as unknown.
    #[must_use]
    pub fn builtin() -> Self {
        let names = BUILTIN.split_ascii_whitespace().chain(harmless!().split(' '));
        Self::build(names.map(|name| (name, Known::Safe)).collect(), false)
    }

    /// The functions of one database, from the rows of [`CATALOGUE_SQL`]. Of names that are given more than once, the
    /// careful answer counts.
    pub fn from_catalogue(rows: impl IntoIterator<Item = (String, bool)>) -> Self {
        let rows: Vec<_> = rows.into_iter().collect();
        let known = |safe| if safe { Known::Safe } else { Known::Volatile };
        Self::build(rows.iter().map(|(name, safe)| (name.as_str(), known(*safe))).collect(), true)
    }

    fn build(names: Vec<(&str, Known)>, catalogue: bool) -> Self {
        let fixed =
            [KEYWORDS, NEW_SYNTAX].map(|words| words.split(' ').count()).iter().sum::<usize>();
        let most = names.len() + fixed + CHANGING.len() + OF_THE_SESSION.len();
        let empty = || Slot { start: 0, length: 0, entry: Entry::NOTHING };
        let slots = std::iter::repeat_with(empty).take((2 * most).next_power_of_two()).collect();
        let mut functions = Self { slots, names: Vec::new(), catalogue };
        for word in KEYWORDS.split(' ') {
            functions.put(word, |entry| entry.keyword = true);
        }
        for (name, known) in names {
            functions.put(name, |entry| {
                if entry.known != Known::Volatile {
                    entry.known = known;
                }
            });
        }
        for word in NEW_SYNTAX.split(' ') {
            functions.put(word, |entry| entry.keyword = entry.known != Known::Volatile);
        }
        for (names, session) in [(CHANGING, false), (OF_THE_SESSION, true)] {
            for name in names {
                functions.put(name, |entry| entry.known = Known::Belongs { name, session });
            }
        }
        functions
    }

    fn put(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        if name.is_empty() || name.len() > LONGEST {
            return;
        }
        let at = self.place(name.as_bytes());
        let start = self.names.len();
        if let Some(slot) = self.slots.get_mut(at) {
            if slot.length == 0 {
                (slot.start, slot.length) = (start, name.len());
                self.names.extend_from_slice(name.as_bytes());
            }
            change(&mut slot.entry);
        }
    }

    /// The slot of a name, or the empty one where it would go.
    #[inline]
    fn place(&self, name: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(hash(name)).unwrap_or_default() & mask;
        while let Some(slot) = self.slots.get(at)
            && slot.length != 0
            && self.names.get(slot.start..slot.start + slot.length) != Some(name)
        {
            at = (at + 1) & mask;
        }
        at
    }

    /// What is known of the function or keyword written like this in a statement.
    #[inline]
    pub(super) fn find(&self, written: &[u8], quoted: bool) -> Entry {
        let mut folded = [0; LONGEST];
        let Some(name) = folded.get_mut(..written.len()) else { return Entry::NOTHING };
        name.copy_from_slice(written);
        if !quoted {
            // How other letters are folded depends on the database's encoding.
            if !written.is_ascii() {
                return Entry::NOTHING;
            }
            name.make_ascii_lowercase();
        }
        self.slots.get(self.place(name)).map_or(Entry::NOTHING, |slot| slot.entry)
    }

    pub(super) fn knows_catalogue(&self) -> bool {
        self.catalogue
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.slots.iter().filter(|slot| slot.length > 0).count();
        f.debug_struct("Functions")
            .field("names", &names)
            .field("catalogue", &self.catalogue)
            .finish()
    }
}

/// Multiply and fold, eight bytes at a time. Not meant to resist anyone: of a collision, only speed or a trip to the writer
/// can be the price.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = 0_u64;
    let mut add = |part: [u8; 8]| {
        hash = (hash ^ u64::from_le_bytes(part)).wrapping_mul(FACTOR);
        hash ^= hash >> 32;
    };
    let (parts, rest) = bytes.as_chunks();
    for part in parts {
        add(*part);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    add(last);
    hash
}
