//! Columns of a batch as parameters of a statement.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::group::{Rows, Values, index};

type Failed = Box<dyn std::error::Error + Sync + Send>;

/// An array as a parameter, written straight from where a group keeps it.
#[derive(Debug)]
pub(crate) enum Param<'a> {
    /// Values as texts, of these rows only where they are named.
    Texts { values: &'a Values, rows: Option<&'a [u32]>, len: usize },
    /// Numbers.
    Longs(Cow<'a, [i64]>),
    /// Small numbers.
    Shorts(Cow<'a, [i16]>),
}

impl ToSql for Param<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        match self {
            Self::Texts { values, rows, len } => {
                head(out, *len, values.nulls(), &Type::TEXT)?;
                values.write(out, *rows);
            }
            Self::Longs(numbers) => {
                head(out, numbers.len(), false, &Type::INT8)?;
                out.reserve(numbers.len() * 12);
                for number in numbers.as_ref() {
                    out.put_i32(8);
                    out.put_i64(*number);
                }
            }
            Self::Shorts(numbers) => {
                head(out, numbers.len(), false, &Type::INT2)?;
                out.reserve(numbers.len() * 6);
                for number in numbers.as_ref() {
                    out.put_i32(2);
                    out.put_i16(*number);
                }
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(wanted: &Type) -> bool {
        [Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::INT2_ARRAY].contains(wanted)
    }

    to_sql_checked!();
}

fn head(out: &mut BytesMut, len: usize, nulls: bool, element: &Type) -> Result<(), Failed> {
    // An array without elements has no dimensions either.
    out.put_i32(i32::from(len > 0));
    out.put_i32(i32::from(nulls));
    out.put_u32(element.oid());
    if len > 0 {
        out.put_i32(i32::try_from(len)?);
        out.put_i32(1);
    }
    Ok(())
}

/// The types of a statement's parameters: of `columns` columns and `longs` pairs of a time and a node.
pub(crate) fn types(columns: usize, pairs: usize) -> Vec<Type> {
    let mut types = vec![Type::TEXT_ARRAY; columns];
    for _ in 0..pairs {
        types.extend([Type::INT8_ARRAY, Type::INT2_ARRAY]);
    }
    types
}

/// A batch's versions, those that still count.
#[derive(Clone, Debug)]
pub(crate) struct Versions<'a> {
    pub(crate) rows: &'a Rows,
    live: Option<Vec<u32>>,
}

impl<'a> Versions<'a> {
    pub(crate) fn new(rows: &'a Rows) -> Self {
        Self { rows, live: rows.live() }
    }

    /// Only these.
    pub(crate) fn only(rows: &'a Rows, numbers: Vec<u32>) -> Self {
        Self { rows, live: Some(numbers) }
    }

    /// Their numbers.
    pub(crate) fn numbers(&self) -> Cow<'_, [u32]> {
        match &self.live {
            Some(live) => Cow::Borrowed(live),
            None => {
                let len = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
                Cow::Owned((0..len).collect())
            }
        }
    }

    /// Those for which this holds, and the others.
    pub(crate) fn split(self, holds: impl Fn(u32) -> bool) -> (Self, Self) {
        let (yes, no): (Vec<u32>, Vec<u32>) = self.numbers().iter().partition(|row| holds(**row));
        let (rows, none) = (self.rows, Self::only(self.rows, Vec::new()));
        match (yes.is_empty(), no.is_empty()) {
            (_, true) => (self, none),
            (true, false) => (none, self),
            (false, false) => (Self::only(rows, yes), Self::only(rows, no)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.live.as_ref().map_or(self.rows.len(), Vec::len)
    }

    /// The columns at these places of the batch, then stamps and, with more than one pair, what their writers had seen.
    pub(crate) fn params<'b>(&'b self, places: &[usize], pairs: usize) -> Vec<Param<'b>> {
        let columns: Vec<&Values> = self.rows.columns().map(|(_, values)| values).collect();
        let rows = self.live.as_deref();
        let len = self.len();
        let texts = places.iter().filter_map(|at| columns.get(*at));
        let mut params: Vec<Param<'b>> =
            texts.map(|values| Param::Texts { values, rows, len }).collect();
        params.push(Param::Longs(self.pick(&self.rows.stamps)));
        params.push(Param::Shorts(self.pick(&self.rows.nodes)));
        if pairs > 1 {
            params.push(Param::Longs(self.pick(&self.rows.seen)));
            params.push(Param::Shorts(self.pick(&self.rows.seen_nodes)));
        }
        params
    }

    /// What their writers had replaced, as JSON.
    pub(crate) fn images<'b>(&'b self) -> Param<'b> {
        let (values, rows) = (&self.rows.images, self.live.as_deref());
        Param::Texts { values, rows, len: self.len() }
    }

    fn pick<'b, N: Copy>(&self, numbers: &'b [N]) -> Cow<'b, [N]>
    where
        [N]: ToOwned<Owned = Vec<N>>,
    {
        match &self.live {
            None => Cow::Borrowed(numbers),
            Some(live) => {
                Cow::Owned(live.iter().filter_map(|at| numbers.get(index(*at)).copied()).collect())
            }
        }
    }
}
