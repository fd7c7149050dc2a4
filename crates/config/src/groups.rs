//! The `groups:` and `host_groups:` sections.

use std::collections::BTreeMap;

use herdsman_node::NodeName;

use crate::places::{Kind, Place, Places};
use crate::problem::{Page, Problem, quoted};
use crate::{Groups, yaml};

/// Both names of the section: the one pgroute66 reads, and the one its sample file shows.
const SECTIONS: [&str; 2] = ["groups", "host_groups"];

/// Most nodes named in an error.
const NAMED: usize = 10;

/// Reads both sections into one. Members that do not exist are problems: pgroute66 skipped them without a word.
pub(crate) fn build(places: &Places, page: &Page<'_>, text: &str) -> (Groups, Vec<Problem>) {
    let mut groups = Groups::new();
    let mut problems = Vec::new();
    for section in SECTIONS {
        let misshapen = misshapen(section, places, page);
        if !misshapen.is_empty() {
            problems.extend(misshapen);
            continue;
        }
        let entries = match yaml::section::<BTreeMap<String, Option<Vec<String>>>>(text, section) {
            Ok(entries) => entries.unwrap_or_default(),
            Err(error) => {
                problems.push(yaml::problem(&error, page, places));
                continue;
            }
        };
        for (name, members) in entries {
            let Some(place) = places.find(&[section, &name]) else { continue };
            let members = members.unwrap_or_default();
            if let Some(message) = wrong_name(&name, &groups) {
                problems.push(page.problem(place.key, format!("`{section}.{name}` {message}")));
            } else {
                let nodes = nodes(place, &members, places, page, &mut problems);
                groups.insert(name, nodes);
            }
        }
    }
    (groups, problems)
}

/// The nodes that exist, for the end of an error.
pub(crate) fn known(places: &Places) -> String {
    let mut names: Vec<_> = places
        .below(&["hosts"])
        .filter_map(|place| place.path.last())
        .map(|name| quoted(name))
        .collect();
    let left_out = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    match left_out {
        0 => yaml::any_of(&names),
        _ => format!("{} … and {left_out} more", names.join(", ")),
    }
}

fn wrong_name(name: &str, groups: &Groups) -> Option<&'static str> {
    match name {
        "" => Some("has an empty name, expected a word"),
        "all" => Some("is every node already, expected another name"),
        _ if groups.contains_key(name) => {
            Some("is defined in `groups` as well, expected one definition")
        }
        _ => None,
    }
}

/// The members of the list at this place that are nodes, each once.
pub(crate) fn nodes(
    group: &Place,
    members: &[String],
    places: &Places,
    page: &Page<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<NodeName> {
    let mut nodes = Vec::new();
    let below = places.iter().filter(|place| {
        place.path.len() == group.path.len() + 1 && place.path.starts_with(&group.path)
    });
    for (place, member) in below.zip(members) {
        let known_node = places.find(&["hosts", member]).is_some();
        match NodeName::new(member) {
            Ok(node) if known_node && !nodes.contains(&node) => nodes.push(node),
            Ok(_) if known_node => problems.push(page.problem(
                place.value,
                format!("`{}` lists {} twice, expected once", group.name(), quoted(member)),
            )),
            Ok(_) | Err(_) => problems.push(page.problem(
                place.value,
                format!(
                    "`{}` lists {}, expected a node of `hosts`: {}",
                    group.name(),
                    quoted(member),
                    known(places)
                ),
            )),
        }
    }
    nodes
}

fn misshapen(section: &str, places: &Places, page: &Page<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(place) = places.find(&[section])
        && matches!(place.kind, Kind::Scalar | Kind::List)
    {
        let found = if place.kind == Kind::List { "a list" } else { "a single value" };
        let message =
            format!("`{section}` is {found}, expected a map from names to lists of nodes");
        return vec![page.problem(place.value, message)];
    }
    for group in places.below(&[section]) {
        if matches!(group.kind, Kind::Scalar | Kind::Map) {
            let found = if group.kind == Kind::Map { "a map" } else { "a single value" };
            let message = format!("`{}` is {found}, expected a list of nodes", group.name());
            problems.push(page.problem(group.value, message));
        }
        let path: Vec<_> = group.path.iter().map(String::as_str).collect();
        for member in places.below(&path).filter(|member| member.kind != Kind::Scalar) {
            let message = format!(
                "`{}` has an item that is not a single value, expected the name of a node",
                group.name()
            );
            problems.push(page.problem(member.value, message));
        }
    }
    problems
}
