//! The SQL against the pure rule.

use std::collections::BTreeMap;

use herdsman_mesh::resolve::{Verdict, Version, join};
use herdsman_mesh::{NodeId, Stamp};
use herdsman_sandbox::on_each_version;

use super::TABLES;
use super::maker::{Keyed, Maker, wrote};
use super::pump::applier;
use crate::proof::{Mesh, report, seed};

/// What node 1 writes that has everything that the model has.
fn knowing(
    random: &mut fastrand::Rng,
    model: &BTreeMap<i32, Version<String>>,
    round: i32,
) -> Vec<Keyed> {
    let mut here = model.clone();
    let mut versions = Vec::new();
    for step in 0..random.i64(1..30) {
        let key = random.i32(0..12);
        let held = here.get(&key);
        let least = held.map_or(0, |held| held.stamp.micros) + 1;
        let stamp = (least.max(random.i64(0..40) + i64::from(round) * 10 + step), 1);
        let seen = held.filter(|held| held.row.is_some());
        let row = random.bool().then(|| format!("{round} knowing {step}"));
        if seen.is_none() && row.is_none() {
            continue;
        }
        let seen = seen.map(|held| (held.stamp.micros, held.stamp.node.0));
        let version = wrote(key, stamp, seen, row.as_deref());
        here.insert(key, version.1.clone());
        versions.push(version);
    }
    versions
}

on_each_version! {
    async fn the_sql_keeps_what_the_rule_keeps(version: u32) {
        let seed = seed();
        report(&format!("HERDSMAN_SEED={seed}"));
        let mesh = Mesh::prepared(vec![version; 3], TABLES, |_| {}).await;
        let mut at = applier(&mesh, "n3").await;
        let mut maker = Maker::new();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut model: BTreeMap<i32, Version<String>> = BTreeMap::new();
        for round in 0..60 {
            let mut groups = Vec::new();
            // In every other round somebody alone writes who knows all that there is: nothing is a conflict then, and it goes
            // the quick way.
            if random.bool() {
                let versions = knowing(&mut random, &model, round);
                for (key, version) in &versions {
                    assert_eq!(join(model.get(key), version), Verdict::Apply);
                    model.insert(*key, version.clone());
                }
                let applied = at.apply(&[maker.group(1, &versions)], false).await.unwrap();
                assert_eq!(applied.conflicts, 0, "{versions:?}");
                continue;
            }
            for source in [1_i16, 2] {
                // Of a key the versions of one source come in order, and each has seen the one before.
                let mut last: BTreeMap<i32, (i64, i16)> = BTreeMap::new();
                let mut versions = Vec::new();
                for step in 0..random.i64(1..30) {
                    let key = random.i32(0..12);
                    let stamp = (random.i64(0..40) + i64::from(round) * 10 + step, source);
                    if last.get(&key).is_some_and(|last| *last >= stamp) {
                        continue;
                    }
                    let row = random.bool().then(|| format!("{round} {source} {step}"));
                    let seen = last.insert(key, stamp).or_else(|| random.bool().then_some((round.into(), 2)));
                    versions.push(wrote(key, stamp, seen, row.as_deref()));
                }
                for (key, version) in &versions {
                    if join(model.get(key), version) == Verdict::Apply {
                        model.insert(*key, version.clone());
                    }
                }
                // Some come in parts: the careful way.
                if random.u32(0..4) == 0 {
                    let (first, rest) = versions.split_at(versions.len() / 2);
                    let part = maker.part(source, first);
                    let end = maker.group(source, rest);
                    at.apply(&[part], false).await.unwrap();
                    at.apply(&[end], false).await.unwrap();
                } else {
                    groups.push(maker.group(source, &versions));
                }
            }
            at.apply(&groups, round % 10 == 0).await.unwrap();
        }
        let held: BTreeMap<i32, (i64, i16, String)> = mesh
            .root("n3")
            .await
            .query("SELECT id, _herdsman_stamp, _herdsman_node, v FROM t", &[])
            .await
            .unwrap()
            .iter()
            .map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3))))
            .collect();
        let expected: BTreeMap<i32, (i64, i16, String)> = model
            .into_iter()
            .filter_map(|(key, Version { stamp: Stamp { micros, node: NodeId(node) }, row, .. })| {
                Some((key, (micros, node, row?)))
            })
            .collect();
        assert_eq!(held, expected);
    }
}
